"""Short pieces of the sample clip and its frames as arrays, for tests that run the pipeline."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]


def decoded(path: Path, limit: int | None = None) -> list[U8]:
    """NV12 arrays [H * 3 / 2, W] of a video's first frames, decoded here and now."""
    frames: list[U8] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.reformat(format="nv12").to_ndarray().astype(np.uint8, copy=False))
            if limit is not None and len(frames) == limit:
                break
    return frames


def cut_out(path: Path, target: Path, *, start: int, count: int, size: tuple[int, int] | None = None) -> Path:
    """Frames start..start+count of a video as lossless H.264 with B-frames, without sound."""
    with av.open(str(path)) as container, av.open(str(target), "w") as output:
        video = container.streams.video[0]
        options = {"crf": "0", "preset": "veryfast", "bf": "2"}
        stream = output.add_stream("libx264", rate=Fraction(25), options=options)
        stream.width, stream.height = size or (video.width, video.height)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = 1
        stream.codec_context.color_range = 1
        for index, frame in enumerate(container.decode(video)):
            if start <= index < start + count:
                scaled = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
                scaled.pts, scaled.time_base = index - start, Fraction(1, 25)
                output.mux(stream.encode(scaled))
            elif index >= start + count:
                break
        output.mux(stream.encode(None))
    return target
