"""mel: frames of sound to rows of mel bands, by the numbers of a contract.

Two families: Kaldi's filter bank, which cleans each frame by itself and whose triangles stand on the mel scale
1127 ln(1 + f / 700); and the one of librosa (Slaney's scale, triangles of equal area), for sound that was
pre-emphasised as a whole. Work is done in float64, with the same operations for a row whatever the number of rows:
a row does not depend on its neighbours, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engine.errors import ModelError, explain
from models.facts import FeatureFacts

__all__ = ["MelRows", "mel_bank"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Slaney's scale: linear up to 1000 Hz, 15 mel there; above, a factor of 6.4 in 27 mel.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ_PER_MEL
_MEL_PER_E = 27.0 / np.log(6.4)


class MelRows:
    """Rows of mel bands of frames [rows, window_samples]; workspace for `block_rows` of them."""

    def __init__(self, facts: FeatureFacts, block_rows: int = 64) -> None:
        _refuse_what_we_cannot(facts)
        self.facts, self.block_rows = facts, block_rows
        self._window = _window(facts)
        self._weights, self._points, self._starts = _sparse(mel_bank(facts))
        self.frames: F64 = np.zeros((block_rows, facts.window_samples))
        self._before = np.zeros((block_rows, facts.window_samples))
        self._power = np.zeros((block_rows, facts.fft // 2 + 1))
        self._terms = np.zeros((block_rows, len(self._weights)))
        self._bands = np.zeros((block_rows, facts.bins))

    def rows_into(self, count: int, rows: F32) -> None:
        """Rows [count, bins] of the first `count` of `self.frames`, which are overwritten; count <= block_rows."""
        facts, frames, bands = self.facts, self.frames[:count], self._bands[:count]
        if facts.kind == "kaldi_fbank":
            frames -= frames.mean(axis=1, keepdims=True)
            # the first sample stands for its own predecessor
            before = self._before[:count]
            before[:, 0], before[:, 1:] = frames[:, 0], frames[:, :-1]
            before *= facts.preemphasis
            frames -= before
        frames *= self._window
        self._power_into(np.fft.rfft(frames, facts.fft, axis=1), self._power[:count])
        terms = self._terms[:count]
        np.take(self._power[:count], self._points, axis=1, out=terms, mode="clip")
        terms *= self._weights
        np.add.reduceat(terms, self._starts, axis=1, out=bands)
        self._log(bands)
        rows[...] = bands

    def _power_into(self, spectrum: npt.NDArray[np.complex128], power: F64) -> None:
        np.square(spectrum.real, out=power)
        power += np.square(spectrum.imag)
        if self.facts.power == 1:
            np.sqrt(power, out=power)

    def _log(self, bands: F64) -> None:
        facts = self.facts
        if facts.floor == "added":
            bands += facts.log_floor
        else:
            np.maximum(bands, facts.log_floor, out=bands)
        (np.log if facts.kind == "kaldi_fbank" else np.log10)(bands, out=bands)
        bands *= facts.log_scale
        bands += facts.log_offset
        bands *= facts.scale
        bands += facts.shift
        if facts.clip:
            np.clip(bands, -facts.clip, facts.clip, out=bands)


def _refuse_what_we_cannot(facts: FeatureFacts) -> None:
    where = f"features {facts.kind}"
    if facts.kind == "waveform":
        raise ModelError(explain(where, "kaldi_fbank or log_mel", facts.kind, "hand the samples over as they are"))
    if facts.dither:
        raise ModelError(
            explain(where, "no dither, so that the same sound gives the same features", facts.dither, "set it to 0")
        )
    if facts.below_peak:
        raise ModelError(
            explain(where, "rows that depend on the sound near them", "below_peak", "encode whole files elsewhere")
        )
    if facts.fft < facts.window_samples or facts.bins < 1 or facts.floor == "" or facts.edges == "":
        raise ModelError(
            explain(where, "bins, floor, edges and an fft no shorter than the window", facts, "complete the contract")
        )


def _window(facts: FeatureFacts) -> F64:
    """Kaldi's povey window is symmetric; librosa's hann is periodic, its last point left out."""
    n = np.arange(facts.window_samples)
    if facts.window == "povey":
        return np.asarray((0.5 - 0.5 * np.cos(2 * np.pi * n / (facts.window_samples - 1))) ** 0.85)
    if facts.window == "hann":
        return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * n / facts.window_samples))
    raise ModelError(explain(f"features {facts.kind}", "a window of povey or hann", facts.window or "none", "name it"))


def mel_bank(facts: FeatureFacts) -> F64:
    """Weights [bins, fft / 2 + 1] of the mel bands of a contract."""
    hz = np.arange(facts.fft // 2 + 1, dtype=np.float64) * (facts.sample_rate_hz / facts.fft)
    if facts.kind == "kaldi_fbank":
        return _triangles(_kaldi_mel(hz), _edges(facts, _kaldi_mel), above_nyquist=facts.fft // 2)
    edges_hz = _slaney_hz(_edges(facts, _slaney_mel))
    weights = _triangles(hz, edges_hz, above_nyquist=facts.fft // 2 + 1)
    return np.asarray(weights * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None])


def _edges(facts: FeatureFacts, scale: Callable[[F64], F64]) -> F64:
    """The bands' edges, bins + 2 of them, even on the mel scale."""
    low, high = scale(np.array([facts.low_hz, facts.high_hz]))
    return np.asarray(np.linspace(low, high, facts.bins + 2, dtype=np.float64), np.float64)


def _triangles(points: F64, edges: F64, *, above_nyquist: int) -> F64:
    """Each band rises from one edge to the next and falls to the one after; Kaldi leaves out Nyquist's point."""
    width = np.diff(edges)
    rising = (points - edges[:-2, None]) / width[:-1, None]
    falling = (edges[2:, None] - points) / width[1:, None]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[:, above_nyquist:] = 0.0
    return np.asarray(weights)


def _kaldi_mel(hz: F64) -> F64:
    return np.asarray(1127.0 * np.log(1.0 + hz / 700.0))


def _slaney_mel(hz: F64) -> F64:
    high = _KNEE_MEL + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) * _MEL_PER_E
    return np.asarray(np.where(hz < _KNEE_HZ, hz / _LINEAR_HZ_PER_MEL, high))


def _slaney_hz(mel: F64) -> F64:
    high = _KNEE_HZ * np.exp((mel - _KNEE_MEL) / _MEL_PER_E)
    return np.asarray(np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ_PER_MEL, high))


def _sparse(bank: F64) -> tuple[F64, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The weights that are not 0, band after band; the spectrum's point of each; where each band begins.

    A sum over them costs what the bands cover, and its order does not depend on the number of rows, as a matrix
    product's may. A band between two points of the spectrum keeps one weight of 0.
    """
    points = [np.flatnonzero(band) if band.any() else np.zeros(1, np.intp) for band in bank]
    weights = [band[found] for band, found in zip(bank, points, strict=True)]
    starts = np.cumsum([0, *map(len, points[:-1])]).astype(np.intp)
    return np.concatenate(weights), np.concatenate(points), starts
