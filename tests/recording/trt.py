"""TensorRT for the recording twin: a module with one wheel's names and no others, whose engines run ONNX files.

A "plan" names its ONNX file and shapes. An engine reads and writes the addresses that it was bound to, on the stream
that it is given, so that a session is driven whole and its memory is watched.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from engine.backends.driver import Stream, cuda_error
from models.model_files import ModelFile
from models.plan_file import Manifest, key_for, write_plan
from tests.recording.driver import RecordingDriver
from tests.tensorrt_names import stand_in

__all__ = ["GPU", "Played", "played_trt", "write_played_plan"]

GPU = "Recording Twin"


@dataclass
class Played:
    """What was asked of the module, and how it answers. `scratch_bytes` by contract; `spoils` a capture or refuses
    to be captured; `refuses` what is deserialised."""

    driver: RecordingDriver
    calls: Counter[str] = field(default_factory=Counter)
    scratch_bytes: dict[str, int] = field(default_factory=dict)
    scratch: list[tuple[int, int]] = field(default_factory=list)
    jit_seen: list[bytes] = field(default_factory=list)
    spoils: bool = False
    refuses: str = ""


def write_played_plan(
    model: ModelFile, shapes: dict[str, tuple[int, ...]], wheel: str, *, arch: str = "sm_90", precision: str = "fp32"
) -> Manifest:
    """A plan file and its manifest, as a build would leave them."""
    flavour, _, version = wheel.rpartition("-")
    key = key_for(
        model,
        precision=precision,
        shapes=shapes,
        flavour=flavour,
        flavour_version=version,
        arch=arch,
        gpu_name=GPU,
    )
    text = {"onnx": str(model.path), "contract": key.contract, "tensors": model.tensors, "shapes": shapes}
    plan = json.dumps(text).encode()
    manifest = Manifest(key, hashlib.sha256(plan).hexdigest(), len(plan), dict(model.tensors), {}, "simulated")
    write_plan(plan, manifest)
    return manifest


def played_trt(wheel: str, driver: RecordingDriver) -> tuple[Any, Played]:
    """(module, what it was asked)."""
    module, played = stand_in(wheel), Played(driver)
    kinds = {name: getattr(module, name) for name in ("Runtime", "ICudaEngine", "IExecutionContext")}
    kinds["IRuntimeConfig"] = getattr(module, "IRuntimeConfig", None)

    def runtime(log: Any) -> Any:
        return _guarded(kinds["Runtime"], _Runtime(module, kinds, played, log))

    module.Runtime = runtime
    return module, played


def _guarded(kind: type, held: Any) -> Any:
    """The object, with the names of its class in that wheel and no others."""

    class Guard:
        def __getattr__(self, name: str) -> Any:
            if not hasattr(kind, name):
                raise AttributeError(f"{kind.__name__} of this wheel has no {name}")
            return getattr(held, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if not hasattr(kind, name):
                raise AttributeError(f"{kind.__name__} of this wheel has no {name} to set")
            setattr(held, name, value)

    return Guard()


class _Runtime:
    def __init__(self, module: Any, kinds: dict[str, Any], played: Played, log: Any) -> None:
        self._module, self._kinds, self._played, self._log = module, kinds, played, log

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if self._played.refuses:
            self._log.log(self._module.ILogger.ERROR, self._played.refuses)
            return None
        self._played.calls["deserialize_cuda_engine"] += 1
        return _guarded(self._kinds["ICudaEngine"], _Engine(self._module, self._kinds, self._played, plan, self._log))


class _Engine:
    def __init__(self, module: Any, kinds: dict[str, Any], played: Played, plan: bytes, log: Any) -> None:
        self._module, self._kinds, self._played, self._log = module, kinds, played, log
        table = json.loads(plan)
        self.contract = table["contract"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        # spinning threads would take the cores from the kernels
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(table["onnx"], options, providers=["CPUExecutionProvider"])
        self.inputs: dict[str, tuple[int, ...]] = {
            table["tensors"][name]: tuple(shape) for name, shape in table["shapes"].items()
        }
        feeds: dict[str, Any] = {name: np.zeros(shape, np.float32) for name, shape in self.inputs.items()}
        wanted = [one for one in table["tensors"].values() if one not in self.inputs]
        outputs = self.session.run(wanted, feeds)
        self.outputs: dict[str, tuple[int, ...]] = {
            name: array.shape for name, array in zip(wanted, outputs, strict=True)
        }
        self.device_memory_size = self.device_memory_size_v2 = played.scratch_bytes.get(self.contract, 1000)

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return str([*self.inputs, *self.outputs][index])

    def get_tensor_mode(self, name: str) -> Any:
        mode = self._module.TensorIOMode
        return mode.INPUT if name in self.inputs else mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._module.DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {**self.inputs, **self.outputs}[name]

    def create_execution_context(self, how: Any) -> Any:
        if not hasattr(self._module, "CudaGraphStrategy"):
            assert how == self._module.ExecutionContextAllocationStrategy.USER_MANAGED
        return self.create_execution_context_without_device_memory()

    def create_execution_context_without_device_memory(self) -> Any:
        return _guarded(self._kinds["IExecutionContext"], _Context(self, self._played, self._module, self._log))

    def create_runtime_config(self) -> Any:
        return _guarded(self._kinds["IRuntimeConfig"], _Config(self._module, self._played))


class _Config:
    def __init__(self, module: Any, played: Played) -> None:
        self._module, self._played, self.cuda_graph_strategy, self.strategy = module, played, None, None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Any:
        return _JitCache(self._played)

    def set_runtime_cache(self, cache: Any) -> None:
        assert isinstance(cache, _JitCache)
        assert self.cuda_graph_strategy == self._module.CudaGraphStrategy.DISABLED
        assert self.strategy == self._module.ExecutionContextAllocationStrategy.USER_MANAGED


class _JitCache:
    def __init__(self, played: Played) -> None:
        self._played = played

    def deserialize(self, content: bytes) -> bool:
        self._played.jit_seen.append(content)
        return True

    def serialize(self) -> bytes:
        return b"what RTX compiled"


class _Context:
    def __init__(self, engine: _Engine, played: Played, module: Any, log: Any) -> None:
        self._engine, self._played, self._module, self._log = engine, played, module, log
        self._addresses: dict[str, int] = {}
        self._scratch = 0

    def set_tensor_address(self, name: str, ptr: int) -> bool:
        self._played.calls["set_tensor_address"] += 1
        self._addresses[name] = ptr
        return ptr % 4 == 0

    def set_device_memory(self, ptr: int, nbytes: int) -> None:
        self._set_scratch(ptr, nbytes)

    @property
    def device_memory(self) -> int:
        return self._scratch

    @device_memory.setter
    def device_memory(self, ptr: int) -> None:
        self._set_scratch(ptr, self._engine.device_memory_size)

    def _set_scratch(self, ptr: int, nbytes: int) -> None:
        assert nbytes >= self._engine.device_memory_size
        assert ptr % 256 == 0
        self._scratch = ptr
        self._played.scratch.append((ptr, nbytes))

    def is_stream_capturable(self, stream: int) -> bool:
        return not self._played.spoils

    def execute_async_v3(self, stream: int) -> bool:
        self._played.calls["execute_async_v3"] += 1
        driver, addresses = self._played.driver, dict(self._addresses)
        if self._played.spoils and Stream(stream) in driver._captures:
            raise cuda_error("cuMemAlloc", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "an allocation in a graph", "")
        if set(addresses) != {*self._engine.inputs, *self._engine.outputs} or not self._scratch:
            self._log.log(self._module.ILogger.ERROR, "an address is missing")
            return False
        ins, outs = self._engine.inputs, self._engine.outputs

        def run() -> None:
            feeds: dict[str, Any] = {name: _floats(addresses[name], shape).copy() for name, shape in ins.items()}
            for name, array in zip(outs, self._engine.session.run(list(outs), feeds), strict=True):
                np.copyto(_floats(addresses[name], array.shape), array)

        writes = [addresses[name] for name in outs] + [self._scratch]
        driver.opaque(self._engine.contract, [addresses[name] for name in ins], writes, run, Stream(stream))
        return True


def _floats(ptr: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(ptr)).reshape(shape)
