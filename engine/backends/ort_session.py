"""ONNX Runtime sessions: bound once by name to fixed buffers, then run without a copy of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from engine.errors import DeviceError, ModelError, explain
from engine.frame import Buffer
from models.contract import Contract
from models.model_files import ModelFile

__all__ = ["OrtSession"]

_TYPES = {"float32": 1, "float16": 10, "uint8": 2, "int32": 6, "int64": 7, "float64": 11}


class OrtSession:
    """A model on the CPU provider. Its threads do not spin, so that kernels and codecs keep their cores."""

    place = ("cpu", 0)

    def __init__(self, model: ModelFile, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._open(model, options, ["CPUExecutionProvider"])

    def _open(self, model: ModelFile, options: Any, providers: list[Any]) -> None:
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(model.path), options, providers=providers)
        except Exception as error:  # its exceptions share no base class of their own
            raise ModelError(
                explain(
                    str(model.path),
                    f"a model that ONNX Runtime opens for {model.contract.name}",
                    str(error),
                    "replace the file",
                )
            ) from error
        self.contract: Contract = model.contract
        self._tensors = model.tensors
        self._input_shapes = {item.name: tuple(item.shape) for item in self._session.get_inputs()}
        self._bindings: dict[tuple[Any, ...], list[Any]] = {}

    @property
    def batch(self) -> int:
        """Entries that one call into the file takes; 0 when its first axis is free."""
        first = [shape[0] for shape in self._input_shapes.values() if len(shape) > 1]
        return int(first[0]) if first and all(isinstance(axis, int) for axis in first) else 0

    def fit(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The file's shape of an input where it fixes every axis; else any is taken."""
        held = self._input_shapes[self._tensors[name]]
        return tuple(int(axis) for axis in held) if all(isinstance(axis, int) for axis in held) else shape

    def prepare(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Bind these buffers now, so that the first run with them is like any other."""
        self._bound(inputs, outputs)

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Run on dense host buffers; a file with batch 1 baked in runs once for each entry."""
        for binding in self._bound(inputs, outputs):
            self._run(binding)

    def _run(self, binding: Any, options: Any = None) -> None:
        try:
            self._session.run_with_iobinding(binding, options)
        except RuntimeError as error:
            raise DeviceError(
                explain(self.contract.name, "a run of the network", str(error).strip(), "check the file's own shapes")
            ) from error

    def _bound(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> list[Any]:
        key = tuple((name, buffer.ptr, buffer.shape) for side in (inputs, outputs) for name, buffer in side.items())
        bindings = self._bindings.get(key)
        if bindings is None:
            entries = next(iter(inputs.values())).shape[0]
            if self.batch == 1 and entries > 1:
                rows = [
                    ({n: b.rows(i, 1) for n, b in inputs.items()}, {n: b.rows(i, 1) for n, b in outputs.items()})
                    for i in range(entries)
                ]
            else:
                rows = [(dict(inputs), dict(outputs))]
            bindings = self._bindings[key] = [self._bind(*row) for row in rows]
        return bindings

    def _bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Any:
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            self._check(name, buffer, "input")
            binding.bind_input(self._tensors[name], *self.place, _TYPES[buffer.dtype], buffer.shape, buffer.ptr)
        for name, value in self.contract.constants.items():
            if name not in inputs and name in self._tensors:  # whoever has its own value binds it by itself
                spec = self.contract.inputs[name]
                binding.bind_cpu_input(self._tensors[name], np.full(spec.sizes, value, spec.dtype))
        for name, buffer in outputs.items():
            self._check(name, buffer, "output")
            binding.bind_output(self._tensors[name], *self.place, _TYPES[buffer.dtype], buffer.shape, buffer.ptr)
        return binding

    def _check(self, name: str, buffer: Buffer, side: str) -> None:
        specs = self.contract.inputs if side == "input" else self.contract.outputs
        if name not in specs:
            raise ModelError(
                explain(
                    f"{self.contract.name}.{name}", f"one of its {side}s {', '.join(specs)}", name, "correct the name"
                )
            )
        misfit = specs[name].misfit(buffer.dtype, buffer.shape)
        if misfit:
            wanted, _, got = misfit.removeprefix("wanted ").partition(", got ")
            raise ModelError(explain(f"{self.contract.name}.{name}", wanted, got, "allocate by the contract"))
