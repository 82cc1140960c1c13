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
LOOKS = ("classic", "film")
_SOURCES = {
    "classic": ("faces.cpp", "packet.h", "params.h", "shapes.h", "paint.h", "backdrop.h"),
    "film": (
        "film.cpp", "film_params.h", "film_math.h", "film_layout.h", "film_head.h", "film_hair.h", "film_body.h",
        "film_light.h", "film_skin.h", "film_eye.h", "film_mouth.h", "film_props.h", "film_scene.h", "film_labels.h",
        "film_lens.h", "film_backdrop.h", "packet.h", "params.h", "shapes.h", "paint.h",
    ),
}  # fmt: skip
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


def _build(target: Path, source: Path) -> None:
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        made = Path(work) / target.name
        command = [_compiler(), *_FLAGS, native, "-fPIC", "-shared", "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"renderer: wanted {source} to compile, got exit code {done.returncode}; "
                f"read the compiler's words:\n{done.stderr[:4000]}"
            )
        made.replace(target)  # complete or absent, also when two processes build at once


def _compiled(look: str) -> ctypes.CDLL:
    if look not in LOOKS:
        raise ValueError(f"renderer: wanted a look of {', '.join(LOOKS)}, got {look!r}; name one of them")
    digest = hashlib.sha256(" ".join(_FLAGS).encode() + _cpu().encode())
    for name in _SOURCES[look]:
        digest.update((_HERE / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "face-engine"
    stem = "faces" if look == "classic" else look
    target = cache / f"{stem}-{digest.hexdigest()[:24]}.so"
    if not target.exists():
        _build(target, _HERE / _SOURCES[look][0])
    return ctypes.CDLL(str(target))


_F32, _U8, _I32 = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_uint8), ctypes.POINTER(ctypes.c_int32)
_INT, _FLOAT, _SEED = ctypes.c_int, ctypes.c_float, ctypes.c_uint32


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled renderer of the classic look; built on first use into the user's cache folder."""
    lib = _compiled("classic")
    lib.face_names.argtypes, lib.face_names.restype = [_INT], ctypes.c_char_p
    lib.face_geometry.argtypes, lib.face_geometry.restype = [_F32, _F32, _F32], None
    lib.face_draw.argtypes, lib.face_draw.restype = [_F32, _F32, _U8, _U8, _INT, _INT, _I32, _INT, _INT], None
    lib.backdrop_draw.argtypes, lib.backdrop_draw.restype = [_SEED, _INT, _U8, _INT, _INT], None
    lib.film_grain.argtypes, lib.film_grain.restype = [_SEED, _FLOAT, _FLOAT, _U8, _INT], None
    return lib


@functools.cache
def film_library() -> ctypes.CDLL:
    """The compiled renderer of the film look; built on first use into the user's cache folder."""
    lib = _compiled("film")
    lib.film_names.argtypes, lib.film_names.restype = [_INT], ctypes.c_char_p
    lib.film_geometry.argtypes, lib.film_geometry.restype = [_F32, _INT, _F32, _F32], _INT
    lib.film_draw.argtypes, lib.film_draw.restype = [_F32, _F32, _U8, _U8, _U8, _INT, _I32, _INT, _INT], None
    lib.film_backdrop.argtypes, lib.film_backdrop.restype = [_SEED, _INT, _U8, _INT, _INT], None
    lib.film_smear.argtypes, lib.film_smear.restype = [_U8, _U8, _INT, _INT, _FLOAT, _FLOAT], None
    lib.film_sensor.argtypes, lib.film_sensor.restype = [_SEED, _FLOAT, _FLOAT, _U8, _INT, _INT], None
    lib.film_compress.argtypes, lib.film_compress.restype = [_FLOAT, _U8, _INT, _INT], None
    return lib
