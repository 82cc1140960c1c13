"""Devices: the protocol is in base.py; one is opened here, and its libraries are loaded only then."""

from __future__ import annotations

from collections.abc import Callable

from engine.backends.base import Backend
from engine.errors import DeviceError, explain

__all__ = ["open_backend"]


def open_backend(name: str, *, threads: int, say: Callable[[str], None]) -> Backend:
    """The backend of this name; "auto" takes a GPU where there is one, else the CPU, and says which.

    Raises DeviceError when "cuda" is asked for and can't be had.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(explain("backend", "auto, cpu or cuda", repr(name), "correct the name"))
    if name in ("auto", "cuda"):
        found, missing = _cuda_state()
        if name == "cuda":
            raise DeviceError(
                explain("backend cuda", "a CUDA device and this engine's cuda backend", missing or found, _CUDA_FIX)
            )
        say(f"backend: cpu, {threads} threads ({missing or found})")
    else:
        say(f"backend: cpu, {threads} threads (asked for)")
    from engine.backends.cpu import CpuBackend

    return CpuBackend(threads)


_CUDA_FIX = "run with --backend cpu, or install the driver; python -m engine doctor shows what was found"


def _cuda_state() -> tuple[str, str]:
    """(what was found, what is missing) of a CUDA device; nothing is loaded but the driver's library."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "", "no NVIDIA driver: libcuda.so.1 was not found"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return "", f"an NVIDIA driver without a usable device: cuInit or cuDeviceGetCount gave {status}"
    return f"{count.value} CUDA device(s), whose runtime backend is not part of this release", ""
