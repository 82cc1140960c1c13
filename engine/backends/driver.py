"""The driver seam: every call that the cuda backend makes of a device, typed. It decides nothing.

`CudaDriver` (cuda_driver.py) passes each call on to the CUDA driver. The tests hold a recording twin of the same
interface that needs no GPU. Handles are plain integers with a type of their own, so that a stream can't be given
where an event is wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NewType, Protocol

import numpy as np
import numpy.typing as npt

from engine.errors import DeviceError, PoisonedError, explain

__all__ = [
    "LEGACY_STREAM",
    "PER_THREAD_STREAM",
    "Copy2d",
    "DeviceFacts",
    "Driver",
    "Event",
    "Graph",
    "Pinned",
    "Priority",
    "Stream",
    "cuda_error",
]

Stream = NewType("Stream", int)
Event = NewType("Event", int)
Graph = NewType("Graph", int)
Priority = Literal["high", "middle", "low"]

LEGACY_STREAM = Stream(1)  # CU_STREAM_LEGACY of cuda.h
PER_THREAD_STREAM = Stream(2)  # CU_STREAM_PER_THREAD


@dataclass(frozen=True)
class DeviceFacts:
    """What the driver says of one device. `arch` is as NVRTC takes it; `cuda` is the driver's own CUDA version."""

    index: int
    name: str
    arch: str
    memory_bytes: int
    cuda: tuple[int, int]


@dataclass(frozen=True)
class Pinned:
    """Page-locked host memory that the device sees too: uint8 [n] here, `ptr` there."""

    array: npt.NDArray[np.uint8]
    ptr: int


@dataclass(frozen=True)
class Copy2d:
    """Rows from one pitched place to another. Addresses are the device's, or the host's for the host's side."""

    to_ptr: int
    to_pitch_bytes: int
    from_ptr: int
    from_pitch_bytes: int
    width_bytes: int
    rows: int


class Driver(Protocol):
    """One device's primary context. Every method may be called from any thread, and raises DeviceError after `close`.

    Copies and launches return at once and run in the order of their stream. Raises DeviceError, and PoisonedError
    once the context is lost. `calls` counts calls by the driver's own names; `at` says in errors what was running.
    """

    facts: DeviceFacts
    calls: Counter[str]
    at: str

    def stream(self, name: str, priority: Priority) -> Stream:
        """A stream that does not wait for the legacy default stream."""
        ...

    def event(self, *, timed: bool = False) -> Event:
        """An event; `timed` ones can be subtracted."""
        ...

    def record(self, event: Event, stream: Stream, *, in_graph: bool = False) -> None:
        """Mark what the stream holds so far. `in_graph`: as a node of the graph being captured."""
        ...

    def stream_wait(self, stream: Stream, event: Event) -> None:
        """What comes next on the stream waits for the event's last mark; the host does not."""
        ...

    def is_done(self, event: Event) -> bool:
        """Whether the event's last mark has passed."""
        ...

    def wait_event(self, event: Event) -> None:
        """Block this thread alone until the event's last mark has passed."""
        ...

    def elapsed_ms(self, begin: Event, end: Event) -> float:
        """Time between two timed events that have passed."""
        ...

    def wait_stream(self, stream: Stream) -> None:
        """Block this thread alone until all of the stream has run."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Device memory, aligned to 256 bytes or more, not zeroed."""
        ...

    def allocate_pinned(self, nbytes: int) -> Pinned:
        """Zeroed host memory that copies take without staging."""
        ...

    def name_range(self, ptr: int, nbytes: int, name: str) -> None:
        """Say what a part of an allocation holds; for tools that watch the calls."""
        ...

    def free_bytes(self) -> int:
        """Device memory that is free now."""
        ...

    def zero(self, ptr: int, nbytes: int, stream: Stream) -> None:
        """Fill device memory with zero bytes."""
        ...

    def copy_in(self, ptr: int, array: npt.NDArray[Any], stream: Stream) -> None:
        """Host to device. Pinned memory must stay as it is until the copy has run; other memory is taken at once."""
        ...

    def copy_out(self, array: npt.NDArray[Any], ptr: int, stream: Stream) -> None:
        """Device to host; the array is valid when the stream has come this far."""
        ...

    def copy_rows(self, copy: Copy2d, stream: Stream) -> None:
        """Device to device, by rows."""
        ...

    def write_pinned(self, pinned: Pinned, offset: int, pitch_bytes: int, rows: npt.NDArray[np.uint8]) -> None:
        """The host writes rows [n, width] into pinned memory, `pitch_bytes` apart from `offset` on."""
        ...

    def read_pinned(self, pinned: Pinned) -> npt.NDArray[np.uint8]:
        """The host reads pinned memory: a view, after its event has been waited for."""
        ...

    def load_kernels(self, cubin: bytes) -> None:
        """Make a module's kernels known to `launch`."""
        ...

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[Any],
        stream: Stream,
    ) -> None:
        """Start a kernel; the ctypes arguments are copied before this returns."""
        ...

    def begin_capture(self, stream: Stream) -> None:
        """From now on this thread's work on the stream is written down, not run."""
        ...

    def end_capture(self, stream: Stream) -> Graph | None:
        """What was written down, ready to replay; None when it is empty. Raises DeviceError when it was spoilt."""
        ...

    def drop_capture(self, stream: Stream) -> None:
        """End a capture and forget it, spoilt or not."""
        ...

    def replay(self, graph: Graph, stream: Stream) -> None:
        """Run a graph."""
        ...

    def drop_graph(self, graph: Graph) -> None:
        """Give a graph back that nobody replays any more; what of it still runs comes to its end."""
        ...

    def close(self) -> None:
        """Wait for the device, then give back all that was made here. Twice is once."""
        ...


_POISON = frozenset(
    "CUDA_ERROR_" + name
    for name in (
        "DEINITIALIZED", "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE", "ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT", "ASSERT",
        "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC",
        "LAUNCH_FAILED", "CONTEXT_IS_DESTROYED", "CONTAINED", "TENSOR_MEMORY_LEAK", "EXTERNAL_DEVICE", "UNKNOWN",
    )
)  # fmt: skip
_DO = {
    "CUDA_ERROR_OUT_OF_MEMORY": "lower track.faces or slots in the profile, or end other programs on the GPU",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "install the extra of this driver's CUDA: face-engine[cuda12] or [cuda13]",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "install the extra of this driver's CUDA: face-engine[cuda12] or [cuda13]",
    "CUDA_ERROR_INVALID_IMAGE": "remove the kernel cache, and install the extra of this driver's CUDA",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "run on a GPU that drives no display",
}


def cuda_error(call: str, name: str, meaning: str, at: str) -> DeviceError:
    """The error for one failed call: the driver's name and meaning, what was asked, and what was running.

    A name that loses the context gives PoisonedError: nothing more can run in this process.
    """
    where = f"{call}, {at}" if at else call
    got = f"{name} ({meaning})" if meaning else name
    if name in _POISON:
        do = _DO.get(name, "run again with FACE_ENGINE_CUDA=sync, which names the kernel or network that failed")
        return PoisonedError(explain(where, "CUDA_SUCCESS", got, do))
    do = _DO.get(name, "see python -m engine doctor")
    if name.startswith("CUDA_ERROR_STREAM_CAPTURE"):
        do = "run with FACE_ENGINE_CUDA=eager, which records no graphs"
    return DeviceError(explain(where, "CUDA_SUCCESS", got, do))
