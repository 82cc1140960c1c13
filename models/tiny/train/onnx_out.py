"""Writes a network as an ONNX file after the published contracts: FP16 weights, FP32 arithmetic, opset 17."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models.tiny.train.layers import fold_norms

OPSET = 17


def _traced(
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    fold_norms(network.eval())
    torch.onnx.export(
        network, example, buffer, input_names=list(inputs), output_names=[f"out_{name}" for name in outputs],
        dynamic_axes={(name if name in inputs else f"out_{name}"): axis for name, axis in axes.items()},
        opset_version=OPSET, do_constant_folding=True, dynamo=False,
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in graph.output:
        if value.name == old:
            value.name = new


def _halve(graph: onnx.GraphProto) -> None:
    """Stores FP32 weights as FP16 with a Cast behind each: half the bytes, the same FP32 arithmetic."""
    casts = []
    for i, tensor in enumerate(list(graph.initializer)):
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 16:
            continue
        name = tensor.name
        graph.initializer[i].CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_fp16"))
        casts.append(helper.make_node("Cast", [f"{name}_fp16"], [name], to=TensorProto.FLOAT, name=f"cast_{name}"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _shorten(graph: onnx.GraphProto) -> None:
    """Gives nodes and what flows between them short names: the exporter's paths are a hundredth of a file."""
    kept = {value.name for value in graph.output}
    made = [name for node in graph.node for name in node.output if name not in kept]
    new = {name: f"t{i}" for i, name in enumerate(made)}
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = new.get(name, name)
    del graph.value_info[:]


def write(
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
    path: Path,
    last: tuple[str, np.ndarray] | None = None,
) -> None:
    """Exports, checks and saves. `last`: a named array that no node uses, the last initializer, in FP16 too (emap)."""
    model = _traced(network, example, inputs, outputs, axes)
    for name in outputs:  # the exporter refuses names that begin with a digit
        _rename(model.graph, f"out_{name}", name)
    _halve(model.graph)
    _shorten(model.graph)
    if last is not None:
        model.graph.initializer.append(numpy_helper.from_array(last[1].astype(np.float16), last[0]))
    model.producer_name, model.producer_version = "face-engine models.tiny", "1"
    model.doc_string = "Trained on drawn faces only; see models/tiny/CARD.md"
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    part = path.with_suffix(".part")
    onnx.save(model, str(part))
    part.replace(path)
