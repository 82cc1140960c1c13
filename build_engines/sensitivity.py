"""Which nodes must stay FP32: found by measuring this model on real inputs, not by a list of operators.

First by range: a tensor that nears FP16's largest number, or that loses more than a hundredth of its energy to
rounding (an epsilon that vanishes, a variance below the smallest number), is computed in FP32. Then by effect: while
the simulated drift misses its target, the blocks whose rounding alone costs most are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from build_engines.precision import float_nodes, simulate_fp16

__all__ = ["Drift", "Feeds", "Search", "drift_of", "find_sensitive", "run_model"]

F32 = npt.NDArray[np.float32]
Feeds = Sequence[dict[str, F32]]

_LARGEST = 65504.0
_HEADROOM = 4.0  # real inputs beyond the measured ones may be larger
_NOISE_MAX = 1e-2  # of a tensor's energy; ordinary FP16 rounding costs 1e-7 of it
_HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM"}


@dataclass(frozen=True)
class Drift:
    """How far outputs are from FP32, the worst over inputs: PSNR in dB of the output's own range, cosine, max abs."""

    psnr_db: float
    cosine: float
    max_abs: float


@dataclass(frozen=True)
class Search:
    """What was found: nodes that stay FP32, and the drift with them, by output."""

    keep_fp32: frozenset[str]
    drift: dict[str, Drift]
    by_range: int
    by_effect: int
    worst_block: str = ""

    @property
    def worst_db(self) -> float:
        """The lowest PSNR of any output."""
        return min(one.psnr_db for one in self.drift.values())


def run_model(model: Any, feeds: Feeds, *, threads: int = 1) -> list[dict[str, F32]]:
    """Outputs by name for every feed, on the CPU without graph optimisations: casts stay where they stand."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def drift_of(exact: Sequence[dict[str, F32]], other: Sequence[dict[str, F32]]) -> dict[str, Drift]:
    """The drift of every output; anything not finite is a PSNR of -inf."""
    drifts = {}
    for name in exact[0]:
        rows = [_drift(one[name], two[name]) for one, two in zip(exact, other, strict=True)]
        drifts[name] = Drift(min(r.psnr_db for r in rows), min(r.cosine for r in rows), max(r.max_abs for r in rows))
    return drifts


def find_sensitive(
    model: Any, feeds: Feeds, target_db: float, *, say: Callable[[str], None] = lambda line: None
) -> Search:
    """The fewest nodes found that keep every output at `target_db` or better in the simulation over `feeds`.

    Returns what it reached when even all of FP32 blocks in order of effect do not: the caller compares.
    """
    exact = run_model(model, feeds)
    by_range = _out_of_range(model, feeds)
    keep = set(by_range)
    say(f"{len(by_range)} nodes stay FP32 by range")
    search = Search(frozenset(keep), _simulated(model, feeds, keep, exact), len(by_range), 0)
    if search.worst_db >= target_db:
        return search
    blocks = [block - keep for block in _blocks(model) if block - keep]
    every = set(float_nodes(model))
    few = feeds[: max(1, len(feeds) // 8)]
    few_exact = exact[: len(few)]
    cost = [_worst(_simulated(model, few, every - block, few_exact)) for block in blocks]
    order = np.argsort(cost, kind="stable")
    worst = min(blocks[int(order[0])]) if blocks else ""
    low, high = 0, len(blocks)
    while low < high:  # the fewest blocks, worst first, that reach the target
        middle = (low + high) // 2
        trial = keep.union(*(blocks[i] for i in order[: middle + 1]))
        if _worst(_simulated(model, few, trial, few_exact)) >= target_db:
            high = middle
        else:
            low = middle + 1
    for count in range(min(low + 1, len(blocks)), len(blocks) + 1):
        trial = keep.union(*(blocks[i] for i in order[:count]))
        search = Search(
            frozenset(trial), _simulated(model, feeds, trial, exact), len(by_range), len(trial - keep), worst
        )
        say(f"{count} of {len(blocks)} blocks in FP32: {search.worst_db:.1f} dB")
        if search.worst_db >= target_db:
            break
    return search


def _simulated(model: Any, feeds: Feeds, keep: set[str], exact: Sequence[dict[str, F32]]) -> dict[str, Drift]:
    return drift_of(exact, run_model(simulate_fp16(model, keep), feeds))


def _worst(drift: dict[str, Drift]) -> float:
    return min(one.psnr_db for one in drift.values())


def _drift(exact: F32, other: F32) -> Drift:
    if not np.isfinite(other).all():
        return Drift(float("-inf"), 0.0, float("inf"))
    error = np.asarray(other, np.float64) - exact
    peak = max(float(np.ptp(exact)), float(np.abs(exact).max()), 1e-12)
    energy = float(np.mean(error**2))
    psnr = 200.0 if energy == 0 else min(200.0, 10 * float(np.log10(peak**2 / energy)))
    norms = float(np.linalg.norm(exact) * np.linalg.norm(other))
    cosine = float(np.vdot(exact, other) / norms) if norms else 1.0
    return Drift(psnr, cosine, float(np.abs(error).max()))


def _out_of_range(model: Any, feeds: Feeds) -> set[str]:
    """Nodes with a result, or a stored weight, that FP16 can't hold."""
    flagged: set[str] = set()
    half = set(float_nodes(model))
    producer = {name: node.name for node in model.graph.node if node.name in half for name in node.output}
    tensors = [name for name in producer if name]
    rows = run_model(_with_statistics(model, tensors), feeds)
    for name in tensors:
        largest = max(float(row[f"{name}__largest"]) for row in rows)
        energy = sum(float(row[f"{name}__energy"]) for row in rows)
        noise = sum(float(row[f"{name}__noise"]) for row in rows)
        if largest * _HEADROOM > _LARGEST or not noise <= _NOISE_MAX * energy:
            flagged.add(producer[name])
    weak = {item.name for item in model.graph.initializer if _is_weak(item)}
    return flagged | {node.name for node in model.graph.node if node.name in half and weak & set(node.input)}


