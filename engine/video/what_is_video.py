"""Whether a path is a file at all, and which of a container's streams is the video."""

from __future__ import annotations

from pathlib import Path

import av

from engine.errors import InputError, MediaError, explain
from engine.video.pyav import words

__all__ = ["pick_video", "refuse_path"]


def refuse_path(name: str) -> None:
    """Raise InputError for a path that is missing, a folder or empty."""
    path = Path(name)
    try:
        if not path.exists():
            raise InputError(explain(name, "a video file", "no such file", "check the path"))
        if path.is_dir():
            raise InputError(explain(name, "a video file", "a folder", "name a file in it"))
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(explain(name, "a video file", "an empty file", "fetch or export it again"))
    except OSError as error:
        raise InputError(explain(name, "a video file", words(error), "check the path")) from error


def pick_video(uri: str, container: av.container.InputContainer) -> av.VideoStream:
    """The stream to process: the first that is no cover picture; raises MediaError where there is none."""
    if container.format.name == "tty":  # FFmpeg's demuxer for text, which it plays as ANSI art
        raise MediaError(explain(uri, "a video", "a text file", "check the path"))
    for stream in container.streams.video:
        cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
        if not cover and stream.codec_context is not None:
            return stream
    if any(stream.codec_context is None for stream in container.streams.video):
        got = "a codec without a decoder in this build of FFmpeg"
    else:  # what counts as video here is a cover picture
        kinds = {"a cover picture" if stream.type == "video" else stream.type for stream in container.streams}
        got = "only " + (" and ".join(sorted(kinds, reverse=True)) or "an empty container")
    raise MediaError(explain(uri, "a video stream", got, "name a file that holds video"))
