"""What every rewrite needs of a graph: sizes and types of its tensors, nodes put in and taken out.

graphsurgeon ships no types, so Any stands for its Graph, Node, Variable and Constant. Weights stay where they were
loaded until model_of copies them once: a model of 500 MB is rewritten beside its own bytes, not in several copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

__all__ = [
    "attribute",
    "bare_model_of",
    "bypass",
    "constant",
    "cut_inputs",
    "describe",
    "emit",
    "fed",
    "is_constant",
    "large_weights",
    "load_graph",
    "model_of",
    "producer",
    "sizes",
    "take_over",
    "tidy",
]

Sizes = tuple[int, ...]
# constants of up to this many elements are shown to shape inference, which reads sizes, axes and scales
_SMALL = 4096
_LEAST_IR = 4  # the first in which an initializer need not be an input


def load_graph(path: Path) -> Any:
    """The file's graph with functions inlined and a name of its own on every node; outputs without sizes."""
    model = onnx.load(str(path))
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = gs.import_onnx(model)
    graph.ir_version = max(model.ir_version, _LEAST_IR)
    seen: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if not node.name or node.name in seen:
            node.name = f"{node.op}_{index}"
        seen.add(node.name)
    return graph


def tidy(graph: Any) -> None:
    """Drop what no output needs, unused inputs excepted, and sort the rest."""
    graph.cleanup(remove_unused_graph_inputs=False).toposort()


def is_constant(tensor: Any) -> bool:
    """Whether a tensor's values stand in the graph."""
    return isinstance(tensor, gs.Constant)


def sizes(tensor: Any) -> Sizes | None:
    """A tensor's shape when every axis has a size, else None."""
    shape = tensor.shape
    if shape is None or not all(isinstance(size, int | np.integer) and size >= 0 for size in shape):
        return None
    return tuple(int(size) for size in shape)


def producer(tensor: Any) -> Any:
    """The node that makes a tensor; None for inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


def fed(node: Any, position: int) -> Any:
    """The tensor at an input's position; None where it is left out."""
    if position >= len(node.inputs) or node.inputs[position].is_empty():
        return None
    return node.inputs[position]


def attribute(node: Any, name: str, position: int | None = None) -> list[int] | None:
    """Integers that newer operator sets take as a constant input and older ones as an attribute.

    None where neither is there; raises LookupError where the input is computed.
    """
    if name in node.attrs:
        value = node.attrs[name]
        return [int(item) for item in value] if isinstance(value, Sequence) else [int(value)]
    tensor = fed(node, position) if position is not None else None
    if tensor is None:
        return None
    if not is_constant(tensor):
        raise LookupError(f"{name} is computed")
    return [int(item) for item in np.asarray(tensor.values).reshape(-1)]


def cut_inputs(node: Any, count: int) -> None:
    """Leave a node its first inputs; its list, which keeps both sides in step, takes no slices."""
    while len(node.inputs) > count:
        node.inputs.pop()


def constant(name: str, values: npt.NDArray[Any]) -> Any:
    """A new constant tensor; the name must be new too."""
    return gs.Constant(name, np.ascontiguousarray(values))


def emit(graph: Any, op: str, name: str, inputs: Sequence[Any], shape: Sequence[int], **attributes: Any) -> Any:
    """Append a node of this new name with one FP32 output of this shape; returns the output."""
    output = gs.Variable(f"{name}__out", np.float32, list(shape))
    graph.nodes.append(gs.Node(op, name, attributes, list(inputs), [output]))
    return output


def take_over(graph: Any, old: Any, new: Any) -> None:
    """Let everybody who reads `old` read `new`; a graph output keeps its name."""
    for node in list(old.outputs):
        for position, tensor in enumerate(node.inputs):
            if tensor is old:
                node.inputs[position] = new
    if any(tensor is old for tensor in graph.outputs):
        old.inputs.clear()
        graph.nodes.append(gs.Node("Identity", f"{old.name}__named", {}, [new], [old]))


def bypass(graph: Any, node: Any) -> bool:
    """Take a node with one input that matters out of the graph; False where an input would become an output."""
    before, after = node.inputs[0], node.outputs[0]
    if not any(tensor is after for tensor in graph.outputs):
        node.outputs.clear()
        take_over(graph, after, before)
        return True
    maker = producer(before)
    if maker is None or any(tensor is before for tensor in graph.outputs):
        return False
    node.outputs.clear()
    after.inputs.clear()
    maker.outputs[next(i for i, tensor in enumerate(maker.outputs) if tensor is before)] = after
    for reader in list(before.outputs):
        for position, tensor in enumerate(reader.inputs):
            if tensor is before and reader is not node:
                reader.inputs[position] = after
    return True


def describe(graph: Any, *, strict: bool = False) -> None:
    """Write type and shape of every tensor as the inputs' shapes imply them; what stood there before is dropped.

    `strict` raises onnx.shape_inference.InferenceError where an operator does not fit its inputs.
    """
    tensors = graph.tensors()
    for tensor in tensors.values():
        if isinstance(tensor, gs.Variable) and not any(tensor is item for item in graph.inputs):
            tensor.shape = None
    found = _inferred(graph, strict=strict)
    for info in (*found.graph.value_info, *found.graph.output):
        kind = info.type.tensor_type
        tensor = tensors.get(info.name)
        if not isinstance(tensor, gs.Variable) or not kind.elem_type:
            continue
        tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if kind.HasField("shape"):
            tensor.shape = [item.dim_value if item.HasField("dim_value") else item.dim_param for item in kind.shape.dim]


def model_of(graph: Any) -> Any:
    """The graph as an onnx.ModelProto with its weights, and type and shape of every tensor."""
    model = bare_model_of(graph)
    for weight in large_weights(graph):
        model.graph.initializer.append(weight)
    return model


def bare_model_of(graph: Any) -> Any:
    """The same model without what large_weights gives."""
    model = _inferred(graph, strict=True)
    del model.graph.input[len(graph.inputs) :]
    return model


def large_weights(graph: Any) -> Iterator[Any]:
    """Every large constant as an onnx.TensorProto, one at a time."""
    for tensor in graph.tensors().values():
        if is_constant(tensor) and not _is_small(tensor):
            yield OnnxExporter.export_tensor_proto(tensor)


def _is_small(tensor: Any) -> bool:
    return bool(prod(tensor.shape) <= _SMALL)


def _inferred(graph: Any, *, strict: bool) -> Any:
    """The model without its large weights, which stand as inputs behind the graph's own, after shape inference."""
    model = onnx.ModelProto(ir_version=graph.ir_version, producer_name="face-engine")
    model.opset_import.extend(graph.import_domains or [onnx.helper.make_opsetid("", graph.opset)])
    model.graph.name = graph.name or "graph"
    model.graph.node.extend(OnnxExporter.export_node(node) for node in graph.nodes)
    model.graph.input.extend(OnnxExporter.export_value_info_proto(item, True) for item in graph.inputs)
    for item in graph.outputs:
        model.graph.output.append(OnnxExporter.export_value_info_proto(gs.Variable(item.name, item.dtype, None), True))
    for tensor in graph.tensors().values():
        if not is_constant(tensor):
            continue
        if _is_small(tensor):
            model.graph.initializer.append(OnnxExporter.export_tensor_proto(tensor))
        else:
            model.graph.input.append(OnnxExporter.export_value_info_proto(tensor, True))
    return onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
