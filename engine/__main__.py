"""python -m engine {demo,run,bench,doctor}: arguments only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.profiler.options import add_bench_options, add_profiler_options

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, run one command and return its exit code.

    0 done; 1 the run ended early or a check failed; 2 wrong arguments or input; 3 a benchmark's budget was missed;
    4 done, but some frames went out unchanged; 130 interrupted.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    from engine import commands

    if chosen.command == "doctor":
        return commands.doctor()
    if chosen.command == "demo":
        return commands.demo(chosen.out, chosen.backend, chosen.threads)
    if chosen.command == "bench":
        return commands.bench(chosen)
    return commands.run(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description="A low-latency engine for face video.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="try every library this machine needs and say what is missing")
    demo = commands.add_parser("demo", help="swap the face in the sample clip (drawn faces only)")
    demo.add_argument("--out", type=Path, default=Path("out"), help="folder of the results (default: out)")
    _add_device(demo)
    run = commands.add_parser("run", help="swap faces in a video, a live input or a picture")
    run.add_argument(
        "input", metavar="IN", help="a video that FFmpeg reads, a picture, /dev/video0, or rtsp: rtmp: udp: tcp:"
    )
    run.add_argument(
        "output",
        metavar="OUT",
        help=".mp4, .mov or .mkv; a picture for a picture; live also rtmp: rtsp: udp: tcp: or -",
    )
    run.add_argument("--profile", required=True, help="a profile's name, or a .toml file")
    run.add_argument(
        "--source",
        type=Path,
        action="append",
        required=True,
        metavar="PICTURE",
        help="the face to put on; repeatable",
    )
    run.add_argument(
        "--source-face",
        choices=("only", "largest", "leftmost"),
        default="only",
        help="which face of a source picture that shows several (default: only, and an error if it shows more)",
    )
    run.add_argument(
        "--faces",
        action="append",
        default=None,
        metavar="all|largest|leftmost|like=PICTURE",
        help="which faces to change; like=PICTURE may be repeated, the first goes with the first source",
    )
    run.add_argument(
        "--score-threshold",
        type=float,
        default=None,
        help="detector threshold; lower finds more (default: the profile's)",
    )
    run.add_argument("--opacity", type=float, default=None, help="0 to 1")
    run.add_argument("--restorer", default=None, metavar="NAME", help="a restorer's contract (default: the profile's)")
    run.add_argument("--enhance-every", type=int, default=None, metavar="N", help="restore faces on every N-th frame")
    run.add_argument(
        "--enhance-blend", type=float, default=None, metavar="X", help="how much of it is mixed in, 0 to 1"
    )
    run.add_argument("--codec", choices=("h264", "hevc"), default=None, help="of the output video")
    run.add_argument("--quality", type=int, default=None, help="constant rate factor, 0 best to 51")
    run.add_argument("--preset", default=None, help="the encoder's speed preset")
    run.add_argument("--live", action="store_true", help="play a file at its own pace: the newest picture wins")
    for end in ("input", "output"):
        run.add_argument(
            f"--{end}-option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"an FFmpeg option for a live {end}; repeatable",
        )
    run.add_argument(
        "--decoder",
        choices=("auto", "host", "dali"),
        default="auto",
        help="auto: on the GPU where the run is; dali: files, by way of RGB, not bit-exact",
    )
    run.add_argument("--deinterlace", action="store_true", help="take interlaced input, deinterlaced by bwdif")
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
