"""host_sound: what a host pushes, of any rate, layout and sample type, to float32 of one rate and layout."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from engine.audio.pcm import LAYOUTS, RATES_HZ, Resampler, sound_array
from engine.errors import InputError, explain

__all__ = ["HostSound"]

F32 = npt.NDArray[np.float32]

_SCALES = {"int16": 2.0**15, "int32": 2.0**31}


class HostSound:
    """Pieces in any form to float32 [samples, channels], -1..1; those that have the form already keep their values.

    `not_finite`: samples of all channels, as they came, that were no numbers in float32 and became 0.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        if channels not in LAYOUTS or not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
            wanted = f"{RATES_HZ[0]} to {RATES_HZ[1]} Hz and 1 to 8 channels"
            raise InputError(explain("open_lipsync", wanted, f"{rate_hz} Hz, {channels} channels", "correct them"))
        self.rate_hz, self.channels, self.not_finite = rate_hz, channels, 0
        self._form = (rate_hz, channels)
        self._resampler = Resampler(rate_hz, layout=LAYOUTS[channels])

    def convert(self, pcm: npt.NDArray[Any], rate_hz: int, channels: int) -> F32:
        """What comes out by this piece; raises InputError, with nothing changed, for a form that it can't be."""
        samples, not_finite = _floats(_checked(pcm, rate_hz, channels))
        self.not_finite += not_finite
        ready = []
        if (rate_hz, channels) != self._form:
            ready.append(self.flush())
            self._form = (rate_hz, channels)
        if self._form == (self.rate_hz, self.channels):
            return np.concatenate([*ready, samples]) if ready else samples
        return np.concatenate([*ready, self._resampled(samples)])

    def flush(self) -> F32:
        """The end of a sound that was converted: what the resampler still holds."""
        return self._resampler.flush().reshape(-1, self.channels)

    def reset(self) -> None:
        """Forget the sound."""
        self._resampler.reset()

    def _resampled(self, samples: F32) -> F32:
        if not len(samples):
            return np.zeros((0, self.channels), np.float32)
        rate_hz, channels = self._form
        packed = np.ascontiguousarray(samples).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=LAYOUTS[channels])
        frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
        return self._resampler.push(frame).reshape(-1, self.channels)


def _checked(pcm: object, rate_hz: object, channels: int) -> npt.NDArray[Any]:
    """The piece as [samples, channels]."""
    if channels not in LAYOUTS:
        raise InputError(explain("LipSync.push", "1 to 8 channels", channels, "mix them down first"))
    if not isinstance(rate_hz, int | np.integer) or not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        wanted = f"a rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz, a whole number"
        raise InputError(explain("LipSync.push", wanted, repr(rate_hz), "resample it first"))
    return sound_array("LipSync.push", pcm, channels, (*_SCALES, *_FLOATS), "convert the array, or name its channels")


_FLOATS = ("uint8", "float32", "float64")


def _floats(array: npt.NDArray[Any]) -> tuple[F32, int]:
    """A copy as float32, -1..1; what is no number becomes 0, and is counted."""
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128.0) / 128.0, 0
    if scale := _SCALES.get(array.dtype.name):
        return np.asarray(array / scale, np.float32), 0
    with np.errstate(over="ignore", invalid="ignore"):  # of float64, what is too large becomes infinite here
        samples = array.astype(np.float32)
    finite = np.isfinite(samples)
    samples[~finite] = 0.0
    return samples, int(np.count_nonzero(~finite))
