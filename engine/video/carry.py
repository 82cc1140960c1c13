"""Everything that is not the processed picture: other streams, metadata, chapters, and what was lost."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import av

from engine.video.ai_altered import container_tags
from engine.video.info import StreamInfo, VideoInfo
from engine.video.pyav import FFMPEG_ERRORS, words_on_retry

__all__ = ["Expected", "Origin", "add_streams", "copy_metadata", "is_cover", "open_muxer", "what_was_lost"]

# Written by the container itself; those of the input would be false.
_CONTAINER_KEYS: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
# Statistics that mkvmerge leaves on a stream, which re-encoding makes false.
_VIDEO_KEYS: Final = {"encoder", "duration", "bps", "number_of_frames", "number_of_bytes", "vendor_id"}


def is_cover(stream: av.stream.Stream) -> bool:
    """True for a still picture that stands for the file rather than being part of it."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


class Origin(Protocol):
    """What an output is made from and copied from: a Source, or a LiveInput."""

    uri: str
    info: VideoInfo

    @property
    def container(self) -> av.container.InputContainer:
        """The open input."""
        ...

    @property
    def video_stream(self) -> av.VideoStream:
        """The stream that is processed."""
        ...


def open_muxer(target: str | io.BytesIO, muxer: str, source: Origin) -> av.container.OutputContainer:
    """An output container that keeps as much metadata as it can.

    mp4 and mov have two ways to write metadata: keys of any name, or iTunes' fixed names and cover pictures.
    """
    any_key = muxer in ("mp4", "mov") and not (muxer == "mp4" and any(map(is_cover, source.container.streams)))
    options = {"movflags": "use_metadata_tags"} if any_key else None
    return av.open(target, "w", format=muxer, container_options=options)


def add_streams(
    container: av.container.OutputContainer, muxer: str, source: Origin
) -> tuple[dict[int, av.stream.Stream], list[str]]:
    """Add a copy of every stream of `source` but the processed one.

    Returns the output streams by the input's index, and a note for each stream that the container can't
    hold. Each is first tried alone in memory, since one refused stream would fail the whole header.
    """
    streams: dict[int, av.stream.Stream] = {}
    notes: list[str] = []
    for stream in source.container.streams:
        if stream.index == source.video_stream.index or _is_rewritten(stream, source):
            continue
        said = _refusal(stream, muxer, source)
        if said is None:
            streams[stream.index] = _add(container, stream)
        else:
            name = source.info.streams[stream.index].codec or "unnamed"
            notes.append(f"stream {stream.index} ({stream.type}, {name}) is left out: {muxer} can't hold it: {said}")
    return streams, notes


def _is_rewritten(stream: av.stream.Stream, source: Origin) -> bool:
    """Tracks of mov and mp4 that their muxer writes anew from chapters and from the timecode tag."""
    if not source.info.container.startswith("mov"):
        return False
    if stream.type == "data" and "timecode" in stream.metadata:
        return source.info.timecode is not None
    chapters = len(source.container.chapters())
    if not chapters:
        return False
    if stream.type == "data":  # GoPro's telemetry is bin_data too, but has other counts
        return getattr(stream, "name", None) == "bin_data" and stream.frames == chapters
    # Subtitles proper have the tag tx3g.
    context = stream.codec_context
    return stream.type == "subtitle" and context is not None and context.codec_tag == "text"


