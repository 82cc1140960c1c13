"""Compiles the drawing code once for this machine and loads it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SOURCES = ("faces.cpp", "packet.h", "params.h", "shapes.h", "paint.h", "backdrop.h")
# No -ffast-math: it changes the arithmetic of the whole process. No contraction: pictures should not depend on FMA.
_FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp", "-Wno-psabi")


def _cpu() -> str:
    """What "native" means here, so that a cache on a shared disk is never used by another kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _compiler() -> str:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise RuntimeError("renderer: wanted a C++ compiler, got none on PATH; install g++ (Debian: apt-get install g++)")


def _build(target: Path) -> None:
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        made = Path(work) / target.name
        command = [_compiler(), *_FLAGS, native, "-fPIC", "-shared", "-o", str(made), str(_HERE / "faces.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"renderer: wanted {_HERE / 'faces.cpp'} to compile, got exit code {done.returncode}; "
                f"read the compiler's words:\n{done.stderr[:4000]}"
            )
        made.replace(target)  # complete or absent, also when two processes build at once


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled renderer; built on first use into the user's cache folder."""
    digest = hashlib.sha256(" ".join(_FLAGS).encode() + _cpu().encode())
    for name in _SOURCES:
        digest.update((_HERE / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "face-engine"
    target = cache / f"faces-{digest.hexdigest()[:24]}.so"
    if not target.exists():
        _build(target)
    lib = ctypes.CDLL(str(target))
    f32, u8, i32 = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_uint8), ctypes.POINTER(ctypes.c_int32)
    lib.face_names.argtypes, lib.face_names.restype = [ctypes.c_int], ctypes.c_char_p
    lib.face_geometry.argtypes, lib.face_geometry.restype = [f32, f32, f32], None
    size = ctypes.c_int
    lib.face_draw.argtypes, lib.face_draw.restype = [f32, f32, u8, u8, size, size, i32, size, size], None
    lib.backdrop_draw.argtypes, lib.backdrop_draw.restype = [ctypes.c_uint32, size, u8, size, size], None
    lib.film_grain.argtypes = [ctypes.c_uint32, ctypes.c_float, ctypes.c_float, u8, size]
    lib.film_grain.restype = None
    return lib
