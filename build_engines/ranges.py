"""How large values get: one histogram of magnitudes a tensor, taken once, and four ways to choose a scale from it.

Every trial of a search takes its scales from here. Collecting them again for each would cost a run of the whole
model over all inputs a trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from build_engines.precision import bare_of
from build_engines.simulate import Feeds, Simulation, run_model

__all__ = ["METHODS", "Histogram", "collect", "half_scale", "scales_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

METHODS = ("min-max", "percentile", "entropy", "mse")
_BINS = 4096
_SAMPLES = 1 << 18  # values of a tensor and input, evenly strided; the largest magnitude is of all of them
_HELD_BYTES = 256 << 20
_PERCENTILE = 99.99
_LEVELS = 128  # magnitudes of a symmetric INT8
_UNTOLD = 1e-6
_LEAST_SCALE = 2.0**-20  # sixteen steps above the smallest FP16 number: 6 % precision of the step is enough


@dataclass
class Histogram:
    """Magnitudes of a tensor: counts of even bins from 0 to `top`, exact zeros left out, and the largest."""

    counts: F64
    top: float = 0.0
    largest: float = 0.0

    def add(self, magnitudes: F32, largest: float) -> None:
        """Count some values; the bins widen by doubling when a larger one comes."""
        self.largest = max(self.largest, largest)
        if self.top == 0.0:
            self.top = largest
        while 0.0 < self.top < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2)])
            self.top *= 2.0
        above_zero = magnitudes[magnitudes > 0]
        if above_zero.size:
            bins = np.minimum((above_zero * (_BINS / self.top)).astype(np.int64), _BINS - 1)
            self.counts += np.bincount(bins, minlength=_BINS)

    def threshold(self, method: str) -> float:
        """The magnitude that the largest integer stands for; a name of METHODS."""
        if method == "min-max" or not self.counts.any():
            return self.largest
        edges: F64 = np.linspace(0.0, self.top, _BINS + 1)[1:]
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            return min(self.largest, float(edges[np.searchsorted(share, _PERCENTILE / 100)]))
        used = int(np.flatnonzero(self.counts)[-1]) + 1
        tried = np.unique(np.linspace(min(_LEVELS, used), used, 96).astype(np.int64))
        cost = _divergence if method == "entropy" else _squared_error
        costs = [cost(self.counts[:used], int(count), self.top / _BINS) for count in tried]
        return min(self.largest, float(edges[tried[int(np.argmin(costs))] - 1]))


def collect(simulation: Simulation, feeds: Feeds, tensors: Sequence[str]) -> dict[str, Histogram]:
    """Histograms of these tensors over all inputs, a few tensors at a time so that they fit into memory."""
    found = {name: Histogram(np.zeros(_BINS)) for name in tensors}
    for group in _groups(simulation.model, tensors):
        model = _giving(simulation.model, group)
        for feed in feeds:
            needed = {info.name for info in model.graph.input}
            given = {name: value for name, value in feed.items() if name in needed}
            [row] = run_model(model, [given], threads=simulation.threads, weights=simulation.weights)
            for name in group:
                values = np.abs(row[name].reshape(-1))
                found[name].add(values[:: max(1, values.size // _SAMPLES)], float(values.max(initial=0.0)))
    return found


def scales_of(found: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """The scale of every tensor by one method, as FP16 can hold it."""
    return {name: float(half_scale(np.float64(one.threshold(method) / 127))) for name, one in found.items()}


def half_scale(exact: npt.ArrayLike) -> F32:
    """The next FP16 number from each scale on, so that the range stays covered; where FP16 ends, the scale itself."""
    wanted = np.maximum(np.asarray(exact, np.float64), _LEAST_SCALE)
    with np.errstate(over="ignore"):
        near = wanted.astype(np.float16)
        up = np.where(near < wanted, np.nextafter(near, np.float16(np.inf)), near).astype(np.float64)
    return np.asarray(np.where(np.isfinite(up), up, wanted), dtype=np.float32)


def _squared_error(counts: F64, kept: int, width: float) -> float:
    """Of rounding to, and clipping at, the upper edge of bin `kept` - 1."""
    middles = (np.arange(counts.size) + 0.5) * width
    step = kept * width / (_LEVELS - 1)
    stored = np.minimum(np.rint(middles / step), _LEVELS - 1) * step
    return float(np.dot(counts, (middles - stored) ** 2))


def _divergence(counts: F64, kept: int, _width: float) -> float:
    """Kullback-Leibler, from the clipped distribution to what its INT8 levels can tell of it."""
    clipped = counts[:kept].copy()
    level = np.arange(kept) * _LEVELS // kept
    filled = clipped > 0
    mass = np.bincount(level, weights=clipped, minlength=_LEVELS)
    spread = np.bincount(level, weights=filled.astype(np.float64), minlength=_LEVELS)
    told = np.where(filled, mass[level] / np.maximum(spread[level], 1.0), 0.0)
    clipped[-1] += counts[kept:].sum()
    p, q = clipped / clipped.sum(), told / max(told.sum(), 1e-30)
    there = p > 0  # what was cut off may fall where nothing is told: that costs much, not everything
    return float(np.dot(p[there], np.log(p[there] / np.maximum(q[there], _UNTOLD))))


def _groups(model: Any, tensors: Sequence[str]) -> Iterator[list[str]]:
    """Tensors in order of the graph, in groups that fit together."""
    shapes = {info.name: info.type.tensor_type.shape.dim for info in (*model.graph.value_info, *model.graph.input)}
    group: list[str] = []
    held = 0
    for name in tensors:
        size = 4 * int(np.prod([axis.dim_value for axis in shapes.get(name, ())], dtype=np.int64))
        if group and held + size > _HELD_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _giving(model: Any, tensors: Sequence[str]) -> Any:
    """The part of a graph that computes these tensors, with them as its outputs."""
    wanted, nodes = set(tensors), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            nodes.append(node)
            wanted.update(node.input)
    part = bare_of(model)
    part.graph.ClearField("value_info")
    del part.graph.output[:]
    border = [info for info in part.graph.input if info.name in wanted]
    del part.graph.input[:]
    part.graph.input.extend(border)
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(item for item in model.graph.initializer if item.name in wanted)
    for name in tensors:
        part.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return part
