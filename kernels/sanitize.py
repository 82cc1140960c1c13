"""``python -m kernels.sanitize [--quick]``: the kernels under ThreadSanitizer and AddressSanitizer.

Three builds of the host library (host.h says what each is for) run the cases of sanitize_cases.py, each in a process
of its own with the sanitizer's runtime loaded first. Exit status 0 when nothing was reported.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.compile_host import build_library, find_compiler
from kernels.sources import FOLDER, KernelBuildError, explain

_BASE = ("-O1", "-g", "-fPIC", "-ffp-contract=off", "-fno-omit-frame-pointer", "-pthread", "-Wno-unknown-pragmas")


@dataclass(frozen=True)
class Build:
    """One sanitizer: its flags, the runtime to load first, and its options."""

    name: str
    flags: tuple[str, ...]
    runtime: str
    environment: dict[str, str]


_TSAN = {"TSAN_OPTIONS": "exitcode=66 halt_on_error=1 report_signal_unsafe=0"}
_ASAN = {
    # The interpreter is not built with the sanitizer: what it never frees is not ours.
    "ASAN_OPTIONS": "exitcode=66 detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
BUILDS = (
    Build(
        "lanes as threads",
        ("-std=c++20", *_BASE, "-fsanitize=thread", "-DFACE_SANITIZE_LANES=5"),
        "libtsan.so",
        _TSAN,
    ),
    Build(
        "blocks on threads",
        ("-std=c++17", *_BASE, "-fsanitize=thread", "-DFACE_SANITIZE_BLOCKS=3"),
        "libtsan.so",
        _TSAN,
    ),
    Build(
        "addresses and undefined behaviour",
        ("-std=c++17", *_BASE, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        "libasan.so",
        _ASAN,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What one build's run said."""

    build: Build
    status: int
    output: str


def run(build: Build, *, quick: bool = False, folder: Path = FOLDER) -> Outcome:
    """Build the kernels in ``folder`` for one sanitizer and run the cases; status 0 means nothing was reported.

    Raises KernelBuildError when the compiler or the sanitizer's runtime is missing.
    """
    library = build_library(build.flags, folder)
    command = [sys.executable, "-m", "kernels.sanitize_cases", str(library), *(["--quick"] if quick else [])]
    if _layout_bits() > 28:
        # ThreadSanitizer wants its memory at fixed places, which a layout so randomised may have taken.
        command = ["setarch", platform.machine(), "-R", *command]
    environment = {
        **os.environ,
        **build.environment,
        "LD_PRELOAD": _runtime(build.runtime),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's own threads are not what is looked at
    }
    done = subprocess.run(
        command, cwd=FOLDER.parent, env=environment, capture_output=True, text=True, check=False, timeout=540
    )
    return Outcome(build, done.returncode, done.stdout + done.stderr)


def _layout_bits() -> int:
    try:
        return int(Path("/proc/sys/vm/mmap_rnd_bits").read_text())
    except (OSError, ValueError):
        return 0


def _runtime(name: str) -> str:
    found = subprocess.run(
        [find_compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        raise KernelBuildError(
            explain("sanitize", f"the compiler's {name}", "none", "install g++ with its sanitizer libraries")
        )
    return str(Path(found).resolve())


def main(arguments: Sequence[str]) -> int:
    """Run every build; print what was reported."""
    parser = argparse.ArgumentParser(prog="python -m kernels.sanitize", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the kernels with barriers only, lanes as threads")
    quick = parser.parse_args(arguments).quick
    failed = 0
    for build in BUILDS[:1] if quick else BUILDS:
        outcome = run(build, quick=quick)
        print(f"{build.name}: {'clean' if outcome.status == 0 else f'exit status {outcome.status}'}")
        if outcome.status:
            failed = 1
        print("\n".join(f"  {line}" for line in outcome.output.strip().splitlines()))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
