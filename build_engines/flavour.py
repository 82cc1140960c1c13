"""Every TensorRT flavour behind one class: RTX 1.x, 11, 10.3+, and 8.5 / 8.6 with its per-layer precision.

TensorRT never raises: a False, a None or a logged error becomes a BuildError here, with the logger's own words and
without the noise that it logs when a machine has no driver. What differs between versions is asked of the module
with hasattr, and bit values always come from its enums: STRONGLY_TYPED is another bit in 10 than in 11.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FLAVOURS", "BuildError", "Built", "Flavour", "Machine", "find_flavour", "this_machine"]

FLAVOURS = ("tensorrt_rtx", "tensorrt")
_NOISE = re.compile(r"cudaError(?:_t)?\s*(?:code\s*)?:?\s*35|Error Code \d+: Cuda Runtime|CUDA initialization failure")


class BuildError(RuntimeError):
    """A plan can't be built; TensorRT's own words are in the message."""


@dataclass(frozen=True)
class Machine:
    """The first GPU of this machine as its driver names it; both empty without one."""

    arch: str = ""
    gpu_name: str = ""


@dataclass(frozen=True)
class Built:
    """A serialised plan, the warnings of its build, and what it learned of timings (empty where it keeps none)."""

    plan: memoryview
    warnings: tuple[str, ...]
    timings: bytes = b""


@dataclass(frozen=True)
class Flavour:
    """One installed TensorRT. `module` is where Any begins and ends."""

    name: str
    module: Any

    @property
    def version(self) -> str:
        """The library's own version."""
        return str(self.module.__version__)

    @property
    def binds_types(self) -> bool:
        """Whether types in the graph are taken as they stand; TensorRT 8 takes them layer by layer, scales in FP32."""
        return hasattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Compute capabilities that this flavour builds for on a machine without that GPU, such as sm_89."""
        names = getattr(self.module, "ComputeCapability", None)
        if names is None:
            return ()
        return tuple(f"sm_{name[2:]}" for name in sorted(dir(names), key=_capability) if re.fullmatch(r"SM\d+", name))

    def build(
        self,
        onnx: bytes | Path,
        arch: str,
        *,
        where: str,
        workspace_bytes: int = 1 << 30,
        timings: bytes = b"",
        own_tactics: bool = False,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Built:
        """A plan for static shapes and types that stand in the graph; raises BuildError.

        `onnx` is a model's bytes, or its file with its weights beside it, which are then held in memory once less.
        `arch` is a name of `architectures`, or that of this machine's GPU. `timings` is what an earlier build of
        this flavour learned on this GPU; another's is ignored. `own_tactics` leaves cuBLAS and cuDNN out where the
        flavour would call them, for machines that lack those libraries. `on_progress` gets a phase, the step and
        the steps of it. FP32 tensors are computed in FP32: TF32 is off.
        """
        trt = self.module
        log = _logger(trt)
        builder = trt.Builder(log)
        if builder is None:
            raise _error(where, "a builder", log)
        network, strong = _network(trt, builder), self.binds_types
        parser = trt.OnnxParser(network, log)
        if not (parser.parse(onnx) if isinstance(onnx, bytes) else parser.parse_from_file(str(onnx))):
            words = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
            raise BuildError(f"{where}: wanted a graph that {self.name} reads, got {words}; rewrite the operator")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
        config.clear_flag(trt.BuilderFlag.TF32)
        if not strong:
            _take_types_from_the_graph(trt, config, network)
        elif hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
            # RTX: without it a context may allocate inside enqueue, which no graph capture allows
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        self._aim(config, arch, where)
        if hasattr(config, "max_aux_streams"):
            config.max_aux_streams = 0  # one stream a session: a captured graph stays a chain, and others overlap it
        if own_tactics:
            _leave_libraries_out(trt, config)
        cache = self._timing_cache(config, timings)
        if on_progress is not None and hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = _monitor(trt, on_progress)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _error(where, f"a plan for {arch or 'this GPU'}", log)
        return Built(memoryview(plan), tuple(log.warnings), bytes(cache.serialize()) if cache is not None else b"")

    def check(self, arch: str, where: str) -> None:
        """Raise BuildError for an architecture that this flavour can't build for here."""
        known = ", ".join(self.architectures)
        here = this_machine().arch
        if self.architectures and arch not in self.architectures:
            raise BuildError(f"{where}: wanted an architecture of {self.name} ({known}), got {arch}; name one of them")
        if not self.architectures and arch != here:
            raise BuildError(
                f"{where}: wanted the architecture of this machine's GPU ({here or 'none found'}), which is all "
                f"that {self.name} builds for, got {arch}; build on a machine with that GPU"
            )

    def _aim(self, config: Any, arch: str, where: str) -> None:
        """Set the target; only RTX builds for a GPU that is not there."""
        self.check(arch, where)
        if not self.architectures:
            return
        config.num_compute_capabilities = 1
        capability = getattr(self.module.ComputeCapability, f"SM{arch.removeprefix('sm_')}")
        if not config.set_compute_capability(capability, 0):
            raise BuildError(f"{where}: wanted {self.name} to build for {arch}, got False; name another architecture")

    def _timing_cache(self, config: Any, timings: bytes) -> Any:
        """The cache that the build reads and fills; None for RTX, which times nothing."""
        if self.architectures or not hasattr(config, "create_timing_cache"):
            return None
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            # of another version or GPU: begin an empty one
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache


