"""TensorRT at run time, any flavour, typed: the one module where its untyped objects stop.

RTX 1.x, 11, 10.3 and later, 8.5 and 8.6 have the name-based calls used here; what differs is asked with hasattr.
TensorRT never raises: a None or a False becomes an error with the words that it logged.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import DeviceError, ModelError, explain

__all__ = ["EITHER", "FLAVOURS", "NAMES", "TrtContext", "TrtEngine", "TrtRuntime", "TrtTensor", "find_runtime"]

FLAVOURS = ("tensorrt_rtx", "tensorrt")
NAMES = (
    "ILogger.ERROR", "ILogger.INTERNAL_ERROR", "ILogger.WARNING", "ILogger.log", "Runtime.deserialize_cuda_engine",
    "ICudaEngine.num_io_tensors", "ICudaEngine.get_tensor_name", "ICudaEngine.get_tensor_mode",
    "ICudaEngine.get_tensor_dtype", "ICudaEngine.get_tensor_shape", "IExecutionContext.set_tensor_address",
    "IExecutionContext.execute_async_v3", "TensorIOMode.INPUT", "DataType.FLOAT",
)  # fmt: skip
# one of each pair is in every flavour
EITHER = (
    ("ICudaEngine.device_memory_size_v2", "ICudaEngine.device_memory_size"),
    ("IExecutionContext.set_device_memory", "IExecutionContext.device_memory"),
    (
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "ICudaEngine.create_execution_context_without_device_memory",
    ),
)


@dataclass(frozen=True)
class TrtTensor:
    """One input or output of a plan, by the plan's own name; static shape, NumPy's name of the type."""

    name: str
    is_input: bool
    dtype: str
    shape: tuple[int, ...]


class TrtRuntime:
    """One installed flavour. `known_architectures` is empty where the library does not say which GPUs it runs on."""

    def __init__(self, name: str, module: Any) -> None:
        self.name, self._trt = name, module
        self.version = str(module.__version__)
        capability = getattr(module, "ComputeCapability", None)
        found = [one for one in dir(capability) if re.fullmatch(r"SM\d+", one)]
        self.known_architectures = tuple(f"sm_{number}" for number in sorted(int(one[2:]) for one in found))
        self._log = _logger(module)
        self._runtime: Any = None

    def deserialize(self, plan: bytes, where: str, jit_cache: bytes = b"") -> TrtEngine:
        """An engine from a checked plan; raises ModelError with TensorRT's own words."""
        trt = self._trt
        self._log.heard.clear()
        if self._runtime is None:
            plugins = getattr(trt, "init_libnvinfer_plugins", None)
            if plugins is not None:
                plugins(self._log, "")  # 8.x reads InstanceNormalization as a plug-in
            try:
                self._runtime = trt.Runtime(self._log)
            except TypeError as error:  # 8.x without a device: a constructor that gives nothing
                do = "python -m engine doctor shows what was found"
                got = f"{error} ({self.words()})"
                raise DeviceError(explain(f"{self.name} {self.version}", "a runtime", got, do)) from error
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            do = "build it again on this machine"
            raise ModelError(explain(where, f"a plan that {self.name} {self.version} loads", self.words(), do))
        return TrtEngine(self, trt, engine, where, jit_cache)

    def words(self) -> str:
        """What it logged since the last call, once."""
        said = "; ".join(self._log.heard) or "nothing, and no reason in its log"
        self._log.heard.clear()
        return said


class TrtEngine:
    """A loaded plan and its one execution context, whose scratch is the caller's."""

    def __init__(self, runtime: TrtRuntime, trt: Any, engine: Any, where: str, jit_cache: bytes) -> None:
        self._runtime, self._engine, self._where = runtime, engine, where
        self.tensors = {one.name: one for one in (_tensor(trt, engine, i) for i in range(engine.num_io_tensors))}
        size = getattr(engine, "device_memory_size_v2", None)
        self.scratch_bytes = int(engine.device_memory_size if size is None else size)
        self._jit: Any = None
        self.is_jit_stale = False
        made = self._bare_context(trt, jit_cache)
        if made is None:
            do = "free memory on the GPU, or build the plan again"
            raise DeviceError(explain(where, "an execution context", runtime.words(), do))
        self.context = TrtContext(runtime, made, where)

    def jit_cache(self) -> bytes:
        """What RTX compiled for this GPU, to be given to `deserialize` next time; empty for other flavours."""
        return bytes(memoryview(self._jit.serialize())) if self._jit is not None else b""

    def close(self) -> None:
        """Let the context go before the engine, as TensorRT asks."""
        self.context.close()
        self._engine = self._jit = None

    def _bare_context(self, trt: Any, jit_cache: bytes) -> Any:
        """A context without scratch of its own. RTX compiles kernels here, unless the cache holds them."""
        engine = self._engine
        strategy = getattr(trt, "ExecutionContextAllocationStrategy", None)
        if strategy is None:
            return engine.create_execution_context_without_device_memory()
        if not hasattr(trt, "CudaGraphStrategy"):
            return engine.create_execution_context(strategy.USER_MANAGED)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy.USER_MANAGED)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # whole halves of a frame are captured by us
        self._jit = config.create_runtime_cache()
        if jit_cache:
            # False for another GPU, driver or release: then it compiles, and what it compiles replaces the file
            self.is_jit_stale = not self._jit.deserialize(jit_cache)
        config.set_runtime_cache(self._jit)
        return engine.create_execution_context(config)


