"""Which networks a training run trains, with what, in which order: decided before anything is drawn or started."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.tables import TableError
from models.tiny.train import store
from models.tiny.train.folders import PACKAGED, record_path, records
from models.tiny.train.recipe import PACK, Drawn, Look, Network, Recipe


class TrainingError(ValueError):
    """A training run that was asked for can't be: its folder, its settings or this machine do not allow it."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for. minutes: of each network named; total_minutes: of a pack, divided by the shares."""

    names: tuple[str, ...]
    out: Path
    device: str
    look: Look | None = None
    minutes: float | None = None
    total_minutes: float | None = None
    steps: int = 0
    pictures: float = 1.0
    threads: int = 1


@dataclass(frozen=True)
class Settings:
    """All that decides what a network becomes, device and clock apart: one file in a folder has one of them."""

    module: str
    look: str
    seed: int
    minutes: float
    steps: int
    batch: int
    learning_rate: float
    drawn: tuple[Drawn, ...]


@dataclass(frozen=True)
class Job:
    """One network to train into a folder. after: whom it waits for; figures: evaluate's group that measures it."""

    name: str
    settings: Settings
    after: tuple[str, ...]
    figures: str
    out: Path
    device: str
    threads: int
    config: Path

    @property
    def file(self) -> Path:
        """The ONNX file that it will be."""
        return self.out / f"tiny_{self.name}.onnx"

    @property
    def is_trained(self) -> bool:
        """Whether the folder has it already."""
        return record_path(self.out, self.name).exists()

    @property
    def is_drawn(self) -> bool:
        """Whether its samples lie in the cache."""
        return all(store.is_drawn(each.kind, each.count, each.seed, each.look) for each in self.settings.drawn)

    @property
    def command(self) -> list[str]:
        """What trains it, by this Python."""
        own = self.settings
        config = ["--config", str(self.config)] if self.config != PACK else []
        steps = ["--steps", str(own.steps)] if own.steps else []
        return [
            sys.executable, "-m", f"models.tiny.train.{own.module}", "--as", self.name, *config, "--look", own.look,
            "--seed", str(own.seed), "--minutes", f"{own.minutes:g}", *steps, "--device", self.device,
            "--count", str(own.drawn[0].count), "--threads", str(self.threads), "--out", str(self.file),
        ]  # fmt: skip


def _job(name: str, network: Network, recipe: Recipe, wish: Wish) -> Job:
    look, setting = wish.look or network.look, network.on(wish.device)
    minutes = setting.minutes
    if wish.total_minutes is not None:
        minutes = network.share * wish.total_minutes
    if wish.minutes is not None and name in wish.names:
        minutes = wish.minutes
    first = max(min(64, setting.pictures[0].count), round(setting.pictures[0].count * wish.pictures))
    drawn = network.drawn(wish.device, look, network.seed, first)
    settings = Settings(
        network.module, look, network.seed, minutes, wish.steps, setting.batch, network.learning_rate, drawn
    )
    out = wish.out.resolve()
    return Job(name, settings, network.after, network.figures, out, wish.device, wish.threads, recipe.path)


def planned(recipe: Recipe, wish: Wish) -> tuple[Job, ...]:
    """The wished networks and those that they need, in the order of training; trained ones are among them.

    Raises TableError for a name that the recipe does not have, TrainingError for what can't be done.
    """
    if wish.out.resolve() == PACKAGED:
        raise TrainingError(
            f"train: wanted a folder of its own for candidates, got {wish.out} with the committed weights; name another"
        )
    needed = {each for name in wish.names for each in recipe.with_needed(name)}
    jobs = tuple(_job(name, network, recipe, wish) for name, network in recipe.networks.items() if name in needed)
    for job in jobs:
        looks = recipe.network(job.name).looks
        if job.settings.look not in looks:
            raise TrainingError(
                f"train: wanted {job.name} in the look {', '.join(looks)}, which its labels are drawn in, "
                f"got {job.settings.look}; leave --look out"
            )
    _one_look(jobs)
    return jobs


def _one_look(jobs: tuple[Job, ...]) -> None:
    """Refuses a folder with networks of two looks: they would not know each other's faces."""
    looks = {job.settings.look for job in jobs}
    for job in jobs:
        looks |= {str(run["look"]) for run in records(job.out, job.name)[-1:]}
    if len(looks) > 1:
        raise TrainingError(
            f"train: wanted networks of one look in {jobs[0].out}, got {' and '.join(sorted(looks))}; "
            "name another folder with --out, or one look with --look"
        )


def _plan_path(job: Job) -> Path:
    return job.out / f"tiny_{job.name}.plan.json"


def _told(settings: Settings) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return told


def check_plan(job: Job) -> None:
    """Refuses to go on, or to call done, what other settings began in the folder. Raises TrainingError."""
    path = _plan_path(job)
    if not path.exists():
        return
    there, own = json.loads(path.read_text(encoding="utf-8")), _told(job.settings)
    for key, value in own.items():
        if there.get(key) != value:
            raise TrainingError(
                f"train: wanted {path} to say {key} {_short(value)}, got {_short(there.get(key))}; repeat the command "
                f"that began there, name another folder with --out, or remove tiny_{job.name}.* there"
            )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(f"{each['count']} {each['kind']} of the {each['look']} look" for each in value)
    return str(value)


def write_plan(job: Job) -> None:
    """Leaves the settings in the folder, so that the same command alone goes on."""
    job.out.mkdir(parents=True, exist_ok=True)
    path = _plan_path(job)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_told(job.settings), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def to_draw(jobs: tuple[Job, ...]) -> list[str]:
    """KIND:COUNT:SEED:LOOK of all samples that the untrained ones lack, each once, in the order of training."""
    lacked = [
        f"{each.kind}:{each.count}:{each.seed}:{each.look}"
        for job in jobs
        if not job.is_trained
        for each in job.settings.drawn
        if not store.is_drawn(each.kind, each.count, each.seed, each.look)
    ]
    return list(dict.fromkeys(lacked))


def draw_command(wanted: list[str], workers: int) -> list[str]:
    """What draws them, by this Python."""
    return [sys.executable, "-m", "models.tiny.train.store", *wanted, "--workers", str(workers)]


def usual_device() -> str:
    """cuda where PyTorch is installed and finds a device, else cpu."""
    if importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def usual_threads(device: str) -> int:
    """Threads of a network that trains: one beside a GPU, else half of the cores, for people work beside it."""
    return 1 if device.startswith("cuda") else max(1, (os.cpu_count() or 2) // 2)


__all__ = [
    "Job", "Settings", "TableError", "TrainingError", "Wish", "check_plan", "draw_command", "planned", "to_draw",
    "usual_device", "usual_threads", "write_plan",
]  # fmt: skip