def _is_weak(item: Any) -> bool:
    """A weight that overflows, or vanishes, when it is stored as FP16."""
    if item.data_type != TensorProto.FLOAT:
        return False
    values = numpy_helper.to_array(item).astype(np.float64)
    with np.errstate(over="ignore"):
        error = values - values.astype(np.float16)
    energy = float(np.sum(values**2))
    return bool(energy and not float(np.sum(error**2)) <= _NOISE_MAX * energy)


def _with_statistics(model: Any, tensors: Sequence[str]) -> Any:
    """The graph with three scalars a tensor as its outputs: largest magnitude, energy, energy of FP16's rounding."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for name in tensors:
        steps = [
            ("Abs", [name], "abs", {}),
            ("ReduceMax", [f"{name}__abs"], "largest", {"keepdims": 0}),
            ("ReduceSumSquare", [name], "energy", {"keepdims": 0}),
            ("Cast", [name], "half", {"to": TensorProto.FLOAT16}),
            ("Cast", [f"{name}__half"], "back", {"to": TensorProto.FLOAT}),
            ("Sub", [name, f"{name}__back"], "error", {}),
            ("ReduceSumSquare", [f"{name}__error"], "noise", {"keepdims": 0}),
        ]
        for operator, inputs, suffix, attributes in steps:
            made = f"{name}__{suffix}"
            copy.graph.node.append(helper.make_node(operator, inputs, [made], made, **attributes))
        for suffix in ("largest", "energy", "noise"):
            copy.graph.output.append(helper.make_tensor_value_info(f"{name}__{suffix}", TensorProto.FLOAT, []))
    return copy


def _blocks(model: Any) -> list[set[str]]:
    """Float nodes in runs that each begin with a heavy operator: what a kernel would fuse."""
    half = set(float_nodes(model))
    blocks: list[set[str]] = [set()]
    for node in model.graph.node:
        if node.name not in half:
            continue
        if node.op_type in _HEAVY and blocks[-1]:
            blocks.append(set())
        blocks[-1].add(node.name)
    return [block for block in blocks if block]
