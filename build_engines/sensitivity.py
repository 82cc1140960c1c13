"""Which nodes must stay FP32: found by measuring this model on real inputs, not by a list of operators.

First by range: a tensor that nears FP16's largest number, or that loses more than a hundredth of its energy to
rounding (an epsilon that vanishes, a variance below the smallest number), stays FP32, and so do the nodes that make
it and read it. Then by effect: while the simulated drift misses its target, the blocks whose rounding alone costs
most are added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from build_engines.precision import bare_of, float_nodes, simulate_fp16
from build_engines.simulate import FEW, Drift, Simulation, worst_db

__all__ = ["Budget", "Noise", "Search", "effects", "fewest", "find_sensitive", "noise_of", "worst_first"]

F64 = npt.NDArray[np.float64]
Noise = dict[str, float]  # error energy over the output's squared range, by output

_LARGEST = 65504.0
_HEADROOM = 4.0  # real inputs beyond the measured ones may be larger
_NOISE_MAX = 1e-2  # of a tensor's energy; ordinary FP16 rounding costs 1e-7 of it
_HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM"}
_HUGE = 1e30  # stands for what overflowed


@dataclass(frozen=True)
class Budget:
    """How far a search may go: layers left out of INT8, by number and by share of the multiply-adds; seconds.

    `most_layers` 0 means any number.
    """

    most_layers: int = 0
    most_macs: float = 0.5
    wall_s: float = 1800.0


@dataclass(frozen=True)
class Search:
    """What was found: nodes that stay FP32, and the drift with them, by output.

    `worst` is the node that begins the block whose rounding alone costs most, where blocks had to be measured.
    """

    keep_fp32: frozenset[str]
    drift: dict[str, Drift]
    by_range: int
    by_effect: int
    worst: str = ""
    search_s: float = 0.0

    @property
    def worst_db(self) -> float:
        """The lowest PSNR of any output."""
        return worst_db(self.drift)


def find_sensitive(
    simulation: Simulation,
    target_db: float,
    *,
    budget: Budget | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Search:
    """The fewest nodes found that keep every output at `target_db` or better in the simulation.

    Returns the best that it reached where that misses the target, or where its time is up: the caller compares.
    """
    began, limit_s = time.monotonic(), (budget or Budget()).wall_s
    model = simulation.model
    by_range = _out_of_range(simulation)
    say(f"{len(by_range)} of {len(float_nodes(model))} nodes stay FP32 by range")

    def result(keep: set[str], worst: str = "") -> Search:
        drift = simulation.drift(simulate_fp16(model, keep))
        took = time.monotonic() - began
        return Search(frozenset(keep), drift, len(by_range), len(keep - by_range), worst, took)

    search = result(by_range)
    if search.worst_db >= target_db:
        return search
    blocks = [block for block in ([name for name in one if name not in by_range] for one in _blocks(model)) if block]
    every = set(float_nodes(model))

    def noise(chosen: Sequence[int]) -> Noise:
        half = {name for index in chosen for name in blocks[index]}
        return noise_of(simulation.drift(simulate_fp16(model, every - half), step=FEW))

    def kept(order: Sequence[int], count: int) -> set[str]:
        return by_range.union(*(blocks[index] for index in order[:count]))

    if not blocks:
        return search
    costs = effects(len(blocks), noise, target_db, deadline=began + limit_s)
    order, guess = worst_first(costs, target_db)
    worst = blocks[order[0]][0]

    def reached(count: int) -> float:
        return worst_db(simulation.drift(simulate_fp16(model, kept(order, count)), step=FEW))

    first = fewest(reached, target_db, len(blocks), guess)
    best = Search(search.keep_fp32, search.drift, len(by_range), 0, worst, time.monotonic() - began)
    for count in range(first, len(blocks) + 1):
        found = result(kept(order, count), worst)
        best = max(best, found, key=lambda one: one.worst_db)
        say(f"{count} of {len(blocks)} blocks in FP32: {found.worst_db:.1f} dB")
        if found.worst_db >= target_db or time.monotonic() - began > limit_s:
            break
    return best


def noise_of(drift: dict[str, Drift]) -> Noise:
    """Drift as error energies, which add up where PSNRs do not."""
    return {name: min(_HUGE, 10 ** (-one.psnr_db / 10)) for name, one in drift.items()}


def effects(count: int, noise: Callable[[Sequence[int]], Noise], target_db: float, *, deadline: float) -> list[Noise]:
    """What each of `count` parts costs alone, from `noise(indices)` of parts together.

    A group that costs no more than its even share of half of what is allowed is not looked into: its cost is spread
    evenly. The same happens to a group whose turn comes after `deadline` (of time.monotonic).
    """
    allowed = 10 ** (-target_db / 10) / 2
    found: list[Noise] = [{} for _ in range(count)]
    waiting = [(list(range(count)), noise(range(count)))]
    while waiting:
        waiting.sort(key=lambda one: max(one[1].values()) / len(one[0]))
        group, cost = waiting.pop()  # the worst first, in case the time runs out
        small = max(cost.values()) <= allowed * len(group) / count
        if len(group) == 1 or small or time.monotonic() > deadline:
            for index in group:
                found[index] = {name: value / len(group) for name, value in cost.items()}
            continue
        middle = len(group) // 2
        waiting += [(half, noise(half)) for half in (group[:middle], group[middle:])]
    return found


def worst_first(costs: Sequence[Noise], target_db: float) -> tuple[list[int], int]:
    """(parts in the order to leave them out, how many of them should do if costs add up).

    Each next part is the one that costs most in the output that is then the worst.
    """
    table: F64 = np.array([list(cost.values()) for cost in costs], dtype=np.float64)
    left, guess = list(range(len(costs))), len(costs)
    order: list[int] = []
    while left:
        total = table[left].sum(axis=0)
        if total.max() <= 10 ** (-target_db / 10):
            guess = min(guess, len(order))
        worst = max(left, key=lambda index: float(table[index, int(total.argmax())]))
        left.remove(worst)
        order.append(worst)
    return order, guess


def fewest(reached: Callable[[int], float], target_db: float, most: int, guess: int) -> int:
    """The smallest count from 0 to `most` with `reached(count)` at the target, if more never hurts; `guess` first."""
    low, high = 0, most
    middle = min(max(guess, 0), most)
    while low < high:
        middle = min(middle, high - 1)
        if reached(middle) >= target_db:
            high = middle
        else:
            low = middle + 1
        middle = (low + high) // 2
    return low


def _out_of_range(simulation: Simulation) -> set[str]:
    """Nodes that make or read a value, or a stored weight, that FP16 can't hold."""
    model = simulation.model
    half = set(float_nodes(model))
    made = [name for node in model.graph.node if node.name in half for name in node.output if name]
    taken = [info.name for info in model.graph.input if info.type.tensor_type.elem_type == TensorProto.FLOAT]
    rows = simulation.run(_with_statistics(model, [*taken, *made]))
    bad: set[str] = {name for name, values in simulation.weights.items() if _is_weak(values)}
    for name in [*taken, *made]:
        largest = max(float(row[f"{name}__largest"]) for row in rows)
        energy = sum(float(row[f"{name}__energy"]) for row in rows)
        noise = sum(float(row[f"{name}__noise"]) for row in rows)
        if largest * _HEADROOM > _LARGEST or not noise <= _NOISE_MAX * energy:
            bad.add(name)
    return {node.name for node in model.graph.node if node.name in half and bad & {*node.input, *node.output}}


