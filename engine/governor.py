"""The governor of a live run: down the profile's ladder before frames miss their budget, and up again after.

`Governor` decides, from numbers and a clock that it is given; `LiveGovernor` is what a live run feeds, frame by frame.

A frame's work is meant over one cycle of its rung: where the detector runs on every third frame, a dear frame is paid
for by the two cheap ones after it. What can't be paid for so shows as drops and as waiting, which count too.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from engine.frame import Frame
from engine.pipeline import Pipeline
from engine.result import GovernorFacts
from profiles.ladder import Governor as GovernorOptions
from profiles.ladder import Rung

__all__ = ["Governor", "LiveGovernor", "Step", "p99_ms"]

log = logging.getLogger("engine.governor")

# Frames after a step that are not judged: the first of a rung still pays for the one before.
_SETTLE_FRAMES = 2
# A cycle is waited for no longer; what comes more rarely is a spike, and one in a hundred is forgiven.
_CYCLE_FRAMES = 12
# Drops count where they went on: an input that catches up after a stall drops many at once.
_DROPS = 3
_DROPS_S = 1.0
# What is longer between two frames is a break of the input; and so many frames at least are behind a step up.
_GAP_S = 0.5
_CALM_FRAMES = 20
# A wait before a step up grows to so many times the dwell.
_BACK_OFF = 16.0
# A device's own times are told so many frames late.
_LATE_FRAMES = 2


@dataclass(frozen=True)
class Step:
    """One step on the ladder, and why."""

    at_s: float
    frame: int
    before: int
    after: int
    reason: str


def p99_ms(held: Sequence[float]) -> float:
    """What 99 of 100 do not pass; of fewer than 200, the second longest, so that one spike alone is none."""
    if len(held) < 2:
        return 0.0
    return sorted(held)[len(held) - 1 - max(1, len(held) // 100)]


class Governor:
    """Where on the ladder a run should be; `frame` is told every frame, and answers with a step or None.

    It has no clock of its own and touches nothing: `at_s` rises from frame to frame, wherever it begins.
    """

    def __init__(self, options: GovernorOptions, ladder: Sequence[Rung], budget_ms: float) -> None:
        self.options, self.ladder, self.budget_ms = options, ladder, budget_ms
        self.rung = 0
        # how long a rung's upper neighbour must look reachable before it is tried
        self._wait_s = [options.dwell_s] * len(ladder)
        # when each rung was last stepped up to, while that is still on trial
        self._came_up_s: list[float | None] = [None] * len(ladder)
        self._last_s: float | None = None
        # what a rung took when it was left downwards, and how many times what the rung below it then took
        self._left_ms = 0.0
        self._dearer = [1.0] * len(ladder)
        self._work: deque[float]
        self._calm_s: float
        self._low_s: float
        self._enter()

    def frame(self, index: int, at_s: float, work_ms: float, *, waited_ms: float = 0.0, drops: int = 0) -> Step | None:
        """A frame of the present rung: its work, how long its picture waited, how many were dropped before it."""
        # a break of the input is no time in which frames were cheap
        passed_s = 0.0 if self._last_s is None else min(at_s - self._last_s, _GAP_S)
        self._last_s = at_s
        self._frames += 1
        self._waits.append(waited_ms)
        if drops:
            self._dropped.append((self._frames, at_s))
        if self._frames <= _SETTLE_FRAMES:
            return None
        self._cycle.append(work_ms)
        if len(self._cycle) == self._cycle_frames:
            self._work.append(sum(self._cycle) / len(self._cycle))
            self._cycle.clear()
        if len(self._work) < 2:
            return None
        p99 = p99_ms(self._work)
        if self._left_ms:
            self._dearer[self.rung - 1] = max(self._left_ms / max(p99, 1e-3), 1.0)
            self._left_ms = 0.0
        reason = self._pressure(p99)
        if reason and self.rung + 1 < len(self.ladder):
            return self._down(index, at_s, reason)
        if self.rung and self._has_been_calm(p99, passed_s, is_pressed=bool(reason)):
            return self._up(index, at_s, f"p99 {p99:.1f} of {self.budget_ms:.1f} ms for {self._low_s:.1f} s")
        return None

    def _pressure(self, p99: float) -> str:
        """Why the run should be a rung lower; empty where it should not."""
        budget = self.budget_ms
        if p99 > self.options.down_at * budget:
            return f"p99 {p99:.1f} of {budget:.1f} ms"
        if p99 <= self.options.up_at * budget:
            return ""  # drops and waiting there may be, but not for the frames' work
        while self._dropped and self._dropped[0][0] <= self._frames - self.options.window_frames:
            self._dropped.popleft()
        if len(self._dropped) >= _DROPS and self._dropped[-1][1] - self._dropped[0][1] >= _DROPS_S:
            return f"drops before {len(self._dropped)} of {len(self._waits)} frames, p99 {p99:.1f} of {budget:.1f} ms"
        waited = p99_ms(self._waits)
        if waited > budget:
            return f"pictures waited {waited:.1f} ms, p99 {p99:.1f} of {budget:.1f} ms"
        return ""

    def _has_been_calm(self, p99: float, passed_s: float, *, is_pressed: bool) -> bool:
        """Whether frames were cheap for as long as a step up wants; longest where the rung above, by what it was dearer
        when it was left, would not fit."""
        above = self.rung - 1
        is_low = not is_pressed and p99 < self.options.up_at * self.budget_ms
        fits = p99 * self._dearer[above] < self.options.down_at * self.budget_ms
        self._low_s = self._low_s + passed_s if is_low else 0.0
        self._calm_s = self._calm_s + passed_s if is_low and fits else 0.0
        is_long = self._calm_s >= self._wait_s[above] or self._low_s >= _BACK_OFF * self.options.dwell_s
        return is_long and self._frames >= _CALM_FRAMES

    def _down(self, index: int, at_s: float, reason: str) -> Step:
        came_up_s, self._came_up_s[self.rung] = self._came_up_s[self.rung], None
        if came_up_s is not None:
            # a step up that did not hold: longer until the next try, until one holds
            held_s, wait_s = at_s - came_up_s, self._wait_s[self.rung]
            most_s = _BACK_OFF * self.options.dwell_s
            self._wait_s[self.rung] = min(2 * wait_s, most_s) if held_s < 2 * wait_s else self.options.dwell_s
        return self._go(index, at_s, self.rung + 1, reason)

    def _up(self, index: int, at_s: float, reason: str) -> Step:
        self._came_up_s[self.rung - 1] = at_s
        return self._go(index, at_s, self.rung - 1, reason)

    def _go(self, index: int, at_s: float, rung: int, reason: str) -> Step:
        step = Step(at_s, index, self.rung, rung, reason)
        self._left_ms = p99_ms(self._work) if rung > self.rung else 0.0
        self.rung = rung
        self._enter()
        return step

    def _enter(self) -> None:
        """Forget the figures of another rung."""
        window = self.options.window_frames
        self._cycle_frames = min(self.ladder[self.rung].cycle, _CYCLE_FRAMES)
        self._work = deque(maxlen=max(window // self._cycle_frames, 2))
        self._waits: deque[float] = deque(maxlen=window)
        self._dropped: deque[tuple[int, float]] = deque()
        self._cycle: list[float] = []
        self._frames, self._calm_s, self._low_s = 0, 0.0, 0.0


@dataclass(frozen=True)
class _Told:
    """A frame on its way to the governor."""

    index: int
    rung: int
    host_ms: float
    waited_ms: float
    drops: int


class LiveGovernor:
    """The governor of one live run: measures its frames, sets the pipeline's rung, and tells of every step."""

    def __init__(self, pipeline: Pipeline, rate: float, facts: GovernorFacts) -> None:
        self._pipeline, self._facts = pipeline, facts
        budget_ms = pipeline.timings.budgets_ms.get("frame", 0.0)
        interval_ms = 1000.0 / rate if rate else 0.0
        # a frame that takes longer than the input's interval is a drop, whatever the profile allows
        self.budget_ms = min(filter(None, (budget_ms, interval_ms)), default=0.0)
        self._governor = Governor(pipeline.profile.governor, pipeline.ladder, self.budget_ms)
        self._late = _LATE_FRAMES if pipeline.backend.device_io else 0
        self._under_way: deque[_Told] = deque()
        self._drops = 0
        self._start_s = self._entered_s = time.perf_counter()
        facts.budget_ms = round(self.budget_ms, 3)
        facts.rungs = [rung.words(pipeline.ladder[0]) for rung in pipeline.ladder]
        facts.seconds = [0.0] * len(pipeline.ladder)
        pipeline.rung = 0
        pipeline.timings.on_rung(0, "")

    def finished(self, frame: Frame, host_ms: float, waited_ms: float, drops_in_all: int) -> None:
        """A frame is through: what it took on the host, how long its picture waited, and the run's drops so far."""
        told = _Told(frame.index, frame.rung, host_ms, waited_ms, drops_in_all - self._drops)
        self._drops = drops_in_all
        self._under_way.append(told)
        if len(self._under_way) <= self._late or not self.budget_ms:
            return
        told = self._under_way.popleft()
        if told.rung != self._governor.rung:
            return  # begun before the step
        work_ms = told.host_ms
        if self._late:
            # the host waits for a device only where that is late: what it was busy with is the frame's work as well
            work_ms = max(work_ms, self._pipeline.timings.inner_ms(told.index))
        at_s = time.perf_counter()
        step = self._governor.frame(told.index, at_s, work_ms, waited_ms=told.waited_ms, drops=told.drops)
        if step is not None:
            self._take(step)

    def close(self) -> None:
        """Count the last rung's time; the pipeline goes back to the profile's own."""
        self._count_time(time.perf_counter())
        self._pipeline.rung = 0

    def _take(self, step: Step) -> None:
        self._count_time(step.at_s)
        self._pipeline.rung = step.after
        words = self._facts.rungs[step.after]
        self._facts.add(step.at_s - self._start_s, step.frame, step.before, step.after, step.reason)
        kind = "down" if step.after > step.before else "up"
        self._pipeline.timings.on_rung(step.after, f"{kind} to rung {step.after} ({words}): {step.reason}")
        log.info(
            "frame %d: %s to rung %d (%s): %s",
            step.frame,
            kind,
            step.after,
            words,
            step.reason,
        )

    def _count_time(self, now_s: float) -> None:
        at = self._facts.rung
        self._facts.seconds[at] = round(self._facts.seconds[at] + now_s - self._entered_s, 6)
        self._entered_s = now_s
