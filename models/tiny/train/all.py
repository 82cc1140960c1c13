"""Draws, trains and measures the whole pack with one command: python -m models.tiny.train.all --out FOLDER.

Candidates go to FOLDER, never over the committed weights. A run that is stopped (SIGTERM, Ctrl-C or --pause-after) goes
on when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.tiny.renderer import LOOKS
from models.tiny.train import store

_COMMITTED = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    """One network: its module, pictures (kind, count, seed), who has to be done before, and its share of the time."""

    name: str
    module: str
    pictures: tuple[tuple[str, int, int], ...]
    share: float
    batch: int  # on a GPU; the module's own on a CPU
    seed: int = 1
    after: tuple[str, ...] = ()


# The judge is a second embedder, of other pictures and another start, that no loss ever asks: it measures swaps.
# Shares overlap: what has no predecessor trains at the same time on the same device.
JOBS = (
    Job("embedder", "embedder", (("embed", 60000, 1),), 0.22, 256),
    Job("refiner", "refiner", (("refine", 40000, 1),), 0.30, 192),
    Job("detector", "detector", (("scene", 12000, 1), ("room", 3000, 1)), 0.62, 32),
    Job("lipsync", "lipsync", (("mouth", 24000, 1), ("voice", 14400, 1)), 0.60, 96),
    Job("judge", "embedder", (("embed", 40000, 2),), 0.18, 256, seed=2),
    Job("swapper", "swapper", (("swap", 40000, 1),), 0.50, 48, after=("embedder",)),
    Job(
        "restorer", "restorer", (("restore", 4000, 1),), 0.25, 32, after=("embedder", "swapper", "refiner", "detector")
    ),
)


def _scaled(job: Job, factor: float) -> tuple[tuple[str, int, int], ...]:
    """The job's pictures at a share of their number; a job's kinds stay in proportion, as its trainer asks."""
    usual = job.pictures[0][1]
    first = max(64, round(usual * factor))
    counts = [first, *(max(64, round(first * count / usual)) for _, count, _ in job.pictures[1:])]
    return tuple((kind, count, seed) for (kind, _, seed), count in zip(job.pictures, counts, strict=True))


def arguments() -> argparse.Namespace:
    """The command's arguments, checked."""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the candidates")
    parser.add_argument("--look", choices=LOOKS, default="film")
    parser.add_argument("--minutes", type=float, default=20.0, help="time for drawing and training, pauses not counted")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="drawing processes")
    parser.add_argument("--pictures", type=float, default=1.0, help="share of the usual number of training pictures")
    parser.add_argument("--share", type=float, default=0.5, help="share of the card's sample counts to measure")
    parser.add_argument("--pause-after", type=float, default=0.0, help="minutes after which to stop for now; 0 = never")
    parser.add_argument("--one-by-one", action="store_true", help="train one network at a time (CPU)")
    given = parser.parse_args()
    if given.out.resolve() == _COMMITTED:
        parser.error(
            f"all: wanted a folder of its own for candidates, got {_COMMITTED} with the committed weights; name another"
        )
    return given


def _plan(given: argparse.Namespace) -> None:
    """Refuses a folder that a different command has begun to fill."""
    own = {key: getattr(given, key) for key in ("look", "minutes", "pictures")}
    path = given.out / "plan.json"
    given.out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        there: dict[str, Any] = json.loads(path.read_text())
        if there != own:
            raise SystemExit(
                f"all: wanted {path} to say {own}, got {there}; name an empty folder or repeat that command"
            )
    else:
        path.write_text(json.dumps(own) + "\n")


