"""Templates made by hand, for tests that don't prepare one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from engine.template.template import Template
from engine.video.source import open_source
from profiles.profile import Models, Profile

__all__ = ["drawn_profile", "half", "hand_made", "write_pictures"]

U8 = npt.NDArray[np.uint8]


def hand_made(path: Path, count: int) -> Template:
    """A template of the first frames of a video, with one crop for all of them."""
    with open_source(path, threads=1) as source:
        info = source.info
    matrix = np.tile(np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32), (count, 1, 1))
    return Template(
        path=path,
        video=info,
        rate=Fraction(25),
        source_frame=np.arange(count),
        has_face=np.ones(count, bool),
        crop_from_frame=matrix,
        frame_from_crop=np.tile(np.array([[2, 0, 0], [0, 2, 0]], np.float32), (count, 1, 1)),
        raw_crop_from_frame=matrix,
        points=np.zeros((count, 5, 2), np.float32),
        boxes=np.zeros((count, 4), np.float32),
    )


def drawn_profile(generator: str = "tiny_lipsync", **models: str) -> Profile:
    """The tiny pack for a generator: drawn faces, one thread, the CPU. `models` are further roles, or "" for none."""
    roles = {"detector": "tiny_detector", "refiner": "tiny_refiner", "embedder": "tiny_embedder", **models}
    profile = Profile("drawn", "lipsync", "a test", Models(**roles, lipsync=generator), backend="cpu", threads=1)
    return dataclasses.replace(profile, detect=dataclasses.replace(profile.detect, size_px=320, second_pass_px=0))


def write_pictures(
    path: Path, pictures: Sequence[U8], *, ticks: int = 1, time_base: Fraction = Fraction(1, 25)
) -> Path:
    """NV12 arrays [H * 3 / 2, W] as lossless H.264, a picture every `ticks`."""
    with av.open(str(path), "w") as output:
        options = {"crf": "0", "preset": "ultrafast", "g": "12"}
        stream = output.add_stream("libx264", rate=1 / time_base, options=options)
        stream.time_base, stream.pix_fmt = time_base, "yuv420p"
        stream.height, stream.width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="nv12").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def half(picture: U8, side: int) -> U8:
    """The left (0) or right (1) half of an NV12 array."""
    middle = picture.shape[1] // 4 * 2
    return picture[:, :middle] if side == 0 else picture[:, middle : 2 * middle]
