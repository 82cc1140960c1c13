"""NVIDIA DALI as a source, asked for by name: a yardstick, and a way in for who decodes with it anyway.

DALI hands out RGB and never YUV, so its pictures are converted back: **not bit-exact**, also outside the faces. It
reads whole files and tells no time stamps, so FFmpeg decodes beside it and gives each picture its stamp and side data;
sound and all other streams come from there too. A file of which DALI finds fewer pictures is refused when that shows.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

from engine.errors import DeviceError, MediaError, explain
from engine.video.decoded import DecodedFrame, PassThrough
from engine.video.planes import SWS_COLORSPACE
from engine.video.pyav import FFMPEG_ERRORS, ffmpeg_url, reformat, words
from engine.video.source import Source
from engine.video.what_is_video import refuse_path

__all__ = ["NOTE", "DaliSource", "open_dali"]

NOTE = "decoded by DALI through RGB: not bit-exact, also where nothing was changed"

_FIX = "install the extra dali (nvidia-dali-cuda130) and run on a GPU, or leave --decoder out"


class DaliSource(Source):
    """A video whose pixels DALI decodes. Everything else is as in Source."""

    def __init__(
        self, uri: str, container: av.container.InputContainer, *, threads: int, frames: Iterator[Any]
    ) -> None:
        super().__init__(uri, container, threads=threads, deinterlace=False)
        self._frames = frames
        self.note(NOTE)

    def _items(self) -> Iterator[DecodedFrame | PassThrough]:
        for item in super()._items():
            if isinstance(item, PassThrough):
                yield item
                continue
            rgb = next(self._frames, None)
            if rgb is None:
                raise MediaError(
                    explain(
                        f"{self.uri}, picture {item.index}", "a picture from DALI", "its end", "leave --decoder out"
                    )
                )
            yield DecodedFrame(
                item.index, item.pts, item.time_base, item.duration, self._as_yuv(rgb, item), item.carried
            )

    def _as_yuv(self, rgb: npt.NDArray[np.uint8], item: DecodedFrame) -> av.VideoFrame:
        colour = self.info.colour
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        made = reformat(
            frame,
            "yuv420p",
            dst_colorspace=SWS_COLORSPACE[colour.matrix],
            src_color_range="JPEG",
            dst_color_range="JPEG" if colour.full_range else "MPEG",
        )
        made.pts, made.time_base = item.pts, item.time_base
        return made


def open_dali(uri: str, *, threads: int) -> DaliSource:
    """Open a file for DALI to decode. Raises DeviceError where DALI or a GPU is missing, else as `open_source`."""
    refuse_path(uri)
    frames = dali_frames(Path(uri))
    try:
        container = av.open(ffmpeg_url(uri), "r", metadata_errors="replace")
    except FFMPEG_ERRORS as error:
        do = "check the path and the file"
        raise MediaError(explain(uri, "a video that FFmpeg can read", words(error), do)) from error
    try:
        return DaliSource(uri, container, threads=threads, frames=frames)
    except BaseException:
        container.close()
        raise


def dali_frames(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB pictures [H, W, 3] of a file, on the host, one after the other. Raises DeviceError before the first."""
    try:
        fn = importlib.import_module("nvidia.dali.fn")
        dali = importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise DeviceError(explain("--decoder dali", "the package nvidia.dali", str(error), _FIX)) from error
    try:
        pipe = dali.Pipeline(batch_size=1, num_threads=1, device_id=0, prefetch_queue_depth=2)
        with pipe:
            pictures = fn.readers.video(
                device="gpu", filenames=[str(path)], sequence_length=1, dtype=dali.types.UINT8, name="reader"
            )
            pipe.set_outputs(pictures)
        pipe.build()
        count = int(pipe.epoch_size("reader"))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else "no reason"
        raise DeviceError(explain("--decoder dali", "a GPU that DALI decodes this file on", said, _FIX)) from error
    return _pictures(pipe, count)


def _pictures(pipe: Any, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    for _ in range(count):
        (batch,) = pipe.run()
        yield cast("npt.NDArray[np.uint8]", batch.as_cpu().as_array())[0, 0]
