"""Two files of measurements: faster, slower or no difference, with a confidence interval; or a refusal.

The interval is of the ratio of medians, B over A, by the bootstrap: 2000 times, rounds are drawn with replacement, and
within a round blocks of 8 neighbouring frames, since neighbours resemble each other. Of the 2000 ratios it holds 95 %,
and is widened for so few rounds as Student's t is wider than the normal distribution. "Faster" or "slower" is said
only when the interval leaves out 1 and the medians differ by 1 % or more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, explain
from engine.profiler.conditions import differing

__all__ = ["Verdict", "compare", "compare_cells", "ratio_interval", "read_measured"]

F64 = npt.NDArray[np.float64]

RESAMPLES = 2000
BLOCK_FRAMES = 8
LEAST = 0.01


@dataclass(frozen=True)
class Verdict:
    """One cell in both files: medians in ms, B over A, its 95 % interval, and the word for it."""

    name: str
    a_ms: float
    b_ms: float
    ratio: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """Faster, slower, or no difference."""
        if abs(self.ratio - 1) < LEAST or self.low <= 1 <= self.high:
            return "no difference"
        return "faster" if self.ratio < 1 else "slower"

    def line(self) -> str:
        """One sentence."""
        interval = f"95 % interval {self.low:.3f} to {self.high:.3f}"
        return f"{self.name}: {self.word}: {self.a_ms:.2f} -> {self.b_ms:.2f} ms, {self.ratio:.3f} times ({interval})"


def read_measured(path: Path) -> dict[str, Any]:
    """A file that bench wrote; raises InputError for another."""
    try:
        loaded: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(explain(str(path), "a file that bench --write wrote", str(error), "name one")) from error
    if not isinstance(loaded, dict) or not {"cells", "conditions"} <= set(loaded):
        raise InputError(explain(str(path), "a file that bench --write wrote", "other JSON", "name one"))
    return loaded


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[Verdict]:
    """Every cell that both have; raises InputError when conditions differ, or no cell is in both."""
    differ = differing(a["conditions"], b["conditions"])
    if differ:
        do = "measure both on one machine, with one set of options"
        raise InputError(explain("bench --compare", "two files of the same conditions", "; ".join(differ), do))
    others = {cell["name"]: cell for cell in b["cells"]}
    both = [(cell, others[cell["name"]]) for cell in a["cells"] if cell["name"] in others]
    if not both:
        got = ", ".join(cell["name"] for cell in a["cells"])
        raise InputError(explain("bench --compare", "a cell that is in both files", got, "measure the same profiles"))
    return [compare_cells(one["name"], one["rounds_ms"], other["rounds_ms"]) for one, other in both]


def compare_cells(
    name: str, a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, paired: bool = False
) -> Verdict:
    """Rounds of frames in ms against rounds of frames; `paired` when the n-th rounds of both ran side by side."""
    low, high = ratio_interval(a, b, paired=paired)
    a_ms, b_ms = (float(np.median([ms for one in rounds for ms in one])) for rounds in (a, b))
    return Verdict(name, a_ms, b_ms, b_ms / a_ms, low, high)


def ratio_interval(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, paired: bool = False, seed: int = 1
) -> tuple[float, float]:
    """The 95 % interval of median(b) / median(a)."""
    fewest = min(len(a), len(b))
    if fewest < 2:
        # one round says nothing of how rounds differ
        return 0.0, float("inf")
    draw = np.random.default_rng(seed)
    for_a = draw.integers(0, len(a), (RESAMPLES, len(a)))
    for_b = for_a if paired else draw.integers(0, len(b), (RESAMPLES, len(b)))
    ratios = np.log(_medians(b, for_b, draw) / _medians(a, for_a, draw))
    low, middle, high = np.percentile(ratios, (2.5, 50.0, 97.5))
    wider = _small_sample(fewest, len(a) - 1 if paired else len(a) + len(b) - 2)
    return float(np.exp(middle + (low - middle) * wider)), float(np.exp(middle + (high - middle) * wider))


def _small_sample(fewest: int, freedom: int) -> float:
    """How much wider an interval from so few rounds has to be; resampling n of n draws too little spread by n - 1 in n.

    The second factor is Student's t over the normal quantile, to the first order in 1 / degrees of freedom.
    """
    return float(np.sqrt(fewest / (fewest - 1)) * (1 + (1.96**2 + 1) / (4 * freedom)))


def _medians(rounds: Sequence[Sequence[float]], drawn: npt.NDArray[np.int64], draw: np.random.Generator) -> F64:
    """Medians of resampled measurements: the rounds that were drawn, and blocks within each."""
    # turns differ by one frame at most
    length = min(len(one) for one in rounds)
    held = np.array([one[:length] for one in rounds], dtype=np.float64)
    size = min(BLOCK_FRAMES, length)
    starts = draw.integers(0, length - size + 1, (*drawn.shape, -(-length // size), 1))
    within = (starts + np.arange(size)).reshape(*drawn.shape, -1)[:, :, :length]
    medians: F64 = np.median(held[drawn[:, :, None], within], axis=(1, 2))
    return medians
