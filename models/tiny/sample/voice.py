"""Speech-like sound that goes with the mouths: syllables drive the mouth and two formants of a buzzing source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE = 48000
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Speech:
    """open 0..1 and wide -1..1 of the mouth, one value a frame; sound [RATE * seconds] in -1..1."""

    open: Doubles
    wide: Doubles
    sound: Doubles


def _spread(values: Doubles, frames: int, count: int) -> Doubles:
    return np.interp(np.arange(count) / count * frames, np.arange(frames) + 0.5, values)


def _harmonics(pitch: Doubles, opened: Doubles, wide: Doubles, tract: float) -> Doubles:
    """A buzz whose harmonics are shaped by two moving resonances."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    first, second = tract * (270 + 560 * opened), tract * (850 + 675 * (wide + 1))
    out = np.zeros_like(pitch)
    for k in range(1, 31):
        f = k * pitch
        gain = 1 / (1 + ((f - first) / 110) ** 2) + 0.55 / (1 + ((f - second) / 160) ** 2) + 0.02
        out += gain * np.sin(k * phase) * (f < 7000) / np.sqrt(k)
    return out


def speech(
    seed: int, frames: int, fps: int, spans_s: list[tuple[float, float]], pitch_hz: float, tract: float
) -> Speech:
    """Syllables inside the given spans (seconds); silence and a shut mouth outside them."""
    rng = np.random.default_rng(seed)
    fine = 8  # steps a frame while shaping syllables
    t = (np.arange(frames * fine) + 0.5) / (fps * fine)
    opened, wide, breath = np.zeros_like(t), np.zeros_like(t), np.zeros_like(t)
    for begin, end in spans_s:
        at = begin
        while at < end - 0.12:
            length = rng.uniform(0.14, 0.28)
            k = (t - at) / length
            bump = np.where((k > 0) & (k < 1), np.sin(np.pi * np.clip(k, 0, 1)) ** 1.3, 0.0)
            opened = np.maximum(opened, rng.uniform(0.3, 0.95) * bump)
            wide += rng.uniform(-0.9, 0.9) * bump
            if rng.random() < 0.4:
                breath = np.maximum(breath, np.where((k > -0.12) & (k < 0.12), 1.0, 0.0))
            at += length * rng.uniform(0.85, 1.1) + (rng.uniform(0.15, 0.35) if rng.random() < 0.14 else 0.0)
    count = frames * RATE // fps
    loud, shape, hiss = (_spread(v, frames * fine, count) for v in (opened, wide, breath))
    melody = pitch_hz * (
        1
        + 0.10 * np.sin(2 * np.pi * 0.7 * np.arange(count) / RATE)
        + 0.05 * np.sin(2 * np.pi * 2.3 * np.arange(count) / RATE)
    )
    voiced = _harmonics(melody, loud, np.clip(shape, -1, 1), tract) * np.clip(loud * 2.5, 0, 1) ** 0.8
    noise = np.diff(rng.normal(0, 1, count + 1)) * hiss * 0.12
    sound = voiced + noise
    opened, wide = (v.reshape(frames, fine).mean(1) for v in (opened, wide))
    return Speech(opened, np.clip(wide, -1, 1), 0.35 * sound / max(float(np.abs(sound).max()), 1e-9))
