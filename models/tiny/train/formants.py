"""A voice of our own: formants and hiss that follow a list of sounds. Not pretty; its mouth is known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.tiny.renderer.speech import VOWELS, Sound

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# First three resonances in Hz and the voice's strength of every viseme's usual sound; Peterson and Barney's vowels.
_VOICED: dict[str, tuple[tuple[float, float, float], float]] = {
    "ee": ((280.0, 2250.0, 3000.0), 0.9),
    "eh": ((530.0, 1840.0, 2480.0), 1.0),
    "ah": ((740.0, 1180.0, 2500.0), 1.0),
    "uh": ((560.0, 1300.0, 2400.0), 0.8),
    "oh": ((480.0, 880.0, 2400.0), 1.0),
    "oo": ((300.0, 860.0, 2240.0), 0.8),
    "w": ((300.0, 700.0, 2200.0), 0.4),
    "r": ((400.0, 1150.0, 1600.0), 0.5),
    "l": ((360.0, 1300.0, 2700.0), 0.5),
    "pbm": ((250.0, 1000.0, 2200.0), 0.12),
    "tdn": ((260.0, 1700.0, 2600.0), 0.12),
    "th": ((280.0, 1400.0, 2500.0), 0.10),
    "kg": ((280.0, 1900.0, 2400.0), 0.05),
}
# Middle and width in Hz and strength of the hiss.
_HISS: dict[str, tuple[float, float, float]] = {
    "sz": (5600.0, 1500.0, 0.30),
    "sh": (3000.0, 900.0, 0.30),
    "fv": (4000.0, 2600.0, 0.07),
    "th": (4500.0, 2600.0, 0.05),
    "kg": (1900.0, 900.0, 0.06),
    "tdn": (4000.0, 1500.0, 0.05),
}
_EASE_S = 0.022


def _eased(values: Doubles, width: int) -> Doubles:
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def sing(sounds: Sequence[Sound], length_s: float, rng: np.random.Generator, rate_hz: int = 16000) -> Floats:
    """Sound [samples] of a random speaker who makes these sounds; peaks at about 0.5."""
    count, step = round(length_s * rate_hz), 16
    fine = -(-count // step)
    pitch_hz, tract = rng.uniform(85.0, 260.0), rng.uniform(0.88, 1.22)
    tracks = {"f1": np.full(fine, 500.0), "f2": np.full(fine, 1500.0), "f3": np.full(fine, 2500.0)}
    voiced, hiss = np.zeros(fine), np.zeros((fine, 3))
    hiss[:, :2] = 4000.0, 1500.0
    for sound in sounds:
        a, b = (round(t * rate_hz / step) for t in (sound.begin_s, sound.begin_s + sound.length_s))
        if sound.viseme in _VOICED:
            formants, strength = _VOICED[sound.viseme]
            for name, hz in zip(tracks, formants, strict=True):
                tracks[name][a:b] = hz * tract
            voiced[a:b] = strength * sound.loud * (1.0 if sound.viseme in VOWELS or rng.random() < 0.6 else 0.0)
        if sound.viseme in _HISS and rng.random() < 0.9:
            hiss[a:b] = (*_HISS[sound.viseme][:2], _HISS[sound.viseme][2] * sound.loud)
    width = round(_EASE_S * rate_hz / step)

    def spread(values: Doubles) -> Doubles:
        return np.interp(np.arange(count) / step, np.arange(fine) + 0.5, _eased(values, width))

    t = np.arange(count) / rate_hz
    melody = pitch_hz * (1.0 + 0.12 * np.sin(2 * np.pi * rng.uniform(0.3, 1.1) * t + rng.uniform(0, 6)))
    out = _voice(melody, [spread(tracks[name]) for name in tracks], rate_hz) * spread(voiced)
    out += _noise(rng, spread(hiss[:, 0]), spread(hiss[:, 1]), rate_hz) * spread(hiss[:, 2])
    return np.asarray(0.5 * out / max(float(np.abs(out).max()), 0.05)).astype(np.float32)


def _voice(melody: Doubles, formants: list[Doubles], rate_hz: int) -> Doubles:
    phase = 2 * np.pi * np.cumsum(melody) / rate_hz
    out = np.zeros_like(melody)
    for k in range(1, int(0.46 * rate_hz / float(melody.min()))):
        hz = k * melody
        peaks = zip((1.0, 0.5, 0.25), (80.0, 110.0, 160.0), formants, strict=True)
        gain = 0.004 + sum(height / (1.0 + ((hz - centre) / wide) ** 2) for height, wide, centre in peaks)
        out += gain * np.sin(k * phase) * (hz < 0.48 * rate_hz) / np.sqrt(k)
    return out


def _noise(rng: np.random.Generator, centre: Doubles, wide: Doubles, rate_hz: int) -> Doubles:
    """Noise whose band moves: a few fixed bands, weighted by how near they lie."""
    white = np.fft.rfft(rng.normal(size=len(centre)))
    hz = np.fft.rfftfreq(len(centre), 1.0 / rate_hz)
    out = np.zeros_like(centre)
    for middle in (1500.0, 2500.0, 3500.0, 4500.0, 5500.0, 6500.0):
        band = np.fft.irfft(white * np.exp(-(((hz - middle) / 700.0) ** 2)), len(centre))
        out += band / max(float(band.std()), 1e-9) * np.exp(-(((centre - middle) / wide) ** 2))
    return out
