"""The other end of a live run: sends numbered pictures and known sound, or receives and reads the numbers.

    python -m tests.live_peer send udp://127.0.0.1:5000 --clip CLIP.mp4 --seconds 60 [--marks] [--stall S --at S]

A picture's number is drawn as bars, one for each bit, along its top; sound packets are known by their bytes.
With --marks there are a flash and a chirp every two seconds (tests/av_marks.py); with --stall nothing is sent for so
long, and then everything at once.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

from tests.av_marks import BeepFinder, FlashFinder, draw_flash, sound_with_beeps

U8 = npt.NDArray[np.uint8]

BITS = 16
BAR_PX = 16
SAMPLE_RATE = 48_000
_TICKS = 90_000


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def draw_number(luma: U8, number: int) -> None:
    """Bars of BAR_PX x BAR_PX along the top, white for 1; luma must be BITS * BAR_PX wide or more."""
    for bit in range(BITS):
        luma[:BAR_PX, bit * BAR_PX : (bit + 1) * BAR_PX] = 235 if number >> bit & 1 else 16


def read_number(luma: U8) -> int:
    """The number that the bars say; -1 where a bar is neither black nor white."""
    number = 0
    for bit in range(BITS):
        level = luma[4 : BAR_PX - 4, bit * BAR_PX + 4 : (bit + 1) * BAR_PX - 4].mean()
        if 80 < level < 170:
            return -1
        number |= int(level > 125) << bit
    return number


def plain_pictures(size: tuple[int, int] = (320, 240)) -> Iterator[U8]:
    """I420 pictures of one grey that drifts, without end."""
    width, height = size
    at = 0
    while True:
        yield np.full((height * 3 // 2, width), 90 + at % 60, np.uint8)
        at += 1


def clip_pictures(path: Path) -> Iterator[U8]:
    """The pictures of a clip as I420, over and over, decoded once."""
    with av.open(str(path)) as container:
        held = [frame.reformat(format="yuv420p").to_ndarray().astype(np.uint8) for frame in container.decode(video=0)]
    while True:
        yield from held


@dataclass
class Sent:
    """What went out: pictures by number with the time (perf_counter) of their leaving, sound with stamps in s."""

    pictures: dict[int, float] = field(default_factory=dict)
    sound: list[tuple[float, bytes]] = field(default_factory=list)


def format_of(url: str) -> tuple[str, dict[str, str]]:
    """Muxer and its options: those that have a connection send on a thread of FFmpeg's, as Python's lock is held."""
    scheme = url.split(":", 1)[0]
    if scheme == "udp":
        return "mpegts", {"flush_packets": "1", "max_interleave_delta": "1"}
    inner = {"rtmp": "flv", "rtsp": "rtsp", "tcp": "mpegts"}[scheme]
    options = {"rtsp": "rtsp_transport=tcp", "flv": "flvflags=no_duration_filesize"}.get(inner)
    return "fifo", {"fifo_format": inner, "max_interleave_delta": "1", **({"format_opts": options} if options else {})}


def send(
    url: str,
    *,
    seconds: float,
    pictures: Iterator[U8] | None = None,
    rate: int = 25,
    first: int = 0,
    key_every: int = 12,
    sound: bool = True,
    marks: bool = False,
    on_picture: Callable[[int], None] = lambda number: None,
) -> Sent:
    """Send at the pictures' own rate, with low delay, from picture number `first` on; returns what went out."""
    wave_of = sound_with_beeps if marks else _ever_new_sound
    sent = Sent()
    pictures = plain_pictures() if pictures is None else pictures
    picture = next(pictures)
    form, options = format_of(url)
    target = url + ("?pkt_size=1316" if url.startswith("udp") else "")
    with av.open(target, "w", format=form, container_options=options) as output:
        video = cast(Any, output.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "18"}))
        video.width, video.height, video.pix_fmt = picture.shape[1], picture.shape[0] * 2 // 3, "yuv420p"
        video.codec_context.options = {"preset": "ultrafast", "crf": "18", "tune": "zerolatency"}
        video.codec_context.gop_size, video.codec_context.time_base = key_every, Fraction(1, _TICKS)
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        video.codec_context.thread_count = 1
        audio = cast(Any, output.add_stream("aac", rate=SAMPLE_RATE, layout="mono")) if sound else None
        start, samples, number = time.perf_counter(), 0, first
        while number - first < seconds * rate:
            at_s = (number - first) / rate
            time.sleep(max(0.0, start + at_s - time.perf_counter()))
            on_picture(number)
            if audio is not None:
                samples = _send_sound(output, audio, samples, at_s, sent, wave_of)
            marked = picture.copy()
            draw_number(marked, number % (1 << BITS))
            if marks:
                draw_flash(marked, number - first, rate)
            frame = av.VideoFrame.from_ndarray(marked, format="yuv420p")
            frame.pts, frame.time_base = round(at_s * _TICKS), Fraction(1, _TICKS)
            for packet in video.encode(frame):
                # sent as B-frames would be, so that the muxer does not hold it for the sound
                packet.pts += 9000
                output.mux(packet)
            sent.pictures[number] = time.perf_counter()
            picture, number = next(pictures), number + 1
        if audio is not None:
            _mux_sound(output, audio.encode(None), sent)
        output.mux(video.encode(None))
    return sent


