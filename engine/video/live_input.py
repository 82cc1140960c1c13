"""A live input: pictures and sound as they arrive, on one clock, through breaks and changes.

source = LiveInput("rtsp://camera/1", threads=2, options=LiveOptions())
source.begin()                       # the clock starts with the next picture
for item in source.items(stop):      # on a thread of its own: it must never wait for the pictures' user
    ...                              # DecodedFrame and PassThrough, stamped in ticks of the capture clock
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, cast

import av

from engine.errors import MediaError
from engine.video.fit import fit_picture
from engine.video.info import Colour, VideoInfo
from engine.video.inspect_source import colour_of, refuse_what_we_cannot
from engine.video.live_clock import TIME_BASE, CaptureClock, own_ticks
from engine.video.live_connection import Connection
from engine.video.live_open import LiveOptions
from engine.video.pyav import FFMPEG_ERRORS, is_on_device, picture_format, words
from engine.video.source import DecodedFrame, PassThrough, on_device_or_host

__all__ = ["LiveCounts", "LiveInput"]

_BACK_OFF_S = (0.25, 0.5, 1.0, 2.0, 4.0)
# Sound that came before the first picture, some of which may belong to it.
_PACKETS_BEFORE = 256


@dataclass
class LiveCounts:
    """What a live input saw since `begin`. Written by the thread that iterates, read by any."""

    packets: int = 0
    pictures: int = 0
    damaged: int = 0  # pictures that the decoder marks as broken, not handed out
    decoder_errors: int = 0
    reconnects: int = 0
    away_s: float = 0.0
    jumps: int = 0  # of the sender's time stamps


class LiveInput:
    """A camera, an address, or a file at its own pace. Opened here; iterated once, by one thread.

    `info` is what the run is opened for: size, colour and streams as first found, time in ticks of the capture clock.
    `say` is told when the input breaks off and comes back. Raises MediaError when nothing comes in time.
    """

    info: VideoInfo

    def __init__(
        self,
        uri: str,
        *,
        threads: int,
        options: LiveOptions,
        deinterlace: bool = False,
        paced: bool = False,
        on_device: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.uri = uri
        self.counts = LiveCounts()
        self.clock = CaptureClock()
        self._threads, self._options, self._deinterlace, self._paced = threads, options, deinterlace, paced
        self._say, self._on_device = say, on_device
        self._notes: list[str] = []
        self.lost = ""
        self._begun = threading.Event()
        self._iterating = False
        self._errors_before = 0
        self._before: deque[PassThrough] = deque(maxlen=_PACKETS_BEFORE)
        self._waiting = threading.Event()
        self._colours: dict[tuple[Any, ...], Colour] = {}
        self._last_ticks = -1
        self._connection = self._first = self._connect(options)
        self.info = dataclasses.replace(
            self._first.info, time_base=TIME_BASE, frame_count=None, frame_count_from="unknown", duration_s=None
        )
        self._streams = {stream.index: stream.index for stream in self._first.info.streams}

    @property
    def container(self) -> av.container.InputContainer:
        """The first opening's container: what an output copies streams and metadata from."""
        return self._first.container

    @property
    def video_stream(self) -> av.VideoStream:
        """The first opening's video stream."""
        return self._first.video_stream

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: what was found at open and what came up since."""
        return self._connection.notes + tuple(self._notes)

    @property
    def is_waiting(self) -> bool:
        """True while the input is away and being tried again."""
        return self._waiting.is_set()

    def begin(self) -> None:
        """Start the clock: the next picture is the first. Before, items are read and let go, so that none is old."""
        self._begun.set()

    def close(self) -> None:
        """Release input and decoder. An input that is being iterated is closed by its iteration instead."""
        if not self._iterating:
            self._connection.close()

    def __enter__(self) -> LiveInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def items(self, stop: threading.Event) -> Iterator[DecodedFrame | PassThrough]:
        """Pictures and packets as they arrive, from `begin` on, until the input ends or `stop` is set.

        An input that breaks and does not come back within `reconnect_s` ends the iteration too; `lost` says so then.
        A file that is damaged raises MediaError.
        """
        self._iterating = True
        try:
            yield from self._items(stop)
        finally:
            self._connection.close()
            self._iterating = False

    # -- inside ----------------------------------------------------------------------------------------

    def _items(self, stop: threading.Event) -> Iterator[DecodedFrame | PassThrough]:
        if self._paced:
            while not self._begun.wait(0.05):
                if stop.is_set():
                    return
        else:
            # what came since the opening, while models were loaded, is old by now
            self._connection.forget()
        index = 0
        while True:
            broke: MediaError | None = None
            try:
                for item in self._connection.live_items(stop):
                    if not self._connection.is_fresh:
                        continue
                    for ready in self._stamped(item, index):
                        index += isinstance(ready, DecodedFrame)
                        yield ready
            except MediaError as error:
                broke = error
            self._connection.close()
            if stop.is_set():
                return
            if self._paced:
                if broke is not None:
                    raise broke
                return
            if not self._comes_back(broke, stop):
                return

    def _stamped(
        self, item: tuple[av.VideoFrame, int] | PassThrough, index: int
    ) -> Iterator[DecodedFrame | PassThrough]:
        """The item on the capture clock, or nothing; the first picture brings the sound that waited for it."""
        if isinstance(item, PassThrough):
            if index == 0:
                self._before.append(item)
            elif packet := self._packet(item):
                yield packet
            return
        if index == 0 and not self._begun.is_set():
            return
        picture = self._picture(*item, index)
        if picture is None:
            return
        yield picture
        first = item[0]
        while self._before:
            waited = self._before.popleft()
            # of before the first picture, by the sender's own stamps: as far back as its last key picture may be
            if _starts_before(waited.packet, first):
                continue
            if packet := self._packet(waited):
                yield packet

    def _picture(self, frame: av.VideoFrame, arrived_ns: int, index: int) -> DecodedFrame | None:
        if index == 0:  # whatever was read before is no part of the run
            self.clock, self.counts = CaptureClock(), LiveCounts()
            self._connection.decoder_errors = 0
        counts, stream = self.counts, self._connection.video_stream
        counts.decoder_errors = self._errors_before + self._connection.decoder_errors
        if frame.is_corrupt:
            counts.damaged += 1
            return None
        if frame.pts is None:
            ticks = self.clock.arrival_ticks(arrived_ns)
        else:
            base = frame.time_base or cast(Fraction, stream.time_base)
            ticks = own_ticks(frame.pts, base) + self.clock.offset(stream.index, frame.pts, base, arrived_ns)
        ticks = self._last_ticks = max(ticks, self._last_ticks + 1)
        counts.pictures += 1
        counts.jumps = self.clock.jumps
        start_ns = time.perf_counter_ns()
        fitted = self._fitted(frame)
        decode_ms = self._connection.decode_ms + (time.perf_counter_ns() - start_ns) / 1e6
        return DecodedFrame(index, ticks, TIME_BASE, None, fitted, frame, arrived_ns, decode_ms)

    def _packet(self, item: PassThrough) -> PassThrough | None:
        packet, stream = item.packet, item.packet.stream
        old_index = self._streams.get(stream.index)
        stamp = packet.dts if packet.dts is not None else packet.pts
        if old_index is None or stamp is None:
            return None
        base = packet.time_base
        offset = self.clock.offset(stream.index, stamp, base, time.perf_counter_ns())
        if own_ticks(stamp, base) + offset < 0:
            return None
        shift = round(offset * TIME_BASE / base)
        packet.dts = packet.dts + shift if packet.dts is not None else None
        packet.pts = packet.pts + shift if packet.pts is not None else None
        self.counts.packets += 1
        return PassThrough(packet, old_index)

    def _fitted(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture as it is where it is as the run was opened for, else converted; said once for each kind."""
        kind = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range))
        run = self.info
        colour = self._colours.get(kind)
        if colour is None:
            refuse_what_we_cannot(run, frame, deinterlace=self._deinterlace)
            colour = self._colours[kind] = colour_of(self._connection.video_stream, frame, [])
            if not self._is_as_opened(frame, colour) and len(self._colours) > 1:
                got = f"{frame.width}x{frame.height} {frame.format.name} {colour.matrix}"
                self._tell(f"the input changed to {got}; it is converted to {run.width_px}x{run.height_px}")
        if not self._is_as_opened(frame, colour):
            return fit_picture(frame, colour, run)
        return frame if is_on_device(frame) else self._connection.converted(frame)

    def _is_as_opened(self, frame: av.VideoFrame, colour: Colour) -> bool:
        run = self.info
        same_colour = (colour.matrix, colour.full_range) == (run.colour.matrix, run.colour.full_range)
        same_layout = picture_format(frame).name == self._connection.pixel_format
        return same_colour and same_layout and (frame.width, frame.height) == (run.width_px, run.height_px)

    def _connect(self, options: LiveOptions) -> Connection:
        def opened(decoder: Any) -> Connection:
            return Connection(
                self.uri,
                options,
                decoder,
                threads=self._threads,
                deinterlace=self._deinterlace,
                paced=self._paced,
            )

        if not self._on_device:
            return opened(None)
        made = on_device_or_host(opened)
        # what can't be on the GPU now won't be when the input comes back
        self._on_device = made.is_on_device
        return made

    def _comes_back(self, broke: MediaError | None, stop: threading.Event) -> bool:
        """Try again with longer and longer pauses. False: it stays away, or the run is being stopped."""
        said = words(broke.__cause__) if broke is not None and broke.__cause__ is not None else str(broke or "its end")
        limit_s = self._options.reconnect_s
        self._errors_before = self.counts.decoder_errors
        start = time.monotonic()
        if limit_s:
            self._tell(f"{self.uri} broke off ({said}): trying again for {limit_s:.0f} s")
            self._waiting.set()
        last: BaseException | None = broke
        tries = 0
        while not stop.is_set() and (left_s := start + limit_s - time.monotonic()) > 0:
            if stop.wait(min(_BACK_OFF_S[min(tries, len(_BACK_OFF_S) - 1)], left_s)):
                return False
            tries += 1
            left_s = max(0.5, start + limit_s - time.monotonic())
            timeout_s = min(self._options.open_timeout_s, left_s)
            try:
                self._connection = self._connect(dataclasses.replace(self._options, open_timeout_s=timeout_s))
            except (MediaError, *FFMPEG_ERRORS) as error:
                last = error
                continue
            self._is_back(time.monotonic() - start, tries)
            return True
        if broke is not None and not stop.is_set():
            self.lost = f"the input broke off ({said}) and did not come back within {limit_s:g} s"
            if last is not None and last is not broke:
                self.lost += f": {last}"
        return False

    def _is_back(self, away_s: float, tries: int) -> None:
        self.clock.restart()
        self.counts.reconnects += 1
        self.counts.away_s += away_s
        self._waiting.clear()
        self._tell(f"{self.uri} is back after {away_s:.1f} s, at try {tries}")
        was = [(s.kind, s.codec) for s in self._first.info.streams]
        self._streams, taken = {}, set[int]()
        for stream in self._connection.info.streams:
            for old, kind in enumerate(was):
                if kind == (stream.kind, stream.codec) and old not in taken:
                    self._streams[stream.index] = old
                    taken.add(old)
                    break
            else:
                self._tell(f"stream {stream.index} ({stream.kind}, {stream.codec}) is new and left out")

    def _tell(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)
        self._say(note)


def _starts_before(packet: av.Packet[Any], picture: av.VideoFrame) -> bool:
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or picture.pts is None or picture.time_base is None:
        return False
    return stamp * packet.time_base < picture.pts * picture.time_base
