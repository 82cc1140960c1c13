"""From the file's own times to the model's rate: the nearest picture for every instant, in exact fractions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["Retiming", "retimed"]

I64 = npt.NDArray[np.int64]


class Retiming:
    """Which pictures of a file are shown at the model's rate, told while the file is read.

    Frame n stands for the instant n / rate after the first picture and shows the picture whose time is nearest, of
    two the earlier. Nothing is rounded on the way, so an hour drifts no more than a second.
    """

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        """time_base: seconds of one tick; rate: frames a second."""
        self._per_tick = time_base * rate

    def between(self, first_pts: int, one_pts: int, other_pts: int) -> int:
        """The last frame that still shows the earlier of two neighbouring pictures; -1 before frame 0."""
        middle = (Fraction(one_pts + other_pts, 2) - first_pts) * self._per_tick
        return middle.__floor__()

    def count(self, first_pts: int, last_pts: int, last_ticks: int) -> int:
        """Frames of a video whose last picture lasts `last_ticks`: its length to the nearest frame, at least one."""
        return max(1, ((last_pts - first_pts + last_ticks) * self._per_tick + Fraction(1, 2)).__floor__())


def retimed(pts: Sequence[int] | I64, last_ticks: int, time_base: Fraction, rate: Fraction) -> I64:
    """For each frame at `rate` the number of the picture that it shows; int64 [frames], never falling.

    `pts` rise strictly; `last_ticks` is how long the last picture lasts.
    """
    times = [int(one) for one in pts]
    timing = Retiming(time_base, rate)
    count = timing.count(times[0], times[-1], last_ticks)
    ends = [timing.between(times[0], one, other) for one, other in pairwise(times)]
    return np.searchsorted(np.array(ends, np.int64), np.arange(count), side="left").astype(np.int64)
