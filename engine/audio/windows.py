"""windows: which vectors of features belong to video frame n, and the arrays that a generator takes of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.audio.tape import Tape
from engine.errors import ModelError, explain
from models.contract import Contract
from models.facts import LipsyncFacts

__all__ = ["WindowRule", "WindowStream", "window_rule"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WindowRule:
    """Frame n of a video at `fps` is frame m = floor(n * rate / fps) of the model's own `rate`.

    Its window: `per_frame` * (before + after) vectors, from vector `first_vector` + `per_frame` * (m - before) on.
    Vectors before the first are zeros; `at_end`: so are those behind the last, or the window slides back.
    """

    rate: Fraction
    fps: Fraction
    per_frame: int
    before: int
    after: int
    first_vector: int
    at_end: Literal["zeros", "slide"]

    @property
    def count(self) -> int:
        """Vectors in a window."""
        return self.per_frame * (self.before + self.after)

    def first(self, frame: int) -> int:
        """The number of the window's first vector; below 0 where the window begins before the sound."""
        model_frame = frame * self.rate // self.fps
        return self.first_vector + self.per_frame * (int(model_frame) - self.before)

    def whole(self, vectors: int) -> int:
        """Those of so many vectors that make whole frames of the model: a last frame's half is left out."""
        return vectors - vectors % self.per_frame

    def first_at_end(self, frame: int, vectors: int) -> int:
        """As `first`, for a sound that ended after `vectors`."""
        slid = max(0, self.whole(vectors) - self.count)
        return min(self.first(frame), slid) if self.at_end == "slide" else self.first(frame)


def window_rule(generator: Contract, encoder: Contract | None, fps: Fraction) -> WindowRule:
    """The rule of a generator for the vectors of this encoder (None: bands go in directly); raises ModelError."""
    facts = generator.lipsync
    if facts is None:
        raise ModelError(explain(generator.name, "a generator of the role lipsync", generator.role, "name another"))
    if encoder is None:
        rate, first_vector = _rate_of_rows(generator, facts), 0
        model_rate = rate
    else:
        if encoder.audio is None or encoder.name not in facts.encoders:
            wanted = " or ".join(facts.encoders) or "no encoder"
            raise ModelError(explain(generator.name, f"vectors of {wanted}", encoder.name, "name one of them"))
        rate, first_vector = Fraction(encoder.audio.rate_hz), encoder.audio.first_vector
        model_rate = Fraction(facts.frame_rate_hz) or rate
    per_frame = rate / model_rate
    if per_frame.denominator != 1:
        raise ModelError(
            explain(generator.name, "a whole number of vectors a frame", per_frame, "correct the contracts' rates")
        )
    # a generator without a window takes the frame's own vector
    after = facts.after or (1 if not facts.before else 0)
    return WindowRule(model_rate, fps, int(per_frame), facts.before, after, first_vector, facts.at_end)


def _rate_of_rows(generator: Contract, facts: LipsyncFacts) -> Fraction:
    if facts.features is None:
        wanted = " or ".join(facts.encoders) or "an encoder for which there is no contract"
        raise ModelError(explain(generator.name, f"vectors of {wanted}", "none", "name an encoder"))
    return Fraction(facts.features.sample_rate_hz, facts.features.hop_samples)


class WindowStream:
    """Vectors as they come, to one array for each video frame, in order, none left out.

    `shape` is that of one frame's array: the window as it is, its last two axes swapped, or the same values in
    another shape, whichever fits the window's own (vectors, *vector_shape).
    """

    def __init__(self, rule: WindowRule, vector_shape: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self.rule, self.vector_shape, self.shape = rule, vector_shape, shape
        window = (rule.count, *vector_shape)
        self._swap = len(window) == 2 and shape[-2:] == window[::-1] and window[0] != window[1]
        if np.prod(shape) != np.prod(window):
            raise ModelError(
                explain("audio window", f"{list(window)} values for {list(shape)}", "another number", "see contracts")
            )
        self._vectors = Tape(2 * rule.count + rule.per_frame + 64, vector_shape)
        self._window = np.zeros(window, np.float32)
        self._frame = 0

    def push(self, vectors: F32, until: int | None = None) -> F32:
        """The frames before `until` whose windows are whole with these vectors, float32 [frames, *shape], a copy."""
        ready: list[F32] = []
        at = 0
        while at < len(vectors):
            step = min(self._vectors.room, len(vectors) - at)
            self._vectors.reserve(step)[...] = vectors[at : at + step]
            at += step
            while until is None or self._frame < until:
                if self.rule.first(self._frame) + self.rule.count > self._vectors.end:
                    break
                ready.append(self._next(self.rule.first(self._frame), self._vectors.end))
            slid = self._vectors.end - self.rule.count - self.rule.per_frame  # where a window at the end may begin
            self._vectors.forget(min(self.rule.first(self._frame), slid))
        return self._stacked(ready)

    def flush(self, frames: int) -> F32:
        """The frames up to `frames` whose windows pass the sound's end. The stream then begins anew."""
        total = self._vectors.end
        ready = [
            self._next(self.rule.first_at_end(frame, total), self.rule.whole(total))
            for frame in range(self._frame, frames)
        ]
        self.reset()
        return self._stacked(ready)

    def reset(self) -> None:
        """Forget the sound: the next vector is the first of another one, the next frame is frame 0."""
        self._vectors.clear()
        self._frame = 0

    def _next(self, first: int, end: int) -> F32:
        """The next frame's array: vectors from `first` on; where there are none, zeros, or the last one again."""
        window, known, upto = self._window, max(first, 0), min(first + self.rule.count, end)
        window[...] = 0.0
        if upto > known:
            window[known - first : upto - first] = self._vectors.view(known, upto)
            if self.rule.at_end == "slide":
                window[upto - first :] = window[upto - first - 1]
        self._frame += 1
        return np.array(window.T if self._swap else window).reshape(self.shape)

    def _stacked(self, ready: list[F32]) -> F32:
        return np.stack(ready) if ready else np.zeros((0, *self.shape), np.float32)
