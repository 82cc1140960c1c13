"""Read a video: decoded frames and every other stream's packets, in the order of the file.

with open_source("in.mp4", threads=2) as source:
    for item in source:
        if isinstance(item, DecodedFrame): ...
        else: ...  # PassThrough: audio, subtitles, data, for Sink.pass_through
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
from av.codec.context import Flags as CodecFlags

from engine.errors import InputError, MediaError, explain
from engine.video.info import Colour, VideoInfo
from engine.video.inspect_source import colour_of, describe, refuse_what_we_cannot, stated_end_s
from engine.video.planes import Converter, Deinterlacer, planes_of
from engine.video.pyav import (
    FFMPEG_ERRORS,
    U8Plane,
    ffmpeg_url,
    is_on_device,
    is_url,
    picture_format,
    side_data_of,
    words,
    words_on_retry,
)

__all__ = ["DecodedFrame", "PassThrough", "Source", "open_source"]

# A stream whose first picture has not come by then is not going to decode.
_PACKETS_UNTIL_FIRST_FRAME = 5000

# Less is disorder between neighbours, which is repaired; more is a file joined from several.
_JUMP_BACK_S = 1.0

# Of x264 and x265, as they are in every stream that these made.
_ENCODER_SETTINGS_UUIDS = (
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),
)


@dataclass(frozen=True)
class DecodedFrame:
    """One picture, in display order.

    `av_frame` holds the planes in 8-bit 4:2:0 and the side data (captions, timecode). Its memory belongs
    to the decoder and is valid as long as this object or a view of it lives; it must never be written.
    """

    index: int  # 0, 1, 2, ... in the order delivered
    pts: int  # strictly increasing, in ticks of time_base
    time_base: Fraction
    duration: int | None  # ticks; None where the file does not say
    av_frame: av.VideoFrame
    carried: av.VideoFrame  # the frame as decoded, before any conversion: where side data is read
    arrived_ns: int = 0  # time.perf_counter_ns, when the packet with this picture came in; live sources only

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)

    @property
    def side_data(self) -> frozenset[str]:
        """Names of the side data on this frame, e.g. A53_CC, S12M_TIMECODE; UNKNOWN if PyAV can't name one.

        The settings that x264 and x265 leave in their first picture are no data of the user's: not among them.
        """
        found = side_data_of(self.carried)
        if found is None:
            return frozenset({"UNKNOWN"})
        if found.get("SEI_UNREGISTERED", b"")[:16] in _ENCODER_SETTINGS_UUIDS:
            del found["SEI_UNREGISTERED"]
        return frozenset(found)

    def planes(self) -> tuple[U8Plane, ...]:
        """Read-only uint8 views, rows `strides[0]` bytes apart, no copy.

        (y, u, v) for yuv420p and yuvj420p: y HxW, u and v ceil(H/2) x ceil(W/2).
        (y, uv) for nv12: uv is ceil(H/2) x 2*ceil(W/2), u and v alternating.
        Valid as long as the views live. Never writable: decoders predict later pictures from this memory.
        """
        return planes_of(self.av_frame)

    def device_planes(self) -> tuple[Any, Any] | None:
        """(y, uv) on the GPU as DLPack exporters, uint8 y [H, W] and uv [H / 2, W / 2, 2]; None on the host.

        They are the decoder's surfaces: read them, never write them, and order the read after the legacy
        default stream, on which FFmpeg decodes. Valid as long as this object lives.
        """
        if not is_on_device(self.av_frame):
            return None
        y, uv = self.av_frame.planes
        return y, uv

    def copy_nv12_into(self, y: U8Plane, uv: U8Plane) -> None:
        """Copy this picture into NV12 memory: y HxW, uv ceil(H/2) x 2*ceil(W/2), any row pitch. Exact."""
        planes = self.planes()
        y[:] = planes[0]
        if len(planes) == 2:
            uv[:] = planes[1]
        else:
            uv[:, 0::2] = planes[1]
            uv[:, 1::2] = planes[2]


@dataclass(frozen=True)
class PassThrough:
    """A packet of a stream that is not processed, to be handed to `Sink.pass_through` unchanged."""

    packet: av.Packet[Any]
    index: int | None = None  # where an input that was opened again numbers its streams in another way

    @property
    def stream_index(self) -> int:
        """Index among `VideoInfo.streams`."""
        return self.packet.stream_index if self.index is None else self.index


class Source:
    """An open video. Iterate once; close from any thread. Made by `open_source`."""

    info: VideoInfo

    def __init__(
        self,
        uri: str,
        container: av.container.InputContainer,
        *,
        threads: int,
        deinterlace: bool,
        low_delay: bool = False,
    ) -> None:
        self.container = container
        self.uri = uri
        self.decoder_errors = 0
        self._lock = threading.Lock()  # closing a container that is being read would crash
        self._closed = False
        self._iterating = False
        self._late_notes: list[str] = []
        self._pending: deque[av.VideoFrame | PassThrough] = deque()
        self._video_end_s = self._others_end_s = 0.0
        self.video_stream = _pick_video(uri, container)
        self.video_stream.thread_count = threads
        # frame threads hold one picture back for each of them
        several = "SLICE" if low_delay else "AUTO"
        self.video_stream.thread_type = cast(Any, several if threads > 1 else "NONE")
        if low_delay:
            self.video_stream.codec_context.flags |= int(CodecFlags.low_delay)
        self._packets = container.demux()
        first = self._read_first_frame()
        self._first_format = picture_format(first).name
        self._first_tags = (int(first.colorspace), int(first.color_range))
        self.info = describe(uri, container, self.video_stream, first)
        refuse_what_we_cannot(self.info, first, deinterlace=deinterlace)
        self._deinterlacer = Deinterlacer(self.video_stream) if deinterlace else None
        self._convert = Converter(uri, picture_format(first), self.info.colour)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: what was found at open and what came up since."""
        return self.info.notes + tuple(self._late_notes)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release file and decoder. Frames already delivered stay valid. May be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._pending.clear()
                self._packets.close()  # type: ignore[attr-defined]
                self.container.close()

    def __iter__(self) -> Iterator[DecodedFrame | PassThrough]:
        """Items in the order of the file, once. Ends early, without an error, when closed meanwhile.

        Raises MediaError when the picture's size or format changes, when a progressive video turns
        interlaced, or when the file breaks off; whatever came before has been delivered.
        """
        if self._iterating:
            raise InputError(explain(self.uri, "one pass over a source", "a second one", "open the source again"))
        self._iterating = True
        return self._items()

    def converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A decoded frame of this source in one of the formats that planes are handed out in."""
        return self._convert(frame)

    # -- inside ----------------------------------------------------------------------------------------

    def _items(self) -> Iterator[DecodedFrame | PassThrough]:
        index, last_pts = 0, None
        for item in self._deinterlaced():
            if isinstance(item, PassThrough):
                yield item
                continue
            self._refuse_changes(index, item)
            self._refuse_jump_back(index, item.pts, last_pts)
            pts = self._steady_pts(item.pts, last_pts)
            frame = DecodedFrame(index, pts, self.info.time_base, item.duration or None, self._convert(item), item)
            index, last_pts = index + 1, pts
            yield frame
        if not self._closed:
            self._refuse_truncation(index)

    def _deinterlaced(self) -> Iterator[av.VideoFrame | PassThrough]:
        for item in self._raw():
            if isinstance(item, PassThrough) or self._deinterlacer is None:
                yield item
            else:
                yield from self._deinterlacer.push(item)
        if self._deinterlacer is not None:
            yield from self._deinterlacer.push(None)

    def _raw(self) -> Iterator[av.VideoFrame | PassThrough]:
        """What was read while opening, then the rest of the file."""
        while True:
            with self._lock:
                if self._closed:
                    return
                if not self._pending and not self._read_packet():
                    return
                ready = list(self._pending)
                self._pending.clear()
            yield from ready

    def _read_packet(self) -> bool:
        """Demux one packet into `_pending`, decoded if it is the video's; False at the end."""
        start_ns = time.perf_counter_ns()
        try:
            packet = next(self._packets, None)
        except FFMPEG_ERRORS as error:
            raise MediaError(
                explain(self.uri, "the next packet", words(error), "check the file with another player")
            ) from error
        if packet is None:
            return False
        self._on_packet(packet, time.perf_counter_ns() - start_ns)
        end_s = 0.0
        if packet.pts is not None and packet.time_base:
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        # `packet.stream` rather than its index: the empty packets that flush at the end carry index 0
        if packet.stream.index != self.video_stream.index:
            self._others_end_s = max(self._others_end_s, end_s)
            if packet.size:
                self._pending.append(PassThrough(packet))
            return True
        self._video_end_s = max(self._video_end_s, end_s)
        if packet.is_corrupt:
            self._count_decoder_error("a packet that the container marks as damaged")
        try:
            self._pending.extend(cast("list[av.VideoFrame]", packet.decode()))
        except av.FFmpegError as error:
            self._count_decoder_error(words(error))
        return True

    def _on_packet(self, packet: av.Packet[Any], waited_ns: int) -> None:
        """Called with every packet as it comes in, before it is decoded, and how long it was waited for."""

    def _read_first_frame(self) -> av.VideoFrame:
        for _ in range(_PACKETS_UNTIL_FIRST_FRAME):
            if not self._read_packet():
                break
            if self._pending and isinstance(self._pending[-1], av.VideoFrame):
                return next(item for item in self._pending if isinstance(item, av.VideoFrame))
        said = f"none ({self._late_notes[-1]})" if self._late_notes else "none"
        raise MediaError(explain(self.uri, "a picture that decodes", said, "check the file with another player"))

    def _count_decoder_error(self, said: str) -> None:
        self.decoder_errors += 1
        self._late_notes = [note for note in self._late_notes if not note.startswith("decoder: ")]
        self._late_notes.append(f"decoder: {self.decoder_errors} packets failed, the last with: {said}")

    def _steady_pts(self, pts: int | None, last_pts: int | None) -> int:
        """A time stamp after the last one: muxers refuse missing, equal and backward ones."""
        tick = max(1, round(1 / (self.info.rate * self.info.time_base)))
        if pts is None:
            self._note_once("some pictures had no time stamp; it was counted up from the average rate")
            return 0 if last_pts is None else last_pts + tick
        if last_pts is not None and pts <= last_pts:
            self._note_once("some time stamps did not increase; they were moved to one tick later")
            return last_pts + 1
        return pts

    def _refuse_jump_back(self, index: int, pts: int | None, last_pts: int | None) -> None:
        if pts is None or last_pts is None:
            return
        back_s = float((last_pts - pts) * self.info.time_base)
        if back_s > _JUMP_BACK_S:
            raise MediaError(
                explain(
                    f"{self.uri}, picture {index}",
                    "time that goes on",
                    f"a jump back by {back_s:.1f} s",
                    "split the file where it was joined",
                )
            )

    def _note_once(self, note: str) -> None:
        if note not in self._late_notes:
            self._late_notes.append(note)

    def _refuse_changes(self, index: int, frame: av.VideoFrame) -> None:
        if (frame.width, frame.height) != (self.info.width_px, self.info.height_px):
            raise MediaError(
                explain(
                    f"{self.uri}, picture {index}",
                    f"{self.info.width_px}x{self.info.height_px} as before",
                    f"{frame.width}x{frame.height}",
                    "split the file where its size changes",
                )
            )
        if picture_format(frame).name != self._first_format:
            raise MediaError(
                explain(
                    f"{self.uri}, picture {index}",
                    f"pixel format {self._first_format} as before",
                    picture_format(frame).name,
                    "split the file where its format changes",
                )
            )
        if (int(frame.colorspace), int(frame.color_range)) != self._first_tags:
            self._refuse_other_colour(index, frame)
        if frame.interlaced_frame and self._deinterlacer is None:
            refuse_what_we_cannot(self.info, frame, deinterlace=False, place=f", picture {index}")

    def _refuse_other_colour(self, index: int, frame: av.VideoFrame) -> None:
        """Tags may come and go; what the pixels are computed with may not change."""
        was, now = self.info.colour, colour_of(self.video_stream, frame, [])
        if (was.matrix, was.full_range) != (now.matrix, now.full_range):
            raise MediaError(
                explain(
                    f"{self.uri}, picture {index}",
                    f"{_in_words(was)} as before",
                    _in_words(now),
                    "split the file where its colour changes",
                )
            )

    def _refuse_truncation(self, frames: int) -> None:
        """Only containers whose header states the length tell a truncated file from a short one."""
        if is_url(self.uri):
            return
        stated = stated_end_s(self.container, self.video_stream)
        if stated is None:
            return
        wanted_s, video_only = stated
        got_s = self._video_end_s if video_only else max(self._video_end_s, self._others_end_s)
        if got_s < wanted_s - max(0.5, 0.02 * wanted_s):
            raise MediaError(
                explain(
                    self.uri,
                    f"{wanted_s:.1f} s as its header says",
                    f"{got_s:.1f} s ({frames} pictures): the file is truncated",
                    "fetch the whole file; what was there has been delivered",
                )
            )


