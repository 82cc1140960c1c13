"""Which template frame comes next: to and fro for ever, and in silence within the idle stretch."""

from __future__ import annotations

__all__ = ["FrameOrder"]


class FrameOrder:
    """The order in which a template's frames are shown.

    To and fro over all `count` frames; where it turns, no frame is repeated: ... n-2, n-1, n-2 ... In silence, if
    there is an `idle` stretch, it goes to it by the shortest way and then to and fro inside. Each step is to a
    neighbour, so that a picture never jumps, unless the stretch is more than `jump_beyond` steps away: then the next
    frame is the nearest of the stretch, and `go_on` tells what to fade it in over. The same calls give the same
    frames.
    """

    def __init__(self, count: int, idle: range = range(0), *, jump_beyond: int | None = None) -> None:
        """count: frames of the template, at least 1; idle: some of them, in steps of 1, or empty."""
        if count < 1:
            raise ValueError(f"FrameOrder: wanted 1 frame or more, got {count}; prepare a longer template")
        if len(idle) and (idle.step != 1 or not 0 <= idle.start < idle.stop <= count):
            raise ValueError(f"FrameOrder: wanted an idle range within 0..{count - 1}, got {idle}; correct it")
        self.count, self.idle, self.jump_beyond = count, idle, jump_beyond
        self._at: int | None = None
        self._step = 1
        self._left: tuple[int, int] | None = None

    @property
    def at(self) -> int | None:
        """The frame given last; None before the first."""
        return self._at

    def next(self, speaks: bool) -> int:
        """The frame to show now."""
        stretch = self.idle if len(self.idle) and not speaks else range(self.count)
        self._left = None
        if self._at is None:
            self._at, self._step = stretch.start, 1
        elif self._at in stretch:
            self._step_inside(stretch, self._at)
        else:
            self._step_towards(stretch, self._at)
        return self._at

    def go_on(self, steps: int) -> list[int]:
        """After a jump: the frames that the old way would have given from that moment on; else none."""
        if self._left is None:
            return []
        old = FrameOrder(self.count)
        old._at, old._step = self._left
        return [old.next(speaks=True) for _ in range(steps)]

    def reset(self) -> None:
        """Begin again: the next frame is the first, or in silence the first of the idle stretch."""
        self._at, self._step, self._left = None, 1, None

    def _step_inside(self, stretch: range, at: int) -> None:
        if at + self._step not in stretch:
            self._step = -self._step
        if at + self._step in stretch:  # a stretch of one frame has no neighbour
            self._at = at + self._step

    def _step_towards(self, stretch: range, at: int) -> None:
        edge = stretch[0] if at < stretch[0] else stretch[-1]
        step = 1 if edge > at else -1
        if self.jump_beyond is not None and abs(edge - at) > self.jump_beyond:
            self._left, self._at = (at, self._step), edge
        else:
            self._at = at + step
        self._step = step
