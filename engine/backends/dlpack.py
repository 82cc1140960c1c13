"""DLPack capsules, written and read with ctypes: how arrays cross to and from other libraries without a copy.

Only what its version 0.x layout holds, which every consumer takes. A capsule of ours is NumPy's, with the device put
in: capsules die in other libraries' threads and in the middle of other errors, and NumPy's destructor and deleter, in
C, are made for that. One in Python would lose the error that is under way.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CPU", "CUDA", "CUDA_MANAGED", "Unpacked", "pack", "unpack"]

# DLDeviceType of dlpack.h
CPU, CUDA, CUDA_MANAGED = 1, 2, 13
_CODES = {"i": 0, "u": 1, "f": 2}  # DLDataTypeCode by NumPy's kind
_KINDS = {code: kind for kind, code in _CODES.items()}
_NAME, _USED = b"dltensor", b"used_dltensor"


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


# Python's own functions, and a deleter that may be one: with the interpreter's lock held
_Deleter = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_Managed))
_OF_CAPSULE = (ctypes.py_object, ctypes.c_char_p)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, *_OF_CAPSULE)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, *_OF_CAPSULE)(("PyCapsule_GetPointer", ctypes.pythonapi))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, *_OF_CAPSULE)(("PyCapsule_SetName", ctypes.pythonapi))


@dataclass(frozen=True)
class Unpacked:
    """A capsule's tensor. `strides` are in elements; `release` gives it back, once and not before the last use."""

    ptr: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device_type: int
    device_id: int
    release: Callable[[], None]


class _Lent:
    """Memory as NumPy takes it over without a look at it; dies with the last array or capsule of it."""

    def __init__(self, table: dict[str, Any], owner: object, on_release: Callable[[], None] | None) -> None:
        self.__array_interface__ = table
        self.owner, self._on_release = owner, on_release

    def __del__(self) -> None:
        if self._on_release is not None:
            self._on_release()


def pack(
    ptr: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: str,
    *,
    device: tuple[int, int],
    owner: object,
    on_release: Callable[[], None] | None = None,
) -> Any:
    """A capsule "dltensor" over memory that `owner` keeps alive until the consumer has done with it.

    `strides` are in elements, `device` is (type, id). `on_release` is called then, from any thread.
    """
    kind = np.dtype(dtype)
    if kind.kind not in _CODES:
        raise TypeError(f"DLPack: wanted integers or floats, got {dtype}; view the buffer as one of them")
    table = {
        "version": 3,
        "shape": shape,
        "typestr": kind.str,
        "data": (ptr, False),
        "strides": tuple(step * kind.itemsize for step in strides),
    }
    capsule = np.asarray(_Lent(table, owner, on_release)).__dlpack__()
    tensor = ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Managed)).contents.tensor
    tensor.device_type, tensor.device_id = device
    return capsule


def unpack(capsule: Any) -> Unpacked:
    """Take a capsule's tensor over; raises TypeError for something else, or one that was taken already."""
    if not _is_valid(capsule, _NAME):
        raise TypeError(f"DLPack: wanted a fresh capsule {_NAME.decode()}, got {capsule!r}; export the array again")
    managed = ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Managed))
    _rename(capsule, _USED)
    left = [managed]

    def release() -> None:
        try:
            one = left.pop()
        except IndexError:
            return
        if one.contents.deleter:
            _Deleter(one.contents.deleter)(one)

    try:
        return _read(managed.contents.tensor, release)
    except BaseException:
        release()
        raise


def _read(tensor: _Tensor, release: Callable[[], None]) -> Unpacked:
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else _dense(shape)
    name = f"{_KINDS.get(tensor.code, '?')}{tensor.bits // 8}"
    return Unpacked(
        ptr=int(tensor.data or 0) + int(tensor.byte_offset),
        shape=shape,
        strides=strides,
        dtype=_dtype(name if tensor.lanes == 1 else f"{name}x{tensor.lanes}"),
        device_type=int(tensor.device_type),
        device_id=int(tensor.device_id),
        release=release,
    )


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    steps, step = [], 1
    for extent in reversed(shape):
        steps.append(step)
        step *= extent
    return tuple(reversed(steps))


def _dtype(name: str) -> str:
    try:
        return str(np.dtype(name))
    except TypeError:
        return name
