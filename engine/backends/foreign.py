"""Arrays and streams of other libraries, taken as they are: no import of theirs, no copy.

An array is anything with DLPack or `__cuda_array_interface__` (PyTorch, CuPy, PyCUDA, Numba, DALI, PyAV's planes,
NumPy); a stream is an integer handle, or an object with `__cuda_stream__`, `.handle`, `.ptr` or `.cuda_stream`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.backends.dlpack import CPU, CUDA, CUDA_MANAGED, unpack
from engine.backends.driver import LEGACY_STREAM, Stream
from engine.errors import InputError, explain

__all__ = ["ForeignArray", "foreign_array", "foreign_stream", "nv12_planes", "release_all"]


@dataclass(frozen=True)
class ForeignArray:
    """Somebody else's memory. `strides` are in bytes; `owner` keeps it alive, `release` lets it go.

    `after`: a stream whose work so far must be waited for before the memory is read; None where nothing is
    outstanding, or the other library has ordered our stream itself.
    """

    ptr: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    on_device: bool
    device_index: int
    after: Stream | None
    owner: Any
    release: Callable[[], None]

    def nv12(self, y_ptr: int, uv_ptr: int, pitch_bytes: int, after: Stream | None) -> list[ForeignArray]:
        """The two planes of NV12 in this one array; both are let go with it."""
        luma = replace(self, ptr=y_ptr, strides=(pitch_bytes, 1), after=after)
        return [luma, replace(luma, ptr=uv_ptr, release=lambda: None)]


def foreign_array(array: Any, *, reader: Stream | None, where: str) -> ForeignArray:
    """Read an array's own description of itself. `reader` is the stream on which we shall read it.

    A DLPack exporter is given `reader` to order itself; one that can't (it says so by an error) is taken after the
    legacy default stream. Raises InputError for an object that is no array.
    """
    if isinstance(array, np.ndarray):
        return _of_numpy(array, array)
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        return _of_dlpack(array, reader, where)
    try:
        table = array.__cuda_array_interface__
    except AttributeError as error:
        wanted = "an array with DLPack or __cuda_array_interface__"
        raise InputError(explain(where, wanted, type(array).__name__, "pass an array")) from error
    return _of_interface(table, array, where)


def release_all(arrays: list[ForeignArray]) -> None:
    """Let arrays go, and empty the list."""
    while arrays:
        arrays.pop(0).release()


def foreign_stream(stream: Any, where: str) -> Stream:
    """The handle of another library's stream; its owner keeps it alive. Raises InputError for something else."""
    if isinstance(stream, int):
        return LEGACY_STREAM if stream == 0 else Stream(stream)
    if hasattr(stream, "__cuda_stream__"):
        found = stream.__cuda_stream__
        # a pair (version, handle); older drafts made it an attribute, newer ones a method
        pair = found() if callable(found) else found
        return foreign_stream(int(pair[1]), where)
    for name in ("handle", "ptr", "cuda_stream"):  # PyCUDA and cuda.core; CuPy; PyTorch
        held = getattr(stream, name, None)
        if held is not None:
            return foreign_stream(int(held), where)
    raise InputError(explain(where, "a CUDA stream or its handle", type(stream).__name__, "pass the stream's handle"))


def nv12_planes(array: ForeignArray, width_px: int, height_px: int, where: str) -> tuple[int, int, int]:
    """(address of luma, address of chroma, pitch in bytes) of NV12 in one array; raises InputError for another shape.

    The array is uint8 [H + ceil(H / 2), pitch or more than the width], rows dense.
    """
    rows, width = height_px + (height_px + 1) // 2, (width_px + 1) // 2 * 2
    fits = array.dtype == "uint8" and len(array.shape) == 2 and array.shape[0] == rows and array.shape[1] >= width
    if not fits or array.strides[1] != 1:
        raise InputError(
            explain(
                where,
                f"NV12 as uint8 [{rows}, {width_px} or more]",
                f"{array.dtype} {list(array.shape)}",
                "pass luma rows, then chroma rows, of the size that the pipeline was opened for",
            )
        )
    return array.ptr, array.ptr + height_px * array.strides[0], array.strides[0]


def _of_numpy(array: np.ndarray[Any, Any], owner: Any) -> ForeignArray:
    return ForeignArray(
        ptr=array.ctypes.data,
        shape=array.shape,
        strides=array.strides,
        dtype=str(array.dtype),
        on_device=False,
        device_index=0,
        after=None,
        owner=(owner, array),
        release=lambda: None,
    )


def _of_dlpack(array: Any, reader: Stream | None, where: str) -> ForeignArray:
    kind, index = (int(part) for part in array.__dlpack_device__())
    try:
        if kind == CPU:
            # NumPy knows its newer layout too, in which read-only memory is exported
            return _of_numpy(np.from_dlpack(array), array)
        if kind not in (CUDA, CUDA_MANAGED):
            raise InputError(explain(where, "memory of the host or of CUDA", f"DLPack device {kind}", "copy it there"))
        if reader is not None:
            try:
                ordered = array.__dlpack__(stream=int(reader))
            except (TypeError, NotImplementedError):
                pass  # PyAV's planes order nothing
            else:
                return _unpacked(ordered, None, index)
        return _unpacked(array.__dlpack__(), LEGACY_STREAM, index)
    except (AttributeError, BufferError, TypeError, RuntimeError) as error:
        do = "export the array with DLPack, or pass a NumPy array"
        raise InputError(explain(where, "an array with DLPack", str(error), do)) from error


def _unpacked(capsule: Any, after: Stream | None, index: int) -> ForeignArray:
    held = unpack(capsule)
    try:
        size = np.dtype(held.dtype).itemsize
    except TypeError:
        held.release()
        raise
    return ForeignArray(
        ptr=held.ptr,
        shape=held.shape,
        strides=tuple(step * size for step in held.strides),
        dtype=held.dtype,
        on_device=True,
        device_index=index,
        after=after,
        owner=held,
        release=held.release,
    )


def _of_interface(table: Any, owner: Any, where: str) -> ForeignArray:
    """`__cuda_array_interface__`, versions 2 and 3: from 3 on, `stream` says what must be waited for."""
    try:
        kind, shape = np.dtype(table["typestr"]), tuple(int(extent) for extent in table["shape"])
        ptr, strides, stream = int(table["data"][0]), table.get("strides"), table.get("stream")
        if strides is None:
            steps, step = [], kind.itemsize
            for extent in reversed(shape):
                steps.append(step)
                step *= extent
            strides = reversed(steps)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        wanted = "a whole __cuda_array_interface__"
        raise InputError(explain(where, wanted, repr(error), "see its version 3")) from error
    return ForeignArray(
        ptr=ptr,
        shape=shape,
        strides=tuple(int(step) for step in strides),
        dtype=str(kind),
        on_device=True,
        device_index=0,
        after=None if stream is None else foreign_stream(stream, where),
        owner=owner,
        release=lambda: None,
    )
