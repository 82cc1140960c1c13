"""python -m models train NAME: one command from nothing to a network's file, its curve, pictures and figures."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
import time
from pathlib import Path

from models.contract import contract_names
from models.tiny.train import all as pack_run
from models.tiny.train.folders import trained_folder
from models.tiny.train.jobs import (
    Job,
    TrainingError,
    Wish,
    check_plan,
    draw_command,
    planned,
    to_draw,
    usual_device,
    usual_threads,
)
from models.tiny.train.recipe import PACK, Recipe, read_recipe
from models.tiny.train.store import INTERRUPTED

__all__ = ["TrainingError", "train"]

WHOLE = "all"
_NEEDS = ("torch", "onnx", "cv2")  # what the extra "train" installs


def train(given: argparse.Namespace) -> int:
    """Trains what is named and what it needs; 0 when done, 130 when paused. given: models/__main__.py says what.

    Raises TableError and TrainingError for what can't be, SystemExit with a log's end where a process has failed.
    """
    if not given.dry_run:
        _check_extra()
    device = given.device or usual_device()
    if device == "cuda" and not given.dry_run and usual_device() != "cuda":
        raise TrainingError("train: wanted a CUDA device that PyTorch can use, got none; give --device cpu")
    recipe = read_recipe(given.config)
    order = _ordered(recipe, given, device)
    if given.dry_run:
        print("\n".join(_told(order)))
        return 0
    print(f"train: into {order.out} on {device}; Ctrl-C pauses, and the same command goes on where it was", flush=True)
    began = time.monotonic()
    whole = pack_run.follow(order)
    minutes = (time.monotonic() - began) / 60.0
    if not whole:
        print(f"train: paused after {minutes:.1f} min; the same command goes on", flush=True)
        return INTERRUPTED
    print(f"train: done in {minutes:.1f} min", flush=True)
    print("\n".join(_ending(order, given.name)), flush=True)
    return 0


def _check_extra() -> None:
    lacking = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if lacking:
        raise TrainingError(
            f"train: wanted the packages {', '.join(_NEEDS)} to train a network, got no {', '.join(lacking)}; "
            "install them with pip install 'face-engine[train]'"
        )


def _ordered(recipe: Recipe, given: argparse.Namespace, device: str) -> pack_run.Order:
    """The run that the arguments ask for, checked against its folder."""
    whole = given.name == WHOLE
    names = tuple(
        name for name, each in recipe.networks.items() if given.look is None or given.look in each.looks
    ) if whole else (given.name,)  # fmt: skip
    look = given.look or recipe.network(names[0]).look
    wish = Wish(
        names, given.out or trained_folder(look), device, given.look,
        minutes=None if whole else given.minutes, total_minutes=given.minutes if whole else None,
        steps=given.steps, pictures=given.pictures, threads=usual_threads(device),
    )  # fmt: skip
    jobs = planned(recipe, wish)
    for job in jobs:
        if job.name in names or not job.is_trained:
            check_plan(job)
    after = pack_run.measuring(jobs, given.share, given.workers) if whole else ()
    after = after or tuple(_artefacts(job, given.share) for job in jobs if job.name in names)
    return pack_run.Order(jobs, given.workers, device != "cuda", after=after)


def _artefacts(job: Job, share: float) -> tuple[str, Path, list[str]]:
    """What shows and measures a network when it is trained; its figures are written last."""
    config = ["--config", str(job.config)] if job.config != PACK else []
    command = [
        sys.executable, "-m", "models.tiny.train.artefacts", "--folder", str(job.out), "--network", job.name, *config,
        "--look", job.settings.look, "--share", f"{share:g}",
    ]  # fmt: skip
    return f"{job.name}.artefacts", job.file.with_suffix(".figures.json"), command


def _words(command: list[str]) -> str:
    return "  " + shlex.join(["python", *command[1:]])


def _told(order: pack_run.Order) -> list[str]:
    """A run in words and commands, each of which can be given by hand."""
    lines = [f"into {order.out}"]
    lacked = to_draw(order.jobs)
    if lacked:
        lines += ["draw the training pictures that are not in the cache:", _words(draw_command(lacked, order.workers))]
    for job in order.jobs:
        if job.is_trained:
            lines.append(f"{job.name}: trained already, {job.file}")
            continue
        own = job.settings
        waits = f", after {', '.join(job.after)}" if job.after else ""
        ends = f"{own.steps} steps or {own.minutes:g} min" if own.steps else f"{own.minutes:g} min"
        lines.append(f"{job.name}: {ends}, {own.batch} samples a step, rate {own.learning_rate:g}{waits}")
        lines.append(_words(job.command))
    for name, _, command in order.after:
        lines += [f"{name}:", _words(command)]
    return lines


def _ending(order: pack_run.Order, wanted: str) -> list[str]:
    """Where everything lies, and how an engine gets the file."""
    named = [job for job in order.jobs if wanted in (WHOLE, job.name)]
    if wanted == WHOLE and (order.out / "CARD.md").exists():
        lines = [f"  card      {order.out / 'CARD.md'}"]
    else:
        lines = [line for job in named for line in _left(job)]
    known = set(contract_names())
    used = [job for job in order.jobs if f"tiny_{job.name}" in known]
    if used:
        lines.append("use it in place of the packaged one:" if len(used) == 1 else "use them, all of them together:")
    lines += [f"  python -m models add {shlex.quote(str(job.file))} --as tiny_{job.name}" for job in used]
    lines += [f"{job.name} serves no contract: no engine loads it" for job in named if job not in used]
    return lines


def _left(job: Job) -> list[str]:
    lines = [f"{job.name}: {job.file} ({job.file.stat().st_size / 1e6:.2f} MB)"]
    for word, ending in (("curve", ".curve.png"), ("grid", ".grid.png"), ("figures", ".figures.json")):
        path = job.file.with_suffix(ending)
        if path.exists():
            lines.append(f"  {word:<9} {path}")
    path = job.file.with_suffix(".figures.json")
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lines += [f"  {key:<28} {value}" for key, value in told.get(job.figures, {}).items()]
    lines += [f"  missed: {words}" for words in told.get("missed", [])]
    return lines
