"""Before and after side by side, with the source picture between: what a demo shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from engine.errors import OutputError, explain
from engine.video.ai_altered import append_xmp_box, container_tags
from engine.video.pictures import read_picture
from engine.video.pyav import FFMPEG_ERRORS, words

__all__ = ["write_side_by_side"]

U8 = npt.NDArray[np.uint8]

_HALF_PX = (640, 360)
_PICTURE_SHARE = 0.15  # of a half's width


def write_side_by_side(
    before: Path, after: Path, target: Path, *, picture: Path, threads: int, half_px: tuple[int, int] = _HALF_PX
) -> None:
    """Write an H.264 mp4: `before` left, `after` right, each of half_px, `picture` small in the middle above.

    Both videos must have the same frames. The file carries the AI-altered mark, as every output does, and appears
    under its name when it is complete; raises OutputError with FFmpeg's words otherwise.
    """
    temporary = target.with_name(f".{target.stem}.part.mp4")
    try:
        with av.open(str(before)) as left, av.open(str(after)) as right:
            rate = left.streams.video[0].average_rate or Fraction(25)
            with av.open(str(temporary), "w", format="mp4") as container:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
                stream.thread_count = threads
                container.metadata.update(container_tags({}))
                stream.width, stream.height, stream.pix_fmt = 2 * half_px[0], half_px[1], "yuv420p"
                inset = _inset(read_picture(picture), round(_PICTURE_SHARE * half_px[0]))
                for one, other in zip(left.decode(video=0), right.decode(video=0), strict=False):
                    joined = np.concatenate([_half(one, half_px), _half(other, half_px)], axis=1)
                    _draw(joined, inset)
                    frame = av.VideoFrame.from_ndarray(joined, format="rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        append_xmp_box(temporary)
        temporary.replace(target)
    except FFMPEG_ERRORS as error:
        raise OutputError(explain(str(target), "a side-by-side video", words(error), "check the folder")) from error
    finally:
        temporary.unlink(missing_ok=True)


def _half(frame: av.VideoFrame, half_px: tuple[int, int]) -> U8:
    return frame.to_ndarray(format="rgb24", width=half_px[0], height=half_px[1]).astype(np.uint8, copy=False)


def _inset(rgb: U8, side_px: int) -> U8:
    side = min(rgb.shape[:2])
    square = np.ascontiguousarray(rgb[:side, :side])
    frame = av.VideoFrame.from_ndarray(square, format="rgb24")
    return frame.to_ndarray(format="rgb24", width=side_px, height=side_px).astype(np.uint8, copy=False)


def _draw(joined: U8, inset: U8) -> None:
    side = len(inset)
    left = joined.shape[1] // 2 - side // 2
    joined[6 : 10 + side, left - 2 : left + 2 + side] = 255
    joined[8 : 8 + side, left : left + side] = inset
