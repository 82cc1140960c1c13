"""Write a video: pictures from NV12 memory, everything else copied from the source.

    with open_sink("out.mp4", source, threads=2) as sink:
        for item in source:
            if isinstance(item, PassThrough):
                sink.pass_through(item)
            else:
                sink.write((y, uv), item)

The file is written under a hidden name beside the final one and renamed by `close()`, which leaving the
`with` block calls. After an exception, leaving it calls `abort()`: OUT.partial.mp4, playable.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import av

from engine.errors import InputError, OutputError, explain
from engine.video.address import AddressPlace, is_address, open_address
from engine.video.ai_altered import append_xmp_box
from engine.video.captions import with_captions
from engine.video.carry import Expected, Origin, add_streams, copy_metadata, is_cover, open_muxer, what_was_lost
from engine.video.encoder import CARRIED_SIDE_DATA, CODECS, EncoderSettings, FramePacker, add_encoder, even
from engine.video.live_clock import TIME_BASE
from engine.video.nvenc import DeviceFrames, add_nvenc, why_not_nvenc
from engine.video.output_place import OutputPlace
from engine.video.pyav import FFMPEG_ERRORS, U8Plane, side_data_of, words
from engine.video.source import DecodedFrame, PassThrough

__all__ = ["MUXERS", "Sink", "open_sink"]

MUXERS: Final = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}

#: FFmpeg's muxers write in the order of decode stamps, and hold a packet until every stream has one that is later. With
#: decode stamps of pictures this far ahead of the sound's (as B-frames have them), a picture never waits: measured on
#: a socket, 40 ms less at 25 frames a second with sound. A receiver that obeys the stream's own clock holds it as long.
EARLY_TICKS: Final = 13_500  # 150 ms

# Carried by other means (stream, container) or without meaning behind an encoder.
_EXPECTED_SIDE_DATA: Final = frozenset({
    "DISPLAYMATRIX", "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "S12M_TIMECODE", "GOP_TIMECODE",
    "MOTION_VECTORS", "VIDEO_ENC_PARAMS", "VIDEO_HINT", "REGIONS_OF_INTEREST", "PANSCAN",
})  # fmt: skip


class Sink:
    """An output being written. Made by `open_sink`; calls from several threads take turns."""

    def __init__(
        self,
        place: OutputPlace | AddressPlace,
        source: Origin,
        settings: EncoderSettings,
        device: DeviceFrames | None = None,
    ) -> None:
        self._place, self._device, self._settings = place, device, settings
        self._takes_device = device is not None
        self._is_address = isinstance(place, AddressPlace)
        self._muxer = place.muxer if isinstance(place, AddressPlace) else MUXERS[place.suffix]
        self._lock = threading.RLock()
        self._is_closed = False
        self._failed = False
        self._notes: list[str] = []
        self._durations: dict[int, int] = {}
        self._last_dts: dict[int, int] = {}
        self._lost_side_data: set[str] = set()
        self._captions: dict[int, bytes] = {}
        self._is_started = False
        self._early_packets: list[PassThrough] = []
        self.frames_written = 0
        info = source.info
        self._size_px = (info.width_px, info.height_px)
        if device is None:
            self._packer = FramePacker(info.width_px, info.height_px, CODECS[settings.codec][1])
        self._open(source, settings)
        if (even(info.width_px), even(info.height_px)) != self._size_px:
            self._notes.append(
                f"{info.width_px}x{info.height_px} is written as {even(info.width_px)}x{even(info.height_px)}: "
                "4:2:0 video has even sizes; the last column and row are repeated"
            )

    @property
    def path(self) -> Path | str:
        """Where the finished file will be (symbolic links resolved), or the address."""
        return self._place.final

    @property
    def is_address(self) -> bool:
        """True when what is written is gone at once: no file stands at the end."""
        return self._is_address

    @property
    def notes(self) -> tuple[str, ...]:
        """What the output could not take over or had to change, one sentence each; complete after close."""
        lost = tuple(f"{kind} on pictures is not carried" for kind in sorted(self._lost_side_data))
        return tuple(self._notes) + lost

    def note(self, line: str) -> None:
        """Add a line to `notes`, once."""
        if line not in self._notes:
            self._notes.append(line)

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def write(self, planes: tuple[U8Plane, U8Plane], frame: DecodedFrame) -> None:
        """Encode one picture exactly as given: no colour conversion, no scaling.

        planes: (y, uv) as uint8 NV12, y HxW, uv ceil(H/2) x 2*ceil(W/2), any row pitch; free to be
        overwritten when this returns. frame: the source's, for time stamp, duration and side data.
        Raises OutputError with FFmpeg's words when encoding or writing fails; `abort()` is next then.
        """
        with self._lock, self._explained(f"picture {frame.index}"):
            self._check_open()
            y, uv = planes
            self._check_shapes(y, uv)
            self._account_for(frame, CARRIED_SIDE_DATA)
            self._mux(self._video.encode(self._packer.pack(y, uv, frame)))
            self.frames_written += 1

    @property
    def takes_device(self) -> bool:
        """True when pictures are encoded on the GPU: `write_device` takes them, not `write`."""
        return self._takes_device

    @property
    def lets_go(self) -> bool:
        """True when `write_device` is done with its planes when it returns; else the encoder may hold them."""
        return self._settings.is_live

    def write_device(self, planes: tuple[Any, Any], frame: DecodedFrame) -> None:
        """As `write`, for planes in device memory: y [H, W], uv [H / 2, W], uint8, by DLPack; no copy.

        They become ready on the stream that the sink was opened with. Captions are carried over.
        """
        with self._lock, self._explained(f"picture {frame.index}"):
            self._check_open()
            if self._device is None:
                raise InputError(explain("Sink.write_device", "a sink on a device", "one on the host", "call write"))
            self._account_for(frame, frozenset({"A53_CC"}))
            if triplets := (side_data_of(frame.carried) or {}).get("A53_CC"):
                self._captions[frame.pts] = triplets
            packets = self._video.encode(self._device.frame(planes, frame))
            self._start()
            self._mux(packets)
            self.frames_written += 1

    def pass_through(self, item: PassThrough) -> None:
        """Copy a packet of another stream; the sink owns it from here on.

        Packets of streams that the container can't hold (said in `notes` since open) are let go.
        """
        with self._lock, self._explained(f"a packet of stream {item.stream_index}"):
            self._check_open()
            if not self._is_started:
                self._early_packets.append(item)
                return
            stream = self._streams.get(item.stream_index)
            if stream is None:
                return
            packet = item.packet
            if packet.dts is None:
                packet.dts = packet.pts
            if packet.dts is None:
                if not is_cover(stream):
                    self.note(f"stream {item.stream_index}: packets without a time stamp are left out")
                    return
                packet.dts = packet.pts = 0  # cover pictures have none
            # Two subtitles may start together, two packets of sound may not.
            first_dts = self._last_dts.get(item.stream_index, packet.dts - 1) + (stream.type in ("audio", "video"))
            if packet.dts < first_dts:
                # Muxers refuse the whole file for one such packet.
                self.note(f"stream {item.stream_index}: time stamps that did not increase were moved later")
                packet.dts = first_dts
                packet.pts = max(packet.dts, packet.pts if packet.pts is not None else packet.dts)
            self._last_dts[item.stream_index] = packet.dts
            if self._sends_early:
                start = round(EARLY_TICKS * TIME_BASE / packet.time_base)
                packet.dts, packet.pts = packet.dts + start, None if packet.pts is None else packet.pts + start
            packet.stream = stream
            self._container.mux_one(packet)

    def close(self) -> Path | str:
        """Flush, finish and rename to the final name; an address is only finished.

        Raises OutputError and leaves nothing on failure. After Ctrl-C in here, `abort()` still keeps the pictures that
        were muxed. The encoder is gone when this returns or raises OutputError, and so is what it held of a device.
        """
        with self._lock:
            self._check_open()
            try:
                if self.frames_written == 0:
                    raise OutputError(explain(self._place.name, "at least one picture", "none", "check the input"))
                with self._explained("the end of the file"):
                    self._finish_container()
                self._let_encoder_go()
                final = self._place.complete()
            except Exception:
                self._is_closed = True
                self._let_encoder_go()
                self._place.discard()
                raise
            except BaseException:  # Ctrl-C while the encoder empties itself: abort() keeps what is there
                self._failed = True
                raise
            self._is_closed = True
            if isinstance(final, str):
                return final
            try:
                self._notes += what_was_lost(final, self._expected)
            except (*FFMPEG_ERRORS, OutputError) as error:  # the file is whole; only the account of it is not
                self._notes.append(f"what the output lost could not be read back: {words(error)}")
            return final

    def abort(self) -> Path | None:
        """Finish what was written so far as NAME.partial.SUFFIX and return that path.

        None, and nothing left behind, when no picture was written or the file can't be finished (a full
        disk). Never raises for FFmpeg's failures; does nothing after `close` and `give_up`. The encoder is gone when
        this returns.
        """
        if self._ended():
            return None
        with self._lock:
            if self._ended():
                return None
            self._is_closed = True
            try:
                if self.frames_written == 0:
                    return None
                self._finish_container(whole=False)
                return self._place.keep_partial()
            except (*FFMPEG_ERRORS, OutputError) as error:
                self._notes.append(f"no partial file could be finished: {words(error)}")
                return None
            finally:
                self._let_encoder_go()
                self._place.discard()

    def give_up(self) -> None:
        """Leave an output that is stuck, at once: a thread may be inside FFmpeg, and holds the lock."""
        self._is_closed = True
        # freeing what that thread is inside of would crash it, and so would the end of the process
        for held in (self._container, self._video, self._device):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
        self._place.discard()

    # -- inside ----------------------------------------------------------------------------------------

    def _open(self, source: Origin, settings: EncoderSettings) -> None:
        """Build the container and write its header, once more without the timecode if that is refused."""
        for timecode in (True, False):
            if isinstance(self._place, AddressPlace):
                container = open_address(self._place)
            else:
                container = open_muxer(str(self._place.temporary), self._muxer, source)
            if self._device is not None:
                video = add_nvenc(container, source.info, settings)
            else:
                video = add_encoder(container, self._place.name, source.info, settings)
            self._streams, notes = add_streams(container, self._muxer, source)
            copy_metadata(container, video, source, timecode=timecode)
            try:
                # NVENC opens with its first picture, and the header needs what it says then
                if self._device is None:
                    container.start_encoding()
                    self._is_started = True
            except FFMPEG_ERRORS as error:
                if timecode and source.info.timecode:
                    self._notes.append(f"timecode {source.info.timecode} is not carried: {words(error)}")
                    continue
                raise OutputError(
                    explain(self._place.name, f"a {self._muxer} header", words(error), "try another container")
                ) from error
            self._container, self._video = container, video
            self._sends_early = self._is_address and bool(self._streams)
            self._expected = Expected.of(source, self._streams)
            self._notes += notes
            return

    def _start(self) -> None:
        """Write the header, once the encoder is open, and what had to wait for it."""
        if self._is_started:
            return
        self._container.start_encoding()
        self._is_started = True
        waiting, self._early_packets = self._early_packets, []
        for item in waiting:
            self.pass_through(item)

    def _account_for(self, frame: DecodedFrame, carried: frozenset[str]) -> None:
        if frame.duration:
            self._durations[frame.pts] = frame.duration
        if self._muxer == "matroska" and (frame.pts * frame.time_base * 1000).denominator != 1:
            self.note("mkv counts time in whole ms: time stamps are rounded to that")
        self._lost_side_data |= frame.side_data - carried - _EXPECTED_SIDE_DATA

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for made in packets:
            packet = made
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, packet.duration)
                if triplets := self._captions.pop(packet.pts, b""):
                    packet = with_captions(packet, triplets, self._settings.codec)
            if self._sends_early:
                self._make_early(packet)
            self._container.mux_one(packet)

    def _make_early(self, packet: av.Packet[Any]) -> None:
        """Both clocks begin at EARLY_TICKS; pictures keep 0 as the start of their decode stamps."""
        if packet.pts is not None and packet.dts is not None:
            packet.pts += round(EARLY_TICKS * TIME_BASE / packet.time_base)

    def _finish_container(self, *, whole: bool = True) -> None:
        """Empty the encoder and write the end; an output cut short is kept even when the encoder gives no more."""
        if not self._failed:
            with contextlib.nullcontext() if whole else contextlib.suppress(*FFMPEG_ERRORS):
                self._mux(self._video.encode(None))
        self._container.close()
        if isinstance(self._place, OutputPlace) and self._muxer in ("mp4", "mov"):
            append_xmp_box(self._place.temporary)

    def _let_container_go(self) -> None:
        with contextlib.suppress(*FFMPEG_ERRORS):  # the file is removed next: its trailer does not matter
            self._container.close()

    def _let_encoder_go(self) -> None:
        """Free encoder and container: NVENC's session reads on a stream that its owner destroys next."""
        if hasattr(self, "_container"):
            self._let_container_go()  # it refers to its streams and they to it; closing cuts that
        self._device = None
        self._early_packets.clear()
        # a packet refers to its stream, which refers to both
        for name in ("_streams", "_video", "_container"):
            if hasattr(self, name):
                delattr(self, name)

    def _ended(self) -> bool:
        return self._is_closed

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except FFMPEG_ERRORS as error:
            self._failed = True
            do = "check the receiver and the network" if self._is_address else "check disk space and settings"
            raise OutputError(explain(self._place.name, f"{what} written", words(error), do)) from error

    def _check_open(self) -> None:
        if self._is_closed:
            raise OutputError(explain(self._place.name, "an open output", "a closed one", "open a new sink"))

    def _check_shapes(self, y: U8Plane, uv: U8Plane) -> None:
        width, height = self._size_px
        chroma = ((height + 1) // 2, even(width))
        if y.shape != (height, width) or uv.shape != chroma or y.dtype != "uint8" or uv.dtype != "uint8":
            got = f"{y.dtype} y {y.shape}, {uv.dtype} uv {uv.shape}"
            wanted = f"uint8 y {(height, width)}, uint8 uv {chroma}"
            raise InputError(explain("Sink.write", wanted, got, "pass NV12 planes of the source's size"))


def open_sink(
    path: str | Path,
    source: Origin,
    *,
    threads: int,
    codec: Literal["h264", "hevc"] = "h264",
    quality: int = 18,
    preset: str = "veryfast",
    overwrite: bool = True,
    is_live: bool = False,
    max_kbps: int = 0,
    options: Mapping[str, str] | None = None,
    device_stream: int | None = None,
) -> Sink:
    """Open an output (.mp4, .mov, .mkv or an address) for the pictures of `source`, and write its header.

    quality: CRF, 0 (lossless) to 51. threads: of the encoder. preset: x264's and x265's names. An existing
    file is replaced, in one step and only when the new one is complete, unless `overwrite` is False.
    Everything of the source but the picture is carried over; what can't be is in `Sink.notes`. is_live, max_kbps: see
    EncoderSettings. options: of FFmpeg, for an address. device_stream: handle of the CUstream on which device memory
    becomes ready: pictures are then encoded on the GPU where it can (`Sink.takes_device`), else `notes` say why not.
    Raises OutputError before any work: place, name, equal to the input, encoder missing or refusing.
    """
    if codec not in CODECS:
        raise OutputError(explain(str(path), f"codec {' or '.join(CODECS)}", codec, "choose one of these"))
    if not 0 <= quality <= 51:
        raise OutputError(explain(str(path), "quality 0 to 51", quality, "18 is visually lossless"))
    if threads < 1:
        raise OutputError(explain(str(path), "threads of 1 or more", threads, "raise the thread budget"))
    place: OutputPlace | AddressPlace
    if is_address(str(path)):
        place = AddressPlace(str(path), options or {})
    else:
        place = OutputPlace(path, suffixes=tuple(MUXERS), inputs=(source.uri,), overwrite=overwrite)
    settings = EncoderSettings(codec, quality, preset, threads, is_live, max_kbps=max_kbps)
    why_not = why_not_nvenc(source.info, settings) if device_stream is not None else ""
    device = DeviceFrames(source.info, device_stream) if device_stream is not None and why_not is None else None
    try:
        sink = Sink(place, source, settings, device)
        if why_not:
            sink.note(why_not)
        return sink
    except BaseException:
        place.discard()
        raise
