"""The cuda backend: one GPU's memory, kernels, graphs and sessions, on three streams of its primary context."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engine.backends.base import Counters, Session
from engine.backends.device_memory import DeviceArray, Pool
from engine.backends.driver import Driver, Event, Pinned, Stream
from engine.backends.foreign import ForeignArray, foreign_array, foreign_stream, nv12_planes, release_all
from engine.backends.frame_slots import ALIGN_BYTES, EdgeDownload, FrameSlots
from engine.backends.graph import Recorder, Recording
from engine.backends.spans import Spans
from engine.errors import DeviceError, InputError, explain
from engine.frame import Buffer, Frame, Nv12Buffer
from engine.timing import Timings
from models.model_files import ModelFile
from models.spec import Spec

__all__ = ["CudaBackend", "Mode", "SessionOpener"]

Mode = Literal["graphs", "eager", "sync"]
SessionOpener = Callable[["CudaBackend", ModelFile], Session]


class _Edge:
    """Kernels on the decode stream."""

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self._driver, self._stream = driver, stream

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Any]) -> None:
        """Start a kernel."""
        self._driver.launch(kernel, grid, block, args, self._stream)


class CudaBackend:
    """One GPU. `mode`: "graphs" replays recordings; "eager" launches one by one; "sync" also waits after each, so
    that an error names the kernel or network that caused it. `timed` takes times on the device, by stage.

    `driver` is owned from here on, `cubin` holds the kernels for its architecture, `open_session` opens models.
    """

    name = "cuda"
    device_io = True

    def __init__(
        self, driver: Driver, cubin: bytes, open_session: SessionOpener, *, mode: Mode = "graphs", timed: bool = True
    ) -> None:
        self.driver, self.mode = driver, mode
        self.counters, self.timings = Counters(), Timings()
        self._open_session = open_session
        # the oldest frame first: what goes out, then what is worked on, then what comes in
        self.decode = driver.stream("decode", "low")
        self.compute = driver.stream("compute", "middle")
        self.encode = driver.stream("encode", "high")
        self.encode_stream = int(self.encode)
        driver.load_kernels(cubin)
        self.pool = Pool(driver, self.compute)
        self._slots = FrameSlots(driver, self.pool, self.decode, self.compute, self.encode, _Edge(driver, self.decode))
        self.spans = Spans(driver, self.compute, self.timings, timed=timed)
        self._recorder = Recorder(driver, self.compute, self.spans)
        self._recordings: dict[Hashable, Recording] = {}
        self._warm: set[tuple[object, object]] = set()
        self._status: dict[int, Pinned] = {}
        self._posted: dict[int, Event] = {}
        self._edge_mark = driver.event()
        self._sessions: list[Session] = []

    def face_counts(self, capacity: int) -> tuple[int, ...]:
        """1, 2, 4, ... and `capacity`: what networks have plans for."""
        counts = [1]
        while 2 * counts[-1] < capacity:
            counts.append(2 * counts[-1])
        return (*counts, capacity) if capacity > 1 else (1,)

    def allocate(self, spec: Spec) -> Buffer:
        """Zeroed device memory from the pool."""
        return self._buffer(spec, self._take(spec, "buffers"))

    def allocate_status(self, words: int) -> Buffer:
        """Pinned host memory that kernels write through the bus: a few words, read without a copy."""
        spec = Spec("int32", (words,))
        pinned = self.driver.allocate_pinned(spec.nbytes)
        self.driver.name_range(pinned.ptr, spec.nbytes, "status")
        self.counters.allocations += 1
        self._status[pinned.ptr] = pinned
        return self._buffer(spec, pinned.ptr)

    def allocate_nv12(self, width_px: int, height_px: int) -> Nv12Buffer:
        """A working frame with rows of a multiple of 128 bytes."""
        pitch = -(-width_px // ALIGN_BYTES) * ALIGN_BYTES
        spec = Spec("uint8", (height_px + (height_px + 1) // 2, pitch), layout="nv12")
        memory = self._buffer(spec, self._take(spec, "frames"))
        made: list[Nv12Buffer] = []
        made.append(Nv12Buffer(memory, width_px, height_px, lambda: self._frame_on_host(made[0])))
        return made[0]

    def _take(self, spec: Spec, part: str) -> int:
        self.refuse_while_recording("allocate")
        self.counters.allocations += 1
        self.counters.allocated_bytes += spec.nbytes
        return self.pool.take(spec.nbytes, part, str(spec))

    def _buffer(self, spec: Spec, ptr: int) -> Buffer:
        strides = DeviceArray.dense(spec.sizes, spec.dtype)
        index = self.driver.facts.index
        owner = DeviceArray(ptr, spec.sizes, strides, spec.dtype, index, self.compute, self._order, keeps=self)
        return Buffer(spec, ptr, owner, f"cuda:{index}")

    def _order(self, consumer: Stream) -> None:
        if consumer != self.compute:
            self._slots.wait_foreign(consumer, self.compute)

    def open_slots(self, frames: Sequence[Nv12Buffer]) -> None:
        """Marks, staging and downloads; what was zeroed and warmed up so far is done for every stream."""
        self._slots.open(frames)
        self.driver.wait_stream(self.compute)

    def upload(self, array: npt.NDArray[Any], buffer: Buffer) -> None:
        """Copy a host array into a buffer of the same dtype and shape, on the compute stream."""
        if array.dtype != buffer.dtype or array.shape != buffer.shape:
            raise DeviceError(
                explain("upload", str(buffer.spec), f"{array.dtype} {list(array.shape)}", "convert the array first")
            )
        self.refuse_while_recording("upload")
        self.counters.uploads += 1
        self.driver.copy_in(buffer.ptr, np.ascontiguousarray(array), self.compute)

    def load_planes(self, planes: Sequence[npt.NDArray[np.uint8]], frame: Nv12Buffer) -> None:
        """Host planes through pinned memory, on the decode stream; the planes may change when this returns."""
        wanted = (frame.height_px, frame.width_px)
        if planes[0].shape != wanted or any(plane.strides[-1] != 1 for plane in planes):
            got = f"{planes[0].shape[1]}x{planes[0].shape[0]} px"
            raise DeviceError(
                explain(
                    "load_planes", f"dense rows of {wanted[1]}x{wanted[0]} px", got, "open the pipeline for this size"
                )
            )
        self.counters.frame_copies += 1
        self._slots.load(planes, frame)

    def load_device_planes(self, planes: Sequence[Any], frame: Nv12Buffer) -> None:
        """A decoder's surfaces (y, uv): read once, on the decode stream, and held until that has run."""
        where = "load_device_planes"
        held: list[ForeignArray] = []
        try:
            for plane in planes:
                held.append(foreign_array(plane, reader=self.decode, where=where))
            self._refuse_other_planes(held, frame, where)
        except BaseException:
            release_all(held)
            raise
        self.counters.frame_copies += 1
        self._slots.load_device(held, frame)

    def _refuse_other_planes(self, held: list[ForeignArray], frame: Nv12Buffer, where: str) -> None:
        half = ((frame.height_px + 1) // 2, (frame.width_px + 1) // 2)
        shapes = [(frame.height_px, frame.width_px), (*half, 2)]
        got = [plane.shape if len(plane.shape) == 3 or i == 0 else (plane.shape[0], plane.shape[1] // 2, 2)
               for i, plane in enumerate(held)]  # fmt: skip
        if got != shapes or any(plane.dtype != "uint8" or not plane.on_device for plane in held):
            do = "decode to NV12 of the size that the pipeline was opened for"
            raise DeviceError(explain(where, f"uint8 {shapes} in device memory", got, do))

    def take(self, array: Any, frame: Nv12Buffer, stream: Any = None) -> None:
        """NV12 of another library in device or host memory, into a working frame."""
        where = "pipeline.step"
        held = foreign_array(array, reader=self.decode if stream is None else None, where=where)
        try:
            y_ptr, uv_ptr, pitch = nv12_planes(held, frame.width_px, frame.height_px, where)
            if not held.on_device:
                self._take_host(held.owner[1], frame)
                return
            if held.device_index != self.driver.facts.index:
                do = "copy it to the pipeline's GPU"
                wanted = f"memory of CUDA device {self.driver.facts.index}"
                raise InputError(explain(where, wanted, f"CUDA device {held.device_index}", do))
            after = held.after if stream is None else foreign_stream(stream, where)
        except BaseException:
            held.release()
            raise
        self.counters.frame_copies += 1
        self._slots.load_device(held.nv12(y_ptr, uv_ptr, pitch, after), frame)

    def _take_host(self, array: npt.NDArray[np.uint8], frame: Nv12Buffer) -> None:
        height, width = frame.height_px, frame.width_px
        self.load_planes((array[:height, :width], array[height:, : (width + 1) // 2 * 2]), frame)

    def download(self, frame: Nv12Buffer) -> EdgeDownload:
        """Start the copy of a frame to pinned memory, on the encode stream."""
        self.counters.frame_copies += 1
        return self._slots.download(frame)

    def encoder_planes(self, frame: Nv12Buffer, *, copy: bool) -> tuple[DeviceArray, DeviceArray]:
        """The frame's planes in device memory, or those of a copy, ready for the encode stream."""
        self.counters.frame_copies += copy
        return self._slots.encoder_planes(frame, copy=copy)

    def order(self, frame: Nv12Buffer, stream: Any) -> None:
        """Make another library's stream wait until the frame is finished; returns at once."""
        self._slots.order(frame, foreign_stream(stream, "order"))

    def _frame_on_host(self, frame: Nv12Buffer) -> npt.NDArray[np.uint8]:
        if self._slots.get(frame) is None:
            whole: npt.NDArray[np.uint8] = self.to_host(frame.memory)
            return whole
        brought = self.download(frame)
        copy = brought.wait_array().copy()
        brought.release()
        return copy

    def to_host(self, buffer: Buffer) -> npt.NDArray[Any]:
        """A copy of a buffer, after all work of the three streams so far."""
        self.refuse_while_recording("to_host")
        self.counters.downloads += 1
        for stream in (self.decode, self.encode):
            self.driver.record(self._edge_mark, stream)
            self.driver.stream_wait(self.compute, self._edge_mark)
        if buffer.ptr in self._status:
            self.driver.wait_stream(self.compute)
            held = self.driver.read_pinned(self._status[buffer.ptr])
            return held.view(buffer.dtype)[: buffer.shape[0]].copy()
        array = np.empty(buffer.shape, buffer.dtype)
        self.driver.copy_out(array, buffer.ptr, self.compute)
        self.driver.wait_stream(self.compute)
        return array

    def wait_status(self, buffer: Buffer) -> npt.NDArray[np.int32]:
        """The status words when the find half that writes them has run; later work may still be under way."""
        self.counters.waits += 1
        event = self._posted.get(buffer.ptr)
        if event is None:
            event = self._posted[buffer.ptr] = self.driver.event()
            self.driver.record(event, self.compute)
        self.driver.wait_event(event)
        self.spans.harvest()
        return self.driver.read_pinned(self._status[buffer.ptr]).view(np.int32)

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Any]) -> None:
        """Start a kernel on the compute stream."""
        self.counters.launches += 1
        self.spans.work += 1
        self.driver.launch(kernel, grid, block, args, self.compute)
        self._follow(kernel)

    def enqueue(self, what: str, call: Callable[[], None], *, in_graph: bool) -> None:
        """A session puts its network on the compute stream. Not `in_graph`: a recording makes the call at each replay,
        between two graphs."""
        self.spans.work += 1
        if self._recorder.is_recording and not in_graph:
            self._recorder.leave_out(call)
            return
        call()
        self._follow(what)

    def _follow(self, what: str) -> None:
        """In sync mode: wait, so that what fails is known by name."""
        if self.mode == "sync" and not self._recorder.is_recording:
            before, self.driver.at = self.driver.at, f"{what} in {self.driver.at or 'open'}"
            self.driver.wait_stream(self.compute)
            self.driver.at = before

    def can_capture(self, call: Callable[[], None]) -> bool:
        """Whether a library's call can stand in a graph; it was made once before."""
        if self.mode != "graphs":
            return True
        self.driver.wait_stream(self.compute)
        return self._recorder.can_capture(call)

    def record(self, key: tuple[str, int, int], body: Callable[[], None]) -> None:
        """Write a body down for `replay`. Run it first, once for each (part, variant) of (part, slot, variant):
        a network's first run of its own does work that no graph may hold."""
        if self.mode != "graphs":
            return
        part, _, variant = key
        self.driver.at = f"recording of {part}"
        if (part, variant) not in self._warm:
            self._warm.add((part, variant))
            self.spans.begin(in_graph=False)
            body()
            self.spans.drop()
            self.driver.wait_stream(self.compute)
        self._recordings[key] = self._recorder.record(body)

    def replay(self, key: tuple[str, int, int], body: Callable[[], None], frame: Frame) -> None:
        """A frame's body, recorded or not, after what fills the frame."""
        self.driver.at = f"{key[0]} of frame {frame.index}"
        self.spans.frame = frame.index
        slot = self._slots.find(frame.nv12)
        self._slots.before_compute(slot)
        recording = self._recordings.get(key)
        if recording is not None:
            self.counters.replays += recording.graphs
            self.spans.work += 1
            self._recorder.replay(recording)
        else:
            self.spans.begin(in_graph=False)
            try:
                body()
            finally:
                self.spans.launched(self.spans.end())
        self._slots.after_compute(slot)
        self._posted[frame.faces.status.ptr] = slot.done

    def span(self, stage: str) -> AbstractContextManager[None]:
        """Time on the device within a replayed body, on the host's clock elsewhere."""
        return self.spans.span(stage)

    def open_session(self, model: ModelFile) -> Session:
        """A model ready to run on this device."""
        self.refuse_while_recording("open_session")
        self.counters.sessions += 1
        self._sessions.append(self._open_session(self, model))
        return self._sessions[-1]

    def memory_by_part(self) -> dict[str, int]:
        """Bytes of device memory by what they are for; a library's own allocations are not in it."""
        return dict(self.pool.bytes_by_part)

    def wait_idle(self) -> None:
        """Wait until all three streams have run; for tests and for the end."""
        for stream in (self.decode, self.compute, self.encode):
            self.driver.wait_stream(stream)
        self.spans.harvest()

    def close(self) -> None:
        """Give everything back: what is under way first, then sessions, which hold memory of their own."""
        with suppress(DeviceError):  # a lost context has nothing under way
            self.wait_idle()
        self._slots.let_go()
        for session in self._sessions:
            close = getattr(session, "close", None)
            if close is not None:
                close()
        self._sessions.clear()
        self.driver.close()

    def refuse_while_recording(self, what: str) -> None:
        """Raise DeviceError within a recorded body, where only launches may stand."""
        if self._recorder.is_recording:
            raise DeviceError(explain(what, "launches alone in a recorded body", what, "do it when the pipeline opens"))
