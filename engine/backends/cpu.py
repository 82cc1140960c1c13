"""The cpu backend: NumPy memory, kernels from the system's C++ compiler, ONNX Runtime sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Counters, Download, Session
from engine.backends.foreign import foreign_array, nv12_planes
from engine.backends.ort_session import OrtSession
from engine.errors import DeviceError, InputError, explain
from engine.frame import Buffer, Frame, Nv12Buffer
from engine.timing import Timings
from kernels.compile import HostTarget, KernelBuildError
from kernels.launch import I420, Colour, Nv12, copy_nv12_into, copy_planar_into
from models.model_files import ModelFile
from models.spec import Spec

__all__ = ["CpuBackend"]

_ALIGN_BYTES = 64


@dataclass(frozen=True)
class _InPlace:
    """A frame that is on the host already."""

    frame: Nv12Buffer

    def wait_planes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Views of the working frame."""
        return self.frame.planes()

    def release(self) -> None:
        """Nothing was taken."""


class CpuBackend:
    """Everything on the host, one thread budget for kernels and networks (they never run at the same time)."""

    name = "cpu"
    device_io = False
    encode_stream = 0

    def __init__(self, threads: int) -> None:
        self.counters = Counters()
        self.timings = Timings()
        self.threads = threads
        try:
            self._target = HostTarget(threads)
            # the decode thread copies frames while the compute thread runs kernels
            self._edge = HostTarget(1)
        except KernelBuildError as error:
            raise DeviceError(str(error)) from error

    def face_counts(self, capacity: int) -> tuple[int, ...]:
        """Every count: here k faces cost k."""
        return tuple(range(1, capacity + 1))

    def allocate(self, spec: Spec) -> Buffer:
        """Zeroed memory, aligned to a cache line; read the pages in now rather than in the first frame."""
        memory = np.zeros(spec.nbytes + _ALIGN_BYTES, dtype=np.uint8)
        memory.fill(0)
        start = -memory.ctypes.data % _ALIGN_BYTES
        array = memory[start : start + spec.nbytes].view(spec.dtype).reshape(spec.sizes)
        self.counters.allocations += 1
        self.counters.allocated_bytes += spec.nbytes
        return Buffer(spec, array.ctypes.data, array)

    def allocate_nv12(self, width_px: int, height_px: int) -> Nv12Buffer:
        """A working NV12 frame with rows of a multiple of 64 bytes."""
        pitch = -(-width_px // _ALIGN_BYTES) * _ALIGN_BYTES
        rows = height_px + (height_px + 1) // 2
        memory = self.allocate(Spec("uint8", (rows, pitch), layout="nv12"))
        return Nv12Buffer(memory, width_px, height_px, lambda: memory.owner)

    def upload(self, array: npt.NDArray[Any], buffer: Buffer) -> None:
        """Copy a host array into a buffer of the same dtype and shape."""
        if array.dtype != buffer.dtype or array.shape != buffer.shape:
            raise DeviceError(
                explain("upload", str(buffer.spec), f"{array.dtype} {list(array.shape)}", "convert the array first")
            )
        self.counters.uploads += 1
        buffer.owner[...] = array

    def allocate_status(self, words: int) -> Buffer:
        """Plain memory: kernels here write to the host."""
        return self.allocate(Spec("int32", (words,)))

    def load_planes(self, planes: Sequence[npt.NDArray[np.uint8]], frame: Nv12Buffer) -> None:
        """Interleave or copy host planes into a working frame, on the calling thread alone."""
        wanted = (frame.height_px, frame.width_px)
        if planes[0].shape != wanted or any(plane.strides[-1] != 1 for plane in planes):
            raise DeviceError(
                explain(
                    "load_planes",
                    f"dense rows of {wanted[1]}x{wanted[0]} px",
                    f"{planes[0].shape[1]}x{planes[0].shape[0]} px",
                    "open the pipeline for this size",
                )
            )
        self.counters.frame_copies += 1
        size = {"width_px": wanted[1], "height_px": wanted[0]}
        names = ("y", "u", "v") if len(planes) == 3 else ("y", "uv")
        places = {f"{name}_ptr": plane.ctypes.data for name, plane in zip(names, planes, strict=True)}
        pitches = {f"{name}_pitch_bytes": plane.strides[0] for name, plane in zip(names, planes, strict=True)}
        if len(planes) == 3:
            copy_planar_into(self._edge, I420(**places, **pitches, **size), frame.view(Colour()))
        else:
            copy_nv12_into(self._edge, Nv12(**places, **pitches, **size, colour=Colour()), frame.view(Colour()))

    def load_device_planes(self, planes: Sequence[Any], frame: Nv12Buffer) -> None:
        """There is no device: raises DeviceError."""
        raise DeviceError(
            explain("load_device_planes", "planes in host memory", "device memory", "decode to the host on the cpu")
        )

    def take(self, array: Any, frame: Nv12Buffer, stream: Any = None) -> None:
        """Host memory of any library; `stream` means nothing here."""
        held = foreign_array(array, reader=None, where="pipeline.step")
        width, height = frame.width_px, frame.height_px
        if held.on_device:
            do = "copy it to the host, or open the pipeline on cuda"
            raise InputError(explain("pipeline.step", "a NumPy array or host memory with DLPack", "device memory", do))
        y, uv, pitch = nv12_planes(held, width, height, "pipeline.step")
        self.counters.frame_copies += 1
        source = Nv12(y, uv, pitch, pitch, width, height, Colour())
        copy_nv12_into(self._edge, source, frame.view(Colour()))

    def open_slots(self, frames: Sequence[Nv12Buffer]) -> None:
        """Nothing: planes are copied straight into the frame, and read where they lie."""

    def download(self, frame: Nv12Buffer) -> Download:
        """The frame itself: it lies on the host."""
        return _InPlace(frame)

    def encoder_planes(self, frame: Nv12Buffer, *, copy: bool) -> tuple[Any, Any]:
        """Views of the frame, or of a copy."""
        luma, chroma = frame.planes()
        return (luma.copy(), chroma.copy()) if copy else (luma, chroma)

    def order(self, frame: Nv12Buffer, stream: Any) -> None:
        """Nothing: work here has ended when its call returns."""

    def to_host(self, buffer: Buffer) -> npt.NDArray[Any]:
        """A copy of a buffer."""
        self.counters.downloads += 1
        copy: npt.NDArray[Any] = np.array(buffer.owner)
        return copy

    def wait_status(self, buffer: Buffer) -> npt.NDArray[np.int32]:
        """The status words; kernels here have ended when their launch returns."""
        self.counters.waits += 1
        words: npt.NDArray[np.int32] = buffer.owner
        return words

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Any]) -> None:
        """Run a kernel to its end."""
        self.counters.launches += 1
        self._target.launch(kernel, grid, block, args)

    def record(self, key: tuple[str, int, int], body: Callable[[], None]) -> None:
        """Nothing: a launch here runs to its end."""

    def replay(self, key: tuple[str, int, int], body: Callable[[], None], frame: Frame) -> None:
        """Run the body."""
        body()

    def span(self, stage: str) -> AbstractContextManager[None]:
        """Time the block on the host's clock."""
        return self.timings.span(stage)

    def open_session(self, model: ModelFile) -> Session:
        """An ONNX Runtime session with this backend's threads."""
        self.counters.sessions += 1
        return OrtSession(model, self.threads)

    def close(self) -> None:
        """Nothing is held outside Python's own memory."""
