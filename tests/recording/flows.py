"""How frames go through a pipeline: as the runner drives it, as an embedding host does, and worse than either."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.frame import Frame
from engine.pipeline import Pipeline

__all__ = ["Decoded", "file_mode", "live_mode", "to_i420", "to_nv12"]

U8 = npt.NDArray[np.uint8]


@dataclass
class Decoded:
    """A decoder's picture: host planes, or planes of a device."""

    index: int
    host: tuple[U8, ...] = ()
    device: tuple[Any, Any] | None = None
    pts: int = 0
    time_base: Fraction = Fraction(1, 25)

    def planes(self) -> tuple[U8, ...]:
        """On the host."""
        return self.host

    def device_planes(self) -> tuple[Any, Any] | None:
        """On the device, where the decoder holds it there."""
        return self.device


def to_nv12(nv12: U8, index: int) -> Decoded:
    """A hardware decoder's picture, brought to the host."""
    height = nv12.shape[0] * 2 // 3
    return Decoded(index, (nv12[:height], nv12[height:]))


def to_i420(nv12: U8, index: int) -> Decoded:
    """A software decoder's picture."""
    height = nv12.shape[0] * 2 // 3
    return Decoded(index, (nv12[:height], nv12[height:, 0::2].copy(), nv12[height:, 1::2].copy()))


def file_mode(pipeline: Pipeline, pictures: Sequence[Decoded], *, ahead: int = 4) -> Iterator[tuple[int, bytes]]:
    """(faces, bytes) of every frame: decoding runs ahead, find(n + 1) comes before make(n), downloads come last.

    A slot is used again as soon as its download was waited for, as the runner does.
    """
    free, loaded, begun, leaving = deque(pipeline.frames), deque[Frame](), deque[Frame](), deque[Any]()
    coming = deque(pictures)

    def send_out() -> tuple[int, bytes]:
        frame, brought = leaving.popleft()
        out = b"".join(plane.tobytes() for plane in brought.wait_planes())
        brought.release()
        free.append(frame)
        return frame.face_count, out

    while coming or loaded or begun or leaving:
        while coming and free and len(loaded) < ahead:
            frame = free.popleft()
            pipeline.load(frame, coming.popleft())
            loaded.append(frame)
        if loaded:
            begun.append(pipeline.begin(loaded.popleft()))
        if begun and (len(begun) > pipeline.lookahead or not loaded):
            frame = pipeline.finish(begun.popleft())
            leaving.append((frame, pipeline.backend.download(frame.nv12)))
        if leaving and (len(leaving) > 1 or not begun):
            yield send_out()


def live_mode(
    pipeline: Pipeline, pictures: Sequence[Decoded], look: Callable[[Frame], None] = lambda frame: None
) -> Iterator[Frame]:
    """Frames in turn, over the ring, without a wait but the step's own; `look` sees each when it is finished."""
    for picture in pictures:
        frame = pipeline.frames[picture.index % len(pipeline.frames)]
        pipeline.load(frame, picture)
        yield pipeline.step(frame)
        look(frame)