def _ever_new_sound(first: int, count: int) -> npt.NDArray[np.float32]:
    """A tone that is another in each packet, so that its bytes are too."""
    wave = 0.2 * np.sin(2 * np.pi * (300 + first % 977) * np.arange(first, first + count) / SAMPLE_RATE)
    return wave.astype(np.float32)


def _send_sound(
    output: Any,
    audio: Any,
    samples: int,
    until_s: float,
    sent: Sent,
    wave_of: Callable[[int, int], npt.NDArray[np.float32]],
) -> int:
    while samples / SAMPLE_RATE <= until_s:
        wave = wave_of(samples, 1024)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, samples, Fraction(1, SAMPLE_RATE)
        _mux_sound(output, audio.encode(frame), sent)
        samples += 1024
    return samples


def _mux_sound(output: Any, packets: list[Any], sent: Sent) -> None:
    for packet in packets:
        sent.sound.append((float(packet.pts * packet.time_base), bytes(packet)))
        # the clock of both begins 100 ms in, as the pictures' stamps do
        packet.pts += SAMPLE_RATE // 10
        packet.dts += SAMPLE_RATE // 10
        output.mux(packet)


@dataclass
class Received:
    """What came in: pictures as (number, stamp in s, perf_counter), sound as (stamp in s, bytes).

    With `flashes` and `beeps`, marks are searched for as well.
    """

    pictures: list[tuple[int, float, float]] = field(default_factory=list)
    sound: list[tuple[float, bytes]] = field(default_factory=list)
    said: str = ""
    flashes: FlashFinder | None = None
    beeps: BeepFinder | None = None

    @property
    def numbers(self) -> list[int]:
        """Numbers in the order of their coming."""
        return [number for number, _, _ in self.pictures]


class Receiver(threading.Thread):
    """Receives until the sender ends, or nothing comes for `quiet_s`. Start it before the sender; join it after."""

    def __init__(self, url: str, *, listen: bool = False, quiet_s: float = 1.5, marks_at: int = 0) -> None:
        super().__init__(name="receiver", daemon=True)
        self.url, self.received = url, Received()
        if marks_at:
            self.received.flashes, self.received.beeps = FlashFinder(marks_at), BeepFinder()
        scheme = url.split(":", 1)[0]
        self._options = {"probesize": "300000", "analyzeduration": "700000"}
        if listen:
            self._options |= {"rtmp": {"listen": "1"}, "rtsp": {"rtsp_flags": "listen", "listen_timeout": "20"}}[scheme]
        self._quiet_s = quiet_s

    def run(self) -> None:
        """Read everything; what ended it is kept in `received.said`."""
        try:
            with av.open(self.url, options=self._options, timeout=(20.0, self._quiet_s)) as container:
                read_into(container, self.received)
        except av.FFmpegError as error:
            self.received.said = str(error)


def read_into(container: av.container.InputContainer, received: Received) -> None:
    """Every packet of an open input: pictures decoded and their numbers read, sound as it is."""
    video = container.streams.video[0]
    video.thread_type = cast(Any, "NONE")
    width = video.width
    for packet in container.demux():
        if packet.stream.type == "audio" and packet.size and packet.pts is not None:
            received.sound.append((float(packet.pts * packet.time_base), _payload(bytes(cast(Any, packet)))))
            if received.beeps is not None:
                _listen(packet, received.beeps)
        if packet.stream.type != "video":
            continue
        for frame in cast("list[av.VideoFrame]", packet.decode()):
            plane = frame.planes[0]
            luma = np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, -1)[:, :width]
            stamp_s = float(frame.pts * cast(Fraction, frame.time_base)) if frame.pts is not None else float("nan")
            number = read_number(luma)
            received.pictures.append((number, stamp_s, time.perf_counter()))
            if received.flashes is not None:
                received.flashes.picture(luma, number, stamp_s)


def _listen(packet: Any, beeps: BeepFinder) -> None:
    for frame in packet.decode():
        if frame.pts is not None:
            samples = frame.to_ndarray().astype(np.float32)
            beeps.push(samples.mean(axis=0), float(frame.pts * frame.time_base))


def read_file(path: Path, *, marks_at: int = 0) -> Received:
    """As a receiver, from a file; `marks_at` is the rate of pictures with marks, 0 where there are none."""
    received = Received()
    if marks_at:
        received.flashes, received.beeps = FlashFinder(marks_at), BeepFinder()
    with av.open(str(path)) as container:
        read_into(container, received)
    if received.beeps is not None:
        received.beeps.finish()
    return received


def _payload(packet: bytes) -> bytes:
    """AAC without the header that transport streams put before it (ADTS)."""
    if packet[:1] == b"\xff" and packet[1] & 0xF6 == 0xF0:
        return packet[7 if packet[1] & 1 else 9 :]
    return packet


def main() -> None:
    """Send a clip from a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["send"])
    parser.add_argument("url")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--marks", action="store_true")
    parser.add_argument("--stall", type=float, default=0.0)
    parser.add_argument("--at", type=float, default=0.0)
    chosen = parser.parse_args()
    pictures = clip_pictures(chosen.clip) if chosen.clip else None

    def stall(number: int) -> None:
        if chosen.stall and number == round(chosen.at * 25):
            time.sleep(chosen.stall)

    sent = send(chosen.url, seconds=chosen.seconds, pictures=pictures, marks=chosen.marks, on_picture=stall)
    print(len(sent.pictures), len(sent.sound))


if __name__ == "__main__":
    main()
