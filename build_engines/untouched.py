"""A rewritten graph beside the untouched file, in FP32: k different samples at once against k single runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from build_engines.rewrites.cleaning import raise_to_fp32
from build_engines.rewrites.graph import load_graph, model_of, tidy
from models.model_files import ModelFile
from models.onnx_file import read_onnx
from models.spec import Spec

__all__ = ["TOLERANCE", "error_of", "sample_inputs"]

Array = npt.NDArray[Any]
Run = dict[str, Array]
# what the order of FP32 additions may change, in units of the output's largest value or of 1
TOLERANCE = 1e-4
_THREADS = 2


def error_of(
    model: ModelFile, rewritten: Any, shapes: Mapping[str, tuple[int, ...]], batch_axes: Mapping[str, int], count: int
) -> dict[str, float]:
    """Largest absolute error of each output, by the contract's names; over the output's largest value where above 1.

    `batch_axes` is where the batch lies in inputs and outputs, by the contract's names. A file that is not FP32 is
    taken with its weights and arithmetic raised to FP32 and nothing else changed: its own rounding is no reference.
    """
    feeds = sample_inputs(model, shapes)
    rows = [
        {
            name: np.take(value, [row], batch_axes[name]) if name in batch_axes else value
            for name, value in feeds.items()
        }
        for row in range(count)
    ]
    single = _runs(model, _reference(model), rows)
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


def _reference(model: ModelFile) -> Path | Any:
    """The file itself, or its graph in FP32 where it stores or takes other floats."""
    onnx_file = read_onnx(model.path)
    dtypes = {item.dtype for item in onnx_file.initializers} | {dtype for dtype, _ in onnx_file.inputs.values()}
    if not dtypes & {"float16", "float64", "type 16"}:
        return model.path
    graph = load_graph(model.path)
    raise_to_fp32(graph)
    tidy(graph)
    return model_of(graph)


def _runs(model: ModelFile, source: Path | Any, feeds: list[Run]) -> list[Run]:
    """Outputs by the contract's names for every feed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _THREADS
    with tempfile.TemporaryDirectory(prefix="face-engine-") as folder:
        path = source
        if not isinstance(source, Path):
            # a file, not bytes: one copy of the weights less
            path = Path(folder) / "rewritten.onnx"
            onnx.save(source, str(path))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [model.tensors[name] for name in model.contract.outputs]
        return [
            dict(
                zip(
                    model.contract.outputs,
                    session.run(names, {model.tensors[name]: value for name, value in feed.items()}),
                    strict=True,
                )
            )
            for feed in feeds
        ]


def _error(wanted: Array, got: Array) -> float:
    """Largest absolute difference over the largest value where that is above 1; infinite for other shapes and NaN."""
    if wanted.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    if not wanted.size:
        return 0.0
    return float(np.abs(wanted - got).max() / max(1.0, np.abs(wanted).max()))
