"""The capture clock: time stamps of an input that may jump or begin anew, on one line that never goes back.

Stamps keep the spacing that the sender gave them, since arrival times jitter. All streams of an input share one mapping
from the sender's time to the line, so that sound and picture stay together: it is looked up by stamp, not by arrival.
A sender whose clock runs slow or fast is followed in small steps. Where stamps jump, or the input was opened again, the
line goes on by as much as passed on this machine's monotonic clock meanwhile: a gap is a gap.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Final

__all__ = ["TICKS_PER_S", "TIME_BASE", "CaptureClock", "own_ticks"]

#: Ticks of the capture clock, those of MPEG: every common frame rate is whole in them.
TICKS_PER_S: Final = 90_000
TIME_BASE: Final = Fraction(1, TICKS_PER_S)

# A stamp that is neither this near to the last one of a stream nor this near to where it is expected by the clock is
# of another time line. The second is wide: networks deliver in bursts.
_STEP: Final = 1 * TICKS_PER_S
_BURST: Final = 5 * TICKS_PER_S

# Of the packets of a window, the one that came with the least delay shows how far sender and machine are apart.
_WINDOW: Final = 10 * TICKS_PER_S
# Less than this is jitter. More is followed by at most 1 in 1000, twice what a clock of video equipment may be off.
_STILL: Final = TICKS_PER_S // 50
_CHECK: Final = TICKS_PER_S // 4
_MOST_STEP: Final = _CHECK // 1000
_STEP_SHARE: Final = 120  # of the distance, in each step: half a minute to be there
_KNOTS_KEPT: Final = 256  # a minute in which late packets of another stream still find their place


def own_ticks(stamp: int, time_base: Fraction) -> int:
    """A stamp in ticks of the capture clock's length, on its own line."""
    return round(stamp * time_base * TICKS_PER_S)


class _Line:
    """One time line of the sender: its offset to ours from each stamp on, steps of it only beyond the newest stamp."""

    def __init__(self, own: int, offset: int) -> None:
        self._knots: deque[tuple[int, int]] = deque([(own, offset)], maxlen=_KNOTS_KEPT)
        self.newest = own

    def at(self, own: int) -> int:
        """The offset of a stamp."""
        for begin, offset in reversed(self._knots):
            if own >= begin:
                return offset
        return self._knots[0][1]

    @property
    def begin(self) -> int:
        """The stamp from which the last offset holds."""
        return self._knots[-1][0]

    def step(self, ticks: int) -> None:
        """Another offset for all that is newer than the newest stamp so far."""
        self._knots.append((self.newest + 1, self._knots[-1][1] + ticks))


class CaptureClock:
    """Stamps of all streams of an input to ticks since the first. Used by one thread."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._lead = 0  # how far the line was ahead of the arrivals: those that came without delay
        self._lines: list[_Line] = []  # this time line, then the one before: their last packets may mix
        self._last: dict[int, tuple[int, _Line]] = {}  # by stream: ticks on the input's own line, and which it was
        self._settled_at = 0  # until then, the lead is still being found
        self._late: deque[tuple[int, int]] = deque()  # (arrival, delay), the least delay of what is left first
        self._heard = 0
        self.jumps = 0

    def restart(self) -> None:
        """The input was opened again: its stamps have nothing to do with those before."""
        self._lines.clear()
        self._last.clear()

    def offset(self, stream: int, stamp: int, time_base: Fraction, arrived_ns: int) -> int:
        """The ticks that lead from a stamp of a stream, in ticks of `time_base`, to the line."""
        own, now = own_ticks(stamp, time_base), self._since_start(arrived_ns)
        line = self._line(own, now, self._last.get(stream))
        self._last[stream] = (own, line)
        line.newest = max(line.newest, own)
        offset = line.at(own)
        ahead = own + offset - now
        if now < self._settled_at:
            self._lead = max(self._lead, ahead)
        elif line is self._lines[0]:
            self._follow(line, now, self._lead - ahead)
        return offset

    def _line(self, own: int, now: int, last: tuple[int, _Line] | None) -> _Line:
        if last is not None and abs(own - last[0]) <= _STEP:
            return last[1]
        # one stream may pause while another goes on
        for line in self._lines:
            if abs(own - line.newest) <= _STEP:
                return line
        expected = now + self._lead
        near = [line for line in self._lines if abs(own + line.at(own) - expected) <= _BURST]
        if near:
            return min(near, key=lambda line: abs(own + line.at(own) - expected))
        self.jumps += bool(self._lines)
        made = _Line(own, expected - own)
        self._lines = [made, *self._lines[:1]]
        self._settled_at = now + _WINDOW
        self._late.clear()
        return made

    def _follow(self, line: _Line, now: int, delay: int) -> None:
        """Step towards the arrivals when a whole window came late, or early."""
        if now - self._heard > _STEP:  # one packet after a pause is no window
            self._late.clear()
            self._settled_at = now
        self._heard = now
        while self._late and self._late[-1][1] >= delay:
            self._late.pop()
        self._late.append((now, delay))
        while self._late[0][0] < now - _WINDOW:
            self._late.popleft()
        if line.newest - line.begin < _CHECK or now < self._settled_at + _WINDOW:
            return
        least = self._late[0][1]
        if least > _BURST:
            # the sender stood still, its clock too: a gap, for all streams from here on
            line.step(least)
            self._late.clear()
            self._settled_at = now
        elif abs(least) > _STILL:
            step = max(-_MOST_STEP, min(_MOST_STEP, least // _STEP_SHARE))
            line.step(step)
            self._late = deque((at, one - step) for at, one in self._late)

    def arrival_ticks(self, arrived_ns: int) -> int:
        """Where something that arrives now, without delay, lies on the line."""
        return self._since_start(arrived_ns) + self._lead

    def _since_start(self, arrived_ns: int) -> int:
        if self._start_ns is None:
            self._start_ns = arrived_ns
        return round((arrived_ns - self._start_ns) * TICKS_PER_S / 1e9)
