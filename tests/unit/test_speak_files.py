"""From files to a file: in sync, in any length, with the sound as it was, and no half-written output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

import engine
from engine.audio.source import open_audio, read_audio
from engine.errors import DeviceError, EngineError, InputError, OutputError
from engine.lipsync import LipsyncPipeline
from engine.result import Progress
from engine.talk.sound import loudness_of_file
from engine.template.template import Template
from engine.video.ai_altered import is_marked
from engine.video.sink import Sink
from profiles.profile import load_profile
from tests.talk_parts import av_offset_ms, brightness, bursts, light_files, light_profile, light_template, lit_clip
from tests.talk_parts import write_light as written_light
from tests.unit.media import make_clip
from tests.unit.test_audio_input import write_wav

F32 = npt.NDArray[np.float32]
COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("light")
    lit_clip(path / "clip.mp4", COUNT)
    with light_files(written_light(path / "light.onnx")):
        yield path


@pytest.fixture(scope="module")
def template(folder: Path) -> Template:
    return light_template(folder / "clip.mp4")


def wav(path: Path, sound: F32, rate_hz: int = 16000) -> Path:
    return write_wav(path, (sound * 32767).astype(np.int16)[:, None], rate_hz, 1)


def encoded(path: Path, codec: str, sound: F32, rate_hz: int, layout: str = "mono") -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for one in (frame, None):
            container.mux(stream.encode(one))
    return path


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def expected_rows(frames: int, count: int = COUNT) -> list[int]:
    """To and fro, the turning frames once."""
    way = [*range(count), *range(count - 2, 0, -1)]
    return [way[n % len(way)] for n in range(frames)]


CASES = [
    ("a.wav", "pcm_s16le", 16000, ".mp4", False),
    ("a.wav", "pcm_s16le", 44100, ".mov", True),
    ("a.wav", "pcm_s16le", 48000, ".mkv", True),
    ("a.m4a", "aac", 44100, ".mp4", True),
    ("a.m4a", "aac", 48000, ".mkv", True),
    ("a.mp3", "libmp3lame", 44100, ".mp4", True),
    ("a.flac", "flac", 48000, ".mov", False),
    ("a.ogg", "libopus", 48000, ".mkv", True),
]


@pytest.mark.parametrize(("name", "codec", "rate_hz", "suffix", "is_copied"), CASES)
def test_mouth_and_sound_go_together_whatever_the_codec(
    name: str, codec: str, rate_hz: int, suffix: str, is_copied: bool, template: Template, tmp_path: Path
) -> None:
    sound = bursts(3.0, rate_hz=rate_hz)
    given = (
        encoded(tmp_path / name, codec, sound, rate_hz) if codec[:3] != "pcm" else wav(tmp_path / name, sound, rate_hz)
    )
    out, said = tmp_path / f"out{suffix}", list[str]()
    result = engine.speak(light_profile(), template, given, out, say=said.append)
    stamps, mouths, edges = brightness(out)
    with open_audio(out, rate_hz=16000) as source:
        heard = np.concatenate(list(source))
        start_s = float(source.start_s or 0)
    assert result.frames == len(stamps)
    assert result.frames == pytest.approx(75, abs=1)  # codecs of blocks end a little later
    assert np.allclose(np.diff(stamps), 0.04, atol=0.0011)
    assert abs(av_offset_ms(stamps - start_s, mouths, heard)) <= 1
    # limited range, seen in full
    assert edges == pytest.approx([1.164 * (10 * row % 220) for row in expected_rows(len(edges))], abs=9)
    copied = b"".join(packets(given)) == b"".join(packets(out))
    assert copied is is_copied
    assert any(line.startswith("sound: written as AAC, since ") for line in said) is not is_copied
    with av.open(str(out)) as container:
        assert is_marked(container.metadata)


def test_an_offset_that_is_there_is_measured(template: Template, tmp_path: Path) -> None:
    """The measure above is not blind: a film whose sound is 40 ms late, and one of 13 ms."""
    out = tmp_path / "out.mp4"
    engine.speak(light_profile(), template, wav(tmp_path / "a.wav", bursts(3.0)), out)
    stamps, mouths, _ = brightness(out)
    heard = read_audio(out, rate_hz=16000)
    for shift in (-640, 208):
        assert av_offset_ms(stamps, mouths, np.roll(heard, shift)) == pytest.approx(-shift / 16, abs=2)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(20), Fraction(50)])
def test_other_rates_keep_the_sounds_time(rate: Fraction, folder: Path, tmp_path: Path) -> None:
    template = light_template(folder / "clip.mp4", rate=rate)
    out = tmp_path / "out.mp4"
    result = engine.speak(light_profile(), template, wav(tmp_path / "a.wav", bursts(3.0)), out)
    stamps, mouths, _ = brightness(out)
    assert result.frames == -(-3 * rate.numerator // rate.denominator)
    assert stamps == pytest.approx([n / float(rate) for n in range(len(stamps))], abs=1e-4)
    assert abs(av_offset_ms(stamps, mouths, read_audio(out, rate_hz=16000))) <= 1


def test_a_sound_that_is_shorter_than_the_template_ends_the_film(template: Template, tmp_path: Path) -> None:
    seen: list[Progress] = []
    out = tmp_path / "out.mp4"
    result = engine.speak(light_profile(), template, wav(tmp_path / "a.wav", bursts(0.3)), out, on_progress=seen.append)
    assert result.frames == 8
    assert [one.done for one in seen] == list(range(1, 9))
    assert seen[-1].total == 8
    assert result.speech is not None
    assert result.to_json()["speech"]["look_ahead_ms"] == 212.5
    stages = set(result.timings.stages)
    assert {"decode", "listen", "encode", "frame"} <= stages


def test_noise_at_50_below_full_scale_is_silence(template: Template, tmp_path: Path, folder: Path) -> None:
    quiet = (10 ** (-50 / 20) * np.random.default_rng(1).standard_normal(32000)).astype(np.float32)
    out = tmp_path / "out.mkv"
    result = engine.speak(light_profile(), template, wav(tmp_path / "a.wav", quiet), out)
    assert (result.frames, result.faces) == (50, 0)


def test_a_mouth_fades_in_before_speech_and_out_behind_it(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    begin = LipsyncPipeline.begin

    def spy(self: LipsyncPipeline, frame: Any, row: int, condition: Any, opacity: float = 1.0) -> Any:
        given.append(opacity)
        return begin(self, frame, row, condition, opacity)

    monkeypatch.setattr(LipsyncPipeline, "begin", spy)
    sound = np.zeros(48000, np.float32)
    sound[16000:32000] = 0.2 * np.random.default_rng(1).standard_normal(16000)
    engine.speak(light_profile(), template, wav(tmp_path / "a.wav", sound), tmp_path / "out.mp4")
    # speech in frames 25 to 49: it fades in by the time it begins, and out behind the gate's hold of 240 ms
    assert given[:26] == pytest.approx([0.0] * 22 + [1 / 3, 2 / 3, 1.0, 1.0])
    assert given[26:55] == [1.0] * 29
    assert given[55:58] == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert given[58:] == [0.0] * 17


def test_a_frame_that_fails_goes_out_as_it_came(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = LipsyncPipeline.begin

    def fail(self: LipsyncPipeline, frame: Any, row: int, condition: Any, opacity: float = 1.0) -> Any:
        frame = begin(self, frame, row, condition, opacity)
        if frame.index == 5:  # its mouth is moved by then
            raise DeviceError("mouth: wanted a result, got nothing; a planted fault")
        return frame

    monkeypatch.setattr(LipsyncPipeline, "begin", fail)
    loud = (0.2 * np.random.default_rng(1).standard_normal(16000)).astype(np.float32)
    out = tmp_path / "out.mkv"
    result = engine.speak(light_profile(), template, wav(tmp_path / "a.wav", loud), out)
    assert (result.frames, result.failed) == (25, 1)
    assert result.first_failure == "mouth: wanted a result, got nothing; a planted fault"
    _, mouths, _ = brightness(out)
    assert abs(mouths[5] - mouths[4]) > 10
    assert abs(mouths[6] - mouths[4]) < 10


def test_a_failing_encoder_leaves_a_playable_part(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Sink.write

    def fail(self: Sink, planes: Any, frame: Any) -> None:
        if frame.index == 60:
            raise OutputError("out: wanted room, got none; a planted fault")
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", fail)
    with pytest.raises(OutputError, match="a planted fault") as caught:
        engine.speak(light_profile(), template, wav(tmp_path / "a.wav", bursts(6.0)), tmp_path / "out.mp4")
    partial = caught.value.partial_path  # type: ignore[attr-defined]
    assert partial == tmp_path / "out.partial.mp4"
    assert caught.value.frames_written == 60  # type: ignore[attr-defined]
    assert len(brightness(partial)[0]) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "out.partial.mp4"]


def test_far_from_the_idle_stretch_silence_fades_to_it(tmp_path: Path, folder: Path) -> None:
    template = light_template(lit_clip(tmp_path / "long.mp4", 40), idle=range(2, 6))
    sound = np.zeros(40000, np.float32)
    sound[:19200] = 0.2 * np.random.default_rng(1).standard_normal(19200)
    out = tmp_path / "out.mkv"
    engine.speak(light_profile(), template, wav(tmp_path / "a.wav", sound), out)
    _, _, edges = brightness(out)

    def edge(row: int) -> float:
        return 1.164 * (10 * row % 220)

    # 30 frames of speech and 5 of hold; two frames of both places; then the stretch alone, to and fro
    assert edges[:35] == pytest.approx([edge(row) for row in range(35)], abs=9)
    assert edges[35] == pytest.approx(edge(35) * 2 / 3 + edge(5) / 3, abs=9)
    assert edges[36] == pytest.approx(edge(36) / 3 + edge(4) * 2 / 3, abs=9)
    assert edges[37:47] == pytest.approx([edge(row) for row in (3, 2, 3, 4, 5, 4, 3, 2, 3, 4)], abs=9)


def test_near_the_idle_stretch_silence_walks_and_the_mouth_stays_the_models(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = light_template(lit_clip(tmp_path / "long.mp4", 40), idle=range(30, 40))
    given: list[tuple[int, float]] = []
    begin = LipsyncPipeline.begin

    def spy(self: LipsyncPipeline, frame: Any, row: int, condition: Any, opacity: float = 1.0) -> Any:
        given.append((row, round(opacity, 3)))
        return begin(self, frame, row, condition, opacity)

    monkeypatch.setattr(LipsyncPipeline, "begin", spy)
    sound = np.zeros(40000, np.float32)
    sound[:12800] = 0.2 * np.random.default_rng(1).standard_normal(12800)
    engine.speak(light_profile(), template, wav(tmp_path / "a.wav", sound), tmp_path / "out.mkv")
    # speech and hold end at row 25; the mouth is let go where the stretch begins
    assert [row for row, _ in given[:35]] == list(range(35))
    assert [opacity for _, opacity in given[3:30]] == [1.0] * 27
    assert [opacity for _, opacity in given[30:35]] == [0.667, 0.333, 0.0, 0.0, 0.0]


# -- what a user may give ---------------------------------------------------------------------------------


def kinds(tmp_path: Path) -> dict[str, Path]:
    """The same second of noise in every form that is taken."""
    loud = (0.2 * np.random.default_rng(1).standard_normal(48000)).astype(np.float32)
    six = np.repeat(loud[:, None], 6, axis=1)
    broken = encoded(tmp_path / "broken.mp3", "libmp3lame", np.tile(loud, 3), 48000)
    data = bytearray(broken.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 900] = bytes(900)
    broken.write_bytes(data)
    cut = encoded(tmp_path / "cut.mp3", "libmp3lame", np.tile(loud, 4), 48000)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return {
        "8 kHz": write_wav(tmp_path / "8.wav", (loud[:8000, None] * 32767).astype(np.int16), 8000, 1),
        "96 kHz": write_wav(tmp_path / "96.wav", (np.tile(loud, 2)[:, None] * 32767).astype(np.int16), 96000, 1),
        "5.1": write_wav(tmp_path / "51.wav", (six * 32767).astype(np.int16), 48000, 1),
        "float": write_wav(tmp_path / "float.wav", loud[:, None], 48000, 3),
        "clipped": write_wav(tmp_path / "clip.wav", np.clip(loud[:, None] * 20, -1, 1), 48000, 3),
        "not finite": write_wav(
            tmp_path / "nan.wav", np.where(np.arange(48000) % 1000, loud, np.nan)[:, None], 48000, 3
        ),
        "broken": broken,
        "cut": cut,
    }


@pytest.mark.parametrize(
    ("kind", "frames", "note"),
    [
        ("8 kHz", 25, ""),
        ("96 kHz", 25, ""),
        ("5.1", 25, ""),
        ("float", 25, ""),
        ("clipped", 25, r"audio: [0-9.]+ % of the samples are clipped; record it with less gain"),
        ("not finite", 25, "audio: 48 samples were no numbers and became silence"),
        ("broken", 75, ""),
        ("cut", 50, r"audio: it ended [12]\.\d s earlier than its file says; the file may be cut off"),
    ],
)
def test_sounds_that_are_odd_are_said_all_the_same(
    kind: str, frames: int, note: str, template: Template, tmp_path: Path
) -> None:

    out = tmp_path / "out.mp4"
    result = engine.speak(light_profile(), template, kinds(tmp_path)[kind], out)
    assert abs(result.frames - frames) <= 2
    assert result.faces >= frames - 4
    assert len(read_audio(out, rate_hz=16000)) == pytest.approx(16000 * frames / 25, abs=2000)
    assert (not note) or any(re.search(note, one) for one in result.notes), result.notes


def test_noisy_speech_is_told_with_its_measure(template: Template, tmp_path: Path) -> None:
    sound = bursts(8.0)
    sound += (10 ** (-26 / 20) * np.random.default_rng(3).standard_normal(len(sound))).astype(np.float32)
    result = engine.speak(light_profile(), template, wav(tmp_path / "a.wav", sound), tmp_path / "out.mp4")
    told = [one for one in result.notes if one.startswith("audio: wanted speech 20 dB above noise and echo, got ")]
    assert len(told) == 1
    assert result.speech is not None
    assert result.speech.snr_db == pytest.approx(12, abs=4)


def test_what_can_not_be_said_is_refused_in_a_sentence(template: Template, folder: Path, tmp_path: Path) -> None:
    silent = make_clip(tmp_path / "silent.mp4")
    empty = write_wav(tmp_path / "empty.wav", np.zeros((0, 1), np.int16), 16000, 1)
    text = tmp_path / "text.wav"
    text.write_text("no sound at all\n" * 100)
    good = wav(tmp_path / "good.wav", bursts(0.5))
    out = tmp_path / "out.mp4"
    cases: list[tuple[Path | str, Path | str, dict[str, Any], str]] = [
        (silent, out, {}, r"silent.mp4: wanted an audio stream, got only video; name a file that holds sound$"),
        (empty, out, {}, r"empty.wav: wanted sound of some length, got 0 s of it; check the file$"),
        (text, out, {}, r"text.wav: wanted sound that FFmpeg can read, got .+; check the path and the file$"),
        (tmp_path / "none.wav", out, {}, r"none.wav: wanted a file with sound, got no such file; check the path$"),
        (good, tmp_path / "out.avi", {}, r"out.avi: wanted a name that ends in .mp4 or .mov or .mkv, got .avi; "),
        (good, good.with_suffix(".mp4").parent / "none" / "o.mp4", {}, r"wanted an existing folder, got no folder "),
        (good, "udp://127.0.0.1:9", {}, r"udp:.+: wanted a live run for an address, got one to a file.s end, as fast"),
        (good, out, {"output_options": {"a": "b"}}, r"--output-option: wanted an address, got a for the file .+out"),
        (good, out, {"raw_audio": "16000"}, r"--raw-audio: wanted a pipe of samples without a header, got .+good"),
        (good, out, {"raw_audio": "x:1"}, r"--raw-audio: wanted RATE\[:CHANNELS\[:FORMAT\]\] with a format of u8, .+"),
        ("alsa:nobody", out, {}, r"alsa:nobody: wanted a live run for a microphone, got one to a file's end; add "),
    ]  # fmt: skip
    for audio, target, options, sentence in cases:
        with pytest.raises(EngineError, match=sentence):
            engine.speak(light_profile(), template, audio, target, **options)
        assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.wav", "good.wav", "silent.mp4", "text.wav"]


def test_an_encoder_of_waveforms_is_told_a_files_loudness(tmp_path: Path) -> None:
    sound = bursts(3.0)
    given = wav(tmp_path / "a.wav", sound)
    told = loudness_of_file(load_profile("ultralight_720p25"), str(given))
    assert told is not None
    assert told.mean == pytest.approx(float(sound.mean()), abs=1e-4)
    assert told.variance == pytest.approx(float(sound.var()), rel=0.01)
    assert loudness_of_file(load_profile("ultralight_720p20"), str(given)) is None  # WeNet hears bands
    assert loudness_of_file(load_profile("lipsync_720p25"), str(given)) is None
    assert loudness_of_file(load_profile("ultralight_720p25"), "-") is None


def test_a_swap_profile_is_refused(template: Template, tmp_path: Path) -> None:
    sentence = "^profile tiny: wanted the task lipsync, got swap; name a lip-sync profile, or run it with --source$"
    with pytest.raises(InputError, match=sentence):
        engine.speak("tiny", template, wav(tmp_path / "a.wav", bursts(0.3)), tmp_path / "out.mp4")


def test_the_output_is_not_the_presenters_own_video(template: Template, tmp_path: Path) -> None:
    before = template.path.read_bytes()
    with pytest.raises(OutputError, match="wanted another file than the input, got the input itself; "):
        engine.speak(light_profile(), template, wav(tmp_path / "a.wav", bursts(0.3)), template.path)
    assert template.path.read_bytes() == before


def test_a_face_is_asked_of_a_video_not_of_what_is_prepared(template: Template, tmp_path: Path) -> None:
    sentence = "^--face: wanted a video as the template, got one that is prepared already, .*; leave --face out, or "
    with pytest.raises(InputError, match=sentence):
        engine.speak(
            light_profile(), template, wav(tmp_path / "a.wav", bursts(0.3)), tmp_path / "o.mp4", face="leftmost"
        )


def test_the_output_is_not_the_sound_itself(template: Template, tmp_path: Path) -> None:
    given = encoded(tmp_path / "a.mp4", "aac", bursts(0.5, rate_hz=44100), 44100)
    with pytest.raises(OutputError, match="wanted another file than the input, got the input itself; "):
        engine.speak(light_profile(), template, given, given)
