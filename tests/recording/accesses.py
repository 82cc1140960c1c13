"""What a kernel reads and writes, from the signature in its .cu file and the addresses in its arguments."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from kernels.sources import entries, unit_paths

__all__ = ["STRUCTS_WITH_POINTERS", "accesses", "signatures"]

# By-value structures that hold addresses. Each field is read, and written too by the (kernel, parameter) named here.
_FRAME_WRITES = {("copy_planar", 1), ("copy_nv12", 1), ("rgb_to_nv12", 1), ("paste", 0), ("residual_add", 0)}
_FRAME_WRITES |= {("mouth_paste", 0), ("fade_nv12", 1)}
_PLANES_WRITES = {("nv12_to_planar", 1)}
_TRACK_FIELDS = ("ids", "active", "ages", "misses", "boxes", "points", "velocities", "scores", "sources", "selected")
_SMOOTH_FIELDS = ("smooth_points", "smooth_velocities", "smooth_ids")
STRUCTS_WITH_POINTERS = ("Frame", "Planes", "Tracks", "Faces", "Levels", "Masks")


@functools.cache
def signatures() -> dict[str, tuple[str, ...]]:
    """The parameter types of every kernel."""
    return {entry.name: entry.types for path in unit_paths() for entry in entries(path.read_text())}


def accesses(kernel: str, args: Sequence[Any]) -> Iterator[tuple[int, bool]]:
    """(address, whether it is written) of everything that a launch touches; each is read as well."""
    for index, (kind, arg) in enumerate(zip(signatures()[kernel], args, strict=True)):
        if kind.endswith("*"):
            if arg.value:
                yield arg.value, not kind.startswith("const ")
        elif kind in STRUCTS_WITH_POINTERS:
            yield from _of_structure(kernel, index, kind, arg)


def _of_structure(kernel: str, index: int, kind: str, arg: Any) -> Iterator[tuple[int, bool]]:
    for name, field, *_ in arg._fields_:
        value = getattr(arg, name)
        if issubclass(field, ctypes.Array):
            if field._type_ is ctypes.c_void_p:
                yield from ((one, False) for one in value if one)
        elif field is ctypes.c_void_p and value:
            yield value, _is_written(kernel, index, kind, name)


def _is_written(kernel: str, index: int, kind: str, field: str) -> bool:
    if kind == "Frame":
        return (kernel, index) in _FRAME_WRITES
    if kind == "Planes":
        return (kernel, index) in _PLANES_WRITES
    if kind == "Tracks":
        written = {
            "track": (*_TRACK_FIELDS, "words"),
            "refine_points": ("boxes", "points", "velocities"),
            "smooth_points": _SMOOTH_FIELDS,
        }
        return field in written[kernel]
    if kind == "Faces":
        return (
            kernel == "track" or field in {"refine_points": ("boxes", "points"), "smooth_points": ("points",)}[kernel]
        )
    return False
