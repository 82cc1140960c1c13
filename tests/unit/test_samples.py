"""What a search is given to see: frames and sound of a user's file, apart for calibration and verification."""

from __future__ import annotations

import dataclasses
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from build_engines.flavour import BuildError
from build_engines.media import read_frames, read_sound
from build_engines.samples import Samples, _farthest_turn, sample_clip
from build_engines.sound_samples import SoundSamples
from models.contract import load_contract
from models.model_files import ModelFile, find
from tests.unit.media import Clip, make_audio_file, make_clip

U8 = npt.NDArray[np.uint8]
VP9 = Clip(size=(96, 64), pts=tuple(range(30)), codec="libvpx-vp9", options={"cpu-used": "8", "crf": "10"})


@pytest.fixture(scope="module")
def webm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty small frames in a container whose header tells no number of frames."""
    path = tmp_path_factory.mktemp("clips") / "clip.webm"
    make_clip(path, VP9)
    return path


def models() -> dict[str, ModelFile]:
    return {"detector": find("tiny_detector"), "refiner": find("tiny_refiner")}


def different(one: list[Any], other: list[Any]) -> bool:
    return not any(np.array_equal(a, b) for a in one for b in other)


def test_verification_and_calibration_take_different_frames() -> None:
    samples = Samples(sample_clip(), models(), count=8)
    assert (len(samples.frames), len(samples._to_calibrate_on), samples.apart) == (8, 8, True)
    assert different(samples.frames, samples._to_calibrate_on)
    verify, calibrate = samples.inputs("refiner"), samples.calibration("refiner")
    assert len(verify) >= 8
    assert len(calibrate) >= 8
    assert different([feed["image"] for feed in verify], [feed["image"] for feed in calibrate])


def test_a_short_clip_verifies_on_all_it_has_and_says_that_nothing_is_left(webm: Path) -> None:
    whole = Samples(webm, models(), count=32)
    assert (len(whole.frames), whole.apart) == (30, False)
    assert whole.calibration("detector")[0]["image"].shape == (1, 3, 448, 640)
    most = Samples(webm, models(), count=20)
    assert (len(most.frames), len(most._to_calibrate_on), most.apart) == (20, 10, True)
    assert different(most.frames, most._to_calibrate_on)


def test_frames_are_spread_over_a_clip_without_a_number_of_frames(webm: Path) -> None:
    frames, colour = read_frames(webm, 6)
    every, _ = read_frames(webm, 1000)
    assert (len(frames), len(every)) == (6, 30)
    assert [next(i for i, one in enumerate(every) if np.array_equal(one, frame)) for frame in frames] == [
        0, 5, 10, 15, 20, 25,
    ]  # fmt: skip
    assert frames[0].shape == (96, 96)
    assert (colour.matrix, colour.full_range) == ("bt601", False)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(BuildError, match=r"notes.txt: wanted a video to calibrate and verify on, got .*; name another"):
        read_frames(tmp_path / "notes.txt", 4)


def test_without_dali_its_reader_names_what_to_install(webm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(BuildError, match=r'^DALI: wanted nvidia.dali, got .*; install it: pip install "face-engine\['):
        read_frames(webm, 4, "dali")


def test_dali_reads_the_frames_that_pyav_reads(webm: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed: the extra dali")
    ours, colour = read_frames(webm, 6)
    theirs, its_colour = read_frames(webm, 6, "dali")
    assert colour == its_colour
    for one, other in zip(ours, theirs, strict=True):
        # luma survives the way through RGB but for rounding and clipping; chroma is sampled up and down again
        assert np.abs(one[:64].astype(int) - other[:64]).mean() < 1.0
        assert np.abs(one[64:].astype(int) - other[64:]).mean() < 3.0
    assert Samples(webm, models(), count=8, reader="dali").inputs("detector")[0]["image"].shape == (1, 3, 448, 640)


def test_what_dali_does_not_decode_is_refused_in_its_words() -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed: the extra dali")
    with pytest.raises(BuildError, match=r"clip.mp4: wanted a video that DALI decodes on a CPU .*; read it by PyAV"):
        read_frames(sample_clip(), 4, "dali")


# ---- sound


def hubert(tmp_path: Path) -> ModelFile:
    """A model that takes sound; its file is never opened here."""
    contract = load_contract("hubert_large")
    return ModelFile(contract, tmp_path / "none.onnx", "", {})


def tone(path: Path, seconds: float, rate_hz: int = 44100) -> Path:
    """A rising tone in stereo, as a .wav file of 16 bits."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    left = np.sin(2 * np.pi * (200 + 300 * t) * t) * 0.5 + 0.1
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((np.stack([left, left], axis=1) * 32767).astype("<i2").tobytes())
    return path


