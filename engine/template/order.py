"""Which template frame comes next: to and fro for ever, and in silence within the idle stretch."""

from __future__ import annotations

__all__ = ["FrameOrder"]


class FrameOrder:
    """The order in which a template's frames are shown.

    To and fro over all `count` frames; where it turns, no frame is repeated: ... n-2, n-1, n-2 ... In silence, if
    there is an `idle` stretch, it goes to it by the shortest way and then to and fro inside. Each step is to a
    neighbour, so that a picture never jumps. The same calls give the same frames.
    """

    def __init__(self, count: int, idle: range = range(0)) -> None:
        """count: frames of the template, at least 1; idle: some of them, in steps of 1, or empty."""
        if count < 1:
            raise ValueError(f"FrameOrder: wanted 1 frame or more, got {count}; prepare a longer template")
        if len(idle) and (idle.step != 1 or not 0 <= idle.start < idle.stop <= count):
            raise ValueError(f"FrameOrder: wanted an idle range within 0..{count - 1}, got {idle}; correct it")
        self.count, self.idle = count, idle
        self._at: int | None = None
        self._step = 1

    @property
    def at(self) -> int | None:
        """The frame given last; None before the first."""
        return self._at

    def next(self, speaks: bool) -> int:
        """The frame to show now."""
        stretch = self.idle if len(self.idle) and not speaks else range(self.count)
        if self._at is None:
            self._at, self._step = stretch.start, 1
        elif len(stretch) == 1 and self._at == stretch.start:
            self._step = 1
        elif self._at < stretch.start:
            self._move(1)
        elif self._at >= stretch.stop:
            self._move(-1)
        else:
            ahead = self._at + self._step
            self._move(self._step if stretch.start <= ahead < stretch.stop else -self._step)
        return self._at

    def reset(self) -> None:
        """Begin again: the next frame is the first, or in silence the first of the idle stretch."""
        self._at, self._step = None, 1

    def _move(self, step: int) -> None:
        assert self._at is not None  # next() gave a first frame
        self._at, self._step = self._at + step, step
