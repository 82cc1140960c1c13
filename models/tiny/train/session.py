"""What every training run does: arguments, a rate that ends with the budget, averaged weights, pauses, checkpoints."""

from __future__ import annotations

import argparse
import copy
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.tables import TableError
from models.tiny.renderer import LOOKS
from models.tiny.train import store
from models.tiny.train.folders import trained_folder
from models.tiny.train.muon import Muon, hidden_weights
from models.tiny.train.recipe import Drawn, read_recipe

_HELD_SHARE = 0.5  # of a GPU's free memory that training pictures may take
_MUON = 2.0  # its rate, in AdamW's


def _parser(name: str) -> argparse.ArgumentParser:
    """Every option of a training command; None stands for what the recipe says."""
    parser = argparse.ArgumentParser(
        prog=f"python -m models.tiny.train.{name}", description="Defaults are the recipe's: models/tiny/train/pack.toml"
    )
    parser.add_argument("--as", dest="network", default=name, help="which network of the recipe, such as the judge")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="another recipe than the pack's")
    parser.add_argument("--minutes", type=float, help="wall-clock budget")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps; 0 = by the clock alone")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--look", choices=LOOKS)
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="default: in the user's cache, tiny-trained/LOOK")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=0, help="training samples of the first kind to draw")
    parser.add_argument("--batch", type=int, default=0, help="samples a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw training pictures")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rate, for a resumed run")
    parser.add_argument("--resume", type=Path, default=None, help="start from the averaged weights of this checkpoint")
    return parser


def _fill(given: argparse.Namespace, name: str) -> None:
    """Takes from the recipe what no option said. Raises TableError."""
    recipe = read_recipe(given.config)
    network = recipe.network(given.network)
    if network.module != name:
        raise TableError(
            f"{recipe.path}: wanted a network of the module {name} in --as, got {given.network} of {network.module}; "
            f"give python -m models.tiny.train.{network.module}"
        )
    given.look = given.look or network.look
    if given.look not in network.looks:
        raise TableError(
            f"{given.network}: wanted the look {', '.join(network.looks)}, which its labels are drawn in, "
            f"got {given.look}; leave --look out"
        )
    setting = network.on(given.device)
    given.seed = network.seed if given.seed is None else given.seed
    given.minutes = setting.minutes if given.minutes is None else given.minutes
    given.batch = given.batch or setting.batch
    given.learning_rate = network.learning_rate
    given.drawn = network.drawn(given.device, given.look, given.seed, given.count)
    given.count = given.drawn[0].count
    given.out = given.out or trained_folder(given.look) / f"tiny_{given.network}.onnx"


def arguments(name: str, more: Callable[[argparse.ArgumentParser], None] | None = None) -> argparse.Namespace:
    """The arguments of one training command; what is not given is the recipe's, and `drawn` are the samples to see.

    Training ends with --minutes or --steps, whichever comes first. more adds the arguments that one network alone has.
    """
    parser = _parser(name)
    if more is not None:
        more(parser)
    given = parser.parse_args()
    try:
        _fill(given, name)
    except TableError as error:
        parser.error(str(error))
    torch.manual_seed(given.seed)
    torch.set_num_threads(given.threads)
    if given.device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return given


def samples(given: argparse.Namespace, kind: str) -> store.Arrays:
    """The run's samples of one kind, drawn now where they are not there yet."""
    return drawn(given, next(each for each in given.drawn if each.kind == kind))


def drawn(given: argparse.Namespace, wanted: Drawn) -> store.Arrays:
    """The same of one entry of the recipe. Ctrl-C pauses here too."""
    try:
        return store.pictures(wanted.kind, wanted.count, wanted.seed, wanted.look, given.workers)
    except KeyboardInterrupt:
        print(f"{given.network}: paused while drawing; the same command goes on", flush=True)
        raise SystemExit(store.INTERRUPTED) from None


class Average:
    """Exponential average of a network's weights and buffers: what is measured and exported."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.seen = 0
        self._decay = decay
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._real = [(mine, now) for mine, now in pairs if mine.dtype.is_floating_point]
        self._whole = [(mine, now) for mine, now in pairs if not mine.dtype.is_floating_point]

    def update(self) -> None:
        """Takes the network's present weights in; early steps count more."""
        self.seen += 1
        keep = min(self._decay, self.seen / (self.seen + 10.0))
        with torch.no_grad():
            torch._foreach_lerp_([mine for mine, _ in self._real], [now for _, now in self._real], 1.0 - keep)
            for mine, now in self._whole:
                mine.copy_(now)


