"""Draws, trains and measures the whole pack with one command: python -m models.tiny.train.all --out FOLDER.

Candidates go to FOLDER, never over the committed weights. A run that is stopped (SIGTERM, Ctrl-C or --pause-after) goes
on when the same command is given again. What is trained, and with what, is said in pack.toml.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.tables import TableError
from models.tiny.renderer import LOOKS
from models.tiny.train.folders import record_path
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
    write_plan,
)
from models.tiny.train.recipe import read_recipe

_WHOLE = ("detector", "refiner", "embedder", "swapper")  # what the measure of a pack needs at least


class Runs:
    """The commands that are under way, each in a process group of its own with a log in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._live: dict[str, subprocess.Popen[bytes]] = {}
        self._told: dict[str, int] = {}  # bytes of each log that were shown

    def start(self, name: str, command: list[str]) -> None:
        """Begins a command; its words go to NAME.log, and are shown by busy()."""
        print(f"train: {name}: {' '.join(command[2:])}", flush=True)
        path = self._folder / f"{name}.log"
        with path.open("ab") as log:
            self._told[name] = log.tell()
            self._live[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _tell(self, name: str) -> None:
        """Shows the whole lines that a log has got since the last time."""
        with (self._folder / f"{name}.log").open("rb") as log:
            log.seek(self._told[name])
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._told[name] += len(whole)
        if whole:
            print(whole.decode(errors="replace"), end="", flush=True)

    def busy(self) -> set[str]:
        """Names of commands still running. Raises SystemExit with a log's end where one has failed."""
        for name, process in list(self._live.items()):
            code = process.poll()
            self._tell(name)
            if code is None:
                continue
            del self._live[name]
            if code != 0:
                self.stop()
                end = "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])
                raise SystemExit(f"train: wanted {name} to end well, got exit code {code}; its last words:\n{end}")
        return set(self._live)

    def stop(self) -> None:
        """Asks all to pause and waits for them; drawing goes on with the pictures that it has."""
        for process in self._live.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self._live.items():
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                print(f"train: {name}: did not pause in 90 s; killed", flush=True)
            try:
                os.killpg(process.pid, signal.SIGKILL)  # drawing processes that outlive their parent
            except ProcessLookupError:
                continue
            finally:
                self._tell(name)
        self._live.clear()


@dataclass(frozen=True)
class Order:
    """A run as planned: jobs in order, drawing processes, whether one trains at a time, when to pause by itself."""

    jobs: tuple[Job, ...]
    workers: int
    one_by_one: bool
    stop_at: float = float("inf")
    after: tuple[tuple[str, Path, list[str]], ...] = field(default=())  # name, proof that it is done, command

    @property
    def out(self) -> Path:
        """The folder of all of them."""
        return self.jobs[0].out


def ready(order: Order, busy: set[str]) -> list[Job]:
    """The jobs that can start now."""
    trained = {job.name for job in order.jobs if job.is_trained}
    jobs = [
        job for job in order.jobs if job.name not in busy | trained and trained.issuperset(job.after) and job.is_drawn
    ]
    if not order.one_by_one:
        return jobs
    return [] if busy - {"draw"} else jobs[:1]


def train(order: Order, runs: Runs) -> bool:
    """Draws and trains until all is done (True) or it is time to pause (False)."""
    for job in order.jobs:
        if not job.is_trained:
            write_plan(job)
    wanted = to_draw(order.jobs)
    if wanted:
        runs.start("draw", draw_command(wanted, order.workers))
    while True:
        busy = runs.busy()
        if not busy and all(job.is_trained for job in order.jobs):
            return True
        if time.monotonic() > order.stop_at:
            runs.stop()
            return False
        for job in ready(order, busy):
            runs.start(job.name, job.command)
        time.sleep(0.3)


def close(order: Order, runs: Runs) -> bool:
    """What follows training (pictures, figures), one after the other; False when it was time to pause."""
    trained_at = max(record_path(job.out, job.name).stat().st_mtime for job in order.jobs)
    for name, proof, command in order.after:
        if not (proof.exists() and proof.stat().st_mtime >= trained_at):
            runs.start(name, command)
        while runs.busy():
            if time.monotonic() > order.stop_at:
                runs.stop()
                return False
            time.sleep(0.3)
        proof.touch()
    return True


def follow(order: Order) -> bool:
    """Does all of a run; False where it was paused. Ctrl-C and SIGTERM pause it. Raises SystemExit on a failure."""
    order.out.mkdir(parents=True, exist_ok=True)
    runs = Runs(order.out)
    before = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return train(order, runs) and close(order, runs)
    except KeyboardInterrupt:
        print("train: pausing", flush=True)
        runs.stop()
        return False
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def measuring(jobs: tuple[Job, ...], share: float, workers: int) -> tuple[tuple[str, Path, list[str]], ...]:
    """Pictures and card of a whole pack, or nothing where the run does not have one."""
    names = {job.name for job in jobs}
    if not names.issuperset(_WHOLE):
        return ()
    out, look = jobs[0].out, jobs[0].settings.look
    words = ["--folder", str(out), "--look", look]
    start = [sys.executable, "-m"]
    measure = ["models.tiny.train.evaluate", "--share", f"{share:g}", "--processes", str(min(workers, 5))]
    return (
        ("pictures", out / "pictures.done", [*start, "models.tiny.train.picture_file", *words]),
        ("measure", out / "measure.done", [*start, *measure, *words]),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the candidates")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="another recipe than the pack's")
    parser.add_argument("--look", choices=LOOKS, help="default: the recipe's")
    parser.add_argument("--minutes", type=float, help="time for drawing and training, pauses not counted")
    parser.add_argument(
        "--steps", type=int, default=0, help="stop each network after this many; 0 = by the clock alone"
    )
    parser.add_argument("--device", help="default: cuda where PyTorch finds one, else cpu")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="drawing processes")
    parser.add_argument("--pictures", type=float, default=1.0, help="share of the recipe's number of training pictures")
    parser.add_argument("--share", type=float, default=0.5, help="share of the card's sample counts to measure")
    parser.add_argument("--pause-after", type=float, default=0.0, help="minutes after which to stop for now; 0 = never")
    parser.add_argument("--one-by-one", action="store_true", help="train one network at a time; so it is on a CPU")
    return parser


def ordered(given: argparse.Namespace) -> Order:
    """The run that the arguments ask for, checked against its folder. Raises TableError and TrainingError."""
    recipe, device = read_recipe(given.config), given.device or usual_device()
    fitting = [n for n, each in recipe.networks.items() if given.look is None or given.look in each.looks]
    wish = Wish(
        tuple(fitting), given.out, device, given.look, total_minutes=given.minutes, steps=given.steps,
        pictures=given.pictures, threads=usual_threads(device),
    )  # fmt: skip
    jobs = planned(recipe, wish)
    for job in jobs:
        check_plan(job)
    alone = given.one_by_one or not device.startswith("cuda")
    stop_at = time.monotonic() + 60.0 * given.pause_after if given.pause_after > 0.0 else float("inf")
    return Order(jobs, given.workers, alone, stop_at, measuring(jobs, given.share, given.workers))


def main(arguments: Sequence[str] | None = None) -> None:
    """python -m models.tiny.train.all"""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        order = ordered(given)
    except (TableError, TrainingError) as error:
        parser.error(str(error))
    began = time.monotonic()
    whole = follow(order)
    minutes = (time.monotonic() - began) / 60.0
    if whole:
        print(f"train: done in {minutes:.1f} min; see {order.out}", flush=True)
    else:
        print(f"train: paused after {minutes:.1f} min; give the same command again to go on", flush=True)


if __name__ == "__main__":
    main()
