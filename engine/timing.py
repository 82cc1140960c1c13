"""span("crop") -> fixed histograms: where a frame's time goes, with fixed memory and no list that grows.

A histogram has buckets 1 % apart from 1 us to 100 s, so a percentile is right to 1 %; max and misses are exact.
`on(index, pts)` says which frame a thread works on; what it times from then on is kept with that frame for a while.
"""

from __future__ import annotations

import importlib
import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate
from types import TracebackType
from typing import Any

from engine.frame_history import OUTER_STAGES, SPANS_MAX, FrameHistory, FrameRecord

__all__ = ["BESIDE_STAGES", "Histogram", "RungChange", "StageRow", "Timings"]

_FIRST_MS = 1e-3
_STEP = math.log(1.01)
_PER_STEP = 1.0 / _STEP
_BUCKETS = int(math.log(1e5 / _FIRST_MS) / _STEP) + 2

_RUNG_CHANGES = 512  # kept for a trace

# rows that are no work of their own: sums, waiting, and the whole way of a frame
BESIDE_STAGES = ("frame", "queue", "latency")


class Histogram:
    """Durations in ms, in buckets 1 % wide. `misses` counts those above `budget_ms`, exactly; 0 means no budget."""

    __slots__ = ("budget_ms", "count", "counts", "max_ms", "misses", "total_ms")

    def __init__(self) -> None:
        self.counts = array("q", bytes(8 * _BUCKETS))
        self.count = 0
        self.total_ms = 0.0
        self.max_ms = 0.0
        self.budget_ms = 0.0
        self.misses = 0

    def add(self, ms: float) -> None:
        """Count one duration."""
        at = 0 if ms <= _FIRST_MS else int(math.log(ms / _FIRST_MS) * _PER_STEP) + 1
        self.counts[at if at < _BUCKETS else _BUCKETS - 1] += 1
        self.count += 1
        self.total_ms += ms
        if ms > self.max_ms:
            self.max_ms = ms
        if ms > self.budget_ms > 0.0:
            self.misses += 1

    def percentile_ms(self, percent: float) -> float:
        """The duration that `percent` of the counts do not pass, right to 1 %; 0 without counts."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        at = next(at for at, reached in enumerate(accumulate(self.counts)) if reached >= rank)
        return min(_FIRST_MS * math.exp(_STEP * at), self.max_ms)

    def over(self, budget_ms: float) -> int:
        """How many passed a budget: exact for the one that was set beforehand, else right to buckets of 1 %."""
        if budget_ms <= 0.0:
            return 0
        if budget_ms == self.budget_ms:
            return self.misses
        first = int(math.log(max(budget_ms, _FIRST_MS) / _FIRST_MS) * _PER_STEP) + 2
        return sum(self.counts[first:])

    def buckets(self) -> list[tuple[float, float, int]]:
        """(from ms, to ms, count) of every bucket that is not empty."""
        edge = [0.0, *(_FIRST_MS * math.exp(_STEP * at) for at in range(_BUCKETS))]
        return [(edge[at], edge[at + 1], count) for at, count in enumerate(self.counts) if count]


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
    p999_ms: float = 0.0
    mean_ms: float = 0.0
    misses: int = 0

    @property
    def verdict(self) -> str:
        """ "ok" when p99 keeps the budget, "over" when not, empty without a budget."""
        if not self.budget_ms:
            return ""
        return "ok" if self.p99_ms <= self.budget_ms else "over"


@dataclass(frozen=True)
class RungChange:
    """A governor's step: when on the host's monotonic clock, onto which rung, and why."""

    at_ns: int
    rung: int
    words: str


class _Thread(threading.local):
    """Which frame a thread works on, and the thread's name."""

    def __init__(self) -> None:
        self.record: FrameRecord | None = None
        self.name = threading.current_thread().name


class _Span:
    """One timed block; a block that raises is not counted."""

    __slots__ = ("_stage", "_start_ns", "_timings")

    def __init__(self, timings: Timings, stage: str) -> None:
        self._timings, self._stage = timings, stage

    def __enter__(self) -> None:
        if self._timings._ranges is not None:
            self._timings._push(self._stage)
        self._start_ns = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ms = (time.perf_counter_ns() - self._start_ns) / 1e6
        timings = self._timings
        if timings._ranges is not None:
            timings._ranges.pop_range()
        if kind is None:
            timings.add(self._stage, ms, None, self._start_ns)


