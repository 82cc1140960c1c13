"""What a run says of itself, while it runs and at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.timing import Timings

__all__ = ["Progress", "RunResult"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `total` and `eta_s` are None while the input does not say how long it is."""

    done: int
    total: int | None
    fps: float
    eta_s: float | None


@dataclass
class RunResult:
    """What a run did. `failed` frames went out as they came in, and `first_failure` says why.

    `crowded` frames showed more faces than the profile has room for: the largest were changed. `best_score` is
    the detector's highest score of the run, below its threshold as well. `rate` 0 stands for a still.
    """

    output: Path
    frames: int = 0
    frames_with_face: int = 0
    faces: int = 0
    cuts: int = 0
    crowded: int = 0
    best_score: float = 0.0
    failed: int = 0
    first_failure: str = ""
    wall_s: float = 0.0
    rate: float = 0.0
    timings: Timings = field(default_factory=Timings)
    notes: list[str] = field(default_factory=list)
