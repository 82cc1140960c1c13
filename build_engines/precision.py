"""Types in the graph: which nodes compute in FP16, the casts between them, and what the rounding costs.

ONNX Runtime on a CPU computes an FP16 graph in FP32, so it can't show what FP16 does. The simulation here is an
FP32 graph in which every tensor that would be FP16 is rounded to FP16 and back where it is produced, weights
likewise: overflow becomes inf and what is too small becomes 0, as on the device. Sums inside one operator stay FP32,
as tensor cores accumulate. Where Q/DQ stands in the graph, it is computed as it stands: one run shows both roundings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

__all__ = ["at_opset", "bare_of", "float_nodes", "simulate_fp16", "to_fp16"]

_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
# inputs that an operator takes as FP32 whatever type it computes in: (operator, position)
_ALWAYS_FP32 = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
# operators whose output type is theirs to say, or that compute on shapes
_NEVER_TYPED = {"Cast", "Shape", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear", "Range", "NonMaxSuppression"}
_QDQ = {"QuantizeLinear", "DequantizeLinear"}
# what TensorRT fuses behind a convolution: between an INT8 layer and the next Q it must meet no cast
_ACTIVATIONS = {"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "Elu"}
_HALF_SCALES_OPSET = 19
# operators that make no new values: what comes out of FP16 is FP16 already, and is not rounded again
_MOVES = {
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Relu", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


def float_nodes(model: Any) -> list[str]:
    """Names of the nodes whose result is FP32 and could be FP16, in order of the graph."""
    kinds = _tensor_kinds(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in _NEVER_TYPED and any(kinds.get(name) == _FLOAT for name in node.output)
    ]


def to_fp16(model: Any, keep_fp32: Collection[str], *, half_scales: bool = False) -> Any:
    """The graph with every float node in FP16 but those named in `keep_fp32`; inputs and outputs stay FP32.

    A cast stands wherever the two types meet; weights that FP16 nodes read are stored as FP16. Q/DQ keeps its FP32
    scales, and the layers that read DQ are FP32 to the eye, which is what TensorRT 8 wants; with `half_scales` the
    scales beside FP16 layers are FP16, for strongly typed builders (ONNX has them from opset 19 on).
    """
    return _Writer(model, _half_nodes(model, keep_fp32, half_scales)).typed(half_scales=half_scales)


def simulate_fp16(model: Any, keep_fp32: Collection[str], *, half_scales: bool = False) -> Any:
    """The same graph computed in FP32, with every tensor that `to_fp16` makes FP16 rounded through FP16.

    Weights are rounded by nodes too, so that the result stores none of its own.
    """
    return _Writer(model, _half_nodes(model, keep_fp32, half_scales)).rounded()


def at_opset(model: Any, version: int) -> Any:
    """The graph in a newer opset, without its weights passing through the converter (it copies them three times)."""
    if max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0) >= version:
        return model
    bare = bare_of(model)
    large = {item.name: item for item in model.graph.initializer if len(item.dims) > 1}
    bare.graph.initializer.extend(item for item in model.graph.initializer if item.name not in large)
    bare.graph.node.extend(model.graph.node)
    bare.ir_version = max(bare.ir_version, 9)
    for item in large.values():  # as inputs they keep their names, and weigh nothing
        bare.graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, item.dims))
    newer = version_converter.convert_version(bare, version)
    # the converter infers types on its way, some of them by the older operators' rules
    newer.graph.ClearField("value_info")
    newer.graph.value_info.extend(model.graph.value_info)
    border = [info for info in newer.graph.input if info.name not in large]
    del newer.graph.input[:]
    newer.graph.input.extend(border)
    newer.graph.initializer.extend(large.values())
    return newer


def bare_of(model: Any) -> Any:
    """The model's header, inputs, outputs and known shapes; no nodes and no weights."""
    bare = onnx.ModelProto(ir_version=model.ir_version, doc_string=model.doc_string)
    bare.opset_import.extend(model.opset_import)
    bare.metadata_props.extend(model.metadata_props)
    bare.graph.name = model.graph.name
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    bare.graph.value_info.extend(model.graph.value_info)
    return bare


def _half_nodes(model: Any, keep_fp32: Collection[str], half_scales: bool) -> set[str]:
    """Which nodes compute in FP16, Q and DQ among them."""
    half = set(float_nodes(model)) - set(keep_fp32)
    makes = {name: node for node in model.graph.node for name in node.output}
    reads: dict[str, list[Any]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            reads[name].append(node)
    if half_scales:
        for node in model.graph.node:
            beside = reads[node.output[0]] if node.op_type == "DequantizeLinear" else []
            if node.op_type == "QuantizeLinear" and node.input[0] in makes:
                beside = [makes[node.input[0]]]
            if beside and all(one.name in half for one in beside):
                half.add(node.name)
        return half
    full: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            full.update(one.name for one in reads[node.output[0]])
    for node in reversed(model.graph.node):
        after = [one for name in node.output for one in reads[name]]
        ends_in_q = after and all(one.op_type == "QuantizeLinear" or one.name in full for one in after)
        if node.op_type in _ACTIVATIONS and ends_in_q:
            full.add(node.name)
    return half - full


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

    def typed(self, *, half_scales: bool) -> Any:
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
        quantised = any(node.op_type in _QDQ and node.name in self.half for node in self.nodes)
        return at_opset(self._finish(), _HALF_SCALES_OPSET) if quantised and half_scales else self._finish()

    def rounded(self) -> Any:
        """FP32 types, with a rounding after everything that would be FP16."""
        for node in self.model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.name in self.half:
                for position, name in self._float_inputs(node):
                    # scales are chosen so that FP16 holds them
                    copy.input[position] = name if node.op_type in _QDQ and position == 1 else self._round(name)
                produced = [name for name in node.output if self.kinds.get(name) == _FLOAT]
                self.made.update((name, name) for name in produced)  # a second rounding would change nothing
                if node.op_type in _MOVES:
                    produced = []
                for position, name in enumerate(node.output):
                    if name in produced:
                        copy.output[position] = f"{name}__exact"
                self.nodes.append(copy)
                for name in produced:
                    self._add_rounding(f"{name}__exact", name)
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
        model = bare_of(self.model)
        model.graph.ClearField("value_info")
        model.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        model.graph.initializer.extend(item for item in self.model.graph.initializer if item.name in used)
        model.graph.initializer.extend(self.new_weights.values())
        return model
