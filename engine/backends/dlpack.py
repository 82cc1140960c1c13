"""DLPack capsules, written and read with ctypes: how arrays cross to and from other libraries without a copy.

Only what its version 0.x layout holds, which every consumer takes.
"""

from __future__ import annotations

import ctypes
import threading
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


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_api.PyCapsule_IsValid.restype = ctypes.c_int
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_SetName.restype = ctypes.c_int
_by_object = (ctypes.py_object, ctypes.c_char_p)


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


_lent: dict[int, tuple[Any, ...]] = {}
_lent_lock = threading.Lock()


def _delete(managed: Any) -> None:
    """Called by the consumer, from any thread, when it has done with the memory."""
    with _lent_lock:
        held = _lent.pop(ctypes.addressof(managed.contents), None)
    if held is not None and held[-1] is not None:
        held[-1]()


def _destroy(capsule: int | None) -> None:
    """A capsule that nobody consumed gives its tensor back itself."""
    # the object is being torn down: it is named by its address alone, so that no reference is taken
    is_valid = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
    get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
    if is_valid(capsule, _NAME):
        _delete(ctypes.cast(get(capsule, _NAME), ctypes.POINTER(_Managed)))


# kept for as long as the module is: C holds their addresses
_deleter, _destructor = _Deleter(_delete), _Destructor(_destroy)


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
    ndim = len(shape)
    extents, steps = (ctypes.c_int64 * ndim)(*shape), (ctypes.c_int64 * ndim)(*strides)
    managed = _Managed(
        _Tensor(ptr, device[0], device[1], ndim, _CODES[kind.kind], 8 * kind.itemsize, 1, extents, steps, 0),
        None,
        ctypes.cast(_deleter, ctypes.c_void_p),
    )
    address = ctypes.addressof(managed)
    with _lent_lock:
        _lent[address] = (managed, extents, steps, owner, on_release)
    return _api.PyCapsule_New(address, _NAME, _destructor)


def unpack(capsule: Any) -> Unpacked:
    """Take a capsule's tensor over; raises TypeError for something else, or one that was taken already."""
    is_valid = ctypes.CFUNCTYPE(ctypes.c_int, *_by_object)(("PyCapsule_IsValid", _api))
    if not is_valid(capsule, _NAME):
        raise TypeError(f"DLPack: wanted a fresh capsule {_NAME.decode()}, got {capsule!r}; export the array again")
    get = ctypes.CFUNCTYPE(ctypes.c_void_p, *_by_object)(("PyCapsule_GetPointer", _api))
    rename = ctypes.CFUNCTYPE(ctypes.c_int, *_by_object)(("PyCapsule_SetName", _api))
    managed = ctypes.cast(get(capsule, _NAME), ctypes.POINTER(_Managed))
    rename(capsule, _USED)
    tensor = managed.contents.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else _dense(shape)
    taken = [False]

    def release() -> None:
        if not taken[0]:
            taken[0] = True
            if managed.contents.deleter:
                _Deleter(managed.contents.deleter)(managed)

    name = f"{_KINDS.get(tensor.code, '?')}{tensor.bits // 8}"
    return Unpacked(
        ptr=int(tensor.data or 0) + int(tensor.byte_offset),
        shape=shape,
        strides=strides,
        dtype=_dtype(name),
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
