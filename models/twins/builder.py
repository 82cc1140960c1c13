"""A graph under construction: nodes, seeded weights, and a running count of parameters and multiply-adds.

Random weights: for cost and tests only. With `weights=False` nothing is allocated and only the counts and the
interface come out, so that every twin can be walked in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import onnx
    from onnx import TensorProto, helper
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "models.twins: wanted the package onnx, got none; install it with pip install 'face-engine[build]'"
    ) from error

__all__ = ["NOTICE", "Axis", "Graph", "Tensor", "TwinError", "noise"]

NOTICE = "random weights: for cost and tests only"
Axis = int | str
Array = npt.NDArray[Any]

# The least magnitude that converters to FP16 keep: 1e-8 becomes this instead of 0.
HALF_LEAST = 1e-7
_DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}


class TwinError(ValueError):
    """A twin does not exist, or an option does not fit it."""


@dataclass(frozen=True)
class Tensor:
    """A value of the graph. `shape` has a number for every axis: free axes stand with the size they are counted at."""

    name: str
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Size of axis 1."""
        return self.shape[1]


def noise(seed: int, index: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Uniform values in [-1, 1), float32 of this shape; the same for (seed, index) with every NumPy.

    Taken from PCG64's raw words, whose stream NumPy keeps; the streams of its distributions may change.
    """
    count = math.prod(shape)
    bits = np.random.PCG64(np.random.SeedSequence((seed, index)))
    words = np.asarray(bits.random_raw((count + 1) // 2)).astype("<u8").view("<u4")[:count]
    values = (words >> np.uint32(8)).astype(np.float32)
    values *= np.float32(2.0**-23)
    values -= np.float32(1.0)
    return values.reshape(tuple(shape))


class Graph:
    """An ONNX graph that grows node by node.

    `batch` is the leading axis of the inputs: a number, or "n" for a free one (counted as 1). `sizes` gives the
    other free axes the size at which they are counted. With `half`, weights and arithmetic are FP16 between casts
    of FP32 inputs and outputs.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        opset: int = 13,
        batch: Axis = 1,
        half: bool = False,
        weights: bool = True,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.seed = seed
        self.opset = opset
        self.batch = batch
        self.half = half
        self.has_weights = weights
        self.sizes: dict[str, int] = {"n": 1, **(sizes or {})}
        self.parameters = 0
        self.macs = 0
        self.inputs: dict[str, tuple[str, tuple[Axis, ...]]] = {}
        self.outputs: dict[str, tuple[str, tuple[Axis, ...]]] = {}
        # one message from the start: weights are never held twice
        self._model = onnx.ModelProto()
        self._places: dict[str, int] = {}
        self._names = 0
        self._draws = 0

    @property
    def dtype(self) -> str:
        """The type of weights and activations."""
        return "float16" if self.half else "float32"

    @property
    def nodes(self) -> int:
        """Nodes so far."""
        return len(self._model.graph.node)

    def input(self, name: str, shape: Sequence[Axis], dtype: str = "float32") -> Tensor:
        """A graph input; float inputs of a half graph are cast to FP16 at once."""
        self.inputs[name] = (dtype, tuple(shape))
        tensor = Tensor(name, self._sized(shape))
        if self.half and dtype == "float32":
            return self.op("Cast", tensor, shape=tensor.shape, to=TensorProto.FLOAT16)
        return tensor

    def output(self, name: str, tensor: Tensor, shape: Sequence[Axis] | None = None) -> None:
        """Name a graph output, float32; `shape` is written into the file where an axis is free."""
        declared = tuple(shape) if shape is not None else (self.batch, *tensor.shape[1:])
        if self._sized(declared) != tensor.shape:
            raise TwinError(
                f"{self.name}: output {name}: wanted the shape {self._sized(declared)}, got {tensor.shape}; "
                "correct the builder"
            )
        if self.half:
            tensor = self.op("Cast", tensor, shape=tensor.shape, to=TensorProto.FLOAT)
        for node in self._model.graph.node:
            for side in (node.input, node.output):
                for place, found in enumerate(side):
                    if found == tensor.name:
                        side[place] = name
        self.outputs[name] = ("float32", declared)

    def op(self, kind: str, *operands: Tensor | None, shape: Sequence[int], **attributes: Any) -> Tensor:
        """Append a node with one output of this shape; None is an operand left out."""
        return self.ops(kind, *operands, shapes=(shape,), **attributes)[0]

    def ops(
        self, kind: str, *operands: Tensor | None, shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> tuple[Tensor, ...]:
        """Append a node with several outputs."""
        outputs = tuple(Tensor(self._name("t"), tuple(shape)) for shape in shapes)
        names = [operand.name if operand is not None else "" for operand in operands]
        node = helper.make_node(
            kind, names, [output.name for output in outputs], name=f"{kind}_{self.nodes}", **attributes
        )
        self._model.graph.node.append(node)
        return outputs

    def weight(
        self, shape: Sequence[int], std: float, mean: float = 0.0, *, name: str = "", counted: bool = True
    ) -> Tensor:
        """A seeded random weight, uniform with this mean and standard deviation; counted as parameters."""
        tensor = Tensor(name or self._name("w"), tuple(shape))
        self._draws += 1
        if counted:
            self.parameters += math.prod(shape)
        if self.has_weights:
            values = noise(self.seed, self._draws, shape)
            values *= np.float32(std * math.sqrt(3.0))
            values += np.float32(mean)
            self._store(tensor.name, values)
        return tensor

    def constant(self, values: Array | Sequence[float], *, exact: bool = False) -> Tensor:
        """A constant that is no parameter; floats take the graph's type unless `exact`."""
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        tensor = Tensor(self._name("c"), array.shape)
        if self.has_weights:
            self._store(tensor.name, array, exact=exact)
        return tensor

    def stored(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """The values of a weight, as float32; only with weights."""
        found = self._model.graph.initializer[self._places[tensor.name]]
        values: npt.NDArray[np.float32] = onnx.numpy_helper.to_array(found).astype(np.float32)
        return values

    def replace(self, tensor: Tensor, values: npt.NDArray[np.float32]) -> None:
        """Other values for a weight; only with weights."""
        self._store(tensor.name, values.reshape(tensor.shape))

    def model(self, notes: Mapping[str, str] | None = None, extra_outputs: Sequence[Tensor] = ()) -> Any:
        """The ModelProto, announced as random in doc_string and metadata; only with weights.

        It is the graph's own message: it changes when the graph does.
        """
        if not self.has_weights:
            raise TwinError(
                f"{self.name}: wanted a graph with weights, got one that only counts; build it with weights"
            )
        model, graph = self._model, self._model.graph
        model.ir_version = 8 if self.opset <= 18 else 9
        model.producer_name = "face-engine twins"
        model.doc_string = f"Twin of {self.name}; {NOTICE}."
        graph.name, graph.doc_string = self.name, NOTICE
        for message in (graph.input, graph.output, model.opset_import, model.metadata_props):
            del message[:]
        model.opset_import.append(helper.make_opsetid("", self.opset))
        graph.input.extend(self._info(name, *facts) for name, facts in self.inputs.items())
        graph.output.extend(self._info(name, *facts) for name, facts in self.outputs.items())
        graph.output.extend(self._info(tensor.name, self.dtype, [None] * len(tensor.shape)) for tensor in extra_outputs)
        helper.set_model_props(model, {"weights": NOTICE, **(notes or {})})
        return model

    def save(self, path: Path, notes: Mapping[str, str] | None = None) -> None:
        """Write the file; the caller renames it into place."""
        path.write_bytes(self.model(notes).SerializeToString(deterministic=True))

    def _info(self, name: str, dtype: str, shape: Sequence[Axis | None]) -> Any:
        return helper.make_tensor_value_info(name, _DTYPES[dtype], list(shape))

    def _sized(self, shape: Sequence[Axis]) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else self.sizes[axis] for axis in shape)

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def _store(self, name: str, values: Array, *, exact: bool = False) -> None:
        if values.dtype == np.float32 and self.half and not exact:
            small = (values != 0) & (np.abs(values) < HALF_LEAST)
            values = np.where(small, np.copysign(np.float32(HALF_LEAST), values), values).astype(np.float16)
        stored = self._model.graph.initializer
        if name not in self._places:
            self._places[name] = len(stored)
            stored.add()
        tensor = stored[self._places[name]]
        del tensor.dims[:]
        tensor.dims.extend(values.shape)
        tensor.name = name
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor.raw_data = values.tobytes()
