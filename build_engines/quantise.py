"""INT8 in the graph: explicit Q/DQ, symmetric, weights by channel, ranges from real inputs.

ONNX Runtime's quantiser places the nodes; what is decided here is which layers stay out, and which way of choosing
ranges drifts least. Without graph optimisations ONNX Runtime computes Q and DQ as rounding in FP32, so the drift
that it shows is the one that the stored integers cause.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from build_engines.simulate import Drift, Feeds, drift_of, run_model

__all__ = ["METHODS", "Quantised", "find_int8", "quantisable", "quantise"]

METHODS = {
    "min-max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# Add as well: TensorRT fuses a residual branch into the INT8 convolution only when both of its inputs are quantised
_QUANTISED = [*_HEAVY, "Add"]


@dataclass(frozen=True)
class Quantised:
    """A graph with Q/DQ, the layers left out, and its drift against FP32."""

    model: Any
    left_out: frozenset[str]
    method: str
    drift: dict[str, Drift]
    macs_share: float

    @property
    def worst_db(self) -> float:
        """The lowest PSNR of any output."""
        return min(one.psnr_db for one in self.drift.values())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds as ONNX Runtime's calibrator asks for them."""

    def __init__(self, feeds: Feeds) -> None:
        self._left: Iterator[dict[str, Any]] = iter([dict(feed) for feed in feeds])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def quantisable(model: Any) -> dict[str, int]:
    """Names of the layers that may be INT8, with their multiply-adds (from the shapes in the graph)."""
    weights = {item.name: tuple(item.dims) for item in model.graph.initializer}
    shapes = {
        info.name: tuple(axis.dim_value for axis in info.type.tensor_type.shape.dim)
        for info in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    found = {}
    for node in model.graph.node:
        if node.op_type in _HEAVY and len(node.input) > 1 and node.input[1] in weights:
            found[node.name] = _macs(node, weights[node.input[1]], shapes)
    return found


def quantise(model: Any, feeds: Feeds, *, left_out: Collection[str] = (), method: str = "min-max") -> Any:
    """The graph with Q/DQ around every heavy layer but those left out; `method` is a name of METHODS."""
    logging.getLogger("root").setLevel(logging.ERROR)  # it advises a preprocessing that was done
    # the calibrators print their progress
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantize_static(
            str(source),
            str(target),
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_with_their_adds(model, left_out),
            calibrate_method=METHODS[method],
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
        return onnx.load(str(target))


def find_int8(
    model: Any,
    feeds: Feeds,
    target_db: float,
    *,
    calibrate_on: Feeds | None = None,
    most_left_out: float = 0.5,
    say: Callable[[str], None] = lambda line: None,
) -> Quantised:
    """The method that drifts least, then the fewest layers left out for every output to reach `target_db`.

    Layers are left out in order of what each costs alone, up to the share `most_left_out` of their number; the
    best that was reached is returned even when it misses the target: the caller compares.
    """
    exact = run_model(model, feeds)
    ranges = calibrate_on or feeds
    cost = quantisable(model)
    tried = {method: _try(model, feeds, exact, ranges, frozenset(), method, cost) for method in METHODS}
    method = max(tried, key=lambda name: tried[name].worst_db)
    best = tried[method]
    say(", ".join(f"{name} {one.worst_db:.1f} dB" for name, one in tried.items()))
    if best.worst_db >= target_db:
        return best
    few, few_exact = feeds[: max(1, len(feeds) // 8)], exact[: max(1, len(feeds) // 8)]
    every = frozenset(cost)
    alone = {name: _try(model, few, few_exact, ranges[:8], every - {name}, method, cost).worst_db for name in cost}
    order = sorted(cost, key=lambda name: alone[name])
    for count in range(1, int(len(order) * most_left_out) + 1):
        trial = _try(model, feeds, exact, ranges, frozenset(order[:count]), method, cost)
        if trial.worst_db > best.worst_db:
            best = trial
        if best.worst_db >= target_db:
            break
    say(f"{len(best.left_out)} of {len(order)} layers left out: {best.worst_db:.1f} dB")
    return best


def _try(
    model: Any,
    feeds: Feeds,
    exact: Sequence[dict[str, Any]],
    ranges: Feeds,
    left_out: frozenset[str],
    method: str,
    cost: dict[str, int],
) -> Quantised:
    typed = quantise(model, ranges, left_out=left_out, method=method)
    total = sum(cost.values())
    share = sum(macs for name, macs in cost.items() if name not in left_out) / total if total else 0.0
    return Quantised(typed, left_out, method, drift_of(exact, run_model(typed, feeds)), share)


def _with_their_adds(model: Any, left_out: Collection[str]) -> list[str]:
    """The layers left out, and every Add that is no residual of theirs.

    An Add alone in INT8 only costs casts, and TensorRT takes no quantised constant but a weight.
    """
    weights = {item.name for item in model.graph.initializer}
    producer = {name: node.name for node in model.graph.node for name in node.output}
    heavy = set(quantisable(model)) - set(left_out)
    reach: set[str] = set()
    for node in model.graph.node:  # in order of the graph: what a quantised layer feeds, through anything
        if node.name in heavy or any(producer.get(name) in reach for name in node.input):
            reach.add(node.name)
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    out = [node.name for node in adds if node.name not in reach or weights & set(node.input)]
    return [*left_out, *out]


def _macs(node: Any, weight: tuple[int, ...], shapes: dict[str, tuple[int, ...]]) -> int:
    out = shapes.get(node.output[0], ())
    if node.op_type == "Conv":
        return int(np.prod(weight[1:])) * int(np.prod(out))
    if node.op_type == "ConvTranspose":
        return int(np.prod(weight[1:])) * int(np.prod(shapes.get(node.input[0], ())))
    return int(np.prod(weight[-2:])) * int(np.prod(out[:-1])) if len(weight) >= 2 else 0
