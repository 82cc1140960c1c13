"""Frames one by one, in fixed memory: those under way, the worst with all their stages, and a series for plots.

A frame's record stays open for 64 frames, so that what a device tells late still reaches it; then it is settled into
the series, and kept whole only if it is among the worst, or while a trace is recorded.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["OUTER_STAGES", "SPANS_MAX", "FrameHistory", "FrameRecord", "SeriesPoint", "Span"]

OPEN_FRAMES = 64
WORST_FRAMES = 8
SERIES_POINTS = 512
SPANS_MAX = 32

# what a frame waits for one after the other; all other stages lie within "frame"
OUTER_STAGES = ("decode", "frame", "encode")

# a span: stage, start on the host's monotonic clock in ns (0: not known), ms, thread
Span = tuple[str, int, float, str]


@dataclass(slots=True)
class FrameRecord:
    """What is known of one frame. `arrived_ns` and `departed_ns` are 0 until somebody says them.

    `drops` frames were dropped since it was opened, before the next one was.
    """

    index: int
    pts: int | None = None
    arrived_ns: int = 0
    departed_ns: int = 0
    drops: int = 0
    spans: list[Span] = field(default_factory=list)

    @property
    def work_ms(self) -> float:
        """Milliseconds in which the frame was worked on: decode, stages 2 to 9, encode."""
        work_ms = 0.0
        for stage, _, ms, _ in self.spans:
            if stage in OUTER_STAGES:
                work_ms += ms
        return work_ms

    @property
    def latency_ms(self) -> float:
        """Packet in to packet out; 0 while one end is not known."""
        return (self.departed_ns - self.arrived_ns) / 1e6 if self.arrived_ns and self.departed_ns else 0.0

    def stages_ms(self) -> dict[str, float]:
        """Milliseconds by stage, in the order they were told."""
        told: dict[str, float] = {}
        for stage, _, ms, _ in self.spans:
            told[stage] = told.get(stage, 0.0) + ms
        return told


@dataclass(slots=True)
class SeriesPoint:
    """Some consecutive frames: sums by stage, and maxima, so that no spike is averaged away.

    `at_s` is the first frame's time since the run's first. `over` frames missed the frame's budget.
    """

    index: int
    at_s: float
    frames: int = 0
    frame_max_ms: float = 0.0
    latency_max_ms: float = 0.0
    latency_sum_ms: float = 0.0
    over: int = 0
    drops: int = 0
    stages_sum_ms: dict[str, float] = field(default_factory=dict)

    def merge(self, later: SeriesPoint) -> None:
        """Take the frames that follow into this point."""
        self.frames += later.frames
        self.frame_max_ms = max(self.frame_max_ms, later.frame_max_ms)
        self.latency_max_ms = max(self.latency_max_ms, later.latency_max_ms)
        self.latency_sum_ms += later.latency_sum_ms
        self.over += later.over
        self.drops += later.drops
        for stage, ms in later.stages_sum_ms.items():
            self.stages_sum_ms[stage] = self.stages_sum_ms.get(stage, 0.0) + ms


class FrameHistory:
    """Records of frames under way, the worst frames, the series and, where asked for, the newest frames whole.

    Not locked: `Timings` holds its lock around every call. `by_latency` says what "worst" is: packet in to packet
    out, as a live run promises it, or the work on the frame.
    """

    def __init__(self) -> None:
        self.by_latency = False
        self.worst: list[FrameRecord] = []
        self.series: list[SeriesPoint] = []
        self.frames_per_point = 1
        self.kept: deque[FrameRecord] = deque(maxlen=0)
        self._open: dict[int, FrameRecord] = {}
        self._first_ns = 0
        self._last_s = 0.0
        self._drops = 0

    def keep(self, frames: int) -> None:
        """From now on keep the newest `frames` settled records whole, for a trace."""
        self.kept = deque(self.kept, maxlen=frames)

    def record(self, index: int, pts: int | None, now_ns: int, budget_ms: float) -> FrameRecord:
        """The open record of a frame, made where there is none; the oldest is settled to make room."""
        found = self._open.get(index)
        if found is None:
            if len(self._open) == OPEN_FRAMES:
                self._settle(self._open.pop(next(iter(self._open))), now_ns, budget_ms)
            found = self._open[index] = FrameRecord(index, pts)
        elif found.pts is None:
            found.pts = pts
        return found

    def find(self, index: int) -> FrameRecord | None:
        """The record of a frame that is still open."""
        return self._open.get(index)

    def drop(self) -> None:
        """Count one frame that was dropped; it is shown with the newest frame, or with the first."""
        if self._open:
            self._open[next(reversed(self._open))].drops += 1
        else:
            self._drops += 1

    def settle_all(self, now_ns: int, budget_ms: float) -> None:
        """Settle what is open: the run is at its end, or somebody wants to see the newest frames."""
        for record in self._open.values():
            self._settle(record, now_ns, budget_ms)
        self._open.clear()

    def worst_first(self) -> list[FrameRecord]:
        """The worst frames, worst first, open ones included."""
        return sorted([*self.worst, *self._open.values()], key=self._badness, reverse=True)[:WORST_FRAMES]

    def newest(self) -> Iterable[FrameRecord]:
        """Records kept for a trace, oldest first, open ones last."""
        return (*self.kept, *self._open.values())

    def _badness(self, record: FrameRecord) -> float:
        return record.latency_ms if self.by_latency else record.work_ms

    def _settle(self, record: FrameRecord, now_ns: int, budget_ms: float) -> None:
        if not record.spans:
            self._drops += record.drops
            return
        stages, latency_ms = record.stages_ms(), record.latency_ms
        start_ns = record.arrived_ns or record.spans[0][1] or now_ns
        self._first_ns = self._first_ns or start_ns
        frame_ms = stages.get("frame", 0.0)
        over = int(0.0 < budget_ms < (latency_ms if self.by_latency else frame_ms))
        # packets come in another order than pictures are shown
        self._last_s = at_s = max((start_ns - self._first_ns) / 1e9, self._last_s)
        drops, self._drops = self._drops + record.drops, 0
        self._append(SeriesPoint(record.index, at_s, 1, frame_ms, latency_ms, latency_ms, over, drops, stages))
        if self.kept.maxlen:
            self.kept.append(record)
        badness = latency_ms if self.by_latency else record.work_ms
        if len(self.worst) < WORST_FRAMES or badness > self._badness(self.worst[0]):
            insort(self.worst, record, key=self._badness)
            del self.worst[:-WORST_FRAMES]

    def _append(self, point: SeriesPoint) -> None:
        """Add a frame to the series; when it is full, neighbours are merged and a point holds twice the frames."""
        last = self.series[-1] if self.series else None
        if last is not None and last.frames < self.frames_per_point:
            last.merge(point)
            return
        if len(self.series) == SERIES_POINTS:
            for first, second in zip(self.series[::2], self.series[1::2], strict=True):
                first.merge(second)
            self.series = self.series[::2]
            self.frames_per_point *= 2
        self.series.append(point)
