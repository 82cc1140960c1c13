"""python -m build_engines PROFILE | list | verify | prune: ONNX models of a profile into TensorRT plans."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from build_engines.flavour import FLAVOURS, BuildError, find_flavour, this_machine
from models.model_files import ModelFileError
from models.plan_file import Manifest, PlanError, discard, listed, plan_folder, sweep
from models.tables import TableError
from profiles.profile import load_profile

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command: 0 done, 1 a plan is not whole, 2 it can't be built."""
    given = sys.argv[1:] if arguments is None else arguments
    console = Console()
    try:
        if given and given[0] in ("list", "verify", "prune"):
            return _manage(console, given[0], given[1:])
        return _build(console, _parser().parse_args(given))
    except (BuildError, ModelFileError, PlanError, TableError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"build: wanted to read and write its files, got {error}; free space or mend the path", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m build_engines", description=__doc__)
    parser.add_argument("profile", help="a profile's name or .toml file, or: list, verify, prune")
    parser.add_argument("--flavour", choices=FLAVOURS, default="", help="default: what is installed")
    parser.add_argument("--arch", default="", help="such as sm_89,sm_120; default: the GPU of this machine")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="", help="default: the profile's")
    parser.add_argument(
        "--size", default="", help="of the videos to come, such as 1920x1080,720x1280; default: the clip's"
    )
    parser.add_argument("--own-tactics", action="store_true", help="leave cuBLAS and cuDNN out (TensorRT 8 and 10)")
    parser.add_argument("--clip", type=Path, help="frames to verify on; default: the sample clip (drawn faces only)")
    parser.add_argument("--no-run", action="store_true", help="keep plans without running them on this machine's GPU")
    parser.add_argument("--reader", choices=("pyav", "dali"), default="pyav", help="what reads the clip")
    parser.add_argument(
        "--most-left-out", type=_share, default=0.5, metavar="SHARE",
        help="of an INT8 model's multiply-adds that a search may leave in FP16 (default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--search-s", type=float, default=1800.0, help="seconds that the search of one model may take (default: 1800)"
    )
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"wanted 0 to 1, got {text}")
    return value


def _build(console: Console, chosen: argparse.Namespace) -> int:
    from build_engines.build import build_profile
    from build_engines.samples import sample_clip
    from build_engines.sensitivity import Budget

    profile = load_profile(chosen.profile)
    precision = chosen.precision or profile.precision
    architectures = _architectures(chosen.arch)
    flavour = find_flavour(chosen.flavour, architectures[0])
    console.print(f"{flavour.name} {flavour.version}, {precision}, {', '.join(architectures)}", highlight=False)
    rows = []
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("build")

        def show(phase: str, step: int, steps: int) -> None:
            bar.update(task, description=phase[:48], completed=step, total=steps or None)

        for row in build_profile(
            profile,
            flavour,
            architectures,
            precision,
            chosen.clip or sample_clip(),
            frame_sizes=_sizes(chosen.size),
            reader=chosen.reader,
            budget=Budget(most_macs=chosen.most_left_out, wall_s=chosen.search_s),
            run=not chosen.no_run,
            own_tactics=chosen.own_tactics,
            say=lambda line: console.print(line, highlight=False),
            on_progress=show,
        ):
            rows.append(row)
    table = Table(header_style="bold")
    for heading in ("model", "precision", "arch", "shape", "state"):
        table.add_column(heading)
    for heading in ("size MB", "build s", "peak MB", "drift dB", "nodes"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.contract, row.precision, row.arch, _shape(row.shapes), row.state, f"{row.plan_bytes / 1e6:.1f}",
            f"{row.build_s:.2f}", f"{row.peak_memory_mb:.0f}", f"{row.drift_db:.1f}",
            ", ".join(f"{count} {kind}" for kind, count in row.layers.items() if count),
        )  # fmt: skip
    console.print(table)
    print(json.dumps({"folder": str(plan_folder()), "plans": [{**vars(row), "path": row.path.name} for row in rows]}))
    return 0


def _shape(shapes: dict[str, tuple[int, ...]]) -> str:
    """The first input's, which tells batches and detector sizes apart."""
    return "x".join(map(str, next(iter(shapes.values()))))


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = []
    for name in filter(None, text.split(",")):
        width, by, height = name.partition("x")
        if not (by and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise BuildError(f"--size: wanted WIDTHxHEIGHT in px, such as 1920x1080, got {name!r}; correct it")
        sizes.append((int(width), int(height)))
    return sizes


def _architectures(text: str) -> list[str]:
    """sm_89 and sm89 are the same; without any, the compute capability of this machine's first GPU."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if names:
        return [f"sm_{name.removeprefix('sm_').removeprefix('sm')}" for name in names]
    here = this_machine().arch
    if not here:
        raise BuildError("--arch: wanted an architecture, got none and no GPU to ask; add --arch sm_89 or another")
    return [here]


def _manage(console: Console, command: str, rest: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m build_engines {command}")
    if command == "prune":
        parser.add_argument("--all", action="store_true", help="whole plans too, not only broken ones")
    chosen = parser.parse_args(rest)
    found = listed()
    broken = [(path, state) for path, state in found if not isinstance(state, Manifest)]
    console.print(f"plans: {plan_folder()}", highlight=False, soft_wrap=True)
    if command == "prune":
        going = [path for path, _ in (found if chosen.all else broken)]
        for path in going:
            discard(path)
        left = sweep()
        console.print(f"{len(going)} of {len(found)} plans removed, {left} leftovers of killed builds")
        return 0
    for path, state in found:
        if isinstance(state, Manifest):
            drift = min((v for name, v in state.drift.items() if name.endswith("psnr_db")), default=0.0)
            text = f"{state.plan_bytes / 1e6:.1f} MB, drift {drift:.1f} dB ({state.drift_source})"
            console.print(f"  {path.name}: {text}", highlight=False, soft_wrap=True)
        else:
            console.print(f"  {state}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"{len(found) - len(broken)} whole, {len(broken)} refused")
    return int(bool(broken) and command == "verify")


if __name__ == "__main__":
    sys.exit(main())
