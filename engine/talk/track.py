"""track: the output's sound, which is the driving one: its packets as they are, or encoded anew.

Either way its first sample is the output's instant 0, as it is for the mouth.
"""

from __future__ import annotations

import io
import queue
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

import av
import numpy as np
import numpy.typing as npt

from engine.audio.pcm import LAYOUTS, Resampler
from engine.audio.source import HOLE_FROM_S, HOLE_TO_S, open_audio
from engine.errors import MediaError, explain
from engine.video.decoded import PassThrough
from engine.video.pyav import FFMPEG_ERRORS, ffmpeg_url, words

__all__ = ["CopiedTrack", "EncodedTrack", "Track", "audio_frame", "why_not_copied"]

_AAC_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_BITS_A_CHANNEL = 96_000
#: Held by the muxers that take them, and shown as silence by most players.
_SILENT_IN_MP4: Final = ("pcm_", "vorbis", "adpcm_")


class Track(Protocol):
    """A sound stream on its way into a sink."""

    @property
    def stream(self) -> av.AudioStream:
        """What the sink copies its stream's parameters from."""
        ...

    def packets(self, until_s: float | None) -> Iterator[PassThrough]:
        """Packets that begin before `until_s` and were not given yet; all that are left for None."""
        ...

    def close(self) -> None:
        """Give files and codecs back."""
        ...


def why_not_copied(stream: av.AudioStream, muxer: str) -> str | None:
    """Why the packets of a stream can't go into this container (mp4, mov, matroska) as they are; None if they can."""
    codec = stream.codec_context.name
    if muxer == "mp4" and codec.startswith(_SILENT_IN_MP4):
        return f"few players find {codec} in mp4; .mov and .mkv take it as it is"
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except FFMPEG_ERRORS as error:
        return f"{muxer} can't hold {codec}: {words(error)}"
    return None


class CopiedTrack:
    """A file's packets, untouched but for the stamps, which count from the first sample that decodes.

    Stamps that leap are closed up by the rule by which AudioSource hears them.
    """

    def __init__(self, path: str | Path, track: int = 0) -> None:
        name = str(path)
        start_s = _start_s(name, track)
        self._container = av.open(ffmpeg_url(name), "r", metadata_errors="replace")
        self.stream = self._container.streams.audio[track]
        self._packets = self._container.demux(self.stream)
        self._base = cast(Fraction, self.stream.time_base)
        self._shift = -round(start_s / self._base)
        self._expected: int | None = None
        self._held: PassThrough | None = None
        self._held_s = 0.0

    def packets(self, until_s: float | None) -> Iterator[PassThrough]:
        """Packets that begin before `until_s`."""
        while self._held is not None or self._read():
            if until_s is not None and self._held_s >= until_s:
                return
            held, self._held = self._held, None
            if held is not None:
                yield held

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def _read(self) -> bool:
        """Hold the next packet under its new stamp; False at the end."""
        while True:
            try:
                packet = next(self._packets, None)
            except FFMPEG_ERRORS:  # the sound is heard up to here too
                packet = None
            if packet is None:
                return False
            if not packet.size:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                stamp = (self._expected or 0) - self._shift
            stamp = self._closed_up(stamp + self._shift)
            self._expected = stamp + (packet.duration or 0)
            packet.pts = packet.dts = stamp
            self._held, self._held_s = PassThrough(packet), float(stamp * self._base)
            return True

    def _closed_up(self, stamp: int) -> int:
        if self._expected is None:
            return stamp
        hole_s = (stamp - self._expected) * self._base
        if -HOLE_FROM_S <= hole_s <= HOLE_TO_S:
            return stamp
        self._shift += self._expected - stamp
        return self._expected


class EncodedTrack:
    """Frames that `take` is given, one behind the other from instant 0 on, as AAC.

    The encoder stands in a container of its own that nothing reads; a sink takes its stream and packets like those of
    an input. `take` may be called on another thread than `packets`.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.rate_hz = min((one for one in _AAC_RATES_HZ if one >= rate_hz), default=48000)
        self.layout = LAYOUTS.get(channels, "stereo")
        self._channels = channels if channels in LAYOUTS else 2
        self._container = av.open(io.BytesIO(), "w", format="nut")
        self.stream = self._container.add_stream("aac", rate=self.rate_hz)
        self.stream.codec_context.layout = self.layout
        self.stream.codec_context.bit_rate = min(_BITS_A_CHANNEL * channels, 6 * self.rate_hz * channels, 512_000)
        self._container.start_encoding()
        self._taken: queue.SimpleQueue[av.AudioFrame] = queue.SimpleQueue()
        self._resampler = Resampler(self.rate_hz, layout=self.layout)
        self._samples = 0
        self._waiting: list[av.Packet[Any]] = []

    def take(self, frame: av.AudioFrame) -> None:
        """The next frame, of any rate, layout and sample type; its own stamp is ignored."""
        self._taken.put(frame)

    def packets(self, until_s: float | None) -> Iterator[PassThrough]:
        """Packets that begin before `until_s`, as far as their sound was taken; for None the encoder is emptied."""
        while not self._taken.empty() and (until_s is None or self._samples < until_s * self.rate_hz):
            self._encode(self._resampler.push(self._taken.get()))
        if until_s is None:
            self._encode(self._resampler.flush())
            self._waiting += self._explained(lambda: self.stream.encode(None))
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            yield PassThrough(packet)

    def close(self) -> None:
        """Let the encoder go."""
        self._container.close()

    def _encode(self, samples: npt.NDArray[np.float32]) -> None:
        if not len(samples):
            return
        frame = audio_frame(samples.reshape(-1, self._channels), self.rate_hz, self.layout)
        frame.pts, frame.time_base = self._samples, Fraction(1, self.rate_hz)
        self._samples += frame.samples
        self._waiting += self._explained(partial(self.stream.encode, frame))

    def _explained(self, work: Callable[[], list[Any]]) -> list[Any]:
        try:
            return work()
        except FFMPEG_ERRORS as error:
            raise MediaError(
                explain("the output's sound", "sound that AAC can hold", words(error), "convert it to a wav file")
            ) from error


def audio_frame(samples: npt.NDArray[np.float32], rate_hz: int, layout: str = "") -> av.AudioFrame:
    """float32 [samples, channels] as a frame, of the usual layout of so many channels unless one is named."""
    packed = np.ascontiguousarray(samples).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout or LAYOUTS[samples.shape[1]])
    frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
    return frame


def _start_s(name: str, track: int) -> Fraction:
    """The stamp of the first sample that decodes; raises MediaError where none does."""
    with open_audio(name, rate_hz=16000, track=track) as source:
        next(iter(source))
        return source.start_s or Fraction(0)
