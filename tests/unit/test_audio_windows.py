"""The audio clock never drifts, and every frame gets the window that the published rule gives it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.clock import AudioClock
from engine.audio.conditions import Conditions
from engine.audio.stream import features_of
from engine.audio.windows import WindowRule, WindowStream, window_rule
from engine.errors import InputError, ModelError
from models.contract import contract_names, load_contract
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]
NTSC = Fraction(30000, 1001)
RATES = [Fraction(20), Fraction(25), Fraction(30), NTSC, Fraction(50), Fraction(60000, 1001)]


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
def test_the_clock_is_exact_over_ten_hours(fps: Fraction, rate_hz: int) -> None:
    clock = AudioClock(rate_hz, fps)
    last = int(36000 * fps)
    random = np.random.default_rng(0)
    for frame in (0, 1, 2, 3, last - 1, last, *map(int, random.integers(0, last, 300))):
        first = clock.first_sample(frame)
        assert clock.frame_at(first) == frame
        assert first == 0 or clock.frame_at(first - 1) == frame - 1
        assert 0 <= clock.offset_ms(first, frame) < 1000 / rate_hz, "never a sample away from its true instant"
        assert clock.frame_count(first) == frame
        assert clock.frame_count(first + 1) == frame + 1
    # ten hours of 29.97 are 1078921.08 frames
    assert clock.frame_count(36000 * rate_hz) == -(-36000 * fps.numerator // fps.denominator)


def test_ten_hours_counted_in_pieces_are_ten_hours() -> None:
    """Adding up the samples of each frame gives no other number than asking for the last one."""
    clock = AudioClock(16000, NTSC)
    lengths = {clock.first_sample(frame + 1) - clock.first_sample(frame) for frame in range(5000)}
    assert lengths == {533, 534}
    assert clock.first_sample(30000 * 36) - clock.first_sample(0) == 1001 * 36 * 16000


def test_a_clock_without_sense_is_refused() -> None:
    wanted = "wanted a sample rate, and frames a second from above 0 up to it"
    with pytest.raises(InputError, match=f"^audio clock: {wanted}, got 16000 Hz and 0 frames/s; correct the rates$"):
        AudioClock(16000, Fraction(0))
    with pytest.raises(InputError, match="got 20 Hz and 25 frames/s"):
        AudioClock(20, Fraction(25))


def frames_of(conditions: Conditions, sound: F32, size: int) -> F32:
    arrays = [conditions.push(sound[at : at + size]) for at in range(0, len(sound), size)]
    return np.concatenate([*arrays, conditions.flush()])


@pytest.mark.parametrize("fps", [20, 25, 30, 29.97, 30000 / 1001, 23.976])
def test_wav2lips_windows_are_those_of_the_published_loop(fps: float) -> None:
    """Its frames and the last one, which slides back; its index in floating point is ours in whole numbers."""
    facts = load_contract("wav2lip_96").lipsync
    assert facts is not None
    assert facts.features is not None
    sound = voice(16000 * 3 + 123, seed=3)
    mel = features_of(facts.features, sound).T
    published: list[F32] = []
    while True:
        start = int(len(published) * (80.0 / fps))
        if start + 16 > mel.shape[1]:
            published.append(mel[:, -16:])
            break
        published.append(mel[:, start : start + 16])
    exact = Fraction(fps).limit_denominator(1001)
    ours = frames_of(Conditions(load_contract("wav2lip_96"), exact), sound, 640)
    assert ours.shape == (AudioClock(16000, exact).frame_count(len(sound)), 1, 80, 16)
    assert np.array_equal(ours[: len(published), 0], np.stack(published))
    assert np.array_equal(ours[len(published) :, 0], np.stack([mel[:, -16:]] * (len(ours) - len(published))))


@pytest.mark.parametrize("fps", [Fraction(20), Fraction(25), Fraction(30), Fraction(24), Fraction(50), Fraction(60)])
def test_wav2lips_published_index_is_ours_for_ten_hours(fps: Fraction) -> None:
    rule = window_rule(load_contract("wav2lip_96"), None, fps)
    frames = np.arange(int(36000 * fps))
    published = (frames * (80.0 / float(fps))).astype(np.int64)
    ours = frames * rule.rate.numerator * fps.denominator // (rule.rate.denominator * fps.numerator)
    assert rule.first(len(frames) - 1) == ours[-1]
    assert np.array_equal(ours, published)


def padded_windows(vectors: F32, before: int, after: int, frames: int, offset: int = 0) -> F32:
    """The published rule of windows with zeros beyond both ends, said as slowly as it can be."""
    windows = []
    for frame in range(frames):
        left, right = frame - before + offset, frame + after + offset
        rows = [vectors[i] if 0 <= i < len(vectors) else np.zeros_like(vectors[0]) for i in range(left, right)]
        windows.append(np.stack(rows))
    return np.stack(windows)


@pytest.mark.parametrize("pieces", [1, 3, 100])
@pytest.mark.parametrize("count", [1, 3, 7, 8, 40])
def test_ultralights_windows(pieces: int, count: int) -> None:
    random = np.random.default_rng(count)
    wenet = random.standard_normal((count, 16, 512)).astype(np.float32)
    rule = window_rule(load_contract("ultralight_wenet"), load_contract("wenet_encoder"), Fraction(20))
    stream = WindowStream(rule, (16, 512), (128, 16, 32))
    ours = np.concatenate(
        [*(stream.push(wenet[at : at + pieces], count) for at in range(0, count, pieces)), stream.flush(count)]
    )
    assert np.array_equal(ours, padded_windows(wenet, 4, 4, count).reshape(count, 128, 16, 32))
    # HuBERT: two vectors are a frame of 25 a second, an odd one is left out
    hubert = random.standard_normal((2 * count + 1, 1024)).astype(np.float32)
    rule = window_rule(load_contract("ultralight_hubert"), load_contract("hubert_large"), Fraction(25))
    stream = WindowStream(rule, (1024,), (16, 32, 32))
    ours = np.concatenate(
        [*(stream.push(hubert[at : at + pieces], count) for at in range(0, len(hubert), pieces)), stream.flush(count)]
    )
    pairs = hubert[: 2 * count].reshape(count, 2, 1024)
    assert np.array_equal(ours, padded_windows(pairs, 4, 4, count).reshape(count, 16, 32, 32))


def test_heygems_windows_lie_ten_past_and_ten_ahead() -> None:
    """Six seconds, padded by 0.4 s: 169 vectors, and the 20 of frame i are those from i on (the log's numbers)."""
    vectors = np.random.default_rng(1).standard_normal((169, 256)).astype(np.float32)
    rule = window_rule(load_contract("heygem_dinet_v1"), load_contract("heygem_wenet"), Fraction(25))
    stream = WindowStream(rule, (256,), (256, 20))
    ours = np.concatenate([stream.push(vectors, 150), stream.flush(150)])
    assert ours.shape == (150, 256, 20)
    for frame in (0, 1, 77, 149):
        assert np.array_equal(ours[frame], vectors[frame : frame + 20].T)


@pytest.mark.parametrize("fps", RATES)
def test_a_video_of_another_rate_takes_the_models_last_frame(fps: Fraction) -> None:
    vectors = np.arange(200, dtype=np.float32)[:, None]
    rule = WindowRule(Fraction(25), fps, 1, 2, 3, 0, "zeros")
    stream = WindowStream(rule, (1,), (5, 1))
    ours = np.concatenate([stream.push(vectors), stream.flush(int(8 * fps))])
    for frame, window in enumerate(ours):
        model_frame = int(frame / fps * 25)
        expected = [float(i) if 0 <= i < 200 else 0.0 for i in range(model_frame - 2, model_frame + 3)]
        assert window[:, 0].tolist() == expected


@pytest.mark.parametrize("samples", [1, 100, 399, 401, 700, 3000])
def test_sounds_shorter_than_a_window_have_all_their_frames(samples: int) -> None:
    for fps in (Fraction(25), NTSC):
        conditions = Conditions(load_contract("wav2lip_96"), fps)
        sound = voice(samples, seed=9)
        arrays = frames_of(conditions, sound, 50)
        assert len(arrays) == AudioClock(16000, fps).frame_count(samples)
        assert np.isfinite(arrays).all()
        facts = load_contract("wav2lip_96").lipsync
        assert facts is not None
        assert facts.features is not None
        mel = features_of(facts.features, sound)
        columns = [mel[min(i, len(mel) - 1)] for i in range(16)]
        assert np.array_equal(arrays[0, 0].T, np.stack(columns)), "the last column stands for those that never come"
    assert len(Conditions(load_contract("wav2lip_96"), Fraction(25)).flush()) == 0


@pytest.mark.parametrize("fps", [Fraction(20), Fraction(25), NTSC])
def test_wav2lips_look_ahead_is_what_is_waited_for(fps: Fraction) -> None:
    conditions, sound = Conditions(load_contract("wav2lip_96"), fps), voice(9000, seed=4)
    waits_ms: list[float] = []
    for at in range(len(sound)):
        for _ in conditions.push(sound[at : at + 1]):
            waits_ms.append(conditions.clock.offset_ms(at + 1, len(waits_ms)))
    assert conditions.look_ahead_ms == 212.5
    assert max(waits_ms) == 212.5
    assert min(waits_ms) > 212.5 - 12.5


def test_what_does_not_belong_together_is_refused_by_name() -> None:
    ultralight, hubert = load_contract("ultralight_wenet"), load_contract("hubert_large")
    with pytest.raises(ModelError, match=r"^ultralight_wenet: wanted vectors of wenet_encoder, got hubert_large; "):
        window_rule(ultralight, hubert, Fraction(20))
    with pytest.raises(ModelError, match=r"^ultralight_wenet: wanted vectors of wenet_encoder, got none; "):
        window_rule(ultralight, None, Fraction(20))
    no_contract = r"^dinet: wanted vectors of an encoder for which there is no contract, got none; name an encoder$"
    with pytest.raises(ModelError, match=no_contract):
        window_rule(load_contract("dinet"), None, Fraction(25))
    with pytest.raises(ModelError, match=r"^det_10g: wanted a generator of the role lipsync, got detector; "):
        window_rule(load_contract("det_10g"), None, Fraction(20))
    slow: Any = replace(ultralight, lipsync=replace(ultralight.lipsync, frame_rate_hz=30.0))  # type: ignore[type-var]
    with pytest.raises(ModelError, match=r"wanted a whole number of vectors a frame, got 2/3; correct the contracts' "):
        window_rule(slow, load_contract("wenet_encoder"), Fraction(20))
    with pytest.raises(ModelError, match=r"^audio window: wanted \[8, 16, 512\] values for \[7, 3\], got "):
        WindowStream(window_rule(ultralight, load_contract("wenet_encoder"), Fraction(20)), (16, 512), (7, 3))


def test_every_generator_takes_as_many_values_as_its_windows_hold() -> None:
    """For each contract with an encoder: the window's vectors fill the generator's audio input."""
    widths = {"wenet_encoder": 16 * 512, "hubert_large": 1024, "feather_hubert": 1024, "whisper_tiny_encoder": 5 * 384}
    widths |= {"heygem_wenet": 256, "duix_wenet": 256}
    checked = 0
    for name in contract_names():
        facts = load_contract(name).lipsync
        for encoder in facts.encoders if facts is not None and facts.driven_by == ("audio",) else ():
            rule = window_rule(load_contract(name), load_contract(encoder), Fraction(25))
            shape = load_contract(name).inputs["audio"].shape[1:]
            sizes = [rule.count if isinstance(axis, str) else axis for axis in shape]
            assert np.prod(sizes) == rule.count * widths[encoder], name
            checked += 1
    assert checked == 7
