"""A rewritten graph beside the untouched file, in FP32: k different samples at once against k single runs."""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from build_engines.rewrites.cleaning import DRAWN, fold_constants, raise_to_fp32, store_noise
from build_engines.rewrites.graph import bare_model_of, large_weights, load_graph, tidy
from models.model_files import ModelFile
from models.onnx_file import read_onnx
from models.spec import Spec

__all__ = ["TOLERANCE", "error_of", "live_bytes", "sample_inputs"]

Array = npt.NDArray[Any]
Run = dict[str, Array]
# what the order of FP32 additions may change, in units of the output's largest value or of 1
TOLERANCE = 1e-4
_THREADS = 2
_OTHER_FLOATS = {"float16", "float64", "type 16"}  # the last is bfloat16's number
_MAPPED_FROM_BYTES, _PAGE_BYTES = 4096, 4096


def error_of(
    model: ModelFile, rewritten: Any, shapes: Mapping[str, tuple[int, ...]], batch_axes: Mapping[str, int]
) -> dict[str, float]:
    """Largest absolute error of each output, by the contract's names; over the output's largest value where above 1.

    `batch_axes` is where the batch lies in inputs and outputs, by the contract's names. A file that is not FP32 is
    taken with its weights and arithmetic raised to FP32 and nothing else changed: its own rounding is no reference.
    """
    feeds = sample_inputs(model, shapes)
    count = max(shapes[name][axis] for name, axis in batch_axes.items() if name in shapes) if batch_axes else 1
    rows = [
        {
            name: np.take(value, [row], batch_axes[name]) if name in batch_axes else value
            for name, value in feeds.items()
        }
        for row in range(count)
    ]
    single = _runs(model, None, rows)
    whole = _runs(model, rewritten, [feeds])[0]
    return {
        name: _error(np.concatenate([run[name] for run in single], batch_axes.get(name, 0)), whole[name])
        for name in model.contract.outputs
    }


def sample_inputs(model: ModelFile, shapes: Mapping[str, tuple[int, ...]]) -> Run:
    """Seeded noise as the contract wants its inputs: pictures over 0..255, vectors of unit length, constants."""
    random = np.random.default_rng(0)
    feeds: Run = {}
    for name, shape in shapes.items():
        spec = model.contract.inputs[name]
        if name in model.contract.constants:
            feeds[name] = np.full(shape, model.contract.constants[name])
        elif spec.colour:
            feeds[name] = _pictures(random, spec, shape)
        else:
            values = random.standard_normal(shape)
            feeds[name] = values / np.linalg.norm(values, axis=-1, keepdims=True) if len(shape) == 2 else values
        feeds[name] = feeds[name].astype(np.float32 if "float" in spec.dtype else spec.dtype)
    return feeds


def _pictures(random: np.random.Generator, spec: Spec, shape: tuple[int, ...]) -> Array:
    """Noise of 0..255 under the contract's mean and standard deviation."""
    mean, std = (spec.mean, spec.std) if len(spec.mean) == 1 == len(spec.std) else ((127.5,), (127.5,))
    return (random.uniform(0, 255, shape) - mean[0]) / std[0]


def _runs(model: ModelFile, rewritten: Any, feeds: list[Run]) -> list[Run]:
    """Outputs by the contract's names for every feed; of the file where there is no rewritten graph."""
    with tempfile.TemporaryDirectory(prefix="face-engine-") as folder:
        if rewritten is None:
            path = _reference(model, Path(folder))
        else:
            bare = onnx.ModelProto(ir_version=rewritten.ir_version)
            bare.opset_import.extend(rewritten.opset_import)
            bare.graph.name = rewritten.graph.name
            for field in ("node", "input", "output"):
                getattr(bare.graph, field).extend(getattr(rewritten.graph, field))
            path = _written(bare, rewritten.graph.initializer, Path(folder))
        gc.collect()  # a graph's nodes and tensors hold each other, and its weights with them
        session = _session(path)
        names = [model.tensors[name] for name in model.contract.outputs]
        inputs = {item.name for item in session.get_inputs()}  # surgery may have made constants of some
        return [
            dict(
                zip(
                    model.contract.outputs,
                    session.run(names, {k: v for k, v in _by_file(model, feed).items() if k in inputs}),
                    strict=True,
                )
            )
            for feed in feeds
        ]


def _by_file(model: ModelFile, feed: Run) -> Run:
    return {model.tensors[name]: value for name, value in feed.items()}


def _reference(model: ModelFile, folder: Path) -> Path:
    """The file itself, or its graph: in FP32 where it has other floats, with noise stored where it draws some."""
    onnx_file = read_onnx(model.path)
    dtypes = {item.dtype for item in onnx_file.initializers} | {dtype for dtype, _ in onnx_file.inputs.values()}
    if not dtypes & _OTHER_FLOATS and not onnx_file.operators & set(DRAWN):
        return model.path
    graph = load_graph(model.path)
    raise_to_fp32(graph)
    tidy(graph)
    if onnx_file.operators & set(DRAWN):
        fold_constants(graph)
        store_noise(graph)
    return _written(bare_model_of(graph), large_weights(graph), folder)


def _written(bare: Any, weights: Iterable[Any], folder: Path) -> Path:
    """A model as a file beside one with its weights, which the runtime maps: no further copy of them is held."""
    path = folder / "model.onnx"
    with (folder / "weights.bin").open("wb") as file:
        for weight in weights:
            if not weight.raw_data or len(weight.raw_data) < _MAPPED_FROM_BYTES:
                bare.graph.initializer.append(weight)
                continue
            file.write(bytes(-file.tell() % _PAGE_BYTES))
            place = {"location": "weights.bin", "offset": file.tell(), "length": len(weight.raw_data)}
            outside = bare.graph.initializer.add(name=weight.name, data_type=weight.data_type, dims=weight.dims)
            outside.data_location = onnx.TensorProto.EXTERNAL
            outside.external_data.extend(
                onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()
            )
            file.write(weight.raw_data)
    path.write_bytes(bare.SerializeToString())
    return path


def _session(path: Path) -> Any:
    """A session that holds no more than it must: no arena that keeps what one run needed, no second form of weights."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _THREADS
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def live_bytes(model: Any) -> int:
    """The most that the tensors alive at one time take while a graph with static shapes runs, weights left out."""
    size: dict[str, int] = {}
    for info in (*model.graph.value_info, *model.graph.output, *model.graph.input):
        kind = info.type.tensor_type
        size[info.name] = 4 * math.prod(axis.dim_value for axis in kind.shape.dim)
    last = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    kept = {info.name for info in model.graph.output}
    most = alive = sum(size[info.name] for info in model.graph.input)
    for index, node in enumerate(model.graph.node):
        alive += sum(size.get(name, 0) for name in node.output)
        most = max(most, alive)
        done = {name for name in (*node.input, *node.output) if last.get(name, index) == index} - kept
        alive -= sum(size.get(name, 0) for name in done)
    return most


def _error(wanted: Array, got: Array) -> float:
    """Largest absolute difference over the largest value where that is above 1; infinite for other shapes and NaN."""
    if wanted.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    if not wanted.size:
        return 0.0
    return float(np.abs(wanted - got).max() / max(1.0, np.abs(wanted).max()))
