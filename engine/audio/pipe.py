"""pipe: samples from a pipe the moment they are written.

FFmpeg looks through the first 2 to 3 s of a wav stream before it gives a sample (it looks for a compressed stream in
disguise, and for its rate), which a talking head can't wait for. Here a wav header is read as it stands, or the host
says what it writes; the rest is `PcmInput`.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import numpy.typing as npt

from engine.audio.pcm import Condition, PcmInput
from engine.audio.wav_chunks import wav_chunks
from engine.errors import InputError, MediaError, explain
from engine.video.pyav import words

__all__ = ["PcmPipe", "RawPcm", "open_pcm_pipe"]

F32 = npt.NDArray[np.float32]

_READ_BYTES = 1 << 16
_MOST_HEADER_BYTES = 1 << 16  # of all that stands in a wav header before the samples
_WHOLE, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # format tags of a wav header
_DTYPES = {
    (_WHOLE, 8): "uint8", (_WHOLE, 16): "<i2", (_WHOLE, 32): "<i4", (_FLOAT, 32): "<f4", (_FLOAT, 64): "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class RawPcm:
    """Samples without a header: channels one after the other, `dtype` in NumPy's words (<i2 is s16le, <f4 is f32le)."""

    rate_hz: int
    channels: int = 1
    dtype: str = "<i2"

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES.values():
            raise InputError(
                explain("raw sound", f"samples of {', '.join(_DTYPES.values())}", self.dtype, "correct the type")
            )


class PcmPipe:
    """An open pipe. Iterate once for blocks of mono float32, -1..1, as they come; made by `open_pcm_pipe`."""

    def __init__(self, name: str, handle: int, rate_hz: int, raw: RawPcm | None) -> None:
        self.name, self.rate_hz = name, rate_hz
        self._handle = handle
        self._left = b""
        self.form = raw if raw is not None else self._read_header()
        self._input = PcmInput(self.form.rate_hz, self.form.channels, to_rate_hz=rate_hz)

    @property
    def condition(self) -> Condition:
        """What the sound was like as it came in."""
        return self._input.condition

    @property
    def came(self) -> tuple[int, int]:
        """(rate in Hz, channels) of what is written into the pipe."""
        return self.form.rate_hz, self.form.channels

    def tap(self, take: Callable[[av.AudioFrame], None]) -> None:
        """Give `take` every frame as it came in, before it is mixed and resampled."""
        self._input.tap(take)

    def __iter__(self) -> Iterator[F32]:
        """Blocks as they come. Raises MediaError when the end comes without a single sample."""
        width = self.form.channels * np.dtype(self.form.dtype).itemsize
        found = False
        data = self._left
        while True:
            whole = len(data) - len(data) % width
            if whole:
                samples = np.frombuffer(data[:whole], self.form.dtype).reshape(-1, self.form.channels)
                block = self._input.push(samples.astype(samples.dtype.newbyteorder("="), copy=False))
                found = True
                if len(block):
                    yield block
            more = self._read()
            if not more:
                break
            data = data[whole:] + more
        block = self._input.flush()
        if not found:
            raise MediaError(explain(self.name, "sound of some length", "0 s of it", "check what writes into the pipe"))
        if len(block):
            yield block

    def close(self) -> None:
        """Give the pipe back; standard input stays open."""
        if self._handle > 2:
            os.close(self._handle)

    def __enter__(self) -> PcmPipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> bytes:
        try:
            return os.read(self._handle, _READ_BYTES)
        except OSError as error:
            raise MediaError(explain(self.name, "a pipe that can be read", words(error), "check its writer")) from error

    def _read_header(self) -> RawPcm:
        """The form that a wav header states; sizes in it are not believed, since a live writer can't know them."""
        head = self._exactly(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            raise MediaError(
                explain(self.name, "a wav header", repr(head[:12]), "write one, or say what the raw samples are")
            )
        form: RawPcm | None = None
        for name, _, chunk in wav_chunks(self._exactly, _MOST_HEADER_BYTES):
            if name == b"fmt ":
                form = _form_of(self.name, chunk)
        if form is None:
            raise MediaError(explain(self.name, "a wav header with a format", "none", "write it before the samples"))
        return form

    def _exactly(self, count: int) -> bytes:
        while len(self._left) < count:
            more = self._read()
            if not more:
                got = f"{len(self._left)} bytes of it"
                raise MediaError(explain(self.name, "a wav header", got, "check what writes into the pipe"))
            self._left += more
        taken, self._left = self._left[:count], self._left[count:]
        return taken


def open_pcm_pipe(uri: str | Path, *, rate_hz: int, raw: RawPcm | None = None) -> PcmPipe:
    """Samples of a pipe (`-` is standard input) at `rate_hz`; without `raw` it begins with a wav header.

    Waits for the pipe's writer. Raises InputError for what is no pipe, MediaError for what is no such sound.
    """
    name = str(uri)
    if name == "-":
        return PcmPipe(name, 0, rate_hz, raw)
    try:
        if not stat.S_ISFIFO(Path(name).stat().st_mode):
            raise InputError(explain(name, "a pipe", "something else", "open it with open_audio"))
        handle = os.open(name, os.O_RDONLY)
    except OSError as error:
        raise InputError(explain(name, "a pipe", words(error), "check the path")) from error
    try:
        return PcmPipe(name, handle, rate_hz, raw)
    except BaseException:
        os.close(handle)
        raise


def _form_of(where: str, chunk: bytes) -> RawPcm:
    if len(chunk) < 16:
        raise MediaError(explain(where, "a wav format of 16 bytes or more", len(chunk), "correct the header"))
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = struct.unpack("<H", chunk[24:26])[0]
    if (tag, bits) not in _DTYPES:
        got = f"format {tag} of {bits} bits"
        raise MediaError(
            explain(where, "whole numbers of 8, 16 or 32 bits, or floats of 32 or 64", got, "write other samples")
        )
    return RawPcm(rate_hz, channels, _DTYPES[tag, bits])