def test_windows_of_a_recording_are_standardised_and_apart(tmp_path: Path) -> None:
    sound = tone(tmp_path / "tone.wav", 2.0)
    samples = SoundSamples(sound, hubert(tmp_path), samples=1600, count=8)
    verify, calibrate = samples.inputs("audio_encoder"), samples.calibration("audio_encoder")
    assert (len(verify), len(calibrate)) == (8, 8)
    for feed in (*verify, *calibrate):
        assert feed["input_values"].shape == (1, 1600)
        assert feed["input_values"].dtype == np.float32
        assert feed["input_values"].mean() == pytest.approx(0.0, abs=1e-4)
        assert feed["input_values"].std() == pytest.approx(1.0, abs=1e-3)
    assert different([feed["input_values"] for feed in verify], [feed["input_values"] for feed in calibrate])


def test_sound_is_mono_at_the_contracts_rate(tmp_path: Path) -> None:
    found = read_sound(tone(tmp_path / "tone.wav", 1.0), 16000)
    assert found.size == pytest.approx(16000, abs=200)
    assert float(found.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(np.abs(found).max()) == pytest.approx(0.6, abs=0.03)
    coded = tmp_path / "tone.m4a"
    make_audio_file(coded)
    assert read_sound(coded, 16000).size > 8000


def test_what_is_no_sound_or_too_little_of_it_is_refused(tmp_path: Path) -> None:
    short = tone(tmp_path / "short.wav", 0.05)
    with pytest.raises(BuildError, match=r"short.wav: wanted 16000 samples of sound or more, got \d+; name a longer"):
        SoundSamples(short, hubert(tmp_path), samples=16000)
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(BuildError, match=r"notes.txt: wanted sound to calibrate and verify on, got .*; name another"):
        read_sound(tmp_path / "notes.txt", 16000)
    silent = make_silent(tmp_path)
    with pytest.raises(BuildError, match=r"silent.mp4: wanted sound to calibrate and verify on, got .*; name another"):
        read_sound(silent, 16000)


@pytest.mark.parametrize(("name", "kind"), [("wenet_encoder", "kaldi_fbank"), ("wav2lip_96", "no sound")])
def test_a_model_that_takes_features_is_refused_by_name(name: str, kind: str, tmp_path: Path) -> None:
    file = dataclasses.replace(hubert(tmp_path), contract=load_contract(name))
    with pytest.raises(
        BuildError, match=rf"^{name}: wanted a model that takes sound as a waveform, got one .* {kind};"
    ):
        SoundSamples(tmp_path / "none.wav", file, samples=1600)


def make_silent(folder: Path) -> Path:
    make_clip(folder / "silent.mp4", Clip())
    return folder / "silent.mp4"


def test_a_crowd_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(sample_clip(), models(), count=4)
    found = [(None, np.full((5, 2), index, np.float32)) for index in range(40)]
    monkeypatch.setattr(samples, "_detected", lambda: iter(found))
    monkeypatch.setattr(samples, "_crops", lambda role, name: [points for _, points in samples._points])
    given = samples.inputs("refiner")
    assert [float(feed["image"][0, 0]) for feed in given] == [0, 5, 10, 15, 20, 25, 30, 35]


def test_mask_networks_are_given_what_they_look_at_in_a_run() -> None:
    roles = ("detector", "embedder", "swapper", "occluder", "parser")
    samples = Samples(sample_clip(), {role: find(f"tiny_{role}") for role in roles}, count=2)
    seen = samples.inputs("occluder")
    assert {feed["image"].shape for feed in seen} == {(1, 256, 256, 3)}
    assert all(feed["image"].min() >= 0.0 and 0.5 < feed["image"].max() <= 1.0 for feed in seen)
    found = samples.inputs("parser")
    assert len(found) == len(seen)
    assert {feed["image"].shape for feed in found} == {(1, 3, 512, 512)}
    own = Samples(sample_clip(), {"detector": find("tiny_detector"), "parser": find("tiny_parser")}, count=2)
    with pytest.raises(BuildError, match="samples: wanted a swapper, whose crops masks look at, got none; name one"):
        own.inputs("parser")


@pytest.mark.parametrize(
    ("who", "turn"), [("abab", 1), ("aabb", 2), ("abcabc", 1), ("aabaabaab", 1), ("aaa", 1), ("a", 0)]
)
def test_a_face_is_given_to_somebody_else_where_there_is_one(who: str, turn: int) -> None:
    alike = np.array([[1.0 if one == other else 0.125 for other in who] for one in who], np.float32)
    assert _farthest_turn(alike) == turn
