"""What a command opens around its work: samples and metrics while it runs; JSON line, report and trace after it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from engine.errors import InputError, explain
from engine.profiler.conditions import conditions
from engine.profiler.metrics import MetricsServer, metrics_text, parse_address
from engine.profiler.options import Options
from engine.profiler.run_page import run_page
from engine.profiler.sampler import Sampler
from engine.profiler.summary import json_line, stages_json, worst_json
from engine.profiler.trace import TRACE_FRAMES, trace_json
from engine.result import RunResult
from engine.timing import Timings
from engine.video.output_place import OutputPlace
from profiles.profile import Profile

__all__ = ["ProfilerSession"]


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

    @property
    def timings(self) -> Timings:
        """Those of the run; empty until it has begun."""
        return self._timings

    def watch(self, timings: Timings) -> None:
        """These are the timings of the run; called before its first frame."""
        if self._trace is not None:
            timings.keep_frames(TRACE_FRAMES)
        self._timings = timings

    def finish(self, profile: Profile, result: RunResult, *, what: str, is_terminal: bool) -> str:
        """Write the files that were asked for; returns the line of JSON, empty for a terminal that did not ask.

        `what` titles the report.
        """
        is_silent = is_terminal and not self.options.json
        if is_silent and self._trace is None and self._report is None:
            return ""
        measured = conditions(profile)
        timings = result.timings
        timings.settle()
        if self._trace is not None:
            _write(self._trace, trace_json(timings.history.newest(), measured, timings.rung_changes))
        if self._report is not None:
            page = run_page(profile, result, what=what, samples=self.sampler.samples, conditions=measured)
            _write(self._report, page.html())
        if is_silent:
            return ""
        told = {
            **result.to_json(),
            "stages": stages_json(timings, timings.budgets_ms),
            "worst": worst_json(timings)[:3],
            "machine": self.sampler.to_json(),
            "conditions": measured,
        }
        return json_line(told)

    def _metrics(self) -> str:
        return metrics_text(self._timings, self.sampler.samples[-1] if self.sampler.samples else None)


def _place(path: Path | None, suffix: str, stack: ExitStack) -> OutputPlace | None:
    if path is None:
        return None
    place = OutputPlace(path, suffixes=(suffix,), inputs=(), overwrite=True)
    stack.callback(place.discard)
    return place


def _write(place: OutputPlace, text: str) -> None:
    place.temporary.write_text(text, encoding="utf-8")
    place.complete()