class Timings:
    """Histograms by stage and the history of frames, filled from the decode, compute and encode threads.

    Every span is an NVTX range of the domain "face-engine" too, where the package nvtx is installed.
    """

    def __init__(self) -> None:
        self.stages: dict[str, Histogram] = {}
        self.history = FrameHistory()
        self.budgets_ms: dict[str, float] = {}
        self.drops: dict[str, int] = {}
        self.rung: int | None = None
        self.rung_steps = {"down": 0, "up": 0}
        self.rung_changes: deque[RungChange] = deque(maxlen=_RUNG_CHANGES)
        self._lock = threading.Lock()
        self._thread = _Thread()
        self._ranges = _nvtx_domain()
        self._attributes: dict[str, Any] = {}

    def on(self, index: int, pts: int | None = None) -> None:
        """This thread works on this frame from now on: its spans are kept with it."""
        with self._lock:
            self._thread.record = self._open(index, pts)

    def arrived(self, index: int, pts: int | None = None, at_ns: int = 0) -> None:
        """The frame's packet came in, now or at `at_ns` of time.perf_counter_ns."""
        with self._lock:
            self._open(index, pts).arrived_ns = at_ns or time.perf_counter_ns()

    def departed(self, index: int, at_ns: int = 0) -> None:
        """The frame's packet went out: counts "latency", packet in to packet out, and "queue", the waiting in it."""
        with self._lock:
            record = self.history.find(index)
            if record is None or record.departed_ns:
                return
            record.departed_ns = at_ns or time.perf_counter_ns()
            if record.arrived_ns:
                latency_ms = record.latency_ms
                self._count("latency", latency_ms)
                self._count("queue", max(latency_ms - record.work_ms, 0.0))

    def dropped(self, reason: str) -> None:
        """Count one frame that does not go through, by reason."""
        with self._lock:
            self.drops[reason] = self.drops.get(reason, 0) + 1
            self.history.drop()

    def on_rung(self, rung: int, words: str) -> None:
        """A governor stands on this rung from now on; the first call begins, without a step."""
        with self._lock:
            if self.rung is not None and rung != self.rung:
                self.rung_steps["down" if rung > self.rung else "up"] += 1
                self.rung_changes.append(RungChange(time.perf_counter_ns(), rung, words))
            self.rung = rung

    def inner_ms(self, index: int) -> float:
        """What the stages within "frame" took on a frame, as far as they were told; 0 once its record is closed."""
        with self._lock:
            record = self.history.find(index)
            if record is None:
                return 0.0
            beside = (*BESIDE_STAGES, *OUTER_STAGES)
            return sum(ms for stage, _, ms, _ in record.spans if stage not in beside)

    def span(self, stage: str) -> AbstractContextManager[None]:
        """Time a block on the host's clock; a block that raises is not counted."""
        return _Span(self, stage)

    def add(self, stage: str, ms: float, frame: int | None = None, start_ns: int = 0) -> None:
        """Count one duration of a stage: of this thread's frame, or of the frame with this index, however late.

        `start_ns` on time.perf_counter_ns places it in a trace; 0 where only its length is known.
        """
        with self._lock:
            self._count(stage, ms)
            thread = self._thread
            record = thread.record if frame is None else self.history.find(frame)
            if record is not None and len(record.spans) < SPANS_MAX:
                record.spans.append((stage, start_ns, ms, thread.name))

    def watch(self, budgets_ms: Mapping[str, float]) -> None:
        """Count misses against these budgets by stage from now on; budgets of 0 are none."""
        with self._lock:
            self.budgets_ms = {stage: ms for stage, ms in budgets_ms.items() if ms > 0}
            for stage, histogram in self.stages.items():
                histogram.budget_ms, histogram.misses = self.budgets_ms.get(stage, 0.0), 0

    def keep_frames(self, count: int) -> None:
        """Keep the newest `count` frames whole, for a trace."""
        with self._lock:
            self.history.keep(count)

    def clear(self) -> None:
        """Forget what was counted, the warm-up for example; budgets and the kind of history stay."""
        with self._lock:
            fresh = FrameHistory()
            fresh.by_latency = self.history.by_latency
            fresh.keep(self.history.kept.maxlen or 0)
            self.stages, self.drops, self.history = {}, {}, fresh
            self._thread = _Thread()

    def settle(self) -> FrameHistory:
        """Take the frames that are still open into the history, and return it: for the end of a run."""
        with self._lock:
            self.history.settle_all(time.perf_counter_ns(), self._frame_budget_ms())
            return self.history

    def rows(self, order: tuple[str, ...], budgets_ms: Mapping[str, float]) -> list[StageRow]:
        """The table's rows: known stages in the order of a frame's life, then the others as they came."""
        with self._lock:
            names = [name for name in order if name in self.stages]
            names += [name for name in self.stages if name not in order]
            busy_ms = sum(held.total_ms for name, held in self.stages.items() if name not in BESIDE_STAGES) or 1.0
            return [self._row(name, budgets_ms.get(name, 0.0), busy_ms) for name in names]

    def _row(self, name: str, budget_ms: float, busy_ms: float) -> StageRow:
        held = self.stages[name]
        return StageRow(
            stage=name,
            calls=held.count,
            p50_ms=held.percentile_ms(50),
            p95_ms=held.percentile_ms(95),
            p99_ms=held.percentile_ms(99),
            max_ms=held.max_ms,
            share=0.0 if name in BESIDE_STAGES else held.total_ms / busy_ms,
            budget_ms=budget_ms,
            p999_ms=held.percentile_ms(99.9),
            mean_ms=held.total_ms / held.count,
            misses=held.over(budget_ms),
        )

    def _count(self, stage: str, ms: float) -> None:
        histogram = self.stages.get(stage)
        if histogram is None:
            histogram = self.stages[stage] = Histogram()
            histogram.budget_ms = self.budgets_ms.get(stage, 0.0)
        histogram.add(ms)

    def _open(self, index: int, pts: int | None) -> FrameRecord:
        return self.history.record(index, pts, time.perf_counter_ns(), self._frame_budget_ms())

    def _frame_budget_ms(self) -> float:
        return self.budgets_ms.get("latency" if self.history.by_latency else "frame", 0.0)

    def _push(self, stage: str) -> None:
        attributes = self._attributes.get(stage)
        if attributes is None:
            attributes = self._attributes[stage] = self._ranges.get_event_attributes(message=stage)
        self._ranges.push_range(attributes)


def _nvtx_domain() -> Any:
    """The NVTX domain of this engine, or None where the package is not installed."""
    try:
        return importlib.import_module("nvtx").get_domain("face-engine")
    except ImportError:
        return None