def open_source(uri: str | Path, *, threads: int, deinterlace: bool = False) -> Source:
    """Open a video file or stream (anything FFmpeg reads) and decode its first picture.

    threads: of the decoder, at least 1. deinterlace: turn interlaced pictures into progressive ones (bwdif)
    rather than refuse them. Raises InputError for a missing, empty or unreadable path, MediaError for what
    is no video, does not decode, or is refused by name (HDR transfers, interlaced).
    """
    name = str(uri)
    if threads < 1:
        raise InputError(explain("open_source", "threads of 1 or more", threads, "raise the thread budget"))
    if not is_url(name):
        _refuse_path(name)
    try:
        container = av.open(ffmpeg_url(name), "r", metadata_errors="replace")
    except FFMPEG_ERRORS as error:
        said = words(error) if is_url(name) else words_on_retry(error, lambda: av.open(ffmpeg_url(name)))
        raise MediaError(explain(name, "a video that FFmpeg can read", said, "check the path and the file")) from error
    try:
        return Source(name, container, threads=threads, deinterlace=deinterlace)
    except BaseException:
        container.close()
        raise


def _in_words(colour: Colour) -> str:
    return f"{colour.matrix.upper().replace('BT', 'BT.')} in {'full' if colour.full_range else 'limited'} range"


def _refuse_path(name: str) -> None:
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


def _pick_video(uri: str, container: av.container.InputContainer) -> av.VideoStream:
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
