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
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import av
from av.codec.context import Flags as CodecFlags

from engine.errors import InputError, MediaError, explain
from engine.video.decoded import DecodedFrame, PassThrough
from engine.video.device import NO_DECODER, cuda_decoder, keep_more_surfaces, no_gpu_note, why_on_host
from engine.video.info import Colour, VideoInfo
from engine.video.inspect_source import colour_of, describe, refuse_what_we_cannot, stated_end_s
from engine.video.planes import Converter, Deinterlacer
from engine.video.pyav import (
    FFMPEG_ERRORS,
    ffmpeg_url,
    is_url,
    picture_format,
    words,
    words_on_retry,
)
from engine.video.what_is_video import pick_video, refuse_path

__all__ = ["DecodedFrame", "PassThrough", "Source", "on_device_or_host", "open_source"]

# A stream whose first picture has not come by then is not going to decode.
_PACKETS_UNTIL_FIRST_FRAME = 5000

# On the GPU: in the hand-over, in the pipeline's slots and on its way into them.
_SURFACES_HELD = 8

# Less is disorder between neighbours, which is repaired; more is a file joined from several.
_JUMP_BACK_S = 1.0


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
        on_device: bool = False,
    ) -> None:
        self.container = container
        self.uri = uri
        self.decoder_errors = 0
        self.decode_ms = 0.0  # of the last packet of the video
        self._lock = threading.Lock()  # closing a container that is being read would crash
        self._closed = False
        self._iterating = False
        self._late_notes: list[str] = []
        self._pending: deque[av.VideoFrame | PassThrough] = deque()
        self._video_end_s = self._others_end_s = 0.0
        self.video_stream = pick_video(uri, container)
        self.video_stream.thread_count = threads
        # frame threads hold one picture back for each of them
        several = "SLICE" if low_delay else "AUTO"
        self.video_stream.thread_type = cast(Any, several if threads > 1 else "NONE")
        if low_delay:
            self.video_stream.codec_context.flags |= int(CodecFlags.low_delay)
        if on_device:
            keep_more_surfaces(self.video_stream, _SURFACES_HELD)
        self._packets = container.demux()
        first = self._read_first_frame()
        self.pixel_format = picture_format(first).name
        self._first_tags = (int(first.colorspace), int(first.color_range))
        self.info = describe(uri, container, self.video_stream, first)
        refuse_what_we_cannot(self.info, first, deinterlace=deinterlace)
        #: Why pictures come in host memory though the GPU was asked for; None where they stay on it.
        self.why_on_host = why_on_host(self.info, first, deinterlace=deinterlace) if on_device else None
        self.is_on_device = on_device and self.why_on_host is None
        self._deinterlacer = Deinterlacer(self.video_stream) if deinterlace else None
        self._convert = Converter(uri, picture_format(first), self.info.colour)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: what was found at open and what came up since."""
        return self.info.notes + tuple(self._late_notes)

    def note(self, line: str) -> None:
        """Add a line to `notes`, once."""
        if line not in self._late_notes:
            self._late_notes.append(line)

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
        try:
            packet = next(self._packets, None)
        except FFMPEG_ERRORS as error:
            raise MediaError(
                explain(self.uri, "the next packet", words(error), "check the file with another player")
            ) from error
        if packet is None:
            return False
        self._on_packet(packet)
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
        start_ns = time.perf_counter_ns()
        try:
            self._pending.extend(cast("list[av.VideoFrame]", packet.decode()))
        except av.FFmpegError as error:
            self._count_decoder_error(words(error))
        self.decode_ms = (time.perf_counter_ns() - start_ns) / 1e6
        return True

    def _on_packet(self, packet: av.Packet[Any]) -> None:
        """Called with every packet as it comes in, before it is decoded."""

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
            self.note("some pictures had no time stamp; it was counted up from the average rate")
            return 0 if last_pts is None else last_pts + tick
        if last_pts is not None and pts <= last_pts:
            self.note("some time stamps did not increase; they were moved to one tick later")
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
        if picture_format(frame).name != self.pixel_format:
            raise MediaError(
                explain(
                    f"{self.uri}, picture {index}",
                    f"pixel format {self.pixel_format} as before",
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


def open_source(uri: str | Path, *, threads: int, deinterlace: bool = False, on_device: bool = False) -> Source:
    """Open a video file or stream (anything FFmpeg reads) and decode its first picture.

    threads: of the decoder, at least 1. deinterlace: turn interlaced pictures into progressive ones (bwdif)
    rather than refuse them. on_device: decode on the GPU and leave the pictures there; where that can't be, the
    pictures come on the host and `notes` say why. Raises InputError for a missing, empty or unreadable path,
    MediaError for what is no video, does not decode, or is refused by name (HDR transfers, interlaced).
    """
    name = str(uri)
    if threads < 1:
        raise InputError(explain("open_source", "threads of 1 or more", threads, "raise the thread budget"))
    if not is_url(name):
        refuse_path(name)

    def opened(decoder: Any) -> Source:
        container = av.open(ffmpeg_url(name), "r", metadata_errors="replace", hwaccel=decoder)
        try:
            return Source(name, container, threads=threads, deinterlace=deinterlace, on_device=decoder is not None)
        except BaseException:
            container.close()
            raise

    try:
        return on_device_or_host(opened) if on_device else opened(None)
    except FFMPEG_ERRORS as error:
        said = words(error) if is_url(name) else words_on_retry(error, lambda: av.open(ffmpeg_url(name)))
        raise MediaError(explain(name, "a video that FFmpeg can read", said, "check the path and the file")) from error


AnySource = TypeVar("AnySource", bound=Source)


def on_device_or_host(opened: Callable[[Any], AnySource]) -> AnySource:
    """What `opened` makes with the GPU's decoder, or, with a note that says why, without it.

    Whatever fails with the decoder is tried without: an input that is at fault fails then too, in the words that it has
    on the host. What did not come in time is not waited for a second time.
    """
    decoder = cuda_decoder()
    note = no_gpu_note(None)
    if decoder is not None:
        try:
            source = opened(decoder)
        except (*NO_DECODER, MediaError) as error:
            if isinstance(error.__cause__ or error, av.error.ExitError):
                raise
            note = no_gpu_note(error)
        else:
            if source.why_on_host is None:
                return source
            note = f"decoded on the host: {source.why_on_host}"
            source.close()
    source = opened(None)
    source.note(note)
    return source


def _in_words(colour: Colour) -> str:
    return f"{colour.matrix.upper().replace('BT', 'BT.')} in {'full' if colour.full_range else 'limited'} range"