def this_machine() -> Machine:
    """The first GPU, asked of the driver alone."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Machine()
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return Machine()
    # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    driver.cuDeviceGetName(name, len(name), device)
    return Machine(f"sm_{major.value}{minor.value}", name.value.decode())


def find_flavour(name: str = "", arch: str = "") -> Flavour:
    """The flavour of this name, else the first installed that knows `arch`, as the runtime chooses.

    Raises BuildError with what to install.
    """
    if name and name not in FLAVOURS:
        raise BuildError(f"--flavour: wanted one of {', '.join(FLAVOURS)}, got {name}; correct the name")
    reasons = []
    for candidate in (name,) if name else FLAVOURS:
        try:
            found = Flavour(candidate, importlib.import_module(candidate))
        except (ImportError, OSError) as error:
            reasons.append(f"{candidate}: {error}")
            continue
        if name or not arch or not found.architectures or arch in found.architectures:
            return found
        reasons.append(f"{candidate} {found.version} builds for {', '.join(found.architectures)}, not for {arch}")
    raise BuildError(
        f"TensorRT: wanted {name or ' or '.join(FLAVOURS)}, got none ({'; '.join(reasons)}); "
        'install one: pip install "face-engine[rtx]" for GeForce and RTX cards, "face-engine[trt]" for others'
    )


def _capability(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else 0


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what TensorRT says; a subclass must call the base's __init__ itself."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if _NOISE.search(message):
                return
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip())
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message.strip())

    return Log()


def _error(where: str, wanted: str, log: Any) -> BuildError:
    words = "; ".join(log.errors) or "nothing, and no reason in TensorRT's log"
    return BuildError(f"{where}: wanted {wanted}, got {words}; simplify the graph or take another precision")


def _network(trt: Any, builder: Any) -> Any:
    """An empty network; 8.x and 10.x must be told that the batch is explicit."""
    flags = trt.NetworkDefinitionCreationFlag
    bits = sum(1 << int(getattr(flags, name)) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, name))
    return builder.create_network(bits)


def _take_types_from_the_graph(trt: Any, config: Any, network: Any) -> None:
    """8.x: the precision of every layer is that of its outputs in the typed graph, and is obeyed."""
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    layers: Sequence[Any] = [network.get_layer(i) for i in range(network.num_layers)]
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    for layer in layers:
        kinds = [layer.get_output(i).dtype for i in range(layer.num_outputs)]
        if layer.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE):
            config.set_flag(trt.BuilderFlag.INT8)
        elif kinds and all(kind in floats for kind in kinds) and layer.type != trt.LayerType.CONSTANT:
            layer.precision = kinds[0]
            for index, kind in enumerate(kinds):
                layer.set_output_type(index, kind)


def _leave_libraries_out(trt: Any, config: Any) -> None:
    """8.x and 10.x may call cuBLAS and cuDNN; 11 and RTX no longer name them."""
    outside = ("CUBLAS", "CUBLAS_LT", "CUDNN")
    bits = config.get_tactic_sources()
    for name in outside:
        if hasattr(trt.TacticSource, name):
            bits &= ~(1 << int(getattr(trt.TacticSource, name)))
    if not config.set_tactic_sources(bits):
        raise BuildError(f"tactic sources: wanted none of {', '.join(outside)}, got False; install these libraries")


def _monitor(trt: Any, on_progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes TensorRT's phases on; never asks it to stop."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            on_progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            on_progress(phase, step + 1, self.steps.get(phase, 0))
            return True

        def phase_finish(self, phase: str) -> None:
            on_progress(phase, self.steps.get(phase, 0), self.steps.pop(phase, 0))

    return Monitor()
