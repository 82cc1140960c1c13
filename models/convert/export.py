"""Writes a network as an ONNX file and runs it beside PyTorch, on random input of every shape that matters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract
from models.convert.checkpoint import require
from models.convert.errors import ConvertError
from models.spec import Spec

__all__ = ["BOUND", "OPSET", "Difference", "difference", "random_inputs", "write_onnx"]

Array = npt.NDArray[Any]

OPSET = 17  # the last that TensorRT 8.6 reads; GridSample is in it
# of the largest value of an output: FP32 in another order of sums stays two orders below
BOUND = 1e-3
# sizes of free axes to run with: those of tracing, and others, since an axis can be frozen by a tracer
TRACED = {"n": 1, "frames": 4, "samples": 16000}
OTHERS = {"n": 3, "frames": 10, "samples": 6480}


@dataclass(frozen=True)
class Difference:
    """The largest difference of one output between PyTorch and ONNX Runtime, and the largest value of that output."""

    output: str
    value: float
    largest: float

    @property
    def share(self) -> float:
        """The difference as a share of the largest value; of 1 where that is smaller."""
        return self.value / max(self.largest, 1.0)


def random_inputs(contract: Contract, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """An array for every input of a contract, by the file's name: pictures of 0..255 as the network takes them.

    Inputs that every run holds at one value have that value; others are normal. Raises ConvertError for a free axis
    that has no size here.
    """
    chance = np.random.default_rng(seed)
    made = {}
    for name, spec in contract.inputs.items():
        shape = _sized(name, spec, sizes)
        if name in contract.constants:
            values: Array = np.full(shape, contract.constants[name])
        elif spec.colour:
            values = (chance.integers(0, 256, shape) - spec.mean[0]) / spec.std[0]
        else:
            values = chance.standard_normal(shape)
        made[spec.names[0]] = values.astype(spec.dtype)
    return made


def _sized(name: str, spec: Spec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    free = [axis for axis in spec.shape if isinstance(axis, str) and axis not in sizes]
    if free:
        raise ConvertError(
            f"input {name}: wanted a size for the axis {free[0]}, got none; add it to models/convert/export.py"
        )
    return spec.at(**{axis: sizes[axis] for axis in spec.shape if isinstance(axis, str)}).sizes


def write_onnx(
    network: Any,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    path: Path,
    notes: Mapping[str, str],
) -> None:
    """Traces a network with these inputs and writes it over the path, checked; `axes` names the free ones."""
    torch = require("torch", "export a network", "face-engine[train]")
    onnx = require("onnx", "check what was exported", "face-engine[train]")
    with warnings.catch_warnings():
        # sizes that the contract fixes are constants on purpose, and the newer exporter wants a package more
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            tuple(torch.from_numpy(array) for array in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(free) for name, free in axes.items()},
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    model = onnx.load(str(path))
    model.producer_name, model.producer_version = "face-engine models.convert", "1"
    onnx.helper.set_model_props(model, dict(notes))
    onnx.save(model, str(path))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise ConvertError(
            f"{path}: wanted a valid ONNX file, got {error}; report it with the version of torch"
        ) from error


def difference(network: Any, path: Path, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Difference:
    """The output that differs most between the network in PyTorch and the file in ONNX Runtime on these inputs."""
    torch = require("torch", "run a network", "face-engine[train]")
    with torch.no_grad():
        wanted = network(*(torch.from_numpy(array) for array in inputs.values()))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    got = _session(path).run(list(outputs), dict(inputs))
    found = []
    for name, mine, its in zip(outputs, wanted, got, strict=True):
        mine = mine.numpy()
        if mine.shape != its.shape:
            raise ConvertError(
                f"{path}: output {name}: wanted the shape {list(mine.shape)}, got {list(its.shape)}; "
                "report it with the version of torch"
            )
        value = float(np.abs(mine - its).max()) if np.isfinite(its).all() else float("inf")
        found.append(Difference(name, value, float(np.abs(mine).max())))
    return max(found, key=lambda one: one.share)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
