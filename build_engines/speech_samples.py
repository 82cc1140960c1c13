"""Inputs for what makes a mouth: real faces for the generator's pictures; in place of speech, noise like it.

Features of real speech are made by the engine's own ear, which is no part of a build. Noise of the same range shows
what rounding does to a network, so it serves FP16; ranges for INT8 would be those of noise, so that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from build_engines.flavour import BuildError
from build_engines.judge import Precision
from build_engines.samples import Inputs, Samples
from kernels.compile import HostTensor
from kernels.launch import PLACE_FLOATS, Values, mouth_crop_into
from models.contract import Contract
from models.facts import FeatureFacts
from models.model_files import ModelFile
from models.spec import Spec
from profiles.profile import Profile

__all__ = ["SPEECH_ROLES", "SpeechSamples", "speech_axes"]

F32 = npt.NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
SPEECH_ROLES = ("lipsync", "encoder")
_SPREAD = 0.5  # of an encoder's vectors, about what HuBERT's and WeNet's have


def speech_axes(role: str, contract: Contract, profile: Profile) -> dict[str, int]:
    """Sizes of the named axes other than the batch, as the runtime calls the model.

    Raises BuildError for an encoder that is called on a whole sound, whose length nobody knows, and for one with
    inputs of another type than float32, which plans don't take.
    """
    free = {axis for spec in contract.inputs.values() for axis in spec.shape if isinstance(axis, str)} - {"n"}
    if role == "lipsync":
        facts = contract.lipsync
        count = 0 if facts is None else facts.before + facts.after
        return dict.fromkeys(free, count)
    where = f"{contract.name} in profile {profile.name}"
    others = [
        name for name, spec in contract.inputs.items() if spec.dtype != "float32" and name not in contract.constants
    ]
    if others:
        raise BuildError(
            f"{where}: wanted float32 inputs for a plan, got {contract.inputs[others[0]].dtype} {others[0]}; "
            'run it with session = "onnxruntime-cuda"'
        )
    return dict.fromkeys(free, _rows_of_call(contract, profile, where))


def _rows_of_call(contract: Contract, profile: Profile, where: str) -> int:
    audio = contract.audio
    if audio is None:
        raise BuildError(f"{where}: wanted a speech encoder, got a {contract.role}; correct models.encoder")
    span = profile.lipsync.span
    if any(span):
        hop = 1 if audio.features.kind == "waveform" else audio.features.hop_samples
        per = Fraction(audio.features.sample_rate_hz) / Fraction(audio.rate_hz) / hop
        return int(sum(span) * per) + audio.rows_beyond
    if not audio.chunk or audio.tail == "short":
        raise BuildError(
            f"{where}: wanted calls of one length, got one for the whole sound; set lipsync.span to vectors before, "
            "new and after"
        )
    return audio.chunk


class SpeechSamples:
    """Feeds of one generator or encoder in these shapes, batch 1, by the contract's names.

    The pictures of a generator are the mouths of `samples`' faces, each in a square from the nose to below the chin.
    Raises BuildError for INT8.
    """

    apart = True

    def __init__(
        self, role: str, file: ModelFile, shapes: Shapes, precision: Precision, samples: Samples, count: int = 16
    ) -> None:
        contract = file.contract
        if precision == "int8":
            raise BuildError(
                f"{contract.name}: wanted speech to find the ranges of INT8 on, got noise in its place; use "
                "--precision fp16"
            )
        self._contract = contract
        self._shapes = {name: (1, *shape[1:]) if "n" in contract.inputs[name].shape[:1] else shape
                        for name, shape in shapes.items()}  # fmt: skip
        self._pictures = self._mouths(samples, 2 * count) if role == "lipsync" else [{} for _ in range(2 * count)]

    def inputs(self, role: str) -> Inputs:
        """Feeds to verify on."""
        return [self._feed(number) for number in range(0, len(self._pictures), 2)]

    def calibration(self, role: str) -> Inputs:
        """Others."""
        return [self._feed(number) for number in range(1, len(self._pictures), 2)]

    def _feed(self, number: int) -> dict[str, F32]:
        random, contract = np.random.default_rng(number), self._contract
        feed = dict(self._pictures[number])
        for name, spec in contract.inputs.items():
            if name in contract.constants:
                feed[name] = np.full(self._shapes[name], contract.constants[name], spec.dtype)
            elif name not in feed:
                feed[name] = self._like_speech(random, name)
        return feed

    def _like_speech(self, random: np.random.Generator, name: str) -> F32:
        """Noise of the range that this input's values have; a state is that of a sound's beginning."""
        contract, shape = self._contract, self._shapes[name]
        audio = contract.audio
        if audio is not None and name in audio.state.values():
            return np.zeros(shape, np.float32)
        features = audio.features if audio is not None else contract.lipsync.features if contract.lipsync else None
        noise = random.normal(0.0, 1.0, shape)
        return np.asarray(noise * _SPREAD if features is None else _of_features(features, noise), np.float32)

    def _mouths(self, samples: Samples, count: int) -> list[dict[str, F32]]:
        faces = samples.faces()
        facts = self._contract.lipsync
        if not faces or facts is None:
            raise BuildError("samples: wanted faces in the clip, got none; name a clip that shows some")
        found = []
        for number in range(count):
            view, points = faces[number % len(faces)]
            feed = {}
            for name, spec in self._contract.inputs.items():
                if spec.colour:
                    feed[name] = self._stacked(samples, view, points, name, spec)
            found.append(feed)
        return found

    def _stacked(self, samples: Samples, view: object, points: F32, name: str, spec: Spec) -> F32:
        """Every picture of an input is the same mouth; those that hide what is drawn have it black."""
        facts = self._contract.lipsync
        assert facts is not None  # _mouths looked
        _, channels, height, width = self._shapes[name]
        values = Values(spec.mean_by_channel, spec.std_by_channel, spec.colour or "rgb")
        pictures = []
        for held in facts.stack.get(name, ("masked" if name == "source" else "picture",) * (channels // 3)):
            out = HostTensor(np.zeros((1, 3, height, width), np.float32))
            blank = facts.blank_xywh_px if held == "masked" else (0, 0, 0, 0)
            mouth_crop_into(
                samples.target, view, _place(points, width), masked=out, crop_px=(width, height),  # type: ignore[arg-type]
                blank_xywh_px=blank, values=values,
            )  # fmt: skip
            pictures.append(out.array)
        return np.concatenate(pictures, axis=1)[:, :channels]


def _of_features(features: FeatureFacts, noise: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Standard noise at the level and spread of these features."""
    if features.kind == "waveform":
        return noise
    if features.clip:
        return np.asarray(np.clip(noise * features.clip / 2, -features.clip, features.clip))
    if features.kind == "kaldi_fbank":  # natural logarithms of powers of samples up to `peak`
        return np.asarray(noise * 3.0 + 2 * np.log(features.peak) - 5.0)
    return np.asarray(noise * features.log_scale + features.log_offset)


def _place(points: F32, width: int) -> HostTensor:
    left, right, nose, *mouth = points
    side = 2.2 * float(np.hypot(*(right - left)))
    x, y = float(np.mean([one[0] for one in mouth])) - side / 2, float(nose[1]) - 0.1 * side
    scale = side / width
    values = np.zeros(PLACE_FLOATS, np.float32)
    values[:6] = (scale, 0, x + 0.5 * scale - 0.5, 0, scale, y + 0.5 * scale - 0.5)
    return HostTensor(values)
