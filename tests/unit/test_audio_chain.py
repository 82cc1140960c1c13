"""From a host's stereo PCM to the generator's arrays, live: exact in count, constant in memory."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import psutil
import pytest

from engine.audio.clock import AudioClock
from engine.audio.conditions import Conditions
from engine.audio.pcm import PcmInput
from engine.audio.speech import SpeechGate
from models.contract import load_contract
from tests.unit.voice import voice

NTSC = Fraction(30000, 1001)
_MARGIN_BYTES = 1 << 20


@pytest.mark.parametrize(
    ("seconds", "fps"),
    [(90, Fraction(25)), pytest.param(600, NTSC, marks=[pytest.mark.full, pytest.mark.timeout(600)])],
)
def test_a_long_live_sound_keeps_its_frames_and_its_memory(seconds: int, fps: Fraction) -> None:
    second = np.repeat((voice(48000, rate_hz=48000, seed=1) * 32767).astype(np.int16)[:, None], 2, axis=1)
    pcm, conditions = PcmInput(48000, 2, to_rate_hz=16000), Conditions(load_contract("wav2lip_96"), fps)
    clock = AudioClock(16000, fps)
    gate, process = SpeechGate(clock), psutil.Process()
    frames = gated = samples = 0
    resident_bytes = 0
    for number in range(seconds):
        for at in range(0, 48000, 1920):
            heard = pcm.push(second[at : at + 1920])
            samples += len(heard)
            frames += len(conditions.push(heard))
            gated += len(gate.push(heard))
            assert clock.frame_count(samples) - frames <= conditions.look_ahead_ms * fps / 1000 + 1  # type: ignore[operator]
        if number == 20:
            resident_bytes = process.memory_info().rss
    assert process.memory_info().rss - resident_bytes < _MARGIN_BYTES
    rest = pcm.flush()
    frames += len(conditions.push(rest)) + len(conditions.flush())
    gated += len(gate.push(rest)) + len(gate.flush())
    assert samples + len(rest) == seconds * 16000
    assert frames == gated == -(-seconds * fps.numerator // fps.denominator)


def test_reset_between_sentences_gives_each_its_own_frames() -> None:
    """A barge-in in mid-sentence: what follows is as if nothing had been said before."""
    pcm, conditions = PcmInput(24000, to_rate_hz=16000), Conditions(load_contract("wav2lip_96"), Fraction(25))
    sentence = voice(24000, rate_hz=24000, seed=2)

    def said() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        arrays = [conditions.push(pcm.push(sentence[at : at + 480])) for at in range(0, len(sentence), 480)]
        return [*arrays, conditions.push(pcm.flush()), conditions.flush()]

    first = np.concatenate(said())
    assert first.shape == (25, 1, 80, 16)
    conditions.push(pcm.push(voice(7000, rate_hz=24000, seed=3)))
    pcm.reset()
    conditions.reset()
    assert np.array_equal(np.concatenate(said()), first)
