"""Mouths that talk: visemes in time become smooth tracks of mouth shapes, as neighbouring sounds colour each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

# What the lips, jaw and tongue do in the middle of a sound, and how firmly: a firm sound (p, f) reaches its shape
# whatever stands beside it; a weak one (h, k) takes on its neighbours' shape.
SHAPES = ("open", "wide", "round", "press", "tuck", "tongue")
VISEMES: dict[str, tuple[tuple[float, ...], float]] = {
    "rest": ((0.00, 0.0, 0.0, 0.0, 0.0, 0.0), 0.5),
    "pbm": ((0.00, 0.0, 0.0, 1.0, 0.0, 0.0), 3.0),
    "fv": ((0.16, 0.1, 0.0, 0.0, 1.0, 0.0), 2.4),
    "th": ((0.20, 0.1, 0.0, 0.0, 0.0, 1.0), 1.4),
    "tdn": ((0.18, 0.2, 0.0, 0.0, 0.0, 0.8), 1.0),
    "l": ((0.28, 0.2, 0.0, 0.0, 0.0, 1.0), 1.0),
    "kg": ((0.26, 0.0, 0.0, 0.0, 0.0, 0.1), 0.6),
    "sz": ((0.10, 0.6, 0.0, 0.0, 0.0, 0.4), 1.6),
    "sh": ((0.18, -0.3, 0.65, 0.0, 0.0, 0.2), 1.8),
    "r": ((0.22, -0.2, 0.50, 0.0, 0.0, 0.2), 1.0),
    "w": ((0.10, -0.5, 1.00, 0.0, 0.0, 0.0), 1.8),
    "ee": ((0.22, 1.0, 0.0, 0.0, 0.0, 0.3), 1.2),
    "eh": ((0.45, 0.5, 0.0, 0.0, 0.0, 0.1), 1.0),
    "ah": ((0.90, 0.1, 0.0, 0.0, 0.0, 0.0), 1.2),
    "uh": ((0.40, 0.0, 0.1, 0.0, 0.0, 0.0), 0.8),
    "oh": ((0.58, -0.2, 0.75, 0.0, 0.0, 0.0), 1.3),
    "oo": ((0.22, -0.5, 1.00, 0.0, 0.0, 0.0), 1.5),
}
VOWELS = ("ee", "eh", "ah", "uh", "oh", "oo")
_CONSONANTS = tuple(name for name in VISEMES if name not in VOWELS and name != "rest")
# Lips round early and let go late; a closure is short.
_SPREAD = np.array([1.0, 1.2, 1.6, 0.85, 1.0, 1.0])
# A sound that asks for no rounding, spread or tongue of its own leaves them to its neighbours.
_FREE = np.array([False, True, True, False, False, True])
_LEAD_S = 0.055  # how far before and after its middle a sound of unit length still rules: half height of the bell


@dataclass(frozen=True)
class Sound:
    """One sound: its viseme (a key of VISEMES), begin and length in seconds, loudness 0..1."""

    viseme: str
    begin_s: float
    length_s: float
    loud: float = 1.0


def track(sounds: Sequence[Sound], frames: int, rate_hz: float) -> dict[str, Doubles]:
    """Mouth parameters [frames] by name, one value in the middle of each frame; use them with Person.set.

    Each frame's shape is the mean of all sounds' shapes, weighted by firmness and a bell in time, so that lips begin
    to round before a vowel and a p shuts them for a moment. Raises ValueError for an unknown viseme.
    """
    time = (np.arange(frames) + 0.5) / rate_hz
    sums, weights = np.zeros((frames, len(SHAPES))), np.zeros((frames, len(SHAPES)))
    rest, firm = VISEMES["rest"]
    sums += np.array(rest) * firm * 0.25
    weights += firm * 0.25
    for sound in sounds:
        if sound.viseme not in VISEMES:
            raise ValueError(
                f"track: wanted a viseme of {', '.join(VISEMES)}, got {sound.viseme!r}; write it as one of these"
            )
        shape, firm = VISEMES[sound.viseme]
        away = np.abs(time - (sound.begin_s + sound.length_s / 2)) / (_LEAD_S + 0.42 * sound.length_s)
        care = np.where(_FREE & (np.array(shape) == 0.0), 0.35 * firm, firm)
        bell = care / (1.0 + (away[:, None] / _SPREAD) ** 2) ** 4
        target = np.array(shape)
        target[0] *= 0.35 + 0.65 * sound.loud  # quiet speech opens less
        sums += target * bell
        weights += bell
    mean = sums / weights
    out = {name: mean[:, k] for k, name in enumerate(SHAPES)}
    out["open"] = out["open"] * np.clip(1.0 - 1.15 * out["press"], 0.0, 1.0)  # shut lips are shut
    return {name: np.clip(values, -1.0 if name == "wide" else 0.0, 1.0) for name, values in out.items()}


def phrase(rng: np.random.Generator, length_s: float, begin_s: float = 0.0) -> list[Sound]:
    """Random speech-like sounds: syllables of consonants and a vowel, in words, with pauses; about ten a second."""
    sounds: list[Sound] = []
    at = begin_s
    while at < begin_s + length_s - 0.15:
        loud = rng.uniform(0.5, 1.0)
        for _ in range(int(rng.integers(1, 4))):  # syllables of a word
            for _ in range(int(rng.integers(0, 3))):
                sounds.append(Sound(_CONSONANTS[rng.integers(len(_CONSONANTS))], at, rng.uniform(0.05, 0.09), loud))
                at += sounds[-1].length_s
            sounds.append(Sound(VOWELS[rng.integers(len(VOWELS))], at, rng.uniform(0.09, 0.2), loud))
            at += sounds[-1].length_s
        if rng.random() < 0.22:
            pause = rng.uniform(0.15, 0.45)
            sounds.append(Sound("rest", at, pause))
            at += pause
    return [sound for sound in sounds if sound.begin_s + sound.length_s <= begin_s + length_s]
