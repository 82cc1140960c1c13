"""Small graphs as model files, and the oracle of surgery: every row of a batch against a single run of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from models.contract import Contract, load_contract
from models.model_files import ModelFile, open_file
from models.onnx_file import sha256_of
from models.spec import Spec
from models.twins import TWINS, write_twin
from models.twins.builder import Graph, Tensor

Array = npt.NDArray[Any]
Layer = Callable[[Graph, Tensor], Tensor]


def contract_of(inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]) -> Contract:
    """A contract of plain FP32 tensors."""
    return replace(
        load_contract("tiny_embedder"),
        name="small",
        packaged="",
        inputs={name: Spec("float32", tuple(shape), names=(name,)) for name, shape in inputs.items()},
        outputs={name: Spec("float32", tuple(shape), names=(name,)) for name, shape in outputs.items()},
    )


def file_of(graph: Graph, path: Path, contract: Contract | None = None) -> ModelFile:
    """The graph as a file that serves a contract; of its own inputs and outputs unless told."""
    graph.save(path)
    if contract is None:
        sides = [
            {name: [size if isinstance(size, int) else 1 for size in shape] for name, (_, shape) in side.items()}
            for side in (graph.inputs, graph.outputs)
        ]
        contract = contract_of(*sides)
    names = {name: name for name in (*contract.inputs, *contract.outputs)}
    return ModelFile(contract, path, sha256_of(path), names)


def layer_of(layer: Layer, path: Path, shape: Sequence[int] = (1, 4, 6, 6), *, opset: int = 17) -> ModelFile:
    """A file with one input x of this shape and one output y, which the layer makes of it."""
    graph = Graph("small", opset=opset)
    y = layer(graph, graph.input("x", shape))
    graph.output("y", y, y.shape)
    return file_of(graph, path)


def twin_of(name: str, folder: Path, **options: Any) -> ModelFile:
    """A twin under its contract."""
    return open_file(load_contract(TWINS[name].contract or name), write_twin(name, folder, **options))


def run(source: Path | Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name, with ONNX Runtime's own optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    data = str(source) if isinstance(source, Path) else source.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def feeds_of(file: ModelFile, count: int) -> dict[str, Array]:
    """Different noise for each sample, by the file's names; vectors have unit length."""
    random = np.random.default_rng(7)
    feeds = {}
    for name, spec in file.contract.inputs.items():
        shape = spec.at(n=1).sizes
        values = random.uniform(-1, 1, (count, *shape[1:])).astype(np.float32)
        feeds[file.tensors[name]] = (
            values / np.linalg.norm(values, axis=1, keepdims=True) if len(shape) == 2 else values
        )
    return feeds


def error_by_row(file: ModelFile, model: Any, count: int, reference: Any = None) -> float:
    """Largest difference of any row of any output from a single run of the file, or of another reference for it."""
    feeds = feeds_of(file, count)
    whole = run(model, feeds)
    worst = 0.0
    for row in range(count):
        single = run(reference or file.path, {name: values[row : row + 1] for name, values in feeds.items()})
        for name in file.contract.outputs:
            wanted, got = single[file.tensors[name]], whole[file.tensors[name]][row : row + 1]
            assert wanted.shape == got.shape
            assert np.isfinite(got).all()
            worst = max(worst, float(np.abs(wanted - got).max()))
    rows = [whole[file.tensors[name]] for name in file.contract.outputs]
    assert count == 1 or all(np.abs(values[0] - values[1]).max() > 1e-3 for values in rows), "rows are all alike"
    return worst
