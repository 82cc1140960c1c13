"""What every training run does: arguments, a rate that ends with the budget, averaged weights, checkpoints."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

EXPORT_FOLDER = Path(__file__).resolve().parent.parent


def arguments(name: str, minutes: float) -> argparse.Namespace:
    """The arguments of one training command: --minutes or --steps (whichever ends first), --seed, --out and so on."""
    parser = argparse.ArgumentParser(prog=f"python -m models.tiny.train.{name}")
    parser.add_argument("--minutes", type=float, default=minutes, help="wall-clock budget")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps; 0 = by the clock alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=EXPORT_FOLDER / f"tiny_{name}.onnx")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=0, help="training samples to draw; 0 = this network's default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rate, for a resumed run")
    parser.add_argument("--resume", type=Path, default=None, help="start from the averaged weights of this checkpoint")
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(given.threads)
    return given


class Average:
    """Exponential average of a network's weights and buffers: what is measured and exported."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay, self._seen = decay, 0

    def update(self, network: nn.Module) -> None:
        """Takes the network's present weights in; early steps count more."""
        self._seen += 1
        keep = min(self._decay, self._seen / (self._seen + 10.0))
        with torch.no_grad():
            for mine, now in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
                if mine.dtype.is_floating_point:
                    mine.lerp_(now.to(mine.dtype), 1.0 - keep)
                else:
                    mine.copy_(now)


def batches(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless shuffled index batches, sorted inside so that a memory map is read forwards."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield np.sort(order[start : start + size])


def pixels(bytes_nhwc: np.ndarray, device: str) -> Tensor:
    """uint8 [n,h,w,3] -> float32 0..1 [n,3,h,w] in channels-last memory."""
    tensor = torch.from_numpy(np.array(bytes_nhwc)).to(device)  # a copy: memory maps are read-only
    return tensor.permute(0, 3, 1, 2).float().mul_(1.0 / 255.0)


def mixed(device: str) -> AbstractContextManager[None]:
    """Reduced precision for the forward pass: bfloat16 needs no loss scaling."""
    region: AbstractContextManager[None] = torch.autocast(device.split(":")[0], dtype=torch.bfloat16)
    return region


def _record(given: argparse.Namespace, done: int, minutes: float) -> dict[str, object]:
    return {
        "steps": done,
        "minutes": round(minutes, 1),
        "seed": given.seed,
        "device": given.device,
        "threads": given.threads,
    }


def run(
    name: str,
    given: argparse.Namespace,
    network: nn.Module,
    step: Callable[[nn.Module, int], dict[str, Tensor]],
    export: Callable[[nn.Module, Path], None],
    rate: float,
    decay: float = 0.998,
    every: int = 200,
    keep_every_s: float = 300.0,
) -> None:
    """Trains until the budget ends. step returns its losses, "loss" being the sum; export writes the ONNX file."""
    network = network.to(given.device, memory_format=torch.channels_last).train()
    earlier: list[dict[str, object]] = []
    if given.resume is not None:
        saved = torch.load(given.resume, map_location=given.device)
        loaded = network.load_state_dict(saved["average"], strict=False)
        print(f"{name}: new since {given.resume}: {loaded.missing_keys}", flush=True)
        earlier = saved.get("runs", [])
    average = Average(network, decay)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    began = kept = time.monotonic()
    sums: dict[str, float] = {}
    done = 0
    while True:
        minutes = (time.monotonic() - began) / 60.0
        spent = max(minutes / given.minutes, done / given.steps if given.steps else 0.0)
        if spent >= 1.0:
            break
        warm = min(1.0, (done + 1) / 150.0)
        for group in optimiser.param_groups:
            group["lr"] = given.rate * rate * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * spent)))
        losses = step(network, done)
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update(network)
        done += 1
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        if done % every == 0:
            line = " ".join(f"{key} {value / every:.4f}" for key, value in sums.items())
            print(f"{name} step {done} at {minutes:.1f} min: {line}", flush=True)
            sums = {}
        if time.monotonic() - kept > keep_every_s:
            kept = time.monotonic()
            _keep(average, given, export, [*earlier, _record(given, done, minutes)])
    runs = [*earlier, _record(given, done, minutes)]
    _keep(average, given, export, runs)
    print(f"{name}: {done} steps in {minutes:.1f} min -> {given.out}", flush=True)


def _keep(
    average: Average,
    given: argparse.Namespace,
    export: Callable[[nn.Module, Path], None],
    runs: list[dict[str, object]],
) -> None:
    """Checkpoint, ONNX file and the record of all runs that led to them."""
    out = Path(given.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"average": average.network.state_dict(), "runs": runs}, out.with_suffix(".pt"))
    export(copy.deepcopy(average.network).cpu().float(), out)
    out.with_suffix(".json").write_text(json.dumps(runs))
