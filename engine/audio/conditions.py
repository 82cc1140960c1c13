"""conditions: sound in, and for each video frame, in order, the array that the generator's audio input takes."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import numpy as np
import numpy.typing as npt

from engine.audio.clock import AudioClock
from engine.audio.encoders import Encoder
from engine.audio.stream import FeatureStream
from engine.audio.windows import WindowStream, window_rule
from engine.errors import ModelError, explain
from models.contract import Contract
from models.facts import FeatureFacts

__all__ = ["Conditions"]

F32 = npt.NDArray[np.float32]


class Conditions:
    """The front end of one generator, for a video at `fps`, behind `encoder` (None: mel bands go in directly).

    `name` is the generator's input that takes the arrays, `shape` theirs (without the batch). A generator that sees
    the speech as a picture drawn from the encoder's values gets those values.
    """

    def __init__(self, generator: Contract, fps: Fraction, *, encoder: Encoder | None = None) -> None:
        self.rule = window_rule(generator, None if encoder is None else encoder.contract, fps)
        self.source: Encoder | FeatureStream = (
            encoder if encoder is not None else FeatureStream(_features_of(generator))
        )
        features = encoder.facts.features if encoder is not None else _features_of(generator)
        self.clock = AudioClock(features.sample_rate_hz, fps)
        self.name = generator.lipsync.driven_by[0] if generator.lipsync is not None else ""
        self.shape = self.source.vector_shape
        if self.rule.count > 1:
            spec = generator.inputs[self.name]
            self.shape = tuple(self.rule.count if isinstance(axis, str) else axis for axis in spec.shape[1:])
        self._windows = WindowStream(self.rule, self.source.vector_shape, self.shape)
        self._samples = 0

    @property
    def rate_hz(self) -> int:
        """The rate of the samples that `push` takes."""
        return self.clock.rate_hz

    @property
    def look_ahead_ms(self) -> float | None:
        """Sound behind a frame's instant that its array waits for, at most; None where it waits for the end."""
        rule, source = self.rule, self.source
        if isinstance(source, Encoder):
            kept, step = source.calls.kept if source.calls is not None else 1, source.samples_a_vector
        else:
            kept, step = 1, source.facts.hop_samples
        # a window's last vector may be the first of those that one call gives: then the wait is the longest
        last = rule.first_vector + rule.per_frame * rule.after - 1
        last -= last % gcd(rule.per_frame, kept)
        far = 1000 * kept  # where the sound's beginning plays no part
        end = source.vector_end_samples(far)
        return None if end is None else 1000.0 * (end + (last - far) * step) / self.rate_hz

    def push(self, samples: F32) -> F32:
        """The arrays of the frames that are ready with these samples (mono, -1..1), float32 [frames, *shape]."""
        self._samples += len(samples)
        return self._windows.push(self.source.push(samples))

    def flush(self) -> F32:
        """The arrays of the frames left, up to the last that begins within the sound. All then begins anew."""
        frames = self.clock.frame_count(self._samples)
        ready = self._windows.push(self.source.flush(), frames)
        rest = self._windows.flush(frames)
        self._samples = 0
        return np.concatenate([ready, rest])

    def reset(self) -> None:
        """Forget the sound (barge-in): the next sample is the first of another one, and of frame 0."""
        self.source.reset()
        self._windows.reset()
        self._samples = 0


def _features_of(generator: Contract) -> FeatureFacts:
    if generator.lipsync is None or generator.lipsync.features is None:
        raise ModelError(explain(generator.name, "mel bands as its input", "an encoder's vectors", "name an encoder"))
    return generator.lipsync.features
