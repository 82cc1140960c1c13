"""The kernels as a shared library for the CPU, and the target that runs them."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from kernels.launch_types import Arg
from kernels.sources import (
    FOLDER,
    KernelBuildError,
    building,
    cache_folder,
    digest,
    entries,
    explain,
    unit_paths,
    used,
)

# No -ffast-math: linked into a library it sets flush-to-zero for the whole process. No contraction: multiply and
# add round as they do in the GPU build and in NumPy. The rest of the flags change no result.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fopenmp",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
)
_COMPILERS = ("g++", "clang++", "c++")
_LOAD_LOCK = threading.Lock()


def find_compiler() -> str:
    """The C++ compiler: ``$CXX``, else the first of g++, clang++ and c++ on the path."""
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else _COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    raise KernelBuildError(
        explain(
            "kernel build",
            f"the C++ compiler that CXX names, {asked!r}" if asked else f"one of {', '.join(_COMPILERS)} on PATH",
            "none",
            "install the Debian package g++ (apt install g++)",
        )
    )


@functools.lru_cache(maxsize=8)
def machine(compiler: str) -> tuple[str, str]:
    """The flag for this CPU and what it stands for: "native" resolved to the CPU and its extensions.

    The second string goes into the cache key: a cache on a shared disk may serve several machines.
    """
    for flag in ("-march=native", "-mcpu=native"):
        probe = subprocess.run(
            [compiler, flag, "-E", "-v", "-x", "c++", os.devnull], capture_output=True, text=True, check=False
        )
        if probe.returncode == 0:
            lines = [line for line in probe.stderr.splitlines() if "cc1" in line or "target-cpu" in line]
            return flag, re.sub(r"\S*/\S*", "", " ".join(lines))
    return "", os.uname().machine


@functools.lru_cache(maxsize=8)
def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout


def host_unit(path: Path) -> str:
    """One ``.cu`` as C++: the shim, the file, and for each entry point a function that walks the grid.

    ``host_<kernel>(void** args, gx, gy, gz, threads)`` takes addresses of arguments as cuLaunchKernel does;
    ``sizes_<kernel>`` holds their sizes, ended by -1, so that a caller's structures can be compared.
    """
    lines = ['#include "host.h"', f'#include "{path.name}"', 'extern "C" {']
    visible = '__attribute__((visibility("default")))'
    for entry in entries(path.read_text()):
        values = ", ".join(f"*({t}*)args[{i}]" for i, t in enumerate(entry.types))
        sizes = ", ".join([*(f"(int)sizeof({t})" for t in entry.types), "-1"])
        lines.append(
            f"{visible} void host_{entry.name}(void** args, int gx, int gy, int gz, int threads) {{\n"
            f"    run(gx, gy, gz, threads, [=] {{ {entry.name}({values}); }});\n}}\n"
            f"{visible} int sizes_{entry.name}[] = {{{sizes}}};"
        )
    return "\n".join([*lines, "}"]) + "\n"


def build_library(flags: Sequence[str] = FLAGS, folder: Path = FOLDER) -> Path:
    """Build every kernel for this CPU, or find it built. Returns the shared library's path in the cache.

    ``folder`` holds the sources; tests build damaged copies. Raises KernelBuildError when there is no compiler, or
    with the compiler's own words when it fails.
    """
    compiler = find_compiler()
    flag, resolved = machine(compiler)
    units = unit_paths(folder)
    texts = [path.read_text() for path in [*units, *sorted(folder.glob("*.cuh")), folder / "host.h"]]
    wrappers = [host_unit(path) for path in units]
    key = digest(*texts, *wrappers, *flags, resolved, compiler, _version(compiler))
    library = cache_folder() / f"host-{key[:32]}.so"
    if library.exists():
        used(library)
        return library
    switches = [*flags, *([flag] if flag else [])]
    with building(library) as workplace:

        def compile_unit(number: int) -> str:
            source = workplace / f"{units[number].stem}.cpp"
            source.write_text(wrappers[number])
            built = str(source.with_suffix(".o"))
            _run([compiler, *switches, f"-I{folder}", "-c", str(source), "-o", built])
            return built

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(compile_unit, range(len(units))))
        linked = workplace / library.name
        _run([compiler, *switches, "-shared", *objects, "-o", str(linked)])
        linked.replace(library)
    return library


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise KernelBuildError(
            explain("kernel build", "the kernels compiled", f"exit status {done.returncode}", f"read:\n{words}")
        )


@functools.lru_cache(maxsize=8)
def _load(path: Path) -> ctypes.CDLL:
    # libgomp's idle threads spin for milliseconds by default and take the core from the networks. It reads its
    # variables once, when it is loaded, so they are set for that moment only, unless the user has set them.
    with _LOAD_LOCK:
        ours = not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
        if ours:
            os.environ["GOMP_SPINCOUNT"] = "1000"
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelBuildError(
                explain("kernel library", f"{path} to load", error, "delete it and run again")
            ) from error
        finally:
            if ours:
                del os.environ["GOMP_SPINCOUNT"]


@dataclass(frozen=True)
class HostTensor:
    """A NumPy array as the launchers take it; it keeps its memory alive."""

    array: npt.NDArray[Any]

    @property
    def ptr(self) -> int:
        """Address of the first element."""
        return int(self.array.ctypes.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, slowest first."""
        return self.array.shape

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return str(self.array.dtype)

    @property
    def nbytes(self) -> int:
        """Size of the whole array."""
        return int(self.array.nbytes)


class HostTarget:
    """Runs kernels on the CPU: blocks on up to ``threads`` threads, one lane a block. ``launch`` returns when done.

    Tensors are host memory. The first target builds the library (seconds) unless it is cached. Several threads
    may launch at once. Raises KernelBuildError, and ValueError for arguments that do not fit a kernel.
    """

    def __init__(self, threads: int, library: Path | None = None) -> None:
        if threads < 1:
            raise ValueError(explain("HostTarget", "at least one thread", threads, "divide the profile's threads so"))
        self.threads = threads
        self._library = _load(library or build_library())
        self._kernels: dict[str, Callable[..., Any]] = {}

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Arg]) -> None:
        """Run one kernel to its end, without the interpreter's lock. ``block`` means nothing on the CPU."""
        function = self._kernels.get(kernel) or self._find(kernel, args)
        addresses = (ctypes.c_void_p * len(args))(*map(ctypes.addressof, args))
        function(addresses, *grid, self.threads)

    def _find(self, kernel: str, args: Sequence[Arg]) -> Callable[..., Any]:
        """Look a kernel up and compare the sizes of its arguments, once."""
        try:
            function = getattr(self._library, f"host_{kernel}")
            known = (ctypes.c_int * 64).in_dll(self._library, f"sizes_{kernel}")
        except (AttributeError, ValueError) as error:
            raise ValueError(explain("launch", "a kernel of this package", kernel, "check its name")) from error
        sizes = list(known)[: list(known).index(-1)]
        if sizes != [ctypes.sizeof(arg) for arg in args]:
            raise ValueError(
                explain(
                    f"launch {kernel}",
                    f"arguments of {sizes} bytes",
                    [ctypes.sizeof(arg) for arg in args],
                    "pass what the .cu declares",
                )
            )
        function.argtypes = [ctypes.c_void_p, *[ctypes.c_int] * 4]
        function.restype = None
        self._kernels[kernel] = function
        return function  # type: ignore[no-any-return]


def kernel_names() -> list[str]:
    """Every entry point of every source file."""
    return [entry.name for path in unit_paths() for entry in entries(path.read_text())]
