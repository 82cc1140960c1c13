"""A pipe gives its samples the moment they are written, with a wav header or without one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.pcm import PcmInput
from engine.audio.pipe import PcmPipe, RawPcm, open_pcm_pipe
from engine.audio.source import read_audio
from engine.errors import EngineError, InputError, MediaError
from tests.unit.test_audio_input import write_wav
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def written(fifo: Path, data: bytes, size: int, read: Callable[[], Any]) -> Any:
    """What `read` gives while another thread writes the data in pieces."""

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            for at in range(0, len(data), size):
                file.write(data[at : at + size])

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        return read()
    finally:
        writer.join(timeout=10)


def everything(fifo: Path, raw: RawPcm | None = None) -> F32:
    with open_pcm_pipe(fifo, rate_hz=16000, raw=raw) as pipe:
        return np.concatenate(list(pipe))


FORMS: list[tuple[str, int, int, int]] = [
    ("<i2", 1, 16000, 1),
    ("<i2", 1, 44100, 2),
    ("<i4", 1, 48000, 1),
    ("<f4", 3, 24000, 6),
    ("<f8", 3, 8000, 1),
    ("uint8", 1, 16000, 1),
]


@pytest.mark.parametrize(("dtype", "tag", "rate_hz", "channels"), FORMS)
@pytest.mark.parametrize("size", [1000, 333])
def test_a_pipe_gives_what_the_file_gives(
    dtype: str, tag: int, rate_hz: int, channels: int, size: int, fifo: Path, tmp_path: Path
) -> None:
    sound = np.repeat(voice(rate_hz // 3, rate_hz=rate_hz, seed=1)[:, None], channels, axis=1)
    scale = {"<i2": 2.0**15, "<i4": 2.0**31, "uint8": 127.0}.get(dtype, 1.0)
    samples = (0.99 * sound * scale + (128 if dtype == "uint8" else 0)).astype(dtype)
    path = write_wav(tmp_path / "a.wav", samples, rate_hz, tag)
    expected = read_audio(path, rate_hz=16000)
    assert np.array_equal(written(fifo, path.read_bytes(), size, lambda: everything(fifo)), expected)
    raw = RawPcm(rate_hz, channels, dtype)
    assert np.array_equal(written(fifo, samples.tobytes(), size, lambda: everything(fifo, raw)), expected)


def test_samples_come_before_the_next_are_written() -> None:
    """10 ms at a time, in one thread: were it to wait for more, the test would never end."""
    sound = (voice(16000, seed=2) * 32767).astype(np.int16)
    reading, writing = os.pipe()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    os.write(writing, head + struct.pack("<4sI", b"data", 0xFFFFFFFF))
    with PcmPipe("pipe", reading, 16000, None) as pipe:
        blocks, heard = iter(pipe), list[F32]()
        for at in range(0, len(sound), 160):
            os.write(writing, sound[at : at + 160].tobytes())
            heard.append(next(blocks))
            assert len(heard[-1]) == 160
        os.write(writing, b"\1")  # half a sample is none
        os.close(writing)
        assert list(blocks) == []
        assert pipe.condition.samples == 16000
    pcm = PcmInput(16000, to_rate_hz=16000)
    assert np.array_equal(np.concatenate(heard), pcm.push(sound))


def test_standard_input_is_a_pipe(tmp_path: Path) -> None:
    sound = (voice(8000, seed=3) * 32767).astype(np.int16)
    program = (
        "from engine.audio.pipe import open_pcm_pipe, RawPcm; "
        "print(sum(map(len, open_pcm_pipe('-', rate_hz=16000, raw=RawPcm(8000)))))"
    )
    ended = subprocess.run([sys.executable, "-c", program], input=sound.tobytes(), capture_output=True, check=True)
    assert ended.stdout.strip() == b"16000"


def test_headers_that_hosts_write(fifo: Path) -> None:
    """Chunks before the samples, an odd one with its padding; the extensible form; a size that nobody knew."""
    sound = (voice(4000, seed=4) * 32767).astype(np.int16)
    extensible = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 16000, 32000, 2, 16, 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
    head = b"RIFF\0\0\0\0WAVE" + b"LIST" + struct.pack("<I", 5) + b"hello\0"
    head += b"fmt " + struct.pack("<I", len(extensible)) + extensible + b"data\0\0\0\0"
    heard = written(fifo, head + sound.tobytes(), 7, lambda: everything(fifo))
    assert np.array_equal(heard, sound.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"OggS" + bytes(60), r"fifo: wanted a wav header, got b'OggS.+; write one, or say what the raw samples are$"),
        (b"RIFF\0\0", r"fifo: wanted a wav header, got 6 bytes of it; check what writes into the pipe$"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", r"fifo: wanted a wav header with a format, got none; "),
        (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcddata\0\0\0\0", r"fifo: wanted a wav format of 16 bytes or more, got 4; "),
        (
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 85, 1, 16000, 32000, 2, 16),
            r"wanted whole numbers of 8, 16 or 32 bits, or floats of 32 or 64, got format 85 of 16 bits; ",
        ),
        (
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16) + b"data\0\0\0\0\1",
            r"fifo: wanted sound of some length, got 0 s of it; check what writes into the pipe$",
        ),
    ],
)
def test_what_is_no_such_sound_is_refused_by_name(data: bytes, sentence: str, fifo: Path) -> None:
    with pytest.raises(EngineError, match=sentence):
        written(fifo, data, 1000, lambda: everything(fifo))


def test_what_is_no_pipe_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"file.wav: wanted a pipe, got something else; open it with open_audio$"):
        open_pcm_pipe(tmp_path / "file.wav", rate_hz=16000)
    with pytest.raises(InputError, match=r"none: wanted a pipe, got No such file or directory; check the path$"):
        open_pcm_pipe(tmp_path / "none", rate_hz=16000)
    with pytest.raises(InputError, match=r"^raw sound: wanted samples of uint8, <i2, <i4, <f4, <f8, got >i2; "):
        RawPcm(16000, 1, ">i2")
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(MediaError, match=r"^closed: wanted a pipe that can be read, got Bad file descriptor; "):
        PcmPipe("closed", _closed(reading), 16000, None)


def _closed(handle: int) -> int:
    os.close(handle)
    return handle
