"""plan: for each frame that was heard, the template frame to show and how much of its mouth is moved."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from engine.template.order import FrameOrder

__all__ = ["FADE_FRAMES", "Leaving", "Plan", "Step"]

F32 = npt.NDArray[np.float32]

#: Frames from the template's own mouth to a moved one and back; two to four look natural at 20 to 30 frames a second.
FADE_FRAMES = 3

# An idle stretch that is nearer is walked to, a farther one is faded to.
_WALK_S = 0.5


@dataclass(frozen=True)
class Leaving:
    """The place that is faded away from: template frame `row` with its mouth moved by `opacity`; `part` 0..1 of it."""

    row: int
    opacity: float
    part: float


@dataclass(frozen=True)
class Step:
    """Frame `n` of the output: template frame `row`, its mouth moved by `opacity` 0..1 under `condition`."""

    n: int
    row: int
    opacity: float
    condition: F32 | None = None
    speaks: bool = False
    leaving: Leaving | None = None


class Plan:
    """Steps in order. The template's own picture is shown in silence, and cross-faded to over FADE_FRAMES.

    An idle stretch is walked to where it is near; until then the mouth stays moved (shut, as the model shows silence),
    since elsewhere the template's own may talk. A far one is faded to, all of the picture.
    """

    def __init__(
        self, count: int, idle: range = range(0), fps: Fraction = Fraction(25), fade_frames: int = FADE_FRAMES
    ) -> None:
        if fade_frames < 1:
            raise ValueError(f"Plan: wanted a fade of 1 frame or more, got {fade_frames}; correct it")
        self._order = FrameOrder(count, idle, jump_beyond=round(_WALK_S * fps))
        self._idle, self._fade_frames = idle, fade_frames
        self._level = 0  # of fade_frames
        self._leaving: deque[Leaving] = deque()

    def next(self, n: int, speaks: bool, condition: F32 | None) -> Step:
        """The step for frame n; to be asked for once for each, in order, dropped ones too."""
        row = self._order.next(speaks)
        if way := self._order.go_on(self._fade_frames - 1):
            opacity, full = self._level / self._fade_frames, self._fade_frames
            self._leaving = deque(Leaving(old, opacity, 1.0 - (at + 1) / full) for at, old in enumerate(way))
            self._level = 0
        moves = speaks or bool(len(self._idle) and row not in self._idle)
        self._level = min(self._level + 1, self._fade_frames) if moves else max(self._level - 1, 0)
        leaving = self._leaving.popleft() if self._leaving else None
        return Step(n, row, self._level / self._fade_frames, condition, speaks, leaving)
