"""The report of a run from file to file, or of a live one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.profiler.page import Page
from engine.profiler.sampler import Sample
from engine.result import RunResult
from profiles.profile import Profile

__all__ = ["run_page"]

_STEPS_SHOWN = 40


def run_page(
    profile: Profile, result: RunResult, *, what: str, samples: Sequence[Sample], conditions: Mapping[str, Any]
) -> Page:
    """`what` titles it; a live run is judged by latency where its profile has a budget for that, or by work."""
    timings = result.timings
    notes = list(result.notes)
    if result.failed:
        notes.insert(0, f"{result.failed} frames went out unchanged; the first: {result.first_failure}")
    notes += _steps(result)
    return Page(
        title=what,
        says=profile.says,
        timings=timings,
        budgets_ms=timings.budgets_ms,
        facts=_facts(result),
        samples=samples,
        conditions=conditions,
        notes=notes,
        by_latency=timings.history.by_latency and "latency" in timings.stages,
    )


def _facts(result: RunResult) -> list[tuple[str, str, str]]:
    """The tiles at the report's top."""
    timings = result.timings
    facts = [("frames", f"{result.frames:,}".replace(",", "\u2009"), "")]
    if result.wall_s:
        facts.append(("rate", f"{result.frames / result.wall_s:.1f}", "fps"))
    for stage, words in (("frame", "work on a frame"), ("latency", "packet to packet")):
        held = timings.stages.get(stage)
        if held is not None:
            facts.append((f"{words}, p50", f"{held.percentile_ms(50):.1f}", "ms"))
            facts.append((f"{words}, p99", f"{held.percentile_ms(99):.1f}", "ms"))
    facts.append(("faces changed", f"{result.faces:,}".replace(",", "\u2009"), ""))
    dropped = sum(timings.drops.values())
    facts.append(("dropped", str(dropped), "frames"))
    governor = result.live.governor if result.live is not None else None
    if governor is not None:
        facts.append(("governor, steps down and up", f"{governor.down} + {governor.up}", ""))
    return facts


def _steps(result: RunResult) -> list[str]:
    """The governor's steps in words, the first of many."""
    governor = result.live.governor if result.live is not None else None
    if governor is None:
        return []
    told = [
        f"governor, {step['at_s']:.1f} s, frame {step['frame']}: rung {step['from']} to {step['to']} "
        f"({governor.rungs[step['to']]}): {step['reason']}"
        for step in governor.steps[:_STEPS_SHOWN]
    ]
    left = governor.down + governor.up - len(told)
    return [*governor.lines(), *told, *([f"governor: {left} more steps"] if left else [])]
