"""What moves between stages: Buffer and Frame (Faces is the kernels' own). Units and shapes stand on each field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import DeviceError, explain
from kernels.launch import Colour, Faces, Nv12, Tensor
from models.spec import DTYPE_BYTES, Spec

__all__ = ["Buffer", "Frame", "Nv12Buffer", "held_buffer"]


@dataclass(frozen=True)
class Buffer:
    """Dense memory on one device, with its Spec. Lives as long as the backend that made it.

    `owner` keeps the memory alive (a NumPy array on the cpu backend); `ptr` is its address on the device.
    Exports DLPack, and on a GPU `__cuda_array_interface__`, through its owner.
    """

    spec: Spec
    ptr: int
    owner: Any = field(repr=False)
    device: str = "cpu"

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes."""
        return self.spec.sizes

    @property
    def dtype(self) -> str:
        """The NumPy name of the element type."""
        return self.spec.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the dense array."""
        return self.spec.nbytes

    def rows(self, start: int, count: int) -> Buffer:
        """A view of `count` entries of the first axis from `start` on, without a copy."""
        rest = self.shape[1:]
        if not 0 <= start <= start + count <= self.shape[0]:
            raise ValueError(
                f"Buffer.rows: wanted 0 to {self.shape[0]} rows, got {start}+{count}; allocate a larger buffer"
            )
        step = prod(rest) * DTYPE_BYTES[self.dtype]
        spec = Spec(self.spec.dtype, (count, *rest), layout=self.spec.layout, colour=self.spec.colour)
        return Buffer(spec, self.ptr + start * step, self.owner[start : start + count], self.device)

    def __dlpack__(self, **options: Any) -> Any:
        return self.owner.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.owner.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        found: dict[str, Any] = self.owner.__cuda_array_interface__
        return found


def held_buffer(tensor: Tensor) -> Buffer:
    """The Buffer that stands behind a tensor of Faces or Tracks; raises DeviceError for memory that is not ours."""
    if not isinstance(tensor, Buffer):
        raise DeviceError(explain("faces", "a Buffer of the backend", type(tensor).__name__, "allocate it there"))
    return tensor


@dataclass(frozen=True)
class Nv12Buffer:
    """A working NV12 frame in one allocation: luma rows, then chroma rows, of one pitch.

    uint8 [height + ceil(height / 2), pitch]; its address never changes while the pipeline is open. `host` gives the
    same array on the host: the memory itself, or a copy that it waits for.
    """

    memory: Buffer
    width_px: int
    height_px: int
    host: Callable[[], npt.NDArray[np.uint8]] = field(repr=False)

    @property
    def pitch_bytes(self) -> int:
        """Bytes from one row to the next, for both planes."""
        return self.memory.shape[1]

    def view(self, colour: Colour) -> Nv12:
        """The frame as kernels take it, under the colour tags of the input."""
        pitch = self.pitch_bytes
        return Nv12(
            y_ptr=self.memory.ptr,
            uv_ptr=self.memory.ptr + pitch * self.height_px,
            y_pitch_bytes=pitch,
            uv_pitch_bytes=pitch,
            width_px=self.width_px,
            height_px=self.height_px,
            colour=colour,
        )

    def planes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(luma [H, W], interleaved chroma [ceil(H/2), 2 ceil(W/2)]) on the host; see `host`."""
        return self.cut(self.host())

    def cut(self, array: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The two planes in a host array of this frame's layout, without a copy."""
        chroma_width = (self.width_px + 1) // 2 * 2
        return array[: self.height_px, : self.width_px], array[self.height_px :, :chroma_width]


@dataclass
class Frame:
    """One slot of the ring: a working NV12 frame, and what is known of the picture in it.

    Valid from decode until the slot comes round again. `meta` travels with the picture, unread by stages
    (the decoded frame's timing and side data). `is_detected`: the detector runs on this frame. From `face_count` on,
    the find half of a step fills in: `errors` are the ERROR bits of kernels.launch, `best_score` is the detector's
    highest, below its threshold as well. `rung` of the governor's ladder is what the frame is worked on by, 0 being the
    profile's own. `busy_ms` is what beginning the frame took on the host.
    """

    slot: int
    nv12: Nv12Buffer
    view: Nv12
    faces: Faces
    index: int = 0
    pts: int | None = None
    time_base: Fraction = Fraction(0)
    meta: Any = None
    is_detected: bool = True
    rung: int = 0
    face_count: int = 0
    new_tracks: int = 0
    is_cut: bool = False
    errors: int = 0
    best_score: float = 0.0
    busy_ms: float = 0.0

    def planes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(luma, interleaved chroma) of the working frame on the host: views on the cpu, a waited-for copy on cuda."""
        return self.nv12.planes()
