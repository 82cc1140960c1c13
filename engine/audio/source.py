"""source: the sound of any file or stream that FFmpeg reads, as mono float32 at the model's rate.

with open_audio("speech.wav", rate_hz=16000) as source:
    for samples in source: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
import numpy.typing as npt

from engine.audio.pcm import Condition, Resampler
from engine.audio.wav_chunks import wav_chunks
from engine.errors import InputError, MediaError, explain
from engine.video.pyav import FFMPEG_ERRORS, ffmpeg_url, is_url, words, words_on_retry

__all__ = ["CUT_FROM_S", "HOLE_FROM_S", "HOLE_TO_S", "AudioSource", "open_audio", "read_audio"]

F32 = npt.NDArray[np.float32]

# Less is the rounding of time stamps (a tick of Matroska is 1 ms), more a lost packet (a frame of AAC is 21 ms).
HOLE_FROM_S = Fraction(1, 50)
# A longer one is a new time line, not a hole: a stream joined again, a clock that was set.
HOLE_TO_S = 60
# Less is the delay of an encoder, or a length that was rounded.
CUT_FROM_S = 0.5
_MOST_HEADER_BYTES = 1 << 24  # of all that a wav file holds before its samples; a damaged size must not fill the memory
_NO_LENGTH = 0x7FFF0000  # bytes: what writes a WAV file into a pipe states this much or more


class AudioSource:
    """An open sound. Iterate once for blocks of samples, of any length; made by `open_audio`."""

    def __init__(self, uri: str, container: av.container.InputContainer, rate_hz: int, track: int) -> None:
        self.uri, self.rate_hz, self.condition = uri, rate_hz, Condition()
        self.start_s: Fraction | None = None
        self._container, self._resampler = container, Resampler(rate_hz, self.condition)
        self._stream = _pick(uri, container, track)
        own = self._stream.duration is not None or len(container.streams) == 1  # not of the picture beside it
        self._stated_s = (self.duration_s or 0.0) if own else 0.0
        if container.format.name == "wav" and Path(uri).is_file():
            self._stated_s = max(self._stated_s, _stated_by_wav(uri))
        self._expected_s: Fraction | None = None
        self._said = ""

    @property
    def is_live(self) -> bool:
        """Whether it comes from a pipe or a network, without an end that is known."""
        return is_url(self.uri)

    @property
    def came(self) -> tuple[int, int]:
        """(rate in Hz, channels) of the stream as it is."""
        return self._stream.rate, len(self._stream.layout.channels)

    @property
    def duration_s(self) -> float | None:
        """How long it is as the container says; None where it doesn't."""
        stream, whole = self._stream, self._container.duration
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return whole / 1e6 if whole is not None and not self.is_live else None

    def tap(self, take: Callable[[av.AudioFrame], None]) -> None:
        """Give `take` every decoded frame too, holes filled, before it is mixed and resampled."""
        self._resampler.tap = take

    def __iter__(self) -> Iterator[F32]:
        """Blocks of mono float32, -1..1. Raises MediaError when the end comes without a single sample."""
        samples = 0
        for frame in self._frames():
            for piece in (*self._filled(frame), frame):
                block = self._resampler.push(piece)
                samples += len(block)
                if len(block):
                    yield block
        block = self._resampler.flush()
        samples += len(block)
        if not samples:
            lost = f", {self.condition.lost_packets} packets did not decode: {self._said}" if self._said else ""
            raise MediaError(explain(self.uri, "sound of some length", f"0 s of it{lost}", "check the file"))
        self._compare_with_length(samples / self.rate_hz)
        if len(block):
            yield block

    def _compare_with_length(self, came_s: float) -> None:
        if not self.condition.jumps and self._stated_s - came_s > CUT_FROM_S:
            self.condition.cut_s = self._stated_s - came_s

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decoded frames; packets that do not decode are counted and left out."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFMPEG_ERRORS as error:  # the container itself is broken from here on
                self.condition.lost_packets += 1
                self._said = words(error)
                packet = None
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FFMPEG_ERRORS as error:
                self.condition.lost_packets += 1
                self._said = words(error)

    def _filled(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """Silence for a hole in front of this frame, so that sound and picture stay together."""
        lasts_s = Fraction(frame.samples, frame.sample_rate)
        if frame.pts is None or frame.time_base is None:
            if self._expected_s is not None:
                self._expected_s += lasts_s
            return
        at_s = frame.pts * frame.time_base
        if self.start_s is None:
            self.start_s = self._expected_s = at_s
        hole_s = at_s - cast(Fraction, self._expected_s)
        if HOLE_FROM_S < hole_s <= HOLE_TO_S:
            self.condition.filled_s += float(hole_s)
            self._expected_s = at_s
            yield from _silence(frame, round(hole_s * frame.sample_rate))
        elif abs(hole_s) > HOLE_FROM_S:
            self.condition.jumps += 1
            self._expected_s = at_s
        self._expected_s = cast(Fraction, self._expected_s) + lasts_s

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_audio(uri: str | Path, *, rate_hz: int, track: int = 0) -> AudioSource:
    """Open the sound of a file or stream (anything FFmpeg reads; `-` is standard input); `track` counts from 0.

    Raises InputError for a missing or empty path, MediaError for what holds no sound or can't be read.
    """
    name = "pipe:0" if str(uri) == "-" else str(uri)
    if not is_url(name):
        _refuse_path(name)
    try:
        container = av.open(ffmpeg_url(name), "r", metadata_errors="replace")
    except FFMPEG_ERRORS as error:
        said = words(error) if is_url(name) else words_on_retry(error, lambda: av.open(ffmpeg_url(name)))
        raise MediaError(explain(name, "sound that FFmpeg can read", said, "check the path and the file")) from error
    try:
        return AudioSource(name, container, rate_hz, track)
    except BaseException:
        container.close()
        raise


def read_audio(uri: str | Path, *, rate_hz: int) -> F32:
    """The whole sound of a file at once, mono float32."""
    with open_audio(uri, rate_hz=rate_hz) as source:
        return np.concatenate(list(source))


def _stated_by_wav(path: str) -> float:
    """How many seconds the header of a WAV file says, 0 where it says nothing; FFmpeg tells what the file holds."""
    with Path(path).open("rb") as file:
        file.seek(12)
        bytes_per_s = 0
        for name, size, chunk in wav_chunks(file.read, _MOST_HEADER_BYTES):
            if name == b"fmt ":
                bytes_per_s = int.from_bytes(chunk[8:12], "little")
            elif name == b"data" and bytes_per_s and size < _NO_LENGTH:
                return size / bytes_per_s
    return 0.0


def _silence(like: av.AudioFrame, samples: int) -> Iterator[av.AudioFrame]:
    """Frames of silence of the kind of `like`, at most a second each: a hole never takes much memory."""
    array = np.zeros_like(like.to_ndarray()[:, :1])
    if array.dtype == np.uint8:
        array += 128
    wide = len(like.layout.channels) if like.format.is_packed else 1
    while samples > 0:
        count = min(samples, like.sample_rate)
        samples -= count
        block = np.ascontiguousarray(np.repeat(array, count * wide, axis=1))
        frame = av.AudioFrame.from_ndarray(block, format=like.format.name, layout=like.layout.name)
        frame.sample_rate = like.sample_rate
        yield frame


def _pick(uri: str, container: av.container.InputContainer, track: int) -> av.AudioStream:
    streams = container.streams.audio
    if not streams:
        kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "an empty container"
        raise MediaError(explain(uri, "an audio stream", f"only {kinds}", "name a file that holds sound"))
    if not 0 <= track < len(streams):
        raise InputError(explain(uri, f"a track of 0 to {len(streams) - 1}", track, "correct the number"))
    if streams[track].codec_context is None:
        raise MediaError(
            explain(uri, "sound with a decoder", "a codec unknown to this build of FFmpeg", "convert it to a wav file")
        )
    return streams[track]


def _refuse_path(name: str) -> None:
    path = Path(name)
    try:
        if not path.exists():
            raise InputError(explain(name, "a file with sound", "no such file", "check the path"))
        if path.is_dir():
            raise InputError(explain(name, "a file with sound", "a folder", "name a file in it"))
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(explain(name, "a file with sound", "an empty file", "fetch or export it again"))
    except OSError as error:
        raise InputError(explain(name, "a file with sound", words(error), "check the path")) from error
