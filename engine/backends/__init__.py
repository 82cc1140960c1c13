"""Devices: the protocol is in base.py; one is opened here, and its libraries are loaded only then."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.backends.base import Backend, Session
from engine.errors import DeviceError, explain

if TYPE_CHECKING:
    from engine.backends.cuda import CudaBackend, Mode
    from engine.backends.driver import Driver
    from models.model_files import ModelFile

__all__ = ["Networks", "open_backend", "open_kernels_on_cuda"]


@dataclass(frozen=True)
class Networks:
    """What runs the networks on a GPU: plans of a precision, or ONNX Runtime. `rebuild` is the command for plans."""

    session: Literal["tensorrt", "onnxruntime-cuda"] = "tensorrt"
    precision: str = "fp32"
    rebuild: str = "python -m build_engines PROFILE"


def open_backend(name: str, *, threads: int, say: Callable[[str], None], networks: Networks = Networks()) -> Backend:
    """The backend of this name; "auto" takes a GPU where one can be used, else the CPU, and says which and why.

    A GPU that can be used has a driver, the packages that this engine needs and a library for `networks`. Raises
    DeviceError when "cuda" is asked for and can't be had. Plans that are not there are no reason to take the CPU:
    opening a session names the command that builds them.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(explain("backend", "auto, cpu or cuda", repr(name), "correct the name"))
    why = "asked for"
    if name in ("auto", "cuda"):
        why = _what_is_missing()
        if not why:
            try:
                return _open_cuda(networks, say)
            except DeviceError as error:
                if name == "cuda":
                    raise
                why = str(error)
        elif name == "cuda":
            raise DeviceError(explain("backend cuda", "a CUDA device and the packages for it", why, _CUDA_FIX))
    from engine.backends.cpu import CpuBackend

    backend = CpuBackend(threads)
    say(f"backend: cpu, {threads} threads ({why})")
    return backend


def open_kernels_on_cuda() -> CudaBackend:
    """The cuda backend without a library for networks: kernels and memory alone. Raises DeviceError without a GPU."""
    from engine.backends.cuda import CudaBackend
    from engine.backends.cuda_driver import CudaDriver

    def no_networks(backend: CudaBackend, model: ModelFile) -> Session:
        raise DeviceError(explain(model.contract.name, "a backend with networks", "one for kernels", "open_backend"))

    why = _what_is_missing()
    if why:
        raise DeviceError(explain("backend cuda", "a CUDA device and the packages for it", why, _CUDA_FIX))
    driver = CudaDriver()
    try:
        return CudaBackend(driver, _kernels_for(driver), no_networks)
    except BaseException:
        driver.close()
        raise


def _kernels_for(driver: Driver) -> bytes:
    from kernels.compile import KernelBuildError, compile_cubin

    try:
        return compile_cubin(driver.facts.arch)
    except KernelBuildError as error:
        raise DeviceError(str(error)) from error


_CUDA_FIX = "run with --backend cpu, or install it; python -m engine doctor shows what was found"


def _open_cuda(networks: Networks, say: Callable[[str], None]) -> CudaBackend:
    from engine.backends.cuda_driver import CudaDriver

    driver = CudaDriver()
    try:
        return _on_driver(driver, networks, say)
    except BaseException:
        driver.close()
        raise


def _on_driver(driver: Driver, networks: Networks, say: Callable[[str], None]) -> CudaBackend:
    """The backend with its kernels and what runs its networks; says the first line."""
    from engine.backends.cuda import CudaBackend, SessionOpener

    facts, mode = driver.facts, _mode()
    opener: SessionOpener
    if networks.session == "onnxruntime-cuda":
        from engine.backends.ort_cuda_session import open_ort_cuda, provider_version

        opener, library = open_ort_cuda, f"ONNX Runtime {provider_version()} on CUDA"
    else:
        from engine.backends.trt_runtime import find_runtime
        from engine.backends.trt_session import TrtSessions
        from engine.plans import PlanChoice

        runtime = find_runtime(facts.arch)
        choice = PlanChoice(networks.precision, runtime.name, runtime.version, facts.arch, facts.name, networks.rebuild)
        opener, library = TrtSessions(runtime, choice, say), f"{runtime.name} {runtime.version}, {networks.precision}"
    backend = CudaBackend(driver, _kernels_for(driver), opener, mode=mode)
    cuda = f"CUDA {facts.cuda[0]}.{facts.cuda[1]}"
    say(f"backend: cuda, {facts.name} ({facts.arch}, {cuda}), {library}" + ("" if mode == "graphs" else f", {mode}"))
    return backend


_MODES: tuple[Mode, ...] = ("graphs", "eager", "sync")


def _mode() -> Mode:
    """FACE_ENGINE_CUDA: graphs (the default), eager, or sync, which names what failed."""
    asked = os.environ.get("FACE_ENGINE_CUDA", "graphs")
    for mode in _MODES:
        if asked == mode:
            return mode
    raise DeviceError(explain("FACE_ENGINE_CUDA", "graphs, eager or sync", repr(asked), "correct it or unset it"))


def _what_is_missing() -> str:
    """Why no GPU can be used; empty when one can. Nothing is loaded but the driver's library."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver: libcuda.so.1 was not found"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"an NVIDIA driver without a usable device: cuInit or cuDeviceGetCount gave {status}"
    absent = [name for name in ("cuda.bindings", "cuda.core") if not _has(name)]
    if absent:
        return f'a CUDA device without {" and ".join(absent)}: pip install "face-engine[cuda13]" (or cuda12)'
    return ""


def _has(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False