def _is_weak(values: npt.NDArray[np.generic]) -> bool:
    """A weight that overflows, or vanishes, when it is stored as FP16."""
    if values.dtype != np.float32:
        return False
    exact = values.astype(np.float64)
    with np.errstate(over="ignore"):
        error = exact - values.astype(np.float16)
    energy = float(np.vdot(exact, exact))
    return bool(energy and not float(np.vdot(error, error)) <= _NOISE_MAX * energy)


def _with_statistics(model: Any, tensors: Sequence[str]) -> Any:
    """The graph with three scalars a tensor as its outputs: largest magnitude, energy, energy of FP16's rounding.

    They are computed right behind what makes the tensor, so that no tensor is held for them.
    """
    trial = bare_of(model)
    del trial.graph.output[:]
    trial.graph.initializer.extend(model.graph.initializer)
    wanted = set(tensors)
    for info in model.graph.input:
        trial.graph.node.extend(_statistics(info.name) if info.name in wanted else [])
    for node in model.graph.node:
        trial.graph.node.append(node)
        for name in node.output:
            trial.graph.node.extend(_statistics(name) if name in wanted else [])
    for name in tensors:
        for suffix in ("largest", "energy", "noise"):
            trial.graph.output.append(helper.make_tensor_value_info(f"{name}__{suffix}", TensorProto.FLOAT, []))
    return trial


def _statistics(name: str) -> list[Any]:
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Abs", [name], "abs", {}),
        ("ReduceMax", [f"{name}__abs"], "largest", {"keepdims": 0}),
        ("ReduceSumSquare", [name], "energy", {"keepdims": 0}),
        ("Cast", [name], "half", {"to": TensorProto.FLOAT16}),
        ("Cast", [f"{name}__half"], "back", {"to": TensorProto.FLOAT}),
        ("Sub", [name, f"{name}__back"], "lost", {}),
        ("ReduceSumSquare", [f"{name}__lost"], "noise", {"keepdims": 0}),
    ]
    return [
        helper.make_node(operator, inputs, [f"{name}__{suffix}"], f"{name}__{suffix}", **attributes)
        for operator, inputs, suffix, attributes in steps
    ]


def _blocks(model: Any) -> list[list[str]]:
    """Float nodes in runs that each begin with a heavy operator: what a kernel would fuse."""
    half = set(float_nodes(model))
    blocks: list[list[str]] = [[]]
    for node in model.graph.node:
        if node.name not in half:
            continue
        if node.op_type in _HEAVY and blocks[-1]:
            blocks.append([])
        blocks[-1].append(node.name)
    return [block for block in blocks if block]
