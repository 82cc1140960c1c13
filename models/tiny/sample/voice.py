"""Speech of the two in the clip: a list of sounds moves the mouth, and the pack's own voice says them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.renderer.speech import SHAPES, phrase, track
from models.tiny.train.formants import sing

RATE = 48000
_VOICE_HZ = 16000  # what the voice is made at; nothing in it lies above 8 kHz
_LEVEL = 0.35
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Speech:
    """Mouth parameters by name (SHAPES), one value a frame; sound [RATE * seconds] in -1..1."""

    mouth: dict[str, Doubles]
    sound: Doubles


def speech(seed: int, voice: int, frames: int, fps: int, spans_s: list[tuple[float, float]]) -> Speech:
    """Words of random syllables inside the given spans (seconds); silence and a mouth at rest outside them.

    `voice` is the seed of pitch and length of the throat: 3 is a low voice (100 Hz), 15 a high one (206 Hz).
    """
    rng = np.random.default_rng(seed)
    sounds = [sound for begin, end in spans_s for sound in phrase(rng, end - begin, begin)]
    said = sing(sounds, frames / fps, np.random.default_rng(voice), _VOICE_HZ).astype(np.float64)
    count = frames * RATE // fps
    spectrum = np.zeros(count // 2 + 1, np.complex128)
    spectrum[: len(said) // 2 + 1] = np.fft.rfft(said) * (count / len(said))
    sound = np.fft.irfft(spectrum, count)
    return Speech(track(sounds, frames, fps), _LEVEL * sound / max(float(np.abs(sound).max()), 1e-9))


__all__ = ["RATE", "SHAPES", "Speech", "speech"]
