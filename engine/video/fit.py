"""A live input that changes its size, format or colour: its pictures as the run was opened for.

A run's memory and its output have one size and one colour. A new size is scaled into it, its aspect kept, black around.
"""

from __future__ import annotations

from typing import Any

import av

from engine.errors import MediaError, explain
from engine.video.info import Colour, VideoInfo
from engine.video.planes import SWS_COLORSPACE, planes_of
from engine.video.pyav import FFMPEG_ERRORS, picture_format, reformat, words, writable_plane

__all__ = ["fit_picture", "fitted_size"]


def fitted_size(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest even size with the aspect of `size` that `room` holds; `room` itself where the aspect is the same."""
    (width, height), (wide, high) = size, room
    if width * high == height * wide:
        return room
    if width * high > height * wide:
        return wide, max(2, round(height * wide / width) // 2 * 2)
    return max(2, round(width * high / height) // 2 * 2), high


def fit_picture(frame: av.VideoFrame, colour: Colour, run: VideoInfo) -> av.VideoFrame:
    """The picture in 8-bit 4:2:0 of the run's size, matrix and range, in memory of its own; the stamp goes along.

    colour: what the picture's own pixels mean. Raises MediaError where FFmpeg can't convert.
    """
    room = (run.width_px, run.height_px)
    width, height = fitted_size((frame.width, frame.height), room)
    options: dict[str, Any] = {
        "src_colorspace": SWS_COLORSPACE[colour.matrix],
        "dst_colorspace": SWS_COLORSPACE[run.colour.matrix],
        "src_color_range": "JPEG" if colour.full_range or picture_format(frame).is_rgb else "MPEG",
        "dst_color_range": "JPEG" if run.colour.full_range else "MPEG",
    }
    try:
        scaled = reformat(frame, "yuv420p", width=width, height=height, **options)
    except FFMPEG_ERRORS as error:
        got = f"{frame.width}x{frame.height} {frame.format.name} ({words(error)})"
        raise MediaError(explain(run.uri, "a picture that converts", got, "change the sender's format")) from error
    if (width, height) == room:
        return scaled
    return _framed(scaled, run)


def _framed(picture: av.VideoFrame, run: VideoInfo) -> av.VideoFrame:
    """The picture in the middle of a black one of the run's size; both offsets are even, so chroma stays in place."""
    whole = av.VideoFrame(run.width_px, run.height_px, "yuv420p")
    left, top = (run.width_px - picture.width) // 4 * 2, (run.height_px - picture.height) // 4 * 2
    for index, part in enumerate(planes_of(picture)):
        shift = int(index > 0)
        target = writable_plane(whole.planes[index], (whole.width + shift) >> shift)
        target[:] = 128 if index else (0 if run.colour.full_range else 16)
        rows, columns = part.shape
        target[top >> shift : (top >> shift) + rows, left >> shift : (left >> shift) + columns] = part
    whole.pts, whole.time_base = picture.pts, picture.time_base
    return whole
