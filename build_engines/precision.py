"""Types in the graph: which nodes compute in FP16, the casts between them, and what the rounding costs.

ONNX Runtime on a CPU computes an FP16 graph in FP32, so it can't show what FP16 does. The simulation here is an
FP32 graph in which every tensor that would be FP16 is rounded to FP16 and back where it is produced, weights
likewise: overflow becomes inf and what is too small becomes 0, as on the device. Sums inside one operator stay FP32,
as tensor cores accumulate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["float_nodes", "simulate_fp16", "to_fp16"]

_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
# inputs that an operator takes as FP32 whatever type it computes in: (operator, position)
_ALWAYS_FP32 = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
# operators whose output type is theirs to say, or that compute on shapes
_NEVER_TYPED = {"Cast", "Shape", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear", "Range", "NonMaxSuppression"}


def float_nodes(model: Any) -> list[str]:
    """Names of the nodes whose result is FP32 and could be FP16, in order of the graph."""
    kinds = _tensor_kinds(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in _NEVER_TYPED and any(kinds.get(name) == _FLOAT for name in node.output)
    ]


def to_fp16(model: Any, keep_fp32: Collection[str]) -> Any:
    """The graph with every float node in FP16 but those named in `keep_fp32`; inputs and outputs stay FP32.

    A cast stands wherever the two types meet; weights that FP16 nodes read are stored as FP16.
    """
    writer = _Writer(model, set(float_nodes(model)) - set(keep_fp32))
    return writer.typed()


def simulate_fp16(model: Any, keep_fp32: Collection[str]) -> Any:
    """The same graph computed in FP32, with every tensor that `to_fp16` makes FP16 rounded through FP16."""
    writer = _Writer(model, set(float_nodes(model)) - set(keep_fp32))
    return writer.rounded()


def _tensor_kinds(model: Any) -> dict[str, int]:
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        kinds[info.name] = info.type.tensor_type.elem_type
    return kinds


@dataclass
class _Writer:
    """Rewrites one graph; `half` names the nodes that compute in FP16."""

    model: Any
    half: set[str]

    def __post_init__(self) -> None:
        self.kinds = _tensor_kinds(self.model)
        self.weights = {item.name: item for item in self.model.graph.initializer}
        self.inputs = {item.name for item in self.model.graph.input}
        self.outputs = {item.name for item in self.model.graph.output}
        self.nodes: list[Any] = []
        self.new_weights: dict[str, Any] = {}
        self.made: dict[str, str] = {}

    def typed(self) -> Any:
        """FP16 types and casts."""
        is_half: set[str] = set()
        for node in self.model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            wants_half = node.name in self.half
            for position, name in self._float_inputs(node):
                copy.input[position] = self._as(name, wants_half, is_half)
            if wants_half:
                for position, name in enumerate(node.output):
                    if self.kinds.get(name) == _FLOAT:
                        copy.output[position] = f"{name}__half"
                        is_half.add(name)
            self.nodes.append(copy)
            for name in node.output:
                if name in self.outputs and name in is_half:
                    self.nodes.append(helper.make_node("Cast", [f"{name}__half"], [name], f"{name}__out", to=_FLOAT))
        return self._finish()

    def rounded(self) -> Any:
        """FP32 types, with a rounding after everything that would be FP16."""
        for node in self.model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.name in self.half:
                for position, name in self._float_inputs(node):
                    copy.input[position] = self._rounded_weight(name) if name in self.weights else self._round(name)
                produced = [name for name in node.output if self.kinds.get(name) == _FLOAT]
                for position, name in enumerate(node.output):
                    if name in produced:
                        copy.output[position] = f"{name}__exact"
                self.nodes.append(copy)
                for name in produced:
                    self._add_rounding(f"{name}__exact", name)
                    self.made[name] = name  # rounded already: a second rounding would change nothing
            else:
                self.nodes.append(copy)
        return self._finish()

    def _float_inputs(self, node: Any) -> Iterator[tuple[int, str]]:
        for position, name in enumerate(node.input):
            if name and self.kinds.get(name) == _FLOAT and (node.op_type, position) not in _ALWAYS_FP32:
                yield position, name

    def _as(self, name: str, wants_half: bool, is_half: set[str]) -> str:
        """The name under which a float tensor has the wanted type; adds weights and casts once."""
        if name in self.weights:
            return self._half_weight(name) if wants_half else name
        if (name in is_half) == wants_half:
            return f"{name}__half" if wants_half else name
        key = f"{name}__half" if wants_half else f"{name}__float"
        if key not in self.made and not (not wants_half and name in self.outputs):
            source = f"{name}__half" if name in is_half else name
            self.nodes.append(helper.make_node("Cast", [source], [key], key, to=_HALF if wants_half else _FLOAT))
            self.made[key] = key
        return name if not wants_half and name in self.outputs else key

    def _half_weight(self, name: str) -> str:
        key = f"{name}__half"
        if key not in self.new_weights:
            values = numpy_helper.to_array(self.weights[name])
            with np.errstate(over="ignore"):
                self.new_weights[key] = numpy_helper.from_array(values.astype(np.float16), key)
        return key

    def _rounded_weight(self, name: str) -> str:
        key = f"{name}__rounded"
        if key not in self.new_weights:
            values = numpy_helper.to_array(self.weights[name])
            with np.errstate(over="ignore"):
                self.new_weights[key] = numpy_helper.from_array(values.astype(np.float16).astype(np.float32), key)
        return key

    def _round(self, name: str) -> str:
        if name not in self.made:
            self._add_rounding(name, f"{name}__rounded")
            self.made[name] = f"{name}__rounded"
        return self.made[name]

    def _add_rounding(self, source: str, target: str) -> None:
        middle = f"{target}__as_half"
        self.nodes.append(helper.make_node("Cast", [source], [middle], middle, to=_HALF))
        self.nodes.append(helper.make_node("Cast", [middle], [target], f"{target}__back", to=_FLOAT))

    def _finish(self) -> Any:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.node[:]
        model.graph.node.extend(self.nodes)
        del model.graph.value_info[:]
        used = {name for node in self.nodes for name in node.input}
        kept = [item for item in self.model.graph.initializer if item.name in used]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, *self.new_weights.values()])
        return model
