"""Sound comes in from files, streams and hosts, whatever its rate, layout and state: handled, or refused by name."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.filter
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from engine.audio.pcm import PcmInput, Resampler
from engine.audio.source import open_audio, read_audio
from engine.errors import InputError, MediaError
from tests.unit.media import make_clip
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


def tone(rate_hz: int, seconds: float, hz: float = 440.0) -> F32:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.float32)


def whole(samples: Array, rate_hz: int, channels: int = 1, to_rate_hz: int = 16000, size: int = 10**9) -> F32:
    pcm = PcmInput(rate_hz, channels, to_rate_hz=to_rate_hz)
    pieces = [pcm.push(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([*pieces, pcm.flush()])


def write_wav(path: Path, samples: Array, rate_hz: int, tag: int = 1) -> Path:
    """A wav file by hand: tag 1 for whole numbers, 3 for floats."""
    array = samples[:, None] if samples.ndim == 1 else samples
    data, channels, size = array.tobytes(), array.shape[1], array.dtype.itemsize
    form = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * channels * size, channels * size, 8 * size)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def encode(path: Path, codec: str, rate_hz: int, samples: F32, pts: Callable[[int], int] = lambda at: at) -> Path:
    """A file of one mono track; `pts` says which time stamp the frame at a sample gets."""
    with av.open(str(path), "w") as container:
        track = cast(Any, container.add_stream(cast(Any, codec), rate=rate_hz))
        track.codec_context.layout = "mono"
        track.codec_context.open(strict=False)
        block = track.codec_context.frame_size or 1024
        name = track.codec_context.format.name
        scale = {"s16": 2.0**15, "s32": 2.0**31}.get(name.removesuffix("p"), 1.0) * 0.999
        dtype = {"s16": np.int16, "s32": np.int32}.get(name.removesuffix("p"), np.float32)
        planes = (samples.astype(np.float64) * scale).astype(dtype)
        for at in range(0, len(samples), block):
            frame = av.AudioFrame.from_ndarray(planes[None, at : at + block], name, "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, pts(at), Fraction(1, rate_hz)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 24000, 44100, 48000, 96000])
def test_resampled_sound_stands_where_it_stood(rate_hz: int) -> None:
    heard = whole(tone(rate_hz, 1.0), rate_hz)
    assert len(heard) == 16000
    # a tone sampled anew; at the ends the filter sees the silence around the sound
    assert np.abs(heard - tone(16000, 1.0))[200:-200].max() < 2e-5


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("parts_of_a_second", [100, 50, 25, 0])
def test_pieces_do_not_change_what_is_resampled(rate_hz: int, parts_of_a_second: int) -> None:
    sound = voice(rate_hz // 2, rate_hz=rate_hz, seed=1)
    at_once = whole(sound, rate_hz)
    assert np.array_equal(
        whole(sound, rate_hz, size=rate_hz // parts_of_a_second if parts_of_a_second else 997), at_once
    )
    few = sound[:1500]
    assert np.array_equal(whole(few, rate_hz, size=1), whole(few, rate_hz))


def test_sound_at_the_right_rate_passes_untouched() -> None:
    sound = voice(4000, seed=2)
    assert np.array_equal(whole(sound, 16000), sound)
    pcm = (sound * 32768).round().astype(np.int16)
    assert np.array_equal(whole(pcm, 16000), pcm.astype(np.float32) / 32768)
    assert np.array_equal(whole((pcm.astype(np.int32) << 16), 16000), pcm.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("channels", "dtype"), [(2, "float32"), (2, "int16"), (6, "float32"), (6, "int16"), (8, "int16")]
)
def test_equal_channels_give_what_one_of_them_is(channels: int, dtype: str) -> None:
    sound = tone(16000, 0.5)
    one = sound if dtype == "float32" else (sound * 32768).astype(np.int16)
    many = np.repeat(one[:, None], channels, axis=1)
    alone = whole(one, 16000)
    assert np.abs(whole(many, 16000, channels) - alone).max() < 2e-4


def test_a_voice_in_the_centre_of_a_room_of_six_is_heard() -> None:
    six = np.zeros((8000, 6), np.float32)
    six[:, 2] = tone(16000, 0.5)
    assert np.abs(whole(six, 16000, 6)).max() > 0.05


def test_clipped_and_broken_samples_are_counted_and_harmless() -> None:
    loud = np.clip(4 * tone(16000, 0.5), -1.0, 1.0)
    pcm = PcmInput(16000, to_rate_hz=16000)
    pcm.push((loud * 32767).astype(np.int16))
    assert pcm.condition.clipped == 3000, "37 % of a sine of 1.2"
    broken = tone(48000, 0.5)
    broken[1000], broken[2000], broken[3000] = np.nan, np.inf, 3.0
    pcm = PcmInput(48000, to_rate_hz=16000)
    heard = np.concatenate([pcm.push(broken), pcm.flush()])
    assert np.isfinite(heard).all()
    assert (pcm.condition.not_finite, pcm.condition.clipped, pcm.condition.samples) == (2, 1 + 1, 24000)
    far = np.delete(np.arange(8000), [*range(280, 1120)])
    assert np.abs(heard - tone(16000, 0.5))[far][200:-200].max() < 2e-5, "a bad sample harms its neighbours alone"


def test_reset_gives_up_what_the_filter_holds() -> None:
    pcm = PcmInput(48000, to_rate_hz=16000)
    pcm.push(voice(4801, seed=3))
    pcm.reset()
    sound = voice(4801, seed=4)
    assert np.array_equal(np.concatenate([pcm.push(sound), pcm.flush()]), whole(sound, 48000))
    assert len(pcm.flush()) == 0


def test_what_a_host_may_not_push_is_refused_by_name() -> None:
    with pytest.raises(
        InputError, match=r"^PcmInput: wanted a rate of 4000 to 384000 Hz, got 50 Hz; resample it first$"
    ):
        PcmInput(50, to_rate_hz=16000)
    with pytest.raises(InputError, match=r"^PcmInput: wanted 1 to 8 channels, got 9; mix them down first$"):
        PcmInput(16000, 9, to_rate_hz=16000)
    stereo = PcmInput(16000, 2, to_rate_hz=16000)
    wrong = r"^PcmInput.push: wanted uint8, int16, int32, float32, float64 \[samples, 2\], got int16 \[5\]; "
    with pytest.raises(InputError, match=wrong):
        stereo.push(np.zeros(5, np.int16))
    with pytest.raises(InputError, match=r"got complex128 \[5, 2\]; convert the array"):
        stereo.push(np.zeros((5, 2), np.complex128))
    for what, name in (([0, 0], "list"), (bytes(4), "bytes")):
        with pytest.raises(InputError, match=rf"\[samples, 2\], got {name}; make an array of it, as numpy"):
            stereo.push(cast(Any, what))
    assert len(stereo.push(np.zeros((0, 2), np.int16))) == 0


@pytest.mark.parametrize("rate_hz", [8000, 16000, 96000])
def test_a_wav_file_is_read_as_it_would_be_pushed(rate_hz: int, tmp_path: Path) -> None:
    sound = voice(rate_hz // 2, rate_hz=rate_hz, seed=5)
    six = np.repeat(sound[:, None], 6, axis=1)
    assert np.array_equal(
        read_audio(write_wav(tmp_path / "f.wav", sound, rate_hz, 3), rate_hz=16000), whole(sound, rate_hz)
    )
    pcm = (sound * 32767).astype(np.int16)
    assert np.array_equal(read_audio(write_wav(tmp_path / "i.wav", pcm, rate_hz), rate_hz=16000), whole(pcm, rate_hz))
    assert np.array_equal(
        read_audio(write_wav(tmp_path / "6.wav", six, rate_hz, 3), rate_hz=16000), whole(six, rate_hz, 6)
    )


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac"), ("ogg", "libopus"), ("flac", "flac")]
)
def test_compressed_sound_stands_where_it_stood(suffix: str, codec: str, tmp_path: Path) -> None:
    sound = voice(48000, rate_hz=48000, seed=6)
    heard = read_audio(encode(tmp_path / f"a.{suffix}", codec, 48000, sound), rate_hz=16000)
    true = whole(sound, 48000)
    count = min(len(heard), len(true))
    assert abs(len(heard) - len(true)) < 1700
    product = np.fft.irfft(np.fft.rfft(heard[:count], 1 << 15) * np.conj(np.fft.rfft(true[:count], 1 << 15)))
    lag = int(np.argmax(product))
    assert min(lag, (1 << 15) - lag) <= 1
    assert np.corrcoef(heard[:count], true[:count])[0, 1] > 0.97


def test_the_sound_of_a_video_and_its_other_tracks(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "v.mp4", audio=[("eng", "one"), ("fra", "two")])
    pitches = []
    for track in (0, 1):
        with open_audio(clip, rate_hz=16000, track=track) as source:
            assert not source.is_live
            heard = np.concatenate(list(source))
        pitches.append(np.argmax(np.abs(np.fft.rfft(heard[:4096]))) * 16000 / 4096)
    assert np.allclose(pitches, [220, 440], atol=4)
    with pytest.raises(InputError, match=r"v.mp4: wanted a track of 0 to 1, got 2; correct the number$"):
        open_audio(clip, rate_hz=16000, track=2)


def test_holes_in_the_time_stamps_become_silence(tmp_path: Path) -> None:
    sound = tone(16000, 1.0)
    path = encode(tmp_path / "hole.mkv", "pcm_s16le", 16000, sound, lambda at: at + (8000 if at >= 8192 else 0))
    with open_audio(path, rate_hz=16000) as source:
        heard = np.concatenate(list(source))
        assert source.condition.filled_s == pytest.approx(0.5, abs=0.002)
        assert source.start_s == 0
    assert len(heard) == pytest.approx(24000, abs=32)
    assert np.all(heard[8200:16150] == 0.0)
    assert np.abs(heard[16300:20000]).max() > 0.25
    leap = encode(tmp_path / "leap.mkv", "pcm_s16le", 16000, sound, lambda at: at + (10**8 if at >= 8192 else 0))
    with open_audio(leap, rate_hz=16000) as source:
        assert len(np.concatenate(list(source))) == 16000
        assert (source.condition.jumps, source.condition.filled_s) == (1, 0.0)


def test_lost_packets_are_counted_and_leave_silence(tmp_path: Path) -> None:
    sound = voice(48000, rate_hz=48000, seed=8)
    path = encode(tmp_path / "a.ts", "mp2", 48000, sound)
    intact = read_audio(path, rate_hz=16000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(np.random.default_rng(1).integers(0, 256, 6000, np.uint8))
    path.write_bytes(data)
    with open_audio(path, rate_hz=16000) as source:
        heard = np.concatenate(list(source))
        assert source.condition.lost_packets + source.condition.filled_s > 0
    assert len(heard) == pytest.approx(len(intact), abs=4)
    assert not np.array_equal(heard[: len(intact)], intact)
    ends = [sound[len(intact) - 4000 : len(intact) - 100] for sound in (heard, intact)]
    assert np.corrcoef(ends)[0, 1] > 0.99, "what follows stays in its place"


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp3", "libmp3lame"), ("flac", "flac"), ("mkv", "aac"), ("wav", "pcm_s16le"), ("wav", "pcm_f32le")],
)
def test_a_file_that_is_cut_off_is_known_by_the_length_it_states(suffix: str, codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / f"a.{suffix}", codec, 48000, voice(4 * 48000, rate_hz=48000, seed=8))
    with open_audio(path, rate_hz=16000) as source:
        length_s = sum(map(len, source)) / 16000
        assert source.condition.cut_s == 0.0
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with open_audio(path, rate_hz=16000) as source:
        came_s = sum(map(len, source)) / 16000
        assert 0.4 * length_s < came_s < 0.8 * length_s
        assert source.condition.cut_s == pytest.approx(length_s - came_s, abs=0.1)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_file_that_was_written_into_a_pipe_states_no_length(size: int, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", 48000, voice(48000, rate_hz=48000, seed=8))
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    with open_audio(path, rate_hz=16000) as source:
        assert sum(map(len, source)) == pytest.approx(16000, abs=4)
        assert source.condition.cut_s == 0.0


def test_sound_that_is_shorter_than_its_picture_is_not_cut_off(tmp_path: Path) -> None:
    path, sound = tmp_path / "a.mkv", np.zeros((1, 1024), np.float32)
    with av.open(str(path), "w") as container:
        audio, video = container.add_stream("aac", rate=16000), container.add_stream("mpeg4", rate=5)
        audio.codec_context.layout, (video.width, video.height) = "mono", (32, 32)
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(sound, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 1024 * i, Fraction(1, 16000)
            container.mux(audio.encode(frame))
        for _ in range(15):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux([*audio.encode(None), *video.encode(None)])
    with open_audio(path, rate_hz=16000) as source:
        assert sum(map(len, source)) < 16000
        assert cast(float, source.duration_s) > 2.5
        assert source.condition.cut_s == 0.0


@pytest.mark.parametrize("broken", [(5,), (2, 3, 6)])
def test_packets_that_do_not_decode_are_counted(broken: tuple[int, ...], tmp_path: Path) -> None:
    sound = voice(48000, rate_hz=48000, seed=8)
    path = encode(tmp_path / "a.mkv", "flac", 48000, sound)
    intact, data = read_audio(path, rate_hz=16000), bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(cast(Any, packet)) for packet in container.demux(audio=0) if packet.size]
    for number in broken:
        at = data.index(packets[number])
        data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    with open_audio(path, rate_hz=16000) as source:
        heard = np.concatenate(list(source))
        assert source.condition.lost_packets == len(broken)
        assert source.condition.filled_s > 0.02 * len(broken)
    assert len(heard) == pytest.approx(len(intact), abs=4)
    assert np.corrcoef(heard[-2000:-100], intact[-2000:-100])[0, 1] > 0.99
    for packet in packets:
        at = data.find(packet)
        if at >= 0:
            data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(
        MediaError, match=r"a.mkv: wanted sound of some length, got 0 s of it, \d+ packets did not decode: "
    ):
        read_audio(path, rate_hz=16000)


def test_a_container_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "flac", 48000, voice(48000, rate_hz=48000, seed=8))
    intact = read_audio(path, rate_hz=16000)
    with open_audio(path, rate_hz=16000) as source:
        container: Any = source._container

        class BreaksOff:
            def demux(self, stream: Any) -> Iterator[Any]:
                yield from itertools.islice(container.demux(stream), 6)
                raise av.InvalidDataError(1, "the connection was lost")

        source._container = cast(Any, BreaksOff())
        heard = np.concatenate(list(source))
        source._container = container
        assert source.condition.lost_packets == 1
    assert 6000 < len(heard) < 14000
    assert np.array_equal(heard[:-100], intact[: len(heard) - 100])


def test_a_pipe_is_read_while_it_is_written(tmp_path: Path) -> None:
    sound = (voice(16000, seed=9) * 32767).astype(np.int16)
    path = write_wav(tmp_path / "w.wav", sound, 16000)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()), daemon=True)
    writer.start()
    heard = read_audio(fifo, rate_hz=16000)
    writer.join(timeout=10)
    assert np.array_equal(heard, whole(sound, 16000))


@pytest.mark.skipif(not hasattr(av.filter.Graph(), "threads"), reason="PyAV before 18 can't limit a filter's threads")
def test_listening_starts_no_threads(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", "flac", 48000, voice(48000, rate_hz=48000, seed=8))
    before = psutil.Process().num_threads()
    pcm = PcmInput(48000, to_rate_hz=16000)
    pcm.push(np.zeros(480, np.float32))
    with open_audio(path, rate_hz=16000) as source:
        blocks = iter(source)
        next(blocks)
        assert psutil.Process().num_threads() == before
        assert sum(map(len, blocks)) > 10000


def test_standard_input_is_read(tmp_path: Path) -> None:
    sound = (voice(16000, seed=9) * 32767).astype(np.int16)
    path = write_wav(tmp_path / "w.wav", sound, 16000)
    program = "from engine.audio.source import read_audio; print(len(read_audio('-', rate_hz=8000)))"
    with path.open("rb") as file:
        ended = subprocess.run([sys.executable, "-c", program], stdin=file, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "8000"


def test_eight_bit_sound_is_centred(tmp_path: Path) -> None:
    sound = tone(16000, 0.5)
    path = write_wav(tmp_path / "8.wav", np.round(sound * 127 + 128).astype(np.uint8), 16000)
    with open_audio(path, rate_hz=16000) as source:
        heard = np.concatenate(list(source))
        assert source.condition.clipped == 0
    assert np.abs(heard - sound).max() < 1 / 100
    pcm = PcmInput(16000, to_rate_hz=16000)
    pcm.push(np.array([0, 2, 128, 255], np.uint8))
    assert pcm.condition.clipped == 2


def test_sound_that_begins_late_says_when(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.mkv", "pcm_s16le", 16000, tone(16000, 0.5), lambda at: at + 8000)
    with open_audio(path, rate_hz=16000) as source:
        assert len(np.concatenate(list(source))) == 8000
        assert source.start_s == Fraction(1, 2)


def test_a_change_of_rate_and_layout_in_mid_stream_is_followed() -> None:
    resampler, heard = Resampler(16000), list[F32]()
    for rate_hz, layout, channels in ((48000, "stereo", 2), (16000, "mono", 1), (44100, "5.1", 6)):
        array = np.repeat(tone(rate_hz, 1.0)[None], channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array), format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        heard.append(resampler.push(frame))
    heard.append(resampler.flush())
    whole_of_it = np.concatenate(heard)
    assert len(whole_of_it) == pytest.approx(48000, abs=3)
    for second in range(3):
        part = whole_of_it[16000 * second + 500 : 16000 * (second + 1) - 500]
        assert np.argmax(np.abs(np.fft.rfft(part))) == pytest.approx(440 * len(part) / 16000, abs=1)
        assert np.sqrt(2 * np.mean(part**2)) == pytest.approx(0.3, rel=0.01)


def test_what_holds_no_sound_is_refused_by_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    (tmp_path / "text.wav").write_text("not a sound " * 300)
    mute = make_clip(tmp_path / "mute.mp4")
    sentences = {
        tmp_path / "missing.wav": r"wanted a file with sound, got no such file; check the path$",
        tmp_path: r"wanted a file with sound, got a folder; name a file in it$",
        empty: r"wanted a file with sound, got an empty file; fetch or export it again$",
        mute: r"wanted an audio stream, got only video; name a file that holds sound$",
        tmp_path / "text.wav": r"wanted sound that FFmpeg can read, got .+; check the path and the file$",
        tmp_path / "none.wav": r"wanted sound of some length, got 0 s of it; check the file$",
    }
    for path, sentence in sentences.items():
        with pytest.raises((InputError, MediaError), match=sentence):
            read_audio(path, rate_hz=16000)


def test_a_file_of_broken_packets_is_refused_with_ffmpegs_words(tmp_path: Path) -> None:
    path = encode(tmp_path / "b.mp3", "libmp3lame", 48000, tone(48000, 0.5))
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(len(data) - 200))
    with pytest.raises(MediaError, match=r"b.mp3: wanted sound (of some length|that FFmpeg can read), got "):
        read_audio(path, rate_hz=16000)
