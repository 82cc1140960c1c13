"""Mel bands by a contract's numbers, in a few lines of NumPy: what the training hears is what the runtime computes."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from models.facts import FeatureFacts
from models.tiny.train import mouths

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def facts() -> FeatureFacts:
    """The features of the tiny lip-sync generator."""
    features = mouths.facts().features
    if features is None:
        raise ValueError("tiny_lipsync: wanted features in its contract, got none; restore the table")
    return features


def _mel(hz: Doubles) -> Doubles:
    """Slaney's scale: linear to 1000 Hz, then 27 steps a factor of 6.4."""
    return np.where(hz < 1000.0, hz * 0.015, 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4))


@functools.cache
def _bank(own: FeatureFacts) -> Doubles:
    """Triangles of equal area [bins, fft / 2 + 1]."""
    grid = np.linspace(0.0, own.sample_rate_hz / 2, 20 * own.fft)
    low, high = _mel(np.array([own.low_hz, own.high_hz]))
    edges = np.interp(np.linspace(low, high, own.bins + 2), _mel(grid), grid)
    hz = np.arange(own.fft // 2 + 1) * own.sample_rate_hz / own.fft
    rise = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.clip(np.minimum(rise, fall), 0.0, None) * (2.0 / (edges[2:] - edges[:-2]))[:, None])


def columns(sound: Floats) -> Floats:
    """Bands [n, bins], one column a hop, of a sound [samples] in -1..1; mirrored at both ends."""
    own = facts()
    wave = sound.astype(np.float64) * own.peak
    wave[1:] -= own.preemphasis * wave[:-1].copy()
    padded = np.pad(wave, own.fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, own.fft)[:: own.hop_samples]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(own.fft) / own.fft)
    bands = np.abs(np.fft.rfft(frames * window, axis=1)) @ _bank(own).T
    level = own.log_scale * np.log10(np.maximum(bands, own.log_floor)) + own.log_offset
    return np.clip(level * own.scale + own.shift, -own.clip, own.clip).astype(np.float32)
