"""line: pushed sound and silence on one line of samples, and the pace at which that line is heard.

The sound is the clock. While it comes, the line is as long as what came; where nobody pushes, silence goes on at the
pace of the wall's clock, so that pictures never stop. Sound that comes late makes the line wait for it, sound that
comes early waits in line, and none is left out.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = ["SoundLine"]

F32 = npt.NDArray[np.float32]

#: Sound that is later than this makes room for silence: longer than a push of 40 ms, shorter than a pause in speech.
STALL_S = 0.06

# A sender whose clock runs fast fills the line; it is then heard this much faster than the wall's clock, in delivery
# alone: stamps and pitch stay.
_SLEW = 0.001
_WATCH_S, _SPARE_S = 5.0, 0.02
# A sound that stopped this quietly (RMS) can be lengthened unheard; one that stopped loudly is waited for.
_QUIET, _QUIET_S = 10 ** (-50 / 20), 0.01
# The process slept: the line stands still meanwhile, rather than to be filled with an hour of silence.
_ASLEEP_S = 1.0


class SoundLine:
    """Samples [n, channels] from position 0 on; `end` of them are on the line. Times are of one steady clock, in s.

    Used under its owner's lock. `lead_s`: how far ahead of its pace pushed sound is put on the line.
    """

    def __init__(self, rate_hz: int, channels: int, *, now_s: float, lead_s: float, stall_s: float = STALL_S) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self.end = 0
        self.slips_s = self.silence_s = 0.0
        self._lead_s, self._stall_s = lead_s, stall_s
        self._pending: deque[F32] = deque()
        self._waiting = 0
        self._is_idle = self._is_quiet = True
        self._begin_s = now_s  # when position 0 was due
        self._moved_s = self._watched_s = now_s
        self._least_spare_s: float | None = None
        self._is_fast = False

    @property
    def pending(self) -> int:
        """Samples that were pushed and are not on the line yet."""
        return self._waiting

    def now(self, now_s: float) -> float:
        """The position that is due now."""
        return (now_s - self._begin_s) * self.rate_hz

    def push(self, samples: F32, now_s: float | None) -> None:
        """Sound came in; at None it is of no time, and waits for `take_all`."""
        if now_s is None:
            self._put(samples)
            return
        behind = int(self.now(now_s)) - self.end - self._waiting
        if self._is_idle and not self._waiting:
            self._silence(behind)
        elif behind > 0:  # it flows, and is late: the pace waits for it
            self._begin_s += behind / self.rate_hz
            self.slips_s += behind / self.rate_hz
        spare_s = max(-behind / self.rate_hz, 0.0)
        self._least_spare_s = spare_s if self._least_spare_s is None else min(self._least_spare_s, spare_s)
        self._is_idle = False
        last = samples[-max(1, round(_QUIET_S * self.rate_hz)) :]
        self._is_quiet = len(last) > 0 and float(np.sqrt(np.mean(np.square(last)))) < _QUIET
        self._put(samples)

    def advance(self, now_s: float, *, fills: bool = True) -> list[F32]:
        """What goes onto the line now, in order. `fills`: silence where nothing came for `stall_s`, or at once
        behind sound that ended quietly."""
        self._keep_pace(now_s)
        if not self._waiting and fills:
            behind_s = self.now(now_s) / self.rate_hz - self.end / self.rate_hz
            if behind_s > _ASLEEP_S:
                self._begin_s += behind_s
            elif self._is_idle or behind_s > (0.0 if self._is_quiet else self._stall_s):
                self._is_idle = True
                self._silence(int(self.now(now_s)) - self.end)
        placed: list[F32] = []
        until = self.now(now_s) + self._lead_s * self.rate_hz
        while self._pending and self.end < until:
            piece = self._pending.popleft()
            room = max(1, int(until) + 1 - self.end)
            if len(piece) > room:
                self._pending.appendleft(piece[room:])
                piece = piece[:room]
            self._waiting -= len(piece)
            self.end += len(piece)
            placed.append(piece)
        return placed

    def take_all(self) -> list[F32]:
        """Everything that was pushed goes onto the line at once: for hosts that keep their own pace."""
        placed = list(self._pending)
        self.end += self._waiting
        self._pending.clear()
        self._waiting = 0
        return placed

    def drop_pending(self) -> int:
        """Forget what was pushed and is not on the line yet; returns how many samples that were."""
        lost, self._waiting = self._waiting, 0
        self._pending.clear()
        return lost

    def rewind(self, position: int, tail: F32, now_s: float | None) -> int:
        """The line ends at `position` again, and goes on with `tail`, then silence up to now, then what is pending.

        No silence for `now_s` None. Returns how many samples of the line were forgotten.
        """
        lost = max(self.end - position - len(tail), 0)
        self.end, self._is_idle = position, self._is_idle or not self._waiting
        pending, self._pending, self._waiting = self._pending, deque(), 0
        self._put(tail)
        if now_s is not None:
            self._silence(int(self.now(now_s)) - position - len(tail))
        for piece in pending:
            self._put(piece)
        return lost

    def _silence(self, count: int) -> None:
        if count > 0:
            self.silence_s += count / self.rate_hz
            self._put(np.zeros((count, self.channels), np.float32))

    def _put(self, samples: F32) -> None:
        if len(samples):
            self._pending.append(samples)
            self._waiting += len(samples)

    def _keep_pace(self, now_s: float) -> None:
        """A line that was never short for a while is heard a little faster, until it is short again."""
        if self._is_fast:
            self._begin_s -= _SLEW * (now_s - self._moved_s)
        self._moved_s = now_s
        if now_s - self._watched_s >= _WATCH_S:
            self._is_fast = self._least_spare_s is not None and self._least_spare_s > _SPARE_S
            self._watched_s, self._least_spare_s = now_s, None
