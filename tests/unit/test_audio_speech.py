"""Speech is told from silence without flicker, and noise and echo are measured."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.clock import AudioClock
from engine.audio.speech import SpeechGate, SpeechOptions
from tests.unit.voice import echoing, noise, voice

F32 = npt.NDArray[np.float32]
CLOCK = AudioClock(16000, Fraction(25))


def gated(sound: npt.NDArray[np.floating], clock: AudioClock = CLOCK, size: int = 10**9) -> npt.NDArray[np.bool_]:
    gate, wave = SpeechGate(clock), sound.astype(np.float32)
    frames = [gate.push(wave[at : at + size]) for at in range(0, len(wave), size)]
    return np.concatenate([*frames, gate.flush()])


def burst(level_dbfs: float, seconds: float) -> npt.NDArray[np.float64]:
    """A vowel's worth of harmonics at this level."""
    time_s = np.arange(int(16000 * seconds)) / 16000
    wave = np.sum([np.sin(2 * np.pi * 150 * n * time_s) / n for n in range(1, 12)], axis=0)
    return np.asarray(wave / np.sqrt(np.mean(wave**2)) * 10 ** (level_dbfs / 20))


@pytest.mark.parametrize("dbfs", [-90.0, -60.0, -50.0, -45.0])
def test_noise_of_a_room_is_silence(dbfs: float) -> None:
    assert not gated(noise(160000, dbfs)).any()
    assert not gated(np.zeros(16000)).any()
    assert not gated(np.full(16000, 0.5)).any(), "a constant is no sound"


@pytest.mark.parametrize("dbfs", [-38.0, -30.0, -20.0, -10.0])
def test_a_voice_opens_at_once_and_holds_through_a_stop(dbfs: float) -> None:
    quiet = noise(16000, -60.0)
    stop = noise(16000 // 10 * 2, -60.0, seed=2)  # 200 ms, longer than a stop consonant
    sound = np.concatenate([quiet, burst(dbfs, 0.6), stop, burst(dbfs, 0.6), quiet])
    speaks = gated(sound)
    assert len(speaks) == len(sound) // 640
    began, ended = 25, 25 + 35
    assert not speaks[:began].any()
    assert speaks[began:ended].all(), "no flicker between the two vowels"
    hold_frames = 6  # 240 ms
    assert speaks[ended : ended + hold_frames - 1].all()
    assert not speaks[ended + hold_frames + 1 :].any()


def test_a_level_between_the_two_opens_nothing_and_shuts_nothing() -> None:
    between = burst(-44.5, 1.0)
    assert not gated(np.concatenate([np.zeros(16000), between])).any()
    after = gated(np.concatenate([burst(-35.0, 0.4), between]))
    assert after.all()


@pytest.mark.parametrize("fps", [Fraction(20), Fraction(25), Fraction(30), Fraction(30000, 1001)])
@pytest.mark.parametrize("size", [160, 997, 640, 20000])
def test_pieces_change_nothing(fps: Fraction, size: int) -> None:
    sound, clock = voice(30011, seed=3), AudioClock(16000, fps)
    whole = gated(sound, clock)
    assert np.array_equal(gated(sound, clock, size), whole)
    assert len(whole) == clock.frame_count(len(sound))
    few = sound[:1300]
    assert np.array_equal(gated(few, clock, 1), gated(few, clock))


def measured(sound: npt.NDArray[np.floating]) -> SpeechGate:
    gate = SpeechGate(CLOCK)
    gate.push(sound.astype(np.float32))
    return gate


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("noise_dbfs", [-60.0, -50.0, -40.0, -32.0])
def test_the_ratio_of_speech_to_noise_is_measured_to_three_decibels(noise_dbfs: float, seed: int) -> None:
    sound = voice(16000 * 12, seed=seed, floor_dbfs=None).astype(np.float64)
    speaking = np.sqrt(np.mean(np.square(sound).reshape(-1, 640), axis=1))
    level_db = 10 * np.log10(np.mean(np.square(speaking[speaking > 0.005])))
    gate = measured(sound + noise(len(sound), noise_dbfs))
    ratio_db = gate.snr_db
    assert ratio_db is not None
    assert ratio_db == pytest.approx(level_db - noise_dbfs, abs=3.0)
    assert bool(gate.warning) == (ratio_db < 20.0)


def test_the_warning_says_what_was_measured() -> None:
    sound = voice(16000 * 12, seed=4)
    assert measured(sound).warning == ""
    noisy = measured(sound + noise(len(sound), -30.0))
    assert noisy.snr_db is not None
    assert noisy.warning == (
        f"audio: wanted speech 20 dB above noise and echo, got {noisy.snr_db:.0f} dB; "
        "the mouth may move in pauses: use a nearer microphone, or clean the sound first"
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_echo_counts_as_noise(seed: int) -> None:
    sound = voice(16000 * 12, seed=seed)
    ratios = [measured(echoing(sound, decay_s)).snr_db or 0.0 for decay_s in (0.3, 0.8, 2.0)]
    assert ratios[0] > ratios[1] > ratios[2]
    assert measured(echoing(sound, 2.0)).warning
    assert not measured(echoing(sound, 0.3)).warning


def test_clean_speech_between_digital_silence_is_clean() -> None:
    """A synthetic voice pauses with zeros; a microphone that is muted for long says nothing of the room."""
    assert not measured(voice(16000 * 12, seed=5, floor_dbfs=None)).warning
    noisy = voice(16000 * 12, seed=5) + noise(16000 * 12, -30.0)
    assert measured(np.concatenate([np.zeros(16000 * 5), noisy])).warning


def test_nothing_is_told_before_enough_was_heard() -> None:
    def tells(gate: SpeechGate) -> bool:
        return gate.snr_db is not None

    gate = SpeechGate(CLOCK)
    assert not tells(gate)
    assert gate.warning == ""
    gate.push(voice(16000 * 2, seed=6))
    assert not tells(gate)
    assert not tells(measured(noise(160000, -50.0))), "without speech there is no ratio"
    gate.push(voice(16000 * 4, seed=7))
    assert tells(gate)
    gate.flush()
    assert tells(gate), "the room stays the same from one sound to the next"
    gate.reset()
    assert not tells(gate)


def test_a_loud_room_raises_the_level_that_opens() -> None:
    """Noise at -38 dBFS: without a measure it would be speech, and is not once it was heard for a while."""
    random = noise(16000 * 12, -38.0)
    speaks = gated(random)
    assert speaks[:25].all()
    assert not speaks[200:].any()
    fixed = SpeechGate(CLOCK, SpeechOptions(above_noise_db=-100.0))
    assert fixed.push(random.astype(np.float32)).all()
