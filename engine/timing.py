"""span("crop") -> fixed histograms: where a frame's time goes, with fixed memory and no list that grows.

A histogram has buckets 1 % apart from 1 us to 100 s, so a percentile is right to 1 %; max is exact.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Histogram", "StageRow", "Timings"]

_FIRST_MS = 1e-3
_STEP = math.log(1.01)
_BUCKETS = int(math.log(1e5 / _FIRST_MS) / _STEP) + 2


class Histogram:
    """Durations in ms, in buckets 1 % wide."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.count = 0
        self.total_ms = 0.0
        self.max_ms = 0.0

    def add(self, ms: float) -> None:
        """Count one duration."""
        at = 0 if ms <= _FIRST_MS else min(int(math.log(ms / _FIRST_MS) / _STEP) + 1, _BUCKETS - 1)
        self.counts[at] += 1
        self.count += 1
        self.total_ms += ms
        self.max_ms = max(self.max_ms, ms)

    def percentile_ms(self, percent: float) -> float:
        """The duration that `percent` of the counts do not pass, right to 1 %; 0 without counts."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        at = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(_FIRST_MS * math.exp(_STEP * at), self.max_ms)


@dataclass(frozen=True)
class StageRow:
    """One line of the table; `share` is of the busy time of all stages, `budget_ms` 0 means none."""

    stage: str
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    share: float
    budget_ms: float

    @property
    def verdict(self) -> str:
        """ "ok" when p99 keeps the budget, "over" when not, empty without a budget."""
        if not self.budget_ms:
            return ""
        return "ok" if self.p99_ms <= self.budget_ms else "over"


@dataclass
class Timings:
    """Histograms by stage, filled from the decode, compute and encode threads."""

    stages: dict[str, Histogram] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Time a block on the host's clock; a block that raises is not counted."""
        start = time.perf_counter_ns()
        yield
        self.add(stage, (time.perf_counter_ns() - start) / 1e6)

    def add(self, stage: str, ms: float) -> None:
        """Count one duration of a stage."""
        with self._lock:
            histogram = self.stages.get(stage)
            if histogram is None:
                histogram = self.stages[stage] = Histogram()
            histogram.add(ms)

    def rows(self, order: tuple[str, ...], budgets_ms: dict[str, float]) -> list[StageRow]:
        """The table's rows: known stages in the order of a frame's life, then the others as they came."""
        names = [name for name in order if name in self.stages]
        names += [name for name in self.stages if name not in order]
        busy_ms = sum(self.stages[name].total_ms for name in names if name != "frame") or 1.0
        rows = []
        for name in names:
            held = self.stages[name]
            rows.append(
                StageRow(
                    stage=name,
                    calls=held.count,
                    p50_ms=held.percentile_ms(50),
                    p95_ms=held.percentile_ms(95),
                    p99_ms=held.percentile_ms(99),
                    max_ms=held.max_ms,
                    share=0.0 if name == "frame" else held.total_ms / busy_ms,
                    budget_ms=budgets_ms.get(name, 0.0),
                )
            )
        return rows
