"""encoders: a speech encoder's session, called as its contract says: sound in, vectors out, state carried.

Three ways to call one, all with the same vectors however the sound is cut into pieces:
- a contract with a `chunk` (WeNet's streaming encoder, audio to mouth shapes, HuBERT on a file): calls of that many
  rows, `step_samples` apart, states handed on or zero;
- a `Span`: an encoder of free length (HuBERT, HeyGem's, DUIX's) live, on a stretch of sound around the new vectors;
- neither: the whole sound in one call when it ends, as HeyGem does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from engine.audio.network import EncoderNetwork
from engine.audio.stream import FeatureStream, samples_checked
from engine.audio.tape import Tape
from engine.backends.base import Backend, Session
from engine.errors import InputError, ModelError, explain
from models.contract import Contract

__all__ = ["Encoder", "Loudness", "Span", "loudness_of"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """Vectors of one live call of an encoder of free length: `fresh` new ones, and those around them for context."""

    left: int
    fresh: int
    right: int

    def __post_init__(self) -> None:
        if self.fresh < 1 or self.left < 0 or self.right < 0:
            got = f"{self.left}, {self.fresh}, {self.right}"
            raise InputError(explain("Span", "1 or more fresh vectors, 0 or more beside them", got, "correct it"))


@dataclass(frozen=True)
class Loudness:
    """Mean and variance of a whole sound: what the samples of a file are standardised by."""

    mean: float
    variance: float


def loudness_of(blocks: Iterable[F32]) -> Loudness:
    """Mean and variance over blocks of samples (an AudioSource, or a list of arrays), in one pass."""
    count, total, squares = 0, 0.0, 0.0
    for block in blocks:
        wide = block.astype(np.float64)
        count, total, squares = count + len(wide), total + float(wide.sum()), squares + float(np.square(wide).sum())
    if not count:
        raise InputError(explain("loudness", "sound of some length", "0 samples", "check the sound"))
    mean = total / count
    return Loudness(mean, max(squares / count - mean * mean, 0.0))


class Samples:
    """The rows of a waveform encoder: the samples themselves."""

    vector_shape: tuple[int, ...] = ()

    def push(self, samples: F32) -> F32:
        """The samples."""
        return samples_checked(samples)

    def flush(self) -> F32:
        """Nothing waits for the end."""
        return np.zeros(0, np.float32)

    def reset(self) -> None:
        """Nothing is kept."""

    def rows_of(self, samples: int) -> int:
        """Rows of so many samples."""
        return samples

    def vector_end_samples(self, row: int) -> int:
        """A row is there with its sample."""
        return row + 1


@dataclass(frozen=True)
class Calls:
    """Rows of a call and of the step to the next; the vectors that it gives, and which of them are kept."""

    rows: int
    step_rows: int
    vectors: int
    skip: int
    kept: int


class Encoder:
    """One sound after another to vectors, float32 [vectors, *vector_shape], by calls of one session.

    `loudness` belongs to HuBERT's published use on files, whose samples are standardised over the whole file;
    without it, each call's own are. Memory is of a fixed size, but for a sound that is encoded in one call.
    """

    def __init__(
        self, backend: Backend, session: Session, *, span: Span | None = None, loudness: Loudness | None = None
    ) -> None:
        contract = session.contract
        if contract.audio is None:
            raise ModelError(
                explain(contract.name, "a contract of the role audio_encoder", contract.role, "name another")
            )
        self.contract, self.facts, self.loudness = contract, contract.audio, loudness
        features = self.facts.features
        self._front: Samples | FeatureStream = Samples() if features.kind == "waveform" else FeatureStream(features)
        self.samples_a_vector = _whole(contract, Fraction(features.sample_rate_hz) / Fraction(self.facts.rate_hz))
        hop = 1 if features.kind == "waveform" else features.hop_samples
        self._rows_a_vector = _whole(contract, Fraction(self.samples_a_vector, hop))
        self.calls = self._planned(span, hop)
        # the context in front of a live span's first vectors is silence
        self._silence_front = self.facts.pad_front + self.samples_a_vector * (span.left if span else 0)
        # the vectors of the last frames may stand behind the sound
        self._silence_behind = max(self.facts.pad_behind, self.facts.first_vector * self.samples_a_vector)
        self._network = EncoderNetwork(backend, session, block=self.calls is not None and self.calls.vectors == 1)
        self.vector_shape = self._network.vector_shape
        room = 0 if self.calls is None else self.calls.rows + max(self.calls.step_rows, 4096)
        self._rows = Tape(room, self._front.vector_shape)
        self._whole: list[F32] = []
        self._is_span = span is not None
        self.reset()

    def push(self, samples: F32) -> F32:
        """The vectors that are ready with these samples (mono, -1..1), an array of its own."""
        if not self._samples and len(samples):
            self._take_in(self._front.push(np.zeros(self._silence_front, np.float32)))
        self._samples += len(samples)
        return self._stacked(self._take_in(self._front.push(samples)))

    def flush(self) -> F32:
        """The vectors that waited for the sound's end. The encoder then begins anew."""
        ready: list[F32] = []
        if self._samples:
            ready = self._rest_of_span() if self._is_span else self._rest()
        self.reset()
        return self._stacked(ready)

    def reset(self) -> None:
        """Forget the sound, states too (barge-in): the next sample is the first of another one."""
        self._front.reset()
        self._network.reset()
        self._rows.clear()
        self._whole.clear()
        self._called = self._samples = 0

    def vector_end_samples(self, vector: int) -> int | None:
        """How many samples must have come before this vector is ready; None where it waits for the sound's end."""
        if self.calls is None:
            return None
        rows = vector // self.calls.kept * self.calls.step_rows + self.calls.rows
        return max(1, self._front.vector_end_samples(rows - 1) - self._silence_front)

    def _planned(self, span: Span | None, hop: int) -> Calls | None:
        facts, per = self.facts, self._rows_a_vector
        if span is not None:
            if facts.state or (facts.chunk and facts.tail != "short"):
                raise ModelError(
                    explain(self.contract.name, "no span: its calls are of one length", span, "leave the span out")
                )
            vectors = span.left + span.fresh + span.right
            return Calls(vectors * per + facts.rows_beyond, span.fresh * per, vectors, span.left, span.fresh)
        if not facts.chunk:
            return None
        step_rows = facts.step_samples // hop
        vectors = _whole(self.contract, Fraction(step_rows, per))
        return Calls(facts.chunk, step_rows, vectors, 0, vectors)

    def _take_in(self, rows: F32) -> list[F32]:
        """Keep rows, and make the calls that are complete with them."""
        calls, ready = self.calls, list[F32]()
        if calls is None:
            self._whole.append(np.array(rows))
            return ready
        at = 0
        while at < len(rows):
            step = min(self._rows.room, len(rows) - at)
            self._rows.reserve(step)[...] = rows[at : at + step]
            at += step
            while self._rows.end >= self._start + calls.rows:
                found = self._call(self._rows.view(self._start, self._start + calls.rows), calls.vectors)
                ready.append(found[calls.skip : calls.skip + calls.kept])
                self._called += 1
            self._rows.forget(self._start)
        return ready

    @property
    def _start(self) -> int:
        """The first row of the next call."""
        return self._called * self.calls.step_rows if self.calls is not None else 0

    def _call(self, rows: F32, vectors: int) -> F32:
        if self.facts.features.kind == "waveform":
            rows = self._standardised(rows)
        return self._network.run(rows, vectors)

    def _standardised(self, samples: F32) -> F32:
        wide = samples.astype(np.float64)
        known = self.loudness or Loudness(float(wide.mean()), float(wide.var()))
        wide -= known.mean
        wide /= np.sqrt(known.variance + self.facts.features.variance_floor)
        return wide.astype(np.float32)

    def _rest(self) -> list[F32]:
        """The calls at the sound's end, with the silence behind it."""
        facts, calls = self.facts, self.calls
        ready = self._take_in(self._front.push(np.zeros(self._silence_behind, np.float32)))
        ready += self._take_in(self._front.flush())
        if calls is None:
            rows = np.concatenate(self._whole)
            vectors = (len(rows) - facts.rows_beyond) // self._rows_a_vector
            return [self._network.run(rows, vectors)] if vectors > 0 else []
        left = self._rows.view(min(self._start, self._rows.end), self._rows.end)
        if facts.tail == "short":
            vectors = (len(left) - facts.rows_beyond) // self._rows_a_vector
            return [*ready, self._call(left, vectors)] if vectors > 0 else ready
        uncovered = self._rows.end > self._start - calls.step_rows + calls.rows or not self._called
        if facts.tail == "zeros" and uncovered and self._rows.end:
            filled = np.zeros((calls.rows, *self._front.vector_shape), np.float32)
            filled[: len(left)] = left
            ready.append(self._call(filled, calls.vectors))
        return ready

    def _rest_of_span(self) -> list[F32]:
        """Silence behind the sound, until there are as many vectors as a call of the whole sound would give."""
        calls = self.calls
        if calls is None:
            return []
        samples = self.facts.pad_front + self._samples + self._silence_behind
        total = (self._front.rows_of(samples) - self.facts.rows_beyond) // self._rows_a_vector
        silence = np.zeros(calls.kept * self.samples_a_vector, np.float32)
        ready: list[F32] = []
        while self._called * calls.kept < total:
            ready += self._take_in(self._front.push(silence))
        over = self._called * calls.kept - max(total, 0)
        if over > 0 and ready:
            ready[-1] = ready[-1][: len(ready[-1]) - over]
        return ready

    def _stacked(self, ready: list[F32]) -> F32:
        return np.concatenate(ready) if ready else np.zeros((0, *self.vector_shape), np.float32)


def _whole(contract: Contract, value: Fraction) -> int:
    if value.denominator != 1 or value < 1:
        raise ModelError(
            explain(contract.name, "whole rows and samples a vector", str(value), "correct the audio table's rates")
        )
    return int(value)
