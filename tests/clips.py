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


def lay_down(path: Path, target: Path, turn_deg: int) -> Path:
    """A video whose samples are turned so that a player must turn them back by `turn_deg` clockwise; lossless."""
    cosine, sine = ((0, 1), (-1, 0), (0, -1))[turn_deg // 90 - 1]
    matrix = (cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    with av.open(str(path)) as container, av.open(str(target), "w") as output:
        video = container.streams.video[0]
        stream = output.add_stream("libx264", rate=Fraction(25), options={"crf": "0", "preset": "ultrafast"})
        lies = turn_deg in (90, 270)
        stream.width, stream.height = (video.height, video.width) if lies else (video.width, video.height)
        stream.pix_fmt = "yuv420p"
        stream.set_display_matrix(matrix)
        for index, frame in enumerate(container.decode(video)):
            rows = frame.reformat(format="yuv420p").to_ndarray()
            height, width = frame.height, frame.width
            luma = rows[:height]
            chroma = rows[height:].reshape(2, height // 2, width // 2)
            turned = [np.rot90(plane, turn_deg // 90).reshape(-1) for plane in (luma, *chroma)]
            shaped = np.concatenate(turned).reshape(-1, stream.width)
            lying = av.VideoFrame.from_ndarray(np.ascontiguousarray(shaped), format="yuv420p")
            lying.pts, lying.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(lying))
        output.mux(stream.encode(None))
    return target
