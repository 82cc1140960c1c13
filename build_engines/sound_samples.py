"""Real inputs for networks that listen to sound itself: windows of a user's recording, standardised as published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.flavour import BuildError
from build_engines.media import read_sound
from build_engines.samples import Inputs
from models.model_files import ModelFile

__all__ = ["SoundSamples"]

F32 = npt.NDArray[np.float32]


class SoundSamples:
    """Windows of `samples` samples, spread evenly over a recording: `count` to verify on, others to calibrate on.

    Any file whose sound PyAV decodes, a .wav for one. Raises BuildError for one without sound or too short, and for
    a model whose input is not sound but features of it: those are made elsewhere.
    """

    apart = True

    def __init__(self, path: Path, file: ModelFile, *, samples: int, count: int = 32) -> None:
        contract = file.contract
        kind = contract.audio.features.kind if contract.audio else "no sound"
        if contract.audio is None or kind != "waveform":
            raise BuildError(
                f"{contract.name}: wanted a model that takes sound as a waveform, got one that takes {kind}; "
                "calibrate it on features that its front end made"
            )
        [self._name] = contract.inputs
        sound = read_sound(path, contract.audio.features.sample_rate_hz)
        if sound.size < samples:
            raise BuildError(f"{path}: wanted {samples} samples of sound or more, got {sound.size}; name a longer one")
        starts = np.linspace(0, sound.size - samples, 2 * count).astype(np.int64)
        self._windows = [_standard(sound[start : start + samples]) for start in starts]

    def inputs(self, role: str) -> Inputs:
        """Feeds by the contract's input name, batch 1, to verify on."""
        return [{self._name: window[None]} for window in self._windows[0::2]]

    def calibration(self, role: str) -> Inputs:
        """The windows between those; they overlap where the recording is short."""
        return [{self._name: window[None]} for window in self._windows[1::2]]


def _standard(window: F32) -> F32:
    """Mean 0 and variance 1; 1e-7 is what the published front end adds to the variance."""
    return np.asarray((window - window.mean()) / np.sqrt(window.var() + 1e-7), dtype=np.float32)
