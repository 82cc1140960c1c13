"""Rewrites that change no number: FP32 throughout, constants folded, noise stored, idle nodes taken out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from build_engines.rewrites.graph import attribute, bypass, constant, describe, fed, is_constant, sizes, take_over, tidy

__all__ = ["DRAWN", "fold_constants", "join_reshapes", "raise_to_fp32", "remove_idle", "store_noise", "to_reshape"]

# operators that draw noise in each run
DRAWN = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_FLOAT = int(onnx.TensorProto.FLOAT)
_OTHER_KINDS = {int(onnx.TensorProto.FLOAT16), int(onnx.TensorProto.BFLOAT16), int(onnx.TensorProto.DOUBLE)}
_ROUNDS_MAX = 8


def raise_to_fp32(graph: Any) -> int:
    """Weights, arithmetic, inputs and outputs of other float types become FP32; counts the tensors changed.

    A number that FP16 stores stands in FP32 exactly; what a half-precision file computes is computed more exactly.
    """
    describe(graph)
    changed = 0
    for part in _parts(graph):
        for tensor in part.tensors().values():
            changed += _raise_tensor(tensor)
        for node in part.nodes:
            for name, value in node.attrs.items():
                if (
                    name in ("to", "dtype")
                    and isinstance(value, int | type | np.dtype)
                    and _kind(value) in _OTHER_KINDS
                ):
                    node.attrs[name] = _FLOAT
                elif isinstance(value, gs.Constant):
                    changed += _raise_tensor(value)
    return changed


def _parts(graph: Any) -> Iterator[Any]:
    yield graph
    yield from graph.subgraphs(recursive=True)


def _kind(dtype: Any) -> int:
    return dtype if isinstance(dtype, int) else int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _raise_tensor(tensor: Any) -> bool:
    if tensor.dtype is None or _kind(tensor.dtype) not in _OTHER_KINDS:
        return False
    if is_constant(tensor):
        tensor.values = np.asarray(tensor.values).astype(np.float32)
    else:
        tensor.dtype = np.dtype(np.float32)
    return True


def fold_constants(graph: Any) -> int:
    """Compute what depends on no input, sizes of tensors included, until nothing is left; counts the nodes gone."""
    before = len(graph.nodes)
    for _ in range(_ROUNDS_MAX):
        count = len(graph.nodes)
        describe(graph)
        # what is drawn anew each run depends on no input either
        graph.fold_constants(fold_shapes=True, should_exclude_node=lambda node: node.op in DRAWN)
        tidy(graph)
        if len(graph.nodes) == count:
            break
    return before - len(graph.nodes)


def store_noise(graph: Any) -> int:
    """Noise that a file draws in each run becomes one draw, stored: else a video flickers, and no run can be checked.

    Drawn by the node's name, so that the same file has the same noise at every batch, and all samples share it.
    """
    describe(graph)
    stored = 0
    for node in graph.nodes:
        shape = sizes(node.outputs[0]) if node.op in DRAWN else None
        if shape is None:
            continue
        random = np.random.default_rng(zlib.crc32(node.name.encode()))
        if node.op.startswith("RandomNormal"):
            values = random.normal(node.attrs.get("mean", 0.0), node.attrs.get("scale", 1.0), shape)
        else:
            values = random.uniform(node.attrs.get("low", 0.0), node.attrs.get("high", 1.0), shape)
        drawn = node.outputs[0]
        node.outputs.clear()
        take_over(graph, drawn, constant(f"{node.name}__stored", values.astype(np.float32)))
        stored += 1
    tidy(graph)
    if stored:
        fold_constants(graph)
    return stored


def remove_idle(graph: Any) -> int:
    """Take out nodes whose output is their input: identities, casts to the type at hand, moves to the shape at hand."""
    describe(graph)
    gone = 0
    for node in list(graph.nodes):
        if _is_idle(graph, node) and bypass(graph, node):
            gone += 1
    return gone


def _is_idle(graph: Any, node: Any) -> bool:
    if not node.inputs or not node.outputs:
        return False
    before, after = node.inputs[0], node.outputs[0]
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        unread = all(not item.outputs and not any(item is out for out in graph.outputs) for item in node.outputs[1:])
        training = fed(node, 2)
        return unread and (training is None or (is_constant(training) and not np.any(training.values)))
    if node.op == "Cast":
        return before.dtype is not None and _kind(before.dtype) == _kind(node.attrs["to"])
    if node.op in ("Concat", "Sum", "Max", "Min", "Mean"):
        return len(node.inputs) == 1
    if sizes(before) is None or sizes(before) != sizes(after):
        return False
    if node.op == "Transpose":
        order = node.attrs.get("perm")
        return order is not None and list(order) == sorted(order)
    if node.op == "Slice":
        try:
            return all(step == 1 for step in attribute(node, "steps", 4) or [1])
        except LookupError:
            return False
    return node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile")


def join_reshapes(graph: Any) -> int:
    """A reshape that reads a reshape reads what that one read; sizes are written out, since 0 and -1 would move."""
    describe(graph)
    joined = 0
    for node in graph.nodes:
        if node.op not in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            continue
        shape, first = sizes(node.outputs[0]), node.inputs[0].inputs
        if shape is None or not first or first[0].op not in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            continue
        source = first[0].inputs[0]
        to_reshape(node, shape)
        node.inputs[0] = source
        joined += 1
    return joined


def to_reshape(node: Any, shape: tuple[int, ...]) -> None:
    """Make a node that only moves the bounds of axes a Reshape to this shape."""
    data = node.inputs[0]
    node.op = "Reshape"
    node.attrs.clear()
    node.inputs.clear()
    node.inputs.extend([data, constant(f"{node.name}__shape", np.array(shape, np.int64))])
