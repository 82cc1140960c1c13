"""What a user may ask of the profiler, on the command line; nothing heavy is imported."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options", "add_profiler_options", "profiler_options"]


@dataclass(frozen=True)
class Options:
    """What was asked for; all of it is off by default but the JSON line, which a pipe or a file gets unasked."""

    json: bool = False
    report: Path | None = None
    trace: Path | None = None
    metrics: str = ""


def add_profiler_options(parser: argparse.ArgumentParser) -> None:
    """--stages, --json, --report, --trace, --metrics."""
    group = parser.add_argument_group("profiler")
    group.add_argument("--stages", action="store_true", help="show the table of stages while running")
    group.add_argument("--json", action="store_true", help="end with one line of JSON; a pipe gets it unasked")
    group.add_argument("--report", type=Path, metavar="OUT.html", help="write a report that opens offline")
    group.add_argument("--trace", type=Path, metavar="OUT.json", help="write a trace for Perfetto or chrome://tracing")
    group.add_argument("--metrics", default="", metavar="HOST:PORT", help="serve Prometheus metrics while running")


def profiler_options(chosen: argparse.Namespace) -> Options:
    """The options as they were parsed."""
    return Options(chosen.json, chosen.report, chosen.trace, chosen.metrics)
