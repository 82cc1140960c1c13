"""The backend's protocol: memory, kernels and sessions of one kind of device. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.frame import Buffer, Frame, Nv12Buffer
from engine.timing import Timings
from models.contract import Contract
from models.model_files import ModelFile
from models.spec import Spec

__all__ = ["Backend", "Counters", "Download", "Session"]


@dataclass
class Counters:
    """What our own code asked of the device. Libraries' own doings are not in it."""

    allocations: int = 0
    allocated_bytes: int = 0
    launches: int = 0
    uploads: int = 0
    downloads: int = 0
    frame_copies: int = 0
    waits: int = 0
    sessions: int = 0
    replays: int = 0


class Session(Protocol):
    """One model ready to run; tensors by the contract's names."""

    contract: Contract

    def fit(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an input that comes nearest to this one; the same where file or plans leave it free."""
        ...

    def prepare(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Bind buffers ahead of their first run."""
        ...

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Run on dense buffers of any batch; they are read and written in place. Raises DeviceError."""
        ...


class Download(Protocol):
    """A frame on its way to the host."""

    def wait_planes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(luma, interleaved chroma) on the host, valid until `release`; blocks this thread alone."""
        ...

    def release(self) -> None:
        """Give the host memory back; twice is once."""
        ...


class Backend(Protocol):
    """One device. Buffers are made at open, and live until `close`.

    `device_io`: decoders and encoders may hand their memory over on the device. `encode_stream` is the handle of the
    stream that encoders read frames on; 0 on the host.
    """

    name: str
    counters: Counters
    timings: Timings
    device_io: bool
    encode_stream: int

    def face_counts(self, capacity: int) -> tuple[int, ...]:
        """The face counts that the make half runs at, rising, the last of them `capacity`."""
        ...

    def allocate(self, spec: Spec) -> Buffer:
        """Zeroed memory for a static Spec."""
        ...

    def allocate_status(self, words: int) -> Buffer:
        """int32 [words] that kernels write and `wait_status` reads."""
        ...

    def allocate_nv12(self, width_px: int, height_px: int) -> Nv12Buffer:
        """A working NV12 frame."""
        ...

    def upload(self, array: npt.NDArray[Any], buffer: Buffer) -> None:
        """Copy a host array of the buffer's dtype and shape into it."""
        ...

    def load_planes(self, planes: Sequence[npt.NDArray[np.uint8]], frame: Nv12Buffer) -> None:
        """Host planes, (y, u, v) or (y, uv) of the frame's size, into a working frame: the one copy in."""
        ...

    def load_device_planes(self, planes: Sequence[Any], frame: Nv12Buffer) -> None:
        """A decoder's planes (y, uv) in device memory, by DLPack, into a working frame; they are only read.

        Ordered after the legacy default stream, on which FFmpeg decodes. They are held until they were read.
        """
        ...

    def take(self, array: Any, frame: Nv12Buffer, stream: Any = None) -> None:
        """NV12 of another library, uint8 [H + ceil(H / 2), pitch], into a working frame: the one copy in.

        `stream`: what it was written on, where the array does not say. Raises InputError for another size or type.
        """
        ...

    def open_slots(self, frames: Sequence[Nv12Buffer]) -> None:
        """Make now what loading and downloading these frames needs, and wait for all work on them so far."""
        ...

    def download(self, frame: Nv12Buffer) -> Download:
        """Start to bring a working frame to the host, after the work on it so far; returns at once."""
        ...

    def encoder_planes(self, frame: Nv12Buffer, *, copy: bool) -> tuple[Any, Any]:
        """(y [H, W], uv [ceil(H / 2), W]) for an encoder that reads device memory on `encode_stream`, by DLPack.

        The stream waits for the work on the frame so far. With `copy`, a copy that is held until the encoder lets
        both planes go, so that the frame may be used again; else the working frame itself.
        """
        ...

    def order(self, frame: Nv12Buffer, stream: Any) -> None:
        """Make another library's stream wait for the work on a frame so far; returns at once."""
        ...

    def to_host(self, buffer: Buffer) -> npt.NDArray[Any]:
        """A copy of a buffer on the host; waits for the device."""
        ...

    def wait_status(self, buffer: Buffer) -> npt.NDArray[np.int32]:
        """The status words of one frame, after the work that writes them: the one wait of a frame."""
        ...

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Any]) -> None:
        """Start a kernel; `kernels.launch` calls this."""
        ...

    def record(self, key: tuple[str, int, int], body: Callable[[], None]) -> None:
        """Write a body of launches down for `replay`; a backend may run it once first, or leave it alone.

        A key is (part of the step, slot of the ring, variant).
        """
        ...

    def replay(self, key: tuple[str, int, int], body: Callable[[], None], frame: Frame) -> None:
        """Run a body of launches for one frame; where this key was recorded, the recording instead of the body."""
        ...

    def span(self, stage: str) -> AbstractContextManager[None]:
        """Time what is launched inside, into `timings`; never waits."""
        ...

    def open_session(self, model: ModelFile) -> Session:
        """A model ready to run on this device."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...
