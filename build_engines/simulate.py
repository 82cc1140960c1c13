"""What a typed graph computes, against the FP32 graph, on real inputs: every trial of a search goes through here.

A trial is a graph of nodes alone. The weights lie beside it once, however many trials there are: models of half a
gigabyte are searched in a few times their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, numpy_helper

from build_engines.precision import bare_of

__all__ = ["FEW", "Drift", "Feeds", "Simulation", "drift_of", "external", "open_model", "run_model", "worst_db"]

F32 = npt.NDArray[np.float32]
Weights = Mapping[str, npt.NDArray[Any]]
Feeds = Sequence[Mapping[str, F32]]

# of this many inputs, one ranks the trials of a search; what a search returns is measured on all
FEW = 8
_SMALL_BYTES = 1024  # shapes and scalars stay in the graph, where shape inference reads them
_MOST_DB = 200.0


@dataclass(frozen=True)
class Drift:
    """How far outputs are from FP32, the worst over inputs: PSNR in dB of the output's own range, cosine, max abs."""

    psnr_db: float
    cosine: float
    max_abs: float


class Simulation:
    """An FP32 graph without its weights, the weights, real inputs, and what the graph computes for them.

    `threads`: of ONNX Runtime, 0 for all cores. The outputs of FP32 are kept for as long as this lives.
    """

    def __init__(self, model: Any, feeds: Feeds, *, threads: int = 0) -> None:
        self.model, self.weights = _detached(model)
        self.feeds, self.threads = feeds, threads
        self.exact = self.run(self.model)

    def run(self, graph: Any, *, step: int = 1, weights: Weights | None = None) -> list[dict[str, F32]]:
        """Outputs of a trial graph for every `step`-th input; `weights` are its own, beside those held here."""
        given = {**self.weights, **(weights or {})}
        return run_model(graph, self.feeds[::step], threads=self.threads, weights=given)

    def drift(self, graph: Any, *, step: int = 1, weights: Weights | None = None) -> dict[str, Drift]:
        """How far a trial graph is from FP32 over every `step`-th input, by output."""
        return drift_of(self.exact[::step], self.run(graph, step=step, weights=weights))


def run_model(model: Any, feeds: Feeds, *, threads: int = 0, weights: Weights | None = None) -> list[dict[str, F32]]:
    """Outputs by name for every feed, on the CPU without graph optimisations: casts stay where they stand.

    `weights`: what the graph only refers to, by name. A feed may name inputs that surgery made constants of.
    """
    session = open_model(model, threads=threads, weights=weights)
    inputs = [item.name for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs()]
    taken = [{name: feed[name] for name in inputs} for feed in feeds]
    return [dict(zip(outputs, session.run(outputs, feed), strict=True)) for feed in taken]


def open_model(model: Any, *, threads: int = 0, weights: Weights | None = None) -> Any:
    """The session that `run_model` runs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # nodes run in the order of the graph: what is computed beside a tensor comes before the tensor's next use, and
    # the default order, from the last output backwards, would hold every tensor until the end
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # an arena keeps what it once had, and grows by doubling
    options.enable_cpu_mem_arena = False
    names = [item.name for item in model.graph.initializer if item.data_location == TensorProto.EXTERNAL]
    held = [onnxruntime.OrtValue.ortvalue_from_numpy((weights or {})[name]) for name in names]
    if names:
        options.add_external_initializers(names, held)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def drift_of(exact: Sequence[Mapping[str, F32]], other: Sequence[Mapping[str, F32]]) -> dict[str, Drift]:
    """The drift of every output; anything not finite is a PSNR of -inf."""
    drifts = {}
    for name in exact[0]:
        rows = [_drift(one[name], two[name]) for one, two in zip(exact, other, strict=True)]
        drifts[name] = Drift(min(r.psnr_db for r in rows), min(r.cosine for r in rows), max(r.max_abs for r in rows))
    return drifts


def worst_db(drift: Mapping[str, Drift]) -> float:
    """The lowest PSNR of any output."""
    return min(one.psnr_db for one in drift.values())


def external(name: str, kind: int, shape: Iterable[int]) -> Any:
    """An initializer that only says its type and shape; whoever runs the graph gives it its values."""
    item = TensorProto(name=name, data_type=kind, dims=list(shape), data_location=TensorProto.EXTERNAL)
    item.external_data.add(key="location", value="given at run time")
    return item


def _detached(model: Any) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
    """(the graph with large weights as names only, the values of all)."""
    bare = bare_of(model)
    bare.graph.node.extend(model.graph.node)
    weights = {}
    used = {name for node in model.graph.node for name in node.input} | {info.name for info in model.graph.output}
    for item in model.graph.initializer:
        if item.name not in used:
            continue  # such as a swapper's emap: ONNX Runtime drops it before it looks for its values
        weights[item.name] = np.ascontiguousarray(numpy_helper.to_array(item))
        small = weights[item.name].nbytes <= _SMALL_BYTES
        bare.graph.initializer.append(item if small else external(item.name, item.data_type, item.dims))
    return bare, weights


def _drift(exact: F32, other: F32) -> Drift:
    if not np.isfinite(other).all():
        return Drift(float("-inf"), 0.0, float("inf"))
    error = np.asarray(other, np.float64) - exact
    peak = max(float(np.ptp(exact)), float(np.abs(exact).max()), 1e-12)
    energy = float(np.mean(error**2))
    psnr = _MOST_DB if energy == 0 else min(_MOST_DB, 10 * float(np.log10(peak**2 / energy)))
    norms = float(np.linalg.norm(exact) * np.linalg.norm(other))
    cosine = float(np.vdot(exact, other) / norms) if norms else 1.0
    return Drift(psnr, cosine, float(np.abs(error).max()))
