"""The kernel sources as text: which files there are, which entry points they hold, and the build cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CACHE_BYTES = 128 << 20  # built kernels that are kept: some two hundred builds
CACHE_KEEP_S = 24 * 3600.0
_ENTRY = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\(\d+\))? (\w+)\(([^)]*)\)')
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.MULTILINE)


class KernelBuildError(RuntimeError):
    """A kernel can't be built or loaded: no compiler, an error in the source, an unusable cache."""


def explain(where: str, wanted: object, got: object, do: str) -> str:
    """The one form of every message: where, what was wanted, what came, what to do."""
    return f"{where}: wanted {wanted}, got {got}; {do}"


@dataclass(frozen=True)
class Entry:
    """One entry point of a source file and the C++ types of its parameters, in order."""

    name: str
    types: tuple[str, ...]


def unit_paths(folder: Path = FOLDER) -> list[Path]:
    """Every ``.cu`` file, by name: each is one unit of the host build."""
    return sorted(folder.glob("*.cu"))


def entries(text: str) -> list[Entry]:
    """The entry points of a source, read from their ``extern "C" __global__ void`` lines.

    A parameter's type is what stands before its name; types with commas or brackets are not understood.
    """
    found = []
    for name, parameters in _ENTRY.findall(text):
        types = [re.sub(r"\w+\s*$", "", parameter).strip() for parameter in parameters.split(",")]
        found.append(Entry(name, tuple(t.replace("__restrict__", "").strip() for t in types)))
    return found


def device_source() -> str:
    """All units as one text with their headers once, line numbers kept for the compiler's messages."""
    seen: set[str] = set()

    def expand(path: Path) -> str:
        def include(match: re.Match[str]) -> str:
            name = match[1]
            if name in seen:
                return "\n"
            seen.add(name)
            line = path.read_text()[: match.start()].count("\n") + 2
            return f'{expand(FOLDER / name)}\n#line {line} "{path.name}"\n'

        text = path.read_text()
        return f'#line 1 "{path.name}"\n' + _INCLUDE.sub(include, text).replace("#pragma once", "")

    return "\n".join(expand(path) for path in unit_paths())


def digest(*parts: str | bytes) -> str:
    """SHA-256 over parts, each with its length, so that no two lists of parts run into each other."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()


def cache_folder() -> Path:
    """The folder of built kernels: ``$XDG_CACHE_HOME/face-engine/kernels``, which only the user may enter.

    What lies in it is loaded as code, so a folder that somebody else owns or can write is refused.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "face-engine" / "kernels"
    try:
        (base / "face-engine").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise KernelBuildError(
            explain("kernel cache", f"a folder {folder}", error, "set XDG_CACHE_HOME to a folder you can write")
        ) from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise KernelBuildError(
            explain(
                "kernel cache",
                f"{folder} writable by you alone",
                f"owner {status.st_uid}, mode {status.st_mode & 0o777:o}",
                f"chmod 700 {folder}, or set XDG_CACHE_HOME to a folder of your own",
            )
        )
    return folder


def used(path: Path) -> None:
    """Note that a file of the cache is in use now; its own time of writing stays."""
    with contextlib.suppress(OSError):  # another process may have pruned it, or the disk may be read-only
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def prune(folder: Path, keep_bytes: int = CACHE_BYTES, keep_s: float = CACHE_KEEP_S) -> list[Path]:
    """Delete what was not used for longest until `keep_bytes` are left; returns what went.

    What was used within `keep_s` stays, so that no process loses a file between finding and loading it. A library
    that is loaded stays loaded.
    """
    files = []
    for path in folder.glob("*.*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                files.append((status.st_atime, status.st_size, path))
    total, gone, now = sum(size for _, size, _ in files), [], time.time()
    for at, size, path in sorted(files):
        if total <= keep_bytes or now - at < keep_s:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            gone.append(path)
            total -= size
    return gone


@contextlib.contextmanager
def building(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` to build in; gone afterwards. Move the result with ``replace``.

    Two processes that build the same thing each use their own and the last move wins, with equal contents.
    """
    with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent) as temporary:
        yield Path(temporary)
    prune(path.parent)
