"""The capture clock: time stamps of an input that may jump or begin anew, on one line that never goes back.

Stamps keep the spacing that the sender gave them, since arrival times jitter. Where they jump, or the input was opened
again, the line goes on by as much as passed on this machine's monotonic clock meanwhile: a gap is a gap.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

__all__ = ["TICKS_PER_S", "TIME_BASE", "CaptureClock", "own_ticks"]

#: Ticks of the capture clock, those of MPEG: every common frame rate is whole in them.
TICKS_PER_S: Final = 90_000
TIME_BASE: Final = Fraction(1, TICKS_PER_S)

# A stamp that is neither this near to the last one of its stream nor this near to where it is expected by the clock is
# of another time line. The second is wide: networks deliver in bursts.
_STEP_S: Final = 1.0
_BURST_S: Final = 5.0


def own_ticks(stamp: int, time_base: Fraction) -> int:
    """A stamp in ticks of the capture clock's length, on its own line."""
    return round(stamp * time_base * TICKS_PER_S)


class CaptureClock:
    """Stamps of all streams of an input to ticks since the first. Used by one thread."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._lead = 0  # how far the line has ever been ahead of the arrivals: those that came without delay
        self._offsets: list[int] = []  # of this time line, then of the one before: their last packets may mix
        self._last: dict[int, tuple[int, int]] = {}  # by stream: ticks on the input's own line, and the offset used
        self.jumps = 0

    def restart(self) -> None:
        """The input was opened again: its stamps have nothing to do with those before."""
        self._offsets.clear()
        self._last.clear()

    def offset(self, stream: int, stamp: int, time_base: Fraction, arrived_ns: int) -> int:
        """The ticks that lead from a stamp of a stream, in ticks of `time_base`, to the line."""
        own = own_ticks(stamp, time_base)
        offset = self._offset(own, self.arrival_ticks(arrived_ns), self._last.get(stream))
        self._last[stream] = (own, offset)
        self._lead = max(self._lead, own + offset - self._since_start(arrived_ns))
        return offset

    def _offset(self, own: int, expected: int, last: tuple[int, int] | None) -> int:
        if last is not None and abs(own - last[0]) <= _STEP_S * TICKS_PER_S:
            return last[1]
        near = [one for one in self._offsets if abs(own + one - expected) <= _BURST_S * TICKS_PER_S]
        if near:
            return min(near, key=lambda one: abs(own + one - expected))
        self.jumps += bool(self._offsets)
        self._offsets = [expected - own, *self._offsets[:1]]
        return self._offsets[0]

    def arrival_ticks(self, arrived_ns: int) -> int:
        """Where something that arrives now, without delay, lies on the line."""
        return self._since_start(arrived_ns) + self._lead

    def _since_start(self, arrived_ns: int) -> int:
        if self._start_ns is None:
            self._start_ns = arrived_ns
        return round((arrived_ns - self._start_ns) * TICKS_PER_S / 1e9)
