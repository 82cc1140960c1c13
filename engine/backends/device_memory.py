"""Device memory made at start-up in large pieces, and how it is shown to other libraries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from engine.backends.dlpack import CUDA, pack
from engine.backends.driver import LEGACY_STREAM, Driver, Stream

__all__ = ["DeviceArray", "Pool"]

ALIGN_BYTES = 256  # what TensorRT asks of scratch, and more than any kernel does
PIECE_BYTES = 32 << 20


class Pool:
    """Zeroed buffers cut from pieces of 32 MiB or their own size; all given back at once, by the driver's close.

    `bytes_by_part` counts what was handed out, by what it is for.
    """

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self._driver, self._stream = driver, stream
        self._at = self._end = 0
        self.bytes_by_part: Counter[str] = Counter()

    def take(self, nbytes: int, part: str, name: str, stream: Stream | None = None) -> int:
        """The address of memory that is zeroed on this stream, or on the pool's own."""
        size = -(-max(nbytes, 1) // ALIGN_BYTES) * ALIGN_BYTES
        if size > PIECE_BYTES // 4:
            ptr = self._driver.allocate(size)
        else:
            if self._end - self._at < size:
                self._at = self._driver.allocate(PIECE_BYTES)
                self._end = self._at + PIECE_BYTES
            ptr, self._at = self._at, self._at + size
        self._driver.name_range(ptr, size, name)
        self._driver.zero(ptr, size, stream or self._stream)
        self.bytes_by_part[part] += size
        return ptr


@dataclass(frozen=True)
class DeviceArray:
    """An array in device memory, for consumers with DLPack or `__cuda_array_interface__` version 3.

    `strides` are in bytes. `order` makes a consumer's stream wait for our work on the memory so far; `stream` is the
    one that this work is on. `keeps` stays alive as long as the array or a capsule of it does.
    """

    ptr: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device_index: int
    stream: Stream
    order: Callable[[Stream], None] = field(repr=False)
    keeps: object = field(default=None, repr=False)

    @staticmethod
    def dense(shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
        """Strides in bytes of a dense row-major array."""
        size = np.dtype(dtype).itemsize
        return tuple(size * prod(shape[axis + 1 :]) for axis in range(len(shape)))

    def __getitem__(self, rows: slice) -> DeviceArray:
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"DeviceArray: wanted rows one after another, got a step of {step}; take them in turn")
        shape = (max(stop - start, 0), *self.shape[1:])
        ptr = self.ptr + start * self.strides[0]
        return DeviceArray(ptr, shape, self.strides, self.dtype, self.device_index, self.stream, self.order, self.keeps)

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """The same dense memory under another shape."""
        if prod(shape) != prod(self.shape) or self.strides != self.dense(self.shape, self.dtype):
            raise ValueError(f"DeviceArray: wanted a dense array of as many values, got {self.shape} for {shape}")
        return replace(self, shape=shape, strides=self.dense(shape, self.dtype))

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CUDA, self.device_index)

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        """`stream`: None is the legacy default stream, -1 asks for no ordering, else a handle, as DLPack says."""
        if options.get("copy"):
            raise BufferError("DLPack: wanted memory as it lies, got copy=True; copy it with your own library")
        asked = options.get("dl_device")
        if asked is not None and tuple(int(part) for part in asked) != self.__dlpack_device__():
            raise BufferError(f"DLPack: wanted CUDA device {self.device_index}, got {asked}; copy it with to_host")
        if stream is None or stream == 0:
            self.order(LEGACY_STREAM)
        elif stream != -1:
            self.order(Stream(int(stream)))
        size = np.dtype(self.dtype).itemsize
        steps = tuple(step // size for step in self.strides)
        return pack(self.ptr, self.shape, steps, self.dtype, device=self.__dlpack_device__(), owner=self.keeps)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3: whoever reads it waits for `stream` first."""
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.ptr, False),
            "strides": None if self.strides == self.dense(self.shape, self.dtype) else self.strides,
            "stream": int(self.stream),
        }