def batches(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless shuffled index batches, sorted inside so that a memory map is read forwards."""
    rng = np.random.default_rng(seed)
    size = min(size, count)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield np.sort(order[start : start + size])


class Shelf:
    """Training pictures within reach of a device: in its memory where half of what is free holds them."""

    def __init__(self, arrays: Mapping[str, np.ndarray], device: str) -> None:
        self._arrays, self._device = arrays, device
        self._held: dict[str, Tensor] = {}
        if device.startswith("cuda"):
            total = sum(array.nbytes for array in arrays.values() if array.dtype == np.uint8)
            if total < _HELD_SHARE * torch.cuda.mem_get_info()[0]:
                for name, array in arrays.items():
                    if array.dtype == np.uint8:
                        self._held[name] = torch.from_numpy(np.ascontiguousarray(array)).to(device)

    def take(self, name: str, pick: np.ndarray) -> Tensor:
        """Rows of an array of bytes on the device."""
        if name in self._held:
            return self._held[name][torch.from_numpy(pick).to(self._device)]
        return torch.from_numpy(np.array(self._arrays[name][pick])).to(self._device)  # a copy: maps are read-only


def pixels(bytes_nhwc: Tensor) -> Tensor:
    """uint8 [n,h,w,3] -> float32 0..1 [n,3,h,w] in channels-last memory."""
    return bytes_nhwc.permute(0, 3, 1, 2).float().mul_(1.0 / 255.0)


def mixed(device: str) -> AbstractContextManager[None]:
    """Reduced precision for the forward pass: bfloat16 needs no loss scaling."""
    region: AbstractContextManager[None] = torch.autocast(device.split(":")[0], dtype=torch.bfloat16)
    return region


@dataclass
class Progress:
    """How far a run is. curve: one entry a report, minutes, steps and the mean of each loss since the last.

    warm_from: the step from which the rate rises, for a run that begins or layers that join it.
    """

    done: int = 0
    warm_from: int = 0
    minutes: float = 0.0
    runs: list[dict[str, object]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class At:
    """Where a run stands when it takes a step: steps done, and the share of the budget spent (0..1)."""

    done: int
    spent: float


class _Run:
    """One training run with everything that a pause has to keep."""

    def __init__(
        self, given: argparse.Namespace, network: nn.Module, decay: float, edges: Sequence[str] | None
    ) -> None:
        self.given, self.progress = given, Progress()
        self.network = network.to(given.device, memory_format=torch.channels_last).train()
        self.average = Average(self.network, decay)
        self._rate = given.rate * given.learning_rate
        turned = [] if edges is None else hidden_weights(self.network, edges)
        own = {id(weight) for weight in turned}
        rest = [weight for weight in self.network.parameters() if id(weight) not in own]
        fused = given.device.startswith("cuda")
        adam = torch.optim.AdamW(rest, lr=self._rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=fused)
        self._optimisers = [(adam, 1.0), *([(Muon(turned, self._rate), _MUON)] if turned else [])]
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)

    def learn(self, loss: Tensor, share: float) -> None:
        """One step down the loss at a share of the full rate."""
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        for optimiser, factor in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._rate * factor * share
            optimiser.step()
        self.average.update()

    def _on_stop(self, number: int, frame: object) -> None:
        self._stopped = True
        signal.signal(number, signal.SIG_DFL)  # a second one ends at once

    @property
    def stopped(self) -> bool:
        """Whether somebody asked for a pause."""
        return self._stopped

    @property
    def state_path(self) -> Path:
        """Where a paused run waits: beside the file that it will write."""
        return Path(self.given.out).with_suffix(".paused.pt")

    def _same(self, saved: Mapping[str, Any]) -> bool:
        """Whether a paused state is of this command, and of this code."""
        own = {key: value.shape for key, value in self.network.state_dict().items()}
        groups = [len(each.param_groups[0]["params"]) for each, _ in self._optimisers]
        return (
            all(saved["given"][key] == str(getattr(self.given, key)) for key in ("seed", "look", "minutes", "steps"))
            and {key: value.shape for key, value in saved["network"].items()} == own
            and [len(each["param_groups"][0]["params"]) for each in saved.get("optimisers", [])] == groups
        )

    def pick_up(self, name: str) -> bool:
        """Goes on where a pause of the same command left off, or starts from --resume; whether it did."""
        if self.state_path.exists():
            saved = torch.load(self.state_path, map_location=self.given.device, weights_only=False)
            if self._same(saved):
                self.network.load_state_dict(saved["network"])
                self.average.network.load_state_dict(saved["average"])
                self.average.seen = saved["seen"]
                for (optimiser, _), state in zip(self._optimisers, saved["optimisers"], strict=True):
                    optimiser.load_state_dict(state)
                self.progress = saved["progress"]
                print(f"{name}: goes on at step {self.progress.done}", flush=True)
                return True
            print(f"{name}: {self.state_path} is of other settings or code; this run begins anew", flush=True)
        if self.given.resume is not None:
            saved = torch.load(self.given.resume, map_location=self.given.device, weights_only=False)
            own = self.network.state_dict()  # another look has another number of identity parameters
            solved = {key for key, weight in self.network.named_parameters() if not weight.requires_grad}
            fits = {
                key: value
                for key, value in saved["average"].items()
                if key in own and own[key].shape == value.shape and key not in solved
            }
            new = self.network.load_state_dict(fits, strict=False).missing_keys
            self.average.network.load_state_dict(self.network.state_dict())
            print(f"{name}: new since {self.given.resume}: {new}", flush=True)
            self.progress.runs = saved.get("runs", [])
        return self.given.resume is not None

    def pause(self) -> None:
        """Writes everything; the same command continues from it."""
        saved = {
            "network": self.network.state_dict(), "average": self.average.network.state_dict(),
            "seen": self.average.seen, "optimisers": [each.state_dict() for each, _ in self._optimisers],
            "progress": self.progress, "runs": _runs(self.given, self.progress),
            "given": {key: str(value) for key, value in vars(self.given).items()},
        }  # fmt: skip
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        part = self.state_path.with_suffix(".part")
        torch.save(saved, part)
        part.replace(self.state_path)


def _runs(given: argparse.Namespace, at: Progress) -> list[dict[str, object]]:
    """The record of all runs that led to a network, the one that is here or paused the last."""
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu"
    own = {
        "steps": at.done,
        "minutes": round(at.minutes, 1),
        "seed": given.seed,
        "look": given.look,
        "device": device,
        "threads": given.threads,
        "batch": given.batch,
        "learning_rate": given.learning_rate * given.rate,
        "drawn": [f"{each.count} {each.kind}, {each.look}" for each in given.drawn],
    }
    return [*at.runs, own]


class _Means:
    """Losses since the last report."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.counted = 0
        self._name, self._progress = name, progress
        self._sums, self._counts = dict[str, Tensor](), dict[str, int]()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Takes a step's losses in; summed on the device, for reading each would wait for it."""
        self.counted += 1
        for key, value in losses.items():
            self._sums[key] = self._sums[key] + value.detach() if key in self._sums else value.detach().clone()
            self._counts[key] = self._counts.get(key, 0) + 1  # some join later than others

    def tell(self) -> None:
        """Adds their means to the curve and prints them; nothing where no step was taken."""
        if not self.counted:
            return
        at, mean = self._progress, {key: float(value) / self._counts[key] for key, value in self._sums.items()}
        at.curve.append({"minutes": round(at.minutes, 3), "step": at.done, **mean})
        told = " ".join(f"{key} {value:.4f}" for key, value in mean.items())
        print(f"{self._name} step {at.done} at {at.minutes:.1f} min: {told}", flush=True)
        self._sums, self._counts, self.counted = {}, {}, 0


def run(
    name: str,
    given: argparse.Namespace,
    network: nn.Module,
    step: Callable[[nn.Module, At], dict[str, Tensor]],
    export: Callable[[nn.Module, Path], None],
    decay: float = 0.998,
    every: int = 200,
    keep_every_s: float = 300.0,
    edges: Sequence[str] | None = None,
    begin: Callable[[nn.Module], None] | None = None,
    joined_at: float = 0.0,
) -> None:
    """Trains until the budget ends. step returns its losses, "loss" being the sum; export writes the ONNX file.

    With edges, which name modules such as a network's last layers, Muon trains all matrices of size but theirs, and
    AdamW the rest; without, AdamW all. begin prepares the network of a run that goes on from no other. At the share
    joined_at of the budget layers join that did not learn before: the rate rises once more.

    SIGTERM and Ctrl-C pause: the state is written beside --out, and the same command goes on from there.
    """
    own = _Run(given, network, decay, edges)
    if not own.pick_up(name) and begin is not None:
        begin(own.network)
        own.average.network.load_state_dict(own.network.state_dict())
    at, before = own.progress, own.progress.minutes
    began = kept = time.monotonic()
    means = _Means(name, at)
    while True:
        at.minutes = before + (time.monotonic() - began) / 60.0
        spent = max(at.minutes / given.minutes, at.done / given.steps if given.steps else 0.0)
        if spent >= 1.0 or own.stopped:
            break
        if joined_at and not at.warm_from and spent >= joined_at:
            at.warm_from = at.done
        warm = min(1.0, (at.done - at.warm_from + 1) / 150.0)
        losses = step(own.network, At(at.done, spent))
        own.learn(losses["loss"], warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * spent))))
        at.done += 1
        means.add(losses)
        if means.counted == every or at.done == 1:
            means.tell()
        if time.monotonic() - kept > keep_every_s:
            kept = time.monotonic()
            own.pause()
    means.tell()
    if own.stopped:
        own.pause()
        print(f"{name}: paused at step {at.done}, {at.minutes:.1f} min; the same command goes on", flush=True)
        return
    _keep(own, given, export)
    own.state_path.unlink(missing_ok=True)
    print(f"{name}: {at.done} steps in {at.minutes:.1f} min -> {given.out}", flush=True)


def _keep(own: _Run, given: argparse.Namespace, export: Callable[[nn.Module, Path], None]) -> None:
    """Checkpoint, ONNX file, loss curve and the record of all runs that led to them; the record comes last."""
    out, runs = Path(given.out), _runs(given, own.progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"average": own.average.network.state_dict(), "runs": runs, "look": given.look}, out.with_suffix(".pt"))
    export(copy.deepcopy(own.average.network).cpu().float(), out)
    out.with_suffix(".curve.json").write_text(json.dumps(own.progress.curve))
    out.with_suffix(".json").write_text(json.dumps(runs))
