"""INT8 in the graph: explicit Q/DQ, symmetric, weights by channel.

What reads a quantised layer's input reads it through Q/DQ, and its weights are stored as integers behind a DQ. Where
an Add takes a layer's result as it comes, TensorRT computes the Add inside the layer, in INT8 if the other side comes
through Q/DQ: so that side gets it. Between the layer and the Add nothing may stand, or the two are torn apart. (RTX
lists the same kernels wherever the pairs stand: see plan_layers.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from build_engines.flavour import BuildError
from build_engines.precision import at_opset, bare_of
from build_engines.ranges import half_scale
from build_engines.simulate import external

__all__ = ["Layer", "Stored", "arrays_of", "layers_of", "macs_of", "quantise", "store", "tensors_of"]

_HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_BY_CHANNEL_OPSET = 13  # the first with an axis on DequantizeLinear


@dataclass(frozen=True)
class Layer:
    """A layer that may be INT8: what it reads, its weights and their axis of output channels (None: one scale).

    `add` and `other`: the residual Add that TensorRT fuses with it, and that Add's other side; empty without one.
    """

    name: str
    source: str
    weight: str
    axis: int | None
    macs: int
    add: str = ""
    other: str = ""


@dataclass(frozen=True)
class Stored:
    """Weights as integers, and the scale of each output channel (or one)."""

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    axis: int | None


def layers_of(model: Any) -> dict[str, Layer]:
    """The layers that may be INT8, by name, in order of the graph: those with stored weights."""
    weights = {item.name: tuple(item.dims) for item in model.graph.initializer}
    macs, residuals = macs_of(model), _residuals(model)
    found = {}
    for node in model.graph.node:
        if node.op_type not in _HEAVY or len(node.input) < 2 or node.input[1] not in weights:
            continue
        if node.op_type in ("MatMul", "Gemm") and len(weights[node.input[1]]) != 2:
            continue
        add, other = residuals.get(node.name, ("", ""))
        layer = Layer(node.name, node.input[0], node.input[1], _channel_axis(node), macs[node.name], add, other)
        found[node.name] = layer
    return found


def macs_of(model: Any) -> dict[str, int]:
    """Multiply-adds of every convolution and matrix product, from the shapes in the graph; 0 where unknown."""
    tensors = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {info.name: tuple(axis.dim_value for axis in info.type.tensor_type.shape.dim) for info in tensors}
    shapes.update((item.name, tuple(item.dims)) for item in model.graph.initializer)
    return {node.name: _macs(node, shapes) for node in model.graph.node if node.op_type in _HEAVY}


def tensors_of(layers: Mapping[str, Layer]) -> list[str]:
    """The tensors that need a scale when all of these layers are INT8."""
    return list(dict.fromkeys(name for layer in layers.values() for name in (layer.source, layer.other) if name))


def store(layers: Mapping[str, Layer], weights: Mapping[str, npt.NDArray[Any]]) -> dict[str, Stored]:
    """The weights of these layers as integers, by the weight's name."""
    return {layer.weight: _stored(weights[layer.weight], layer.axis) for layer in layers.values()}


def arrays_of(model: Any, layers: Mapping[str, Layer]) -> dict[str, npt.NDArray[Any]]:
    """The values of these layers' weights, by name."""
    wanted = {layer.weight for layer in layers.values()}
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer if item.name in wanted}


def quantise(
    model: Any,
    layers: Mapping[str, Layer],
    scales: Mapping[str, float],
    weights: Mapping[str, Stored],
    *,
    embed: bool = True,
) -> Any:
    """The FP32 graph with Q/DQ for these layers.

    `scales` by tensor (of `tensors_of`); `weights` by name (of `store`), which stay outside with `embed` False: the
    graph then refers to them as `NAME__int8`. Raises BuildError for a tensor without a scale.
    """
    missing = [name for name in tensors_of(layers) if name not in scales]
    if missing:
        raise BuildError(
            f"quantise: wanted a scale for the tensor {missing[0]}, got none; calibrate on the graph that is built"
        )
    return _Writer(at_opset(model, _BY_CHANNEL_OPSET), layers, scales, weights, embed).written()


