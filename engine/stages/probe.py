"""A smallest round through the kernels, for `doctor`: does this device build and run them?"""

from __future__ import annotations

import time

import numpy as np

from engine.backends.base import Backend
from engine.errors import DeviceError, explain
from kernels.launch import Colour, nv12_to_rgb_into
from models.spec import Spec

__all__ = ["run_probe"]


def run_probe(backend: Backend) -> float:
    """Convert a grey 64 x 64 frame to RGB and check it; ms of the second run. Raises DeviceError when it is wrong."""
    frame = backend.allocate_nv12(64, 64)
    backend.load_planes((np.full((64, 64), 126, dtype=np.uint8), np.full((32, 64), 128, dtype=np.uint8)), frame)
    rgb = backend.allocate(Spec("uint8", (64, 64, 3)))
    view = frame.view(Colour("bt709", full_range=False))
    nv12_to_rgb_into(backend, view, rgb)
    start = time.perf_counter()
    nv12_to_rgb_into(backend, view, rgb)
    took_ms = (time.perf_counter() - start) * 1e3
    got = backend.to_host(rgb)
    wanted = round((126 - 16) * 255 / 219)
    if not np.all(got == wanted):
        raise DeviceError(
            explain("kernels", f"grey {wanted}", f"{got.min()} to {got.max()}", "rebuild: remove the kernel cache")
        )
    return took_ms
