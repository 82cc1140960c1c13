"""python -m engine prepare: its options, and what it does and prints."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from profiles.profile import load_profile

if TYPE_CHECKING:
    from engine.template.template import Template

__all__ = ["add_prepare_options", "prepare_command"]


def add_prepare_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of `prepare`, but for --backend and --threads, which all commands share."""
    parser.add_argument("template", metavar="TEMPLATE", help="a video of a presenter; the file itself is left alone")
    parser.add_argument("--profile", required=True, help="a lip-sync profile's name, or a .toml file")
    parser.add_argument(
        "--face",
        default="largest",
        metavar="largest|leftmost|like=PICTURE",
        help="whom to drive where several are seen (default: largest)",
    )
    parser.add_argument(
        "--idle", default=None, metavar="FROM-TO", help="the stretch in which the presenter is silent, as 0:00-0:20"
    )
    parser.add_argument("--out", type=Path, default=None, help="folder to keep it in (default: one in the cache)")


def prepare_command(chosen: argparse.Namespace) -> int:
    """Prepare what the arguments name and print what was found; returns 0. Raises as `prepare` does."""
    # the options alone import nothing heavy
    from engine.template.prepare import parse_idle, prepare

    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    profile = load_profile(chosen.profile)
    given = {name: getattr(chosen, name, None) for name in ("backend", "threads")}
    profile = dataclasses.replace(profile, **{name: value for name, value in given.items() if value is not None})
    start, seen = time.perf_counter(), 0
    columns = (
        TextColumn("prepare"),
        BarColumn(),
        TextColumn("{task.completed}{task.fields[of]} pictures"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("prepare", total=None, of="")

        def report(done: int, total: int | None) -> None:
            nonlocal seen
            seen += 1
            bar.update(task, completed=done, total=total, of=f"/{total}" if total else "")

        template = prepare(
            chosen.template,
            profile,
            face=chosen.face,
            idle=None if chosen.idle is None else parse_idle(chosen.idle),
            folder=chosen.out,
            say=say,
            on_progress=report,
        )
    for note in template.notes:
        say(f"note: {note}")
    say(_summary(template, seen, time.perf_counter() - start))
    return 0


def _summary(template: Template, seen: int, wall_s: float) -> str:
    size = f"{template.size_px[0]}x{template.size_px[1]}"
    faces = int(template.has_face.sum())
    words = f"{template.count} frames of {size} at {float(template.rate):g} a second, {faces} with the face"
    if len(template.idle):
        words += f", {len(template.idle)} of them silent"
    return f"{words}; {seen} pictures were looked at in {wall_s:.1f} s"
