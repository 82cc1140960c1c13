"""clock: samples of sound <-> frames of video, by whole numbers alone: no drift, however long it runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from engine.errors import InputError, explain

__all__ = ["AudioClock"]


@dataclass(frozen=True)
class AudioClock:
    """The sound is the master: frame n is shown from sample ceil(n * rate / fps) on, until the next frame's first.

    `fps` is exact: 25, or Fraction(30000, 1001) for 29.97.
    """

    rate_hz: int
    fps: Fraction

    def __post_init__(self) -> None:
        if self.rate_hz < 1 or not 0 < self.fps <= self.rate_hz:
            raise InputError(
                explain(
                    "audio clock",
                    "a sample rate, and frames a second from above 0 up to it",
                    f"{self.rate_hz} Hz and {self.fps} frames/s",
                    "correct the rates",
                )
            )

    def first_sample(self, frame: int) -> int:
        """The first sample that belongs to this frame."""
        return -(-frame * self.rate_hz * self.fps.denominator // self.fps.numerator)

    def frame_at(self, sample: int) -> int:
        """The frame to which this sample belongs: the one to show while it is heard."""
        return sample * self.fps.numerator // (self.rate_hz * self.fps.denominator)

    def frame_count(self, samples: int) -> int:
        """How many frames begin before the end of this many samples; the last one may be cut short by it."""
        return self.frame_at(samples - 1) + 1 if samples > 0 else 0

    def offset_ms(self, sample: int, frame: int) -> float:
        """How far this sample is behind this frame's instant, in ms; above 0 the picture is early."""
        return float(1000 * (Fraction(sample, self.rate_hz) - frame / self.fps))