class TrtContext:
    """One execution context. What is bound stays bound, so a run costs one call."""

    def __init__(self, runtime: TrtRuntime, context: Any, where: str) -> None:
        self._runtime, self._context, self._where = runtime, context, where
        self._bound: dict[str, int] = {}
        self._scratch = (0, 0)

    def give_scratch(self, ptr: int, nbytes: int) -> None:
        """Scratch memory, aligned to 256 bytes; nobody else may use it while the context runs."""
        if self._scratch != (ptr, nbytes):
            if hasattr(self._context, "set_device_memory"):
                self._context.set_device_memory(ptr, nbytes)
            else:
                self._context.device_memory = ptr
            self._scratch = (ptr, nbytes)

    def bind(self, addresses: dict[str, int]) -> None:
        """Addresses by tensor name; only what has changed is set. Raises DeviceError for one that is refused."""
        for name, ptr in addresses.items():
            if self._bound.get(name) != ptr:
                if not self._context.set_tensor_address(name, ptr):
                    do = "align buffers to 256 bytes"
                    raise DeviceError(explain(f"{self._where}.{name}", "a bound address", self._runtime.words(), do))
                self._bound[name] = ptr

    def enqueue(self, stream: int) -> None:
        """Put one run on a stream; returns at once. Raises DeviceError with TensorRT's own words."""
        if not self._context.execute_async_v3(stream):
            do = "run again with FACE_ENGINE_CUDA=sync"
            raise DeviceError(explain(self._where, "a run of the network", self._runtime.words(), do))

    def is_capturable(self, stream: int) -> bool:
        """What the flavour says itself, where it says so (RTX); True elsewhere: a trial shows it."""
        asked: Callable[[int], bool] | None = getattr(self._context, "is_stream_capturable", None)
        return True if asked is None else bool(asked(stream))

    def close(self) -> None:
        """Let it go."""
        self._context = None


def find_runtime(arch: str, name: str = "") -> TrtRuntime:
    """The flavour of this name, else the first installed that runs on the architecture.

    Raises DeviceError with what to install.
    """
    reasons = []
    for candidate in (name,) if name else FLAVOURS:
        try:
            runtime = TrtRuntime(candidate, importlib.import_module(candidate))
        except (ImportError, OSError) as error:
            reasons.append(f"{candidate}: {error}")
            continue
        if runtime.known_architectures and arch not in runtime.known_architectures:
            known = ", ".join(runtime.known_architectures)
            reasons.append(f"{candidate} {runtime.version} runs on {known}, not on {arch}")
            continue
        return runtime
    wanted = f"{name or ' or '.join(FLAVOURS)} for {arch}"
    do = (
        'pip install "face-engine[rtx]" for GeForce and RTX cards, "face-engine[trt]" for others; or '
        'session = "onnxruntime-cuda" in the profile'
    )
    raise DeviceError(explain("TensorRT", wanted, "; ".join(reasons), do))


def _tensor(trt: Any, engine: Any, index: int) -> TrtTensor:
    name = engine.get_tensor_name(index)
    kind = engine.get_tensor_dtype(name)
    return TrtTensor(
        name=str(name),
        is_input=engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
        dtype="float32" if kind == trt.DataType.FLOAT else str(kind),
        shape=tuple(int(extent) for extent in engine.get_tensor_shape(name)),
    )


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps errors and warnings until somebody asks; a subclass must call the base's __init__ itself."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.heard: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.heard.append(str(message).strip())
                del self.heard[:-8]

    return Log()
