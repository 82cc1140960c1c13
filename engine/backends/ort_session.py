"""ONNX Runtime sessions: bound once by name to fixed buffers, then run without a copy of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime

from engine.errors import ModelError, explain
from engine.frame import Buffer
from models.contract import Contract
from models.library import ModelFile

__all__ = ["OrtSession"]

_TYPES = {"float32": 1, "float16": 10, "uint8": 2, "int32": 6, "int64": 7}


class OrtSession:
    """A model on the CPU provider. Its threads do not spin, so that kernels and codecs keep their cores."""

    def __init__(self, model: ModelFile, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
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
        shapes = [item.shape for item in self._session.get_inputs()]
        first = [shape[0] for shape in shapes if len(shape) > 1]
        self._batch = first[0] if first and all(isinstance(axis, int) for axis in first) else 0
        self._bindings: dict[tuple[Any, ...], Any] = {}

    @property
    def batch(self) -> int:
        """Entries that one run takes; 0 when the first axis is free."""
        return self._batch

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Run on dense host buffers; binds at the first call with these buffers."""
        key = tuple((name, buffer.ptr, buffer.shape) for side in (inputs, outputs) for name, buffer in side.items())
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(inputs, outputs)
        self._session.run_with_iobinding(binding)

    def _bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Any:
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            self._check(name, buffer, "input")
            binding.bind_input(self._tensors[name], "cpu", 0, _TYPES[buffer.dtype], buffer.shape, buffer.ptr)
        for name, buffer in outputs.items():
            self._check(name, buffer, "output")
            binding.bind_output(self._tensors[name], "cpu", 0, _TYPES[buffer.dtype], buffer.shape, buffer.ptr)
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
