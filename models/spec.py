"""Spec: dtype, shape with named axes, layout, colour and range of one tensor or picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

__all__ = ["DTYPE_BYTES", "Spec"]

DTYPE_BYTES = {"float32": 4, "float16": 2, "uint8": 1, "int8": 1, "int32": 4, "int64": 8, "float64": 8}
Axis = int | str


@dataclass(frozen=True)
class Spec:
    """What one tensor holds.

    `shape` mixes sizes and named axes ("n" faces, "h" rows, ...); `multiple_of` binds the named axes h and w.
    `mean` and `std` map a pixel v of 0..255 to the network's input as (v - mean) / std, one value for all
    channels or three in channel order, also where several pictures are stacked in the channels; `values` says
    in words what the numbers mean. `names` are those that a file may give the tensor; with `by_shape` it is also
    the file's only one of this dtype and shape, since its publisher's name is not known.
    """

    dtype: Literal["float32", "float16", "uint8", "int8", "int32", "int64", "float64"]
    shape: tuple[Axis, ...]
    names: tuple[str, ...] = ()
    layout: Literal["", "nchw", "nhwc", "hw", "nv12"] = ""
    colour: Literal["", "rgb", "bgr"] = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    multiple_of: int = 1
    values: str = ""
    by_shape: bool = False

    def __post_init__(self) -> None:
        for label, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (0, 1, 3):
                raise ValueError(f"{label}: wanted one value or three, got {len(numbers)}; correct the list")
        if any(value == 0 for value in self.std):
            raise ValueError("std: wanted values other than 0, got 0; correct the list")

    @property
    def is_static(self) -> bool:
        """Whether every axis has a size."""
        return all(isinstance(axis, int) for axis in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, when every axis has a size; raises ValueError otherwise."""
        if not self.is_static:
            raise ValueError(f"Spec {self}: wanted a size for every axis, got names; give them with at()")
        return tuple(axis for axis in self.shape if isinstance(axis, int))

    @property
    def nbytes(self) -> int:
        """Bytes of a dense array of this Spec."""
        return prod(self.sizes) * DTYPE_BYTES[self.dtype]

    @property
    def mean_by_channel(self) -> tuple[float, float, float]:
        """Mean of 0..255 for each of three channels, in the tensor's order; 0 where none is given."""
        return _three(self.mean or (0.0,))

    @property
    def std_by_channel(self) -> tuple[float, float, float]:
        """Standard deviation of 0..255 for each of three channels, in the tensor's order; 1 where none is given."""
        return _three(self.std or (1.0,))

    def at(self, **axes: int) -> Spec:
        """The same Spec with some named axes given a size."""
        shape = tuple(axes.get(axis, axis) if isinstance(axis, str) else axis for axis in self.shape)
        return replace(self, shape=shape)

    def misfit(self, dtype: str, shape: tuple[Axis | None, ...]) -> str:
        """Why an array or a file's tensor of this dtype and shape does not fit; empty when it fits.

        A free axis of the file (a name or None) fits any axis: the file takes every size there.
        """
        if dtype != self.dtype:
            return f"wanted {self.dtype}, got {dtype}"
        if len(shape) != len(self.shape):
            return f"wanted the shape {_text(self.shape)}, got {_text(shape)}"
        for mine, theirs in zip(self.shape, shape, strict=True):
            if isinstance(mine, int) and isinstance(theirs, int) and mine != theirs:
                return f"wanted the shape {_text(self.shape)}, got {_text(shape)}"
            if isinstance(mine, str) and isinstance(theirs, int) and theirs % self._step(mine):
                return f"wanted {mine} in multiples of {self.multiple_of}, got {theirs}"
        return ""

    def _step(self, axis: str) -> int:
        return self.multiple_of if axis in ("h", "w") else 1

    def __str__(self) -> str:
        return f"{self.dtype} {_text(self.shape)}"


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    return (values[0], values[-1], values[-1]) if len(values) < 3 else (values[0], values[1], values[2])


def _text(shape: tuple[Axis | None, ...]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"