def _add(container: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    added = cast(av.stream.Stream, container.add_stream_from_template(cast(Any, stream), opaque=True))
    added.metadata.update(stream.metadata)
    _copy_disposition(stream, added)
    return added


def _copy_disposition(stream: av.stream.Stream, added: av.stream.Stream) -> None:
    cast(Any, added).disposition = stream.disposition.value  # PyAV before 18 takes nothing but a number


def _refusal(stream: av.stream.Stream, muxer: str, source: Origin) -> str | None:
    """Why this muxer refuses a stream, in FFmpeg's words; None if it takes it."""

    context = stream.codec_context
    if muxer == "rtsp" and stream.type == "audio" and context.name == "aac" and not context.extradata:
        return "its AAC comes without a global header, as transport streams have it"
    # RTSP can't be tried without its server; what it sends is what a transport stream takes, or nearly
    trial = "mpegts" if muxer in ("rtsp", "rtp_mpegts") else muxer

    def attempt() -> None:
        container = open_muxer(io.BytesIO(), trial, source)
        _add(container, stream)
        container.start_encoding()
        with contextlib.suppress(*FFMPEG_ERRORS):  # no packet was written: only the header counts here
            container.close()

    try:
        attempt()
    except FFMPEG_ERRORS as error:
        return words_on_retry(error, attempt)
    return None


def copy_metadata(
    container: av.container.OutputContainer, video: av.VideoStream, source: Origin, *, timecode: bool
) -> None:
    """Container, video stream and chapter metadata, plus the AI-altered mark. Before the header is written."""
    given = {k: v for k, v in source.container.metadata.items() if k.lower() not in _CONTAINER_KEYS}
    if not timecode:
        given = {k: v for k, v in given.items() if k.lower() != "timecode"}
    container.metadata.update({**given, **container_tags(given)})
    for key, value in source.video_stream.metadata.items():
        stale = key.lower().startswith(("bps-", "number_of_", "duration-", "_statistics"))
        if key.lower() not in _VIDEO_KEYS | {"timecode"} and not stale:
            video.metadata[key] = value
    if timecode and source.info.timecode:
        video.metadata["timecode"] = source.info.timecode
    _copy_disposition(source.video_stream, video)
    container.set_chapters(source.container.chapters())


@dataclass(frozen=True, slots=True)
class Expected:
    """What of the input should be found in the output: noted at open, since the input may be closed first."""

    metadata_keys: frozenset[str]
    chapters: int
    covers: frozenset[int]
    streams: tuple[StreamInfo, ...]  # all of the input's
    copied: tuple[int, ...]  # the input's indices, in the order of the output

    @classmethod
    def of(cls, source: Origin, copied: Iterable[int]) -> Expected:
        """From an open source; the processed stream comes first in the output."""
        container = source.container
        return cls(
            frozenset(key for key in container.metadata if key.lower() not in _CONTAINER_KEYS | {"timecode"}),
            len(container.chapters()),
            frozenset(stream.index for stream in container.streams if is_cover(stream)),
            source.info.streams,
            (source.info.video_index, *copied),
        )


def what_was_lost(path: Path, expected: Expected) -> list[str]:
    """Notes on what the finished file does not give back. Raises FFmpeg's errors if it can't be read."""
    notes = []
    with av.open(f"file:{path}", metadata_errors="replace") as written:
        have = {key.lower() for key in written.metadata}
        lost = sorted(key for key in expected.metadata_keys if key.lower() not in have)
        if lost:
            notes.append(f"container metadata not carried: {', '.join(lost)}")
        if expected.chapters != len(written.chapters()):
            notes.append(f"chapters: {expected.chapters} in the input, {len(written.chapters())} in the output")
        covers = [index for index in expected.copied if index in expected.covers]
        if len(covers) > sum(map(is_cover, written.streams)):
            notes.append(f"stream {covers[-1]}: the cover picture is not carried")
        # Covers come last when read back, in whatever place they were written.
        others = [index for index in expected.copied if index not in covers]
        for index, now in zip(others, written.streams, strict=False):
            was = expected.streams[index]
            names = {key.lower(): value for key, value in now.metadata.items()}
            if was.language not in (None, "und", names.get("language")):
                notes.append(f"stream {index}: its language {was.language} is not carried")
            if was.title not in (None, names.get("title"), names.get("name"), names.get("handler_name")):
                notes.append(f"stream {index}: its title {was.title!r} is not carried")
    return notes
