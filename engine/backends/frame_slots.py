"""Working frames on a GPU: how they are filled, read and used again, ordered by events and never by the host.

Three streams touch a frame: decode fills it, compute works on it, encode reads it. Each leaves a mark, and whoever
comes next waits for the marks on its own stream.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.device_memory import DeviceArray, Pool
from engine.backends.driver import LEGACY_STREAM, Copy2d, Driver, Event, Pinned, Stream
from engine.backends.foreign import ForeignArray, release_all
from engine.errors import DeviceError, explain
from engine.frame import Nv12Buffer
from kernels.launch import I420, Colour, Target, copy_planar_into

__all__ = ["EdgeDownload", "FrameSlots", "Slot"]

STAGING = 3  # pinned buffers for pictures on their way in, and for frames on their way out
ALIGN_BYTES = 128


@dataclass
class Slot:
    """One working frame's marks: filled (decode), worked on (compute), read (encode).

    `is_fresh`: it was filled since compute last waited for that.
    """

    frame: Nv12Buffer
    loaded: Event
    done: Event
    taken: Event
    is_fresh: bool = False
    held: list[ForeignArray] = field(default_factory=list)


@dataclass
class _Staging:
    """Pinned memory and when the copy that uses it has run."""

    pinned: Pinned
    passed: Event


class _Planar:
    """Where the three planes of a picture lie in staging: (offset, pitch) in bytes for y, u and v."""

    def __init__(self, frame: Nv12Buffer) -> None:
        rows = (frame.height_px + 1) // 2
        pitch = -(-((frame.width_px + 1) // 2) // ALIGN_BYTES) * ALIGN_BYTES
        u_at = frame.height_px * frame.pitch_bytes
        self.places = ((0, frame.pitch_bytes), (u_at, pitch), (u_at + rows * pitch, pitch))
        self.nbytes = u_at + 2 * rows * pitch


class FrameSlots:
    """The ring's frames, on three streams. `edge` launches kernels on the decode stream."""

    def __init__(
        self, driver: Driver, pool: Pool, decode: Stream, compute: Stream, encode: Stream, edge: Target
    ) -> None:
        self._driver, self._pool, self._edge = driver, pool, edge
        self._decode, self._compute, self._encode = decode, compute, encode
        self._slots: dict[int, Slot] = {}
        self._staging: deque[_Staging] = deque()
        self._downloads: deque[_Staging] = deque()
        self._surfaces: deque[int] = deque()
        self._foreign_mark, self._foreign_lock = driver.event(), threading.Lock()
        self._planar_ptr = 0
        # a frame that failed is filled again by the compute thread, while decode fills another
        self._filling = threading.Lock()

    def open(self, frames: Sequence[Nv12Buffer]) -> None:
        """Make marks, staging and downloads for these frames, which are of one size; once."""
        if all(frame.memory.ptr in self._slots for frame in frames):
            return
        for frame in frames:
            event = self._driver.event
            self._slots[frame.memory.ptr] = Slot(frame, event(), event(), event())
        nbytes = max(_Planar(frames[0]).nbytes, frames[0].memory.nbytes)
        self._planar_ptr = self._pool.take(nbytes, "frames", "planar staging")
        for line in (self._staging, self._downloads):
            line.extend(_Staging(self._driver.allocate_pinned(nbytes), self._driver.event()) for _ in range(STAGING))

    def find(self, frame: Nv12Buffer) -> Slot:
        """The slot of a frame of the ring; raises DeviceError for another."""
        slot = self._slots.get(frame.memory.ptr)
        if slot is None:
            raise DeviceError(explain("frame", "a frame of the pipeline's ring", "another", "give it to open_slots"))
        return slot

    def get(self, frame: Nv12Buffer) -> Slot | None:
        """The slot of a frame of the ring, None for another."""
        return self._slots.get(frame.memory.ptr)

    def before_compute(self, slot: Slot) -> None:
        """Let compute wait for what fills the slot, once for each filling."""
        if slot.is_fresh:
            self._driver.stream_wait(self._compute, slot.loaded)
            slot.is_fresh = False

    def after_compute(self, slot: Slot) -> None:
        """Mark what compute has done to the slot so far."""
        self._driver.record(slot.done, self._compute)

    def load(self, planes: Sequence[npt.NDArray[np.uint8]], frame: Nv12Buffer) -> None:
        """Host planes of the frame's size: into pinned memory now, from there in the decode stream's own time."""
        with self._filling:
            slot, staging = self._claim(frame), self._next_staging()
            pitch, height = frame.pitch_bytes, frame.height_px
            if len(planes) == 2:
                self._driver.write_pinned(staging.pinned, 0, pitch, planes[0])
                self._driver.write_pinned(staging.pinned, height * pitch, pitch, planes[1])
                self._driver.copy_in(frame.memory.ptr, staging.pinned.array[: frame.memory.nbytes], self._decode)
            else:
                self._load_planar(planes, frame, staging.pinned)
            self._driver.record(staging.passed, self._decode)
            self._filled(slot)

    def _load_planar(self, planes: Sequence[npt.NDArray[np.uint8]], frame: Nv12Buffer, pinned: Pinned) -> None:
        """Three planes go over as they are; the device interleaves them."""
        planar = _Planar(frame)
        for plane, (at, pitch) in zip(planes, planar.places, strict=True):
            self._driver.write_pinned(pinned, at, pitch, plane)
        self._driver.copy_in(self._planar_ptr, pinned.array[: planar.nbytes], self._decode)
        (y, y_pitch), (u, pitch), (v, _) = planar.places
        base, width, height = self._planar_ptr, frame.width_px, frame.height_px
        source = I420(base + y, base + u, base + v, y_pitch, pitch, pitch, width, height)
        copy_planar_into(self._edge, source, frame.view(Colour()))

    def load_device(self, planes: Sequence[ForeignArray], frame: Nv12Buffer) -> None:
        """Planes (y, uv) in device memory: two copies by rows, after whatever wrote them. Lets them go, here or once
        they were read."""
        with self._filling:
            held = list(planes)
            try:
                slot = self._claim(frame)
                self._copy_planes(held, frame)
                slot.held = held
                self._filled(slot)
            except BaseException:
                with suppress(DeviceError):  # a copy may be under way
                    self._driver.wait_stream(self._decode)
                release_all(held)
                raise

    def _copy_planes(self, planes: Sequence[ForeignArray], frame: Nv12Buffer) -> None:
        for after in {plane.after for plane in planes if plane.after is not None}:
            self.wait_foreign(self._decode, after)
        chroma_bytes, half = (frame.width_px + 1) // 2 * 2, (frame.height_px + 1) // 2
        pitch, base = frame.pitch_bytes, frame.memory.ptr
        y, uv = planes
        self._driver.copy_rows(Copy2d(base, pitch, y.ptr, y.strides[0], frame.width_px, frame.height_px), self._decode)
        chroma = Copy2d(base + frame.height_px * pitch, pitch, uv.ptr, uv.strides[0], chroma_bytes, half)
        self._driver.copy_rows(chroma, self._decode)

    def order(self, frame: Nv12Buffer, other: Stream) -> None:
        """What comes next on another library's stream waits for what fills and changes this frame."""
        slot = self.find(frame)
        self._driver.stream_wait(other, slot.loaded)
        self._driver.stream_wait(other, slot.done)

    def wait_foreign(self, stream: Stream, other: Stream) -> None:
        """What comes next on `stream` waits for another library's stream as it stands."""
        with self._foreign_lock:
            self._driver.record(self._foreign_mark, other)
            self._driver.stream_wait(stream, self._foreign_mark)

    def download(self, frame: Nv12Buffer) -> EdgeDownload:
        """Start the copy to pinned memory, on the encode stream."""
        slot = self._before_encode(frame)
        if not self._downloads:
            staging = _Staging(self._driver.allocate_pinned(frame.memory.nbytes), self._driver.event())
        else:
            staging = self._downloads.popleft()
        array = staging.pinned.array[: frame.memory.nbytes]
        self._driver.copy_out(array, frame.memory.ptr, self._encode)
        self._driver.record(staging.passed, self._encode)
        self._driver.record(slot.taken, self._encode)
        return EdgeDownload(self._driver, frame, staging, self._downloads)

    def encoder_planes(self, frame: Nv12Buffer, *, copy: bool) -> tuple[DeviceArray, DeviceArray]:
        """The frame, or a copy of it that lives as long as its planes, ready for the encode stream."""
        slot = self._before_encode(frame)
        ptr, keeps = frame.memory.ptr, None
        if copy:
            if not self._surfaces:
                self._surfaces.append(self._pool.take(frame.memory.nbytes, "frames", "encoder surface", self._encode))
            keeps = _Lease(self._surfaces.popleft(), self._surfaces)
            ptr, pitch, rows = keeps.ptr, frame.pitch_bytes, frame.memory.shape[0]
            self._driver.copy_rows(Copy2d(ptr, pitch, frame.memory.ptr, pitch, pitch, rows), self._encode)
        self._driver.record(slot.taken, self._encode)
        height, pitch = frame.height_px, frame.pitch_bytes
        chroma = (frame.memory.shape[0] - height, (frame.width_px + 1) // 2 * 2)

        def plane(at: int, shape: tuple[int, int]) -> DeviceArray:
            index, order = self._driver.facts.index, self._order_encoder
            return DeviceArray(ptr + at, shape, (pitch, 1), "uint8", index, self._encode, order, keeps)

        return plane(0, (height, frame.width_px)), plane(height * pitch, chroma)

    def _order_encoder(self, consumer: Stream) -> None:
        """A consumer on the encode stream is in order already; another one waits for it.

        FFmpeg names no stream, which would mean the legacy one, and reads on the encode stream that it was given.
        """
        if consumer not in (self._encode, LEGACY_STREAM):
            self.wait_foreign(consumer, self._encode)

    def let_go(self) -> None:
        """Release the arrays of others that slots were filled from; everything has run."""
        for slot in self._slots.values():
            release_all(slot.held)

    def _claim(self, frame: Nv12Buffer) -> Slot:
        """A slot to be filled: decode waits for all that still reads or writes it."""
        slot = self.find(frame)
        if slot.held:
            # a decoder may write into what we let go: the copy from it must have run
            self._wait_host(slot.loaded)
            release_all(slot.held)
        self._driver.stream_wait(self._decode, slot.done)
        self._driver.stream_wait(self._decode, slot.taken)
        return slot

    def _filled(self, slot: Slot) -> None:
        self._driver.record(slot.loaded, self._decode)
        slot.is_fresh = True

    def _before_encode(self, frame: Nv12Buffer) -> Slot:
        slot = self.find(frame)
        if slot.is_fresh:
            # filled and never worked on: a frame that failed goes out as it came in
            self._driver.stream_wait(self._encode, slot.loaded)
        self._driver.stream_wait(self._encode, slot.done)
        return slot

    def _next_staging(self) -> _Staging:
        """The pinned buffer used longest ago; as a rule its copy ran long ago and nobody waits."""
        staging = self._staging.popleft()
        self._staging.append(staging)
        self._wait_host(staging.passed)
        return staging

    def _wait_host(self, event: Event) -> None:
        if not self._driver.is_done(event):
            self._driver.wait_event(event)


@dataclass
class _Lease:
    """A surface that an encoder reads; it goes back when the last plane or capsule of it is gone."""

    ptr: int
    home: deque[int]

    def __del__(self) -> None:
        self.home.append(self.ptr)


@dataclass
class EdgeDownload:
    """A frame on its way to pinned memory."""

    driver: Driver
    frame: Nv12Buffer
    staging: Any
    home: deque[Any]

    def wait_planes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Views of pinned memory, valid until `release`."""
        return self.frame.cut(self.wait_array())

    def wait_array(self) -> npt.NDArray[np.uint8]:
        """The whole frame, uint8 [rows, pitch]."""
        if self.staging is None:
            raise DeviceError(explain("download", "planes before release", "after it", "copy what outlives it"))
        self.driver.wait_event(self.staging.passed)
        held = self.driver.read_pinned(self.staging.pinned)[: self.frame.memory.nbytes]
        return held.reshape(self.frame.memory.shape)

    def release(self) -> None:
        """Back to the others; twice is once."""
        if self.staging is not None:
            self.home.append(self.staging)
            self.staging = None
