"""stream: sound in pieces of any size to rows of features, the same rows as for the whole sound at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.audio.mel import MelRows
from engine.audio.tape import Tape
from engine.errors import InputError, explain
from models.facts import FeatureFacts

__all__ = ["FeatureStream", "Framing", "features_of", "samples_checked"]

F32 = npt.NDArray[np.float32]

_BLOCK_SAMPLES = 4096  # pieces that a longer push is cut into
_HELD_ROWS = 64  # rows that the lasting output holds: more than a block gives


@dataclass(frozen=True)
class Framing:
    """Which samples a row is made of: row r of `window` samples from r * hop - lead on.

    Samples before the first and behind the last are mirrored there; `repeats_edge`: the outermost sample is
    mirrored too (Kaldi), or is the mirror (librosa). `snips`: only rows that need no mirror.
    """

    hop: int
    window: int
    lead: int
    snips: bool
    repeats_edge: bool

    @classmethod
    def of(cls, facts: FeatureFacts) -> Framing:
        """The framing of a contract's features."""
        kaldi, snips = facts.kind == "kaldi_fbank", facts.edges == "snip"
        if snips:
            lead = 0
        elif kaldi:  # the middle of a row's window is the middle of its hop
            lead = facts.window_samples // 2 - facts.hop_samples // 2
        else:  # the window stands in the middle of the fft, whose middle is the row's instant
            lead = facts.fft // 2 - (facts.fft - facts.window_samples) // 2
        return cls(facts.hop_samples, facts.window_samples, lead, snips, kaldi)

    def rows_ready(self, samples: int) -> int:
        """Rows that more sound behind these samples would not change."""
        if samples < self.samples_for(0):
            return 0
        return max(0, (samples + self.lead - self.window) // self.hop + 1)

    def rows_of(self, samples: int) -> int:
        """Rows of a sound that ends after these samples."""
        if samples == 0:
            return 0
        if self.snips:
            return max(0, (samples - self.window) // self.hop + 1)
        if self.repeats_edge:
            return (samples + self.hop // 2) // self.hop
        return samples // self.hop + 1

    def samples_for(self, row: int) -> int:
        """How many samples must have come before this row, and those before it, are ready."""
        mirrored = self.lead + (not self.repeats_edge) if self.lead else 0
        return max(row * self.hop - self.lead + self.window, mirrored)

    def mirrored(self, numbers: npt.NDArray[np.int64], samples: int) -> npt.NDArray[np.int64]:
        """The samples of 0 to `samples` that stand for these numbers, mirrored at both ends as often as it takes."""
        if self.repeats_edge:
            folded = numbers % (2 * samples)
            return np.where(folded < samples, folded, 2 * samples - 1 - folded)
        if samples == 1:
            return np.zeros_like(numbers)
        folded = numbers % (2 * samples - 2)
        return np.where(folded < samples, folded, 2 * samples - 2 - folded)


class FeatureStream:
    """One sound after another to rows of features, float32 [rows, bins].

    Memory is of a fixed size; only a push of more than about half a second gives rows in an array of its own.
    """

    def __init__(self, facts: FeatureFacts) -> None:
        self.facts, self.framing = facts, Framing.of(facts)
        self._mel = MelRows(facts)
        # at the end, rows mirror up to a window that lies before the samples of the next row
        self._sound = Tape(2 * facts.window_samples + facts.hop_samples + _BLOCK_SAMPLES, dtype=np.float64)
        self._rows = np.zeros((_HELD_ROWS, facts.bins), np.float32)
        self._last_sample = 0.0
        self._done = 0

    @property
    def vector_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return (self.facts.bins,)

    @property
    def look_ahead_ms(self) -> float:
        """Sound behind a row's own instant (row * hop) that the row needs."""
        return 1000.0 * (self.framing.window - self.framing.lead) / self.facts.sample_rate_hz

    def push(self, samples: F32) -> F32:
        """The rows that are ready with these samples (mono, -1..1); valid until the next call."""
        samples = samples_checked(samples)
        ready = self.framing.rows_ready(self._sound.end + len(samples))
        rows = self._room_for(ready - self._done)
        first = self._done
        for at in range(0, len(samples), _BLOCK_SAMPLES):
            self._take_in(samples[at : at + _BLOCK_SAMPLES])
            upto = self.framing.rows_ready(self._sound.end)
            self._make(upto, rows[self._done - first : upto - first])
        return rows

    def flush(self) -> F32:
        """The rows that waited for the sound's end; valid until the next call. The stream then begins anew."""
        rows = self._room_for(self.framing.rows_of(self._sound.end) - self._done)
        self._make(self._done + len(rows), rows)
        self.reset()
        return rows

    def reset(self) -> None:
        """Forget the sound: the next sample is the first of another one."""
        self._sound.clear()
        self._last_sample, self._done = 0.0, 0

    def rows_of(self, samples: int) -> int:
        """Rows of a sound that ends after these samples."""
        return self.framing.rows_of(samples)

    def vector_end_samples(self, row: int) -> int:
        """How many samples must have come before this row is ready."""
        return self.framing.samples_for(row)

    def _room_for(self, count: int) -> F32:
        return self._rows[:count] if count <= len(self._rows) else np.zeros((count, self.facts.bins), np.float32)

    def _take_in(self, samples: F32) -> None:
        place = self._sound.reserve(len(samples))
        np.multiply(samples, self.facts.peak, out=place, dtype=np.float64)
        # Kaldi emphasises frame by frame, the others the sound as a whole
        if self.facts.kind == "log_mel" and self.facts.preemphasis and len(place):
            last = float(place[-1])
            place[1:] -= self.facts.preemphasis * place[:-1]
            place[0] -= self.facts.preemphasis * self._last_sample
            self._last_sample = last

    def _make(self, upto: int, rows: F32) -> None:
        """Rows from the first that is not done to `upto`."""
        at = 0
        while at < len(rows):
            count = min(len(rows) - at, self._mel.block_rows)
            for n in range(count):
                self._frame_into(self._done + n, self._mel.frames[n])
            self._mel.rows_into(count, rows[at : at + count])
            self._done += count
            at += count
        framing = self.framing
        self._sound.forget(upto * framing.hop - framing.lead - framing.window)

    def _frame_into(self, row: int, frame: npt.NDArray[np.float64]) -> None:
        start = row * self.framing.hop - self.framing.lead
        end = start + self.framing.window
        if start >= 0 and end <= self._sound.end:
            frame[...] = self._sound.view(start, end)
        else:
            frame[...] = self._sound.take(self.framing.mirrored(np.arange(start, end), self._sound.end))


def features_of(facts: FeatureFacts, samples: F32) -> F32:
    """Rows of features [rows, bins] of a whole sound (mono, -1..1)."""
    stream = FeatureStream(facts)
    pushed = np.array(stream.push(samples))
    return np.concatenate([pushed, stream.flush()])


def samples_checked(samples: F32) -> F32:
    """The samples, when they are a row of float32; raises InputError otherwise."""
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise InputError(
            explain(
                "audio samples",
                "float32 [samples], mono, -1..1",
                f"{samples.dtype} {list(samples.shape)}",
                "convert them with PcmInput",
            )
        )
    return samples
