"""Template: what is known of a prepared video, frame by frame at the model's rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.video.info import VideoInfo
from engine.video.turn import upright_turn_deg
from kernels.launch import Colour

__all__ = ["FrameIndex", "Template", "kernel_colour", "upright_size_px"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Where the pictures of a file are: enough to decode any of them from the key picture before it.

    pts int64 [frames]: in ticks of the stream's time base, in the order of display. keys int64 [K]: source frames
    from which decoding may begin, the first is 0; no others where the file's own time stamps don't tell pictures
    apart. checks uint32 [frames]: `checksum` of each decoded picture.
    """

    pts: I64
    keys: I64
    checks: U32

    def __post_init__(self) -> None:
        if len(self.pts) != len(self.checks) or not len(self.keys) or self.keys[0] != 0:
            raise ValueError(
                f"FrameIndex: wanted a checksum for each of {len(self.pts)} pictures and keys from 0 on, got "
                f"{len(self.checks)} and {self.keys[:1].tolist()}; index the video again"
            )


@dataclass(frozen=True, eq=False)
class Template:
    """A prepared video. Frame n, 0 <= n < count, is what is shown from n / rate s on.

    Pixels are those of the upright picture (`turn_deg`), integers are pixel centres. Rows of frames without the face
    are zero; such frames are shown as they are.
    """

    path: Path  # of the video; its pictures are decoded from there
    video: VideoInfo
    rate: Fraction  # frames a second
    source_frame: I64  # [count] picture of the file, counted from 0 in the order of display
    has_face: Flags  # [count]
    crop_from_frame: F32  # [count, 2, 3] smoothed; crop px are those of the contract's lipsync.crop_px
    frame_from_crop: F32  # [count, 2, 3] the inverse
    raw_crop_from_frame: F32  # [count, 2, 3] not smoothed: the rule as its users have it
    points: F32  # [count, 5, 2] px, smoothed
    boxes: F32  # [count, 4] x0, y0, x1, y1 px, smoothed
    idle: range = range(0)  # the silent stretch; empty where none was named
    references: tuple[int, ...] = ()  # frames for "picture 1", "picture 2", ... where the contract stacks such
    digest: str = ""  # of everything that was found; the same for the same video, models and options
    index: FrameIndex | None = None  # None: TemplateFrames makes its own, which decodes the whole file once
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = self.count
        wanted = {
            "has_face": (n,),
            "crop_from_frame": (n, 2, 3),
            "frame_from_crop": (n, 2, 3),
            "raw_crop_from_frame": (n, 2, 3),
            "points": (n, 5, 2),
            "boxes": (n, 4),
        }
        for name, shape in wanted.items():
            if (got := getattr(self, name).shape) != shape:
                raise ValueError(
                    f"Template.{name}: wanted {list(shape)} for {n} frames, got {list(got)}; correct the array"
                )
        if n < 1 or self.rate <= 0:
            raise ValueError(f"Template: wanted frames and a rate, got {n} at {self.rate}; correct them")
        if len(self.idle) and not 0 <= self.idle[0] <= self.idle[-1] < n:
            raise ValueError(f"Template.idle: wanted frames in 0..{n - 1}, got {self.idle}; correct the range")
        if any(not 0 <= row < n for row in self.references):
            raise ValueError(f"Template.references: wanted frames in 0..{n - 1}, got {self.references}; correct them")

    @property
    def count(self) -> int:
        """Frames at the model's rate."""
        return len(self.source_frame)

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        return upright_size_px(self.video)

    @property
    def turn_deg(self) -> int:
        """The clockwise turn that stands a decoded picture upright: what `Pipeline.load` takes."""
        return upright_turn_deg(self.video)

    @property
    def colour(self) -> Colour:
        """Colour as the kernels take it."""
        return kernel_colour(self.video)


def upright_size_px(info: VideoInfo) -> tuple[int, int]:
    """(width, height) of a video's pictures after `upright_turn_deg`."""
    lies = upright_turn_deg(info) in (90, 270)
    return (info.height_px, info.width_px) if lies else (info.width_px, info.height_px)


def kernel_colour(info: VideoInfo) -> Colour:
    """A video's colour as the kernels take it."""
    siting: Literal["left", "center"] = "center" if info.colour.chroma_location == "center" else "left"
    return Colour(info.colour.matrix, info.colour.full_range, siting)