@dataclass
class _Writer:
    """Puts Q/DQ into one graph: one Q a tensor, one DQ a reader, so that each takes its reader's type."""

    model: Any
    layers: Mapping[str, Layer]
    scales: Mapping[str, float]
    weights: Mapping[str, Stored]
    embed: bool

    def written(self) -> Any:
        """The graph; weights that nothing reads any more are gone."""
        self.nodes: list[Any] = []
        self.stored: dict[str, Any] = {}
        self.shown: list[Any] = []
        adds = {layer.add: layer for layer in self.layers.values() if layer.add}
        for node in self.model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.name in self.layers:
                copy.input[0] = self._through(node.input[0], node.name)
                copy.input[1] = self._weight(self.layers[node.name])
            elif node.name in adds:
                position = list(node.input).index(adds[node.name].other)
                copy.input[position] = self._through(adds[node.name].other, node.name)
            self.nodes.append(copy)
        model = bare_of(self.model)
        model.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        model.graph.initializer.extend(item for item in self.model.graph.initializer if item.name in used)
        model.graph.initializer.extend(self.stored.values())
        model.graph.value_info.extend(self.shown)
        return model

    def _through(self, tensor: str, reader: str) -> str:
        """The tensor as `reader` sees it through Q/DQ."""
        scale, zero = f"{tensor}__scale", "zero__int8"
        if f"{tensor}__int8" not in {info.name for info in self.shown}:
            self._keep(scale, np.array(self.scales[tensor], np.float32))
            self._keep(zero, np.array(0, np.int8))
            self._emit("QuantizeLinear", [tensor, scale, zero], f"{tensor}__int8", TensorProto.INT8)
        made = f"{tensor}__for__{reader}"
        self._emit("DequantizeLinear", [f"{tensor}__int8", scale, zero], made, TensorProto.FLOAT)
        return made

    def _weight(self, layer: Layer) -> str:
        stored, name = self.weights[layer.weight], f"{layer.weight}__int8"
        if self.embed:
            self._keep(name, stored.values)
        else:
            self.stored[name] = external(name, TensorProto.INT8, stored.values.shape)
        scale, zero, made = f"{layer.weight}__scale", f"{layer.weight}__zero", f"{layer.weight}__for__{layer.name}"
        self._keep(scale, stored.scales)
        self._keep(zero, np.zeros(stored.scales.shape, np.int8))
        axis = {} if stored.axis is None else {"axis": stored.axis}
        self._emit("DequantizeLinear", [name, scale, zero], made, TensorProto.FLOAT, **axis)
        return made

    def _emit(self, operator: str, inputs: list[str], made: str, kind: int, **attributes: int) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [made], f"{operator}__{made}", **attributes))
        self.shown.append(helper.make_tensor_value_info(made, kind, None))

    def _keep(self, name: str, values: npt.NDArray[Any]) -> None:
        self.stored.setdefault(name, numpy_helper.from_array(values, name))


def _stored(weight: npt.NDArray[Any], axis: int | None) -> Stored:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others if axis is not None else None)
    scales = half_scale(largest / 127)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    levels = np.rint(weight / (scales.reshape(shape) if axis is not None else scales))
    return Stored(np.clip(levels, -127, 127).astype(np.int8), scales, axis)


def _channel_axis(node: Any) -> int | None:
    attributes = {item.name: item.i for item in node.attribute}
    if node.op_type == "ConvTranspose":  # with groups an output channel is no row of the weights
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "MatMul":
        return 1
    return 0 if node.op_type == "Conv" or attributes.get("transB", 0) else 1


def _residuals(model: Any) -> dict[str, tuple[str, str]]:
    """(Add, its other input) by the layer that TensorRT fuses it with: the later one where both sides are layers."""
    known = {item.name for item in model.graph.initializer}
    shapes = {info.name: info.type.tensor_type.shape for info in (*model.graph.value_info, *model.graph.input)}
    place = {node.name: index for index, node in enumerate(model.graph.node)}
    maker = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, int] = defaultdict(int)
    for name in _read(model):
        readers[name] += 1
    found: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        if node.op_type != "Add" or known & set(node.input) or node.input[0] == node.input[1]:
            continue
        fit = [
            (place[maker[name].name], maker[name], other)
            for name, other in (tuple(node.input), tuple(reversed(node.input)))
            if name in maker
            and maker[name].op_type in ("Conv", "ConvTranspose")
            and maker[name].input[1] in known
            and readers[name] == 1
            and shapes.get(name) == shapes.get(other)
        ]
        if fit:
            _, layer, other = max(fit, key=lambda one: one[0])
            found[layer.name] = (node.name, other)
    return found


def _read(model: Any) -> Iterator[str]:
    for node in model.graph.node:
        yield from node.input
    for info in model.graph.output:
        yield str(info.name)


def _macs(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    first, weight = shapes.get(node.input[0], ()), shapes.get(node.input[1], ())
    out = shapes.get(node.output[0], ())
    if not weight or not out:
        return 0
    if node.op_type == "Conv":
        return int(np.prod(weight[1:])) * int(np.prod(out))
    if node.op_type == "ConvTranspose":
        return int(np.prod(weight[1:])) * int(np.prod(first))
    return int(first[-1] if first else weight[0]) * int(np.prod(out))
