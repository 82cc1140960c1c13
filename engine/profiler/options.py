"""What a user may ask of the profiler, on the command line; nothing heavy is imported."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options", "add_bench_options", "add_profiler_options", "profiler_options"]


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


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m engine bench`, but for the device's."""
    parser.add_argument("--profile", action="append", help="repeatable (default: tiny)")
    parser.add_argument("--input", default="sample", help="sample (drawn faces), noise, a picture or a video")
    parser.add_argument("--source", type=Path, metavar="PICTURE", help="the face to put on (default: the sample's)")
    parser.add_argument(
        "--size", type=_size, default=(1280, 720), metavar="WxH", help="of the frames (default: 1280x720)"
    )
    parser.add_argument(
        "--faces", type=_counts, default=[1], metavar="1,2,4", help="face counts to measure (default: 1)"
    )
    parser.add_argument(
        "--precision", action="append", choices=("fp32", "fp16", "int8"), help="instead of the profile's; repeatable"
    )
    parser.add_argument(
        "--session",
        action="append",
        choices=("tensorrt", "onnxruntime-cuda"),
        help="what runs the networks on a GPU, instead of the profile's; repeatable",
    )
    parser.add_argument("--frames", type=_from_one, default=200, help="warm frames of each (default: 200)")
    parser.add_argument("--rounds", type=_from_one, default=10, help="turns that each takes (default: 10)")
    parser.add_argument(
        "--cold", type=int, default=3, metavar="N", help="cold starts to measure, 0 for none (default: 3)"
    )
    parser.add_argument("--twins", action="store_true", help="published topologies with random weights: cost only")
    parser.add_argument("--each-option", action="store_true", help="what each option costs and changes, one at a time")
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="exit code 3 when the p99 of a frame passes it")
    parser.add_argument("--write", metavar="NAME", help="keep it as profiles/measured/NAME.json, or as a path's file")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A.json", "B.json"), help="measure nothing: was B faster than A?"
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 1 and int(height) > 1):
        raise argparse.ArgumentTypeError(f"wanted WIDTHxHEIGHT in px, got {text!r}; write it as 1280x720")
    return int(width), int(height)


def _counts(text: str) -> list[int]:
    counts = [int(one) if one.isdigit() else 0 for one in text.split(",")]
    if not all(1 <= one <= 32 for one in counts):
        raise argparse.ArgumentTypeError(f"wanted counts of 1 to 32, got {text!r}; write them as 1,2,4")
    return counts


def _from_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a number from 1 on, got {text!r}; correct it")
    return int(text)
