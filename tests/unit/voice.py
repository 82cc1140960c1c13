"""Sounds made when a test needs them: vowels by formant synthesis, bursts of noise and pauses, on a quiet floor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["echoing", "noise", "voice"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# First three formants of a, i, u, e and o, in Hz (Peterson and Barney's averages for men).
_FORMANTS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def voice(samples: int, *, seed: int = 0, rate_hz: int = 16000, floor_dbfs: float | None = -66.0) -> F32:
    """About as many vowels as consonants and pauses, around -20 dBFS while it speaks."""
    random = np.random.default_rng(seed)
    sound = np.zeros(samples)
    at = 0
    while at < samples:
        count = min(int(random.integers(rate_hz // 14, rate_hz // 4)), samples - at)
        kind = int(random.integers(0, 4))
        if kind <= 1:
            formants = _FORMANTS_HZ[int(random.integers(0, len(_FORMANTS_HZ)))]
            sound[at : at + count] = _vowel(count, float(random.uniform(90.0, 220.0)), formants, rate_hz)
        elif kind == 2:
            sound[at : at + count] = 0.05 * random.standard_normal(count)
        at += count
    if floor_dbfs is not None:
        sound += noise(samples, floor_dbfs, seed=seed + 1)
    return sound.astype(np.float32)


def _vowel(count: int, pitch_hz: float, formants_hz: tuple[int, ...], rate_hz: int) -> F64:
    time_s = np.arange(count) / rate_hz
    phase = pitch_hz * (time_s - 0.002 * np.cos(2 * np.pi * 5.0 * time_s))
    wave = np.zeros(count)
    for harmonic in range(1, int(0.45 * rate_hz / pitch_hz)):
        hz = harmonic * pitch_hz
        peaks = zip((1.0, 0.5, 0.25), formants_hz, strict=True)
        gain = 0.003 + sum(height / (1.0 + ((hz - centre) / 90.0) ** 2) for height, centre in peaks)
        wave += gain * np.sin(2 * np.pi * harmonic * phase)
    return np.asarray(0.25 * wave * np.sqrt(np.sin(np.pi * np.arange(count) / max(count, 1))))


def noise(samples: int, dbfs: float, *, seed: int = 1) -> F64:
    """White noise of this level."""
    return np.asarray(10.0 ** (dbfs / 20.0) * np.random.default_rng(seed).standard_normal(samples))


def echoing(sound: F32, decay_s: float, *, rate_hz: int = 16000) -> F32:
    """The sound in a room: as much echo as sound, that falls by 60 dB in `decay_s`."""
    count = int(rate_hz * decay_s)
    tail = np.random.default_rng(7).standard_normal(count) * 10.0 ** (-3.0 * np.arange(count) / count)
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] += 1.0
    size = 1 << (len(sound) + count).bit_length()
    heard = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size))[: len(sound)]
    return (0.5 * heard).astype(np.float32)
