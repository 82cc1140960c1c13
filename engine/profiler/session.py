"""What a command opens around its work: samples and metrics while it runs; JSON line, report and trace after it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from engine.errors import InputError, explain
from engine.profiler.metrics import MetricsServer, metrics_text, parse_address
from engine.profiler.sampler import Sampler
from engine.profiler.summary import json_line, stages_json, worst_json
from engine.profiler.trace import TRACE_FRAMES, trace_json
from engine.report import budgets_for
from engine.result import RunResult
from engine.timing import Timings
from engine.video.output_place import OutputPlace
from profiles.profile import Profile

__all__ = ["Options", "ProfilerSession", "add_profiler_options", "profiler_options"]


@dataclass(frozen=True)
class Options:
    """What was asked for; all of it is off by default but the JSON line, which a pipe or a file gets unasked."""

    json: bool = False
    report: Path | None = None
    trace: Path | None = None
    metrics: str = ""


def add_profiler_options(parser: argparse.ArgumentParser) -> None:
    """--json, --report, --trace, --metrics."""
    group = parser.add_argument_group("profiler")
    group.add_argument("--json", action="store_true", help="end with one line of JSON; a pipe gets it unasked")
    group.add_argument("--report", type=Path, metavar="OUT.html", help="write a report that opens offline")
    group.add_argument("--trace", type=Path, metavar="OUT.json", help="write a trace for Perfetto or chrome://tracing")
    group.add_argument("--metrics", default="", metavar="HOST:PORT", help="serve Prometheus metrics while running")


def profiler_options(chosen: argparse.Namespace) -> Options:
    """The options as they were parsed."""
    return Options(chosen.json, chosen.report, chosen.trace, chosen.metrics)


class ProfilerSession:
    """Opened before the work: a bad path or address is refused then. `watch` is told the timings once they exist.

    After the work, `finish` writes what was asked for and prints the JSON line. Leaving without it writes nothing.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.sampler = Sampler()
        self._timings = Timings()
        self._stack = ExitStack()
        self._report: OutputPlace | None = None
        self._trace: OutputPlace | None = None
        if options.report and options.trace and options.report.resolve() == options.trace.resolve():
            raise InputError(explain("--trace", "another file than --report", str(options.trace), "name two files"))

    def __enter__(self) -> ProfilerSession:
        try:
            if self.options.metrics:
                server = MetricsServer(*parse_address(self.options.metrics), self._metrics)
                self._stack.enter_context(server)
                self.address = server.address
            self._report = _place(self.options.report, ".html", self._stack)
            self._trace = _place(self.options.trace, ".json", self._stack)
            self._stack.enter_context(self.sampler)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def watch(self, timings: Timings, budgets_ms: Mapping[str, float]) -> None:
        """These are the timings of the run, and its budgets; called before its first frame."""
        timings.watch(budgets_ms)
        if self._trace is not None:
            timings.keep_frames(TRACE_FRAMES)
        self._timings = timings

    def finish(self, profile: Profile, result: RunResult, *, what: str, print_line: Callable[[str], None]) -> None:
        """Write the files that were asked for, then print the JSON line; `what` titles the report."""
        from engine.profiler.conditions import conditions

        measured = conditions(profile)
        timings = result.timings
        timings.settle()
        budgets_ms = timings.budgets_ms or _budgets(profile, result)
        if self._trace is not None:
            _write(self._trace, trace_json(timings.history.newest(), measured))
        if self._report is not None:
            from engine.profiler.run_page import run_page

            page = run_page(profile, result, what=what, samples=self.sampler.samples, conditions=measured)
            _write(self._report, page.html())
        if self.options.json or not sys.stdout.isatty():
            told = result.to_json()
            told |= {
                "stages": stages_json(timings, budgets_ms),
                "worst": worst_json(timings)[:3],
                "machine": self.sampler.to_json(),
                "conditions": measured,
            }
            print_line(json_line(told))

    def _metrics(self) -> str:
        return metrics_text(self._timings, self.sampler.samples[-1] if self.sampler.samples else None)


def _budgets(profile: Profile, result: RunResult) -> dict[str, float]:
    """Those of the profile at the input's rate; a still has none."""
    return budgets_for(profile.budget_ms.frame, profile.budget_ms.stages, result.rate) if result.rate else {}


def _place(path: Path | None, suffix: str, stack: ExitStack) -> OutputPlace | None:
    if path is None:
        return None
    place = OutputPlace(path, suffixes=(suffix,), inputs=(), overwrite=True)
    stack.callback(place.discard)
    return place


def _write(place: OutputPlace, text: str) -> None:
    place.temporary.write_text(text, encoding="utf-8")
    place.complete()