class Runs:
    """The commands that are under way, each in a process group of its own with a log in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._live: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Begins a command; its words go to NAME.log."""
        print(f"all: {name}: {' '.join(command[2:])}", flush=True)
        with (self._folder / f"{name}.log").open("ab") as log:
            self._live[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def busy(self) -> set[str]:
        """Names of commands still running. Raises SystemExit with a log's end where one has failed."""
        for name, process in list(self._live.items()):
            code = process.poll()
            if code is None:
                continue
            del self._live[name]
            if code != 0:
                self.stop()
                end = "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])
                raise SystemExit(f"all: wanted {name} to end well, got exit code {code}; its last words:\n{end}")
            print(f"all: {name}: ended", flush=True)
        return set(self._live)

    def stop(self) -> None:
        """Asks all to pause and waits for them; drawing is begun anew next time."""
        for process in self._live.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self._live.items():
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                print(f"all: {name}: did not pause in 90 s; killed", flush=True)
            try:
                os.killpg(process.pid, signal.SIGKILL)  # drawing processes that outlive their parent
            except ProcessLookupError:
                continue
        self._live.clear()


def _command(given: argparse.Namespace, job: Job) -> list[str]:
    gpu = given.device.startswith("cuda")
    command = [
        sys.executable, "-m", f"models.tiny.train.{job.module}", "--look", given.look, "--seed", str(job.seed),
        "--minutes", f"{job.share * given.minutes:.3f}", "--device", given.device,
        "--count", str(_scaled(job, given.pictures)[0][1]), "--workers", "1",
        "--out", str(given.out / f"tiny_{job.name}.onnx"),
    ]  # fmt: skip
    return [*command, "--batch", str(job.batch)] if gpu else command


def _finished(given: argparse.Namespace, name: str) -> bool:
    record: Path = given.out / f"tiny_{name}.json"
    return record.exists()


def _drawn(given: argparse.Namespace, job: Job) -> bool:
    prefix = "" if given.look == "classic" else f"{given.look}-"
    cache: Path = store.cache_folder()
    return all(
        (cache / f"{prefix}{kind}-{count}-{seed}" / "complete").exists()
        for kind, count, seed in _scaled(job, given.pictures)
    )


def _ready(given: argparse.Namespace, busy: set[str]) -> list[Job]:
    jobs = [
        job
        for job in JOBS
        if job.name not in busy
        and not _finished(given, job.name)
        and _drawn(given, job)
        and all(_finished(given, name) for name in job.after)
    ]
    if not given.one_by_one:
        return jobs
    return [] if busy - {"draw"} else jobs[:1]


def _train(given: argparse.Namespace, runs: Runs, stop_at: float) -> bool:
    """Draws and trains until all is done (True) or it is time to pause (False)."""
    wanted = [f"{k}:{c}:{s}" for job in JOBS if not _drawn(given, job) for k, c, s in _scaled(job, given.pictures)]
    if wanted:
        draw = [sys.executable, "-m", "models.tiny.train.store", *wanted, "--look", given.look]
        runs.start("draw", [*draw, "--workers", str(given.workers)])
    while True:
        busy = runs.busy()
        if not busy and all(_finished(given, job.name) for job in JOBS):
            return True
        if time.monotonic() > stop_at:
            runs.stop()
            return False
        for job in _ready(given, busy):
            runs.start(job.name, _command(given, job))
            if given.one_by_one:
                break
        time.sleep(0.3)


def _measure(given: argparse.Namespace, runs: Runs, stop_at: float) -> bool:
    folder = ["--folder", str(given.out), "--look", given.look]
    steps = {
        "pictures": (["picture_file"], "swaps.png"),
        "measure": (["evaluate", "--share", str(given.share), "--processes", str(min(given.workers, 5))], "CARD.md"),
    }
    for name, (words, proof) in steps.items():
        if not (given.out / proof).exists():
            runs.start(name, [sys.executable, "-m", f"models.tiny.train.{words[0]}", *words[1:], *folder])
    while runs.busy():
        if time.monotonic() > stop_at:
            runs.stop()
            return False
        time.sleep(0.3)
    return True


def main() -> None:
    """python -m models.tiny.train.all"""
    given = arguments()
    _plan(given)
    began = time.monotonic()
    stop_at = began + 60.0 * given.pause_after if given.pause_after > 0.0 else float("inf")
    runs = Runs(given.out)
    try:
        whole = _train(given, runs, stop_at) and _measure(given, runs, stop_at)
    except KeyboardInterrupt:
        runs.stop()
        whole = False
    minutes = (time.monotonic() - began) / 60.0
    if whole:
        print(f"all: done in {minutes:.1f} min; see {given.out / 'CARD.md'}", flush=True)
    else:
        print(f"all: paused after {minutes:.1f} min; give the same command again to go on", flush=True)


if __name__ == "__main__":
    main()
