"""python -m engine {demo,prepare,run,bench,doctor}: arguments only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.profiler.options import add_bench_options, add_profiler_options
from engine.run_options import add_run_options
from engine.template.command import add_prepare_options

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, run one command and return its exit code.

    0 done; 1 the run ended early or a check failed; 2 wrong arguments or input; 3 a benchmark's budget was missed;
    4 done, but some frames went out unchanged; 130 interrupted.
    """
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # argparse takes paths that stand apart, as in IN --live OUT, for one list and a rest
    if chosen.command == "run" and all(one == "-" or not one.startswith("-") for one in rest):
        chosen.paths += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    from engine import commands

    if chosen.command == "doctor":
        return commands.doctor()
    if chosen.command == "demo":
        return commands.demo(chosen.task, chosen.out, chosen.backend, chosen.threads)
    if chosen.command == "prepare":
        return commands.prepare(chosen)
    if chosen.command == "bench":
        return commands.bench(chosen)
    return commands.run(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description="A low-latency engine for face video.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="try every library this machine needs and say what is missing")
    demo = commands.add_parser("demo", help="swap the face in the sample clip, or make one talk (drawn faces only)")
    demo.add_argument("--task", choices=("swap", "lipsync"), default="swap", help="what to show (default: swap)")
    demo.add_argument("--out", type=Path, default=Path("out"), help="folder of the results (default: out)")
    _add_device(demo)
    prepare = commands.add_parser("prepare", help="look through a presenter's video once, for all that it will say")
    add_prepare_options(prepare)
    _add_device(prepare)
    run = commands.add_parser("run", help="swap faces in a video, a live input or a picture; or make a presenter talk")
    add_run_options(run)
    _add_device(run)
    add_profiler_options(run)
    bench = commands.add_parser("bench", help="what a profile costs on this machine, and whether a change helped")
    add_bench_options(bench)
    _add_device(bench)
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=("auto", "cpu", "cuda"), default=None, help="where to run")
    parser.add_argument("--threads", type=int, default=None, help="threads for all stages together")


if __name__ == "__main__":
    sys.exit(main())
