"""A driver without a GPU: memory is the host's, kernels run on the CPU, calls are counted by the driver's names."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.driver import Copy2d, DeviceFacts, Driver, Event, Graph, Pinned, Priority, Stream, cuda_error
from kernels.compile import HostTarget
from tests.recording.accesses import accesses
from tests.recording.races import Access, Races

__all__ = ["RecordingDriver"]

GARBAGE = 0xCB  # what fresh device memory holds here: never zero, and no finite weight of a network


@dataclass
class _Work:
    """One thing on a stream: what it touches, and how to do it."""

    what: str
    touches: list[Access]
    run: Callable[[], None]


@dataclass
class _Capture:
    thread: int
    work: list[_Work] = field(default_factory=list)


class RecordingDriver(Driver):
    """`races.found` is what the calls so far got wrong. `deaf` names functions whose waits are left out: planted
    faults. `capturable=False` spoils every capture that holds a library's call."""

    facts = DeviceFacts(0, "Recording Twin", "sm_90", 80 << 30, (13, 0))

    def __init__(self, *, threads: int = 2, deaf: frozenset[str] = frozenset()) -> None:
        self.calls: Counter[str] = Counter()
        self.at = ""
        self.races = Races()
        self.waits_by: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.launched: list[tuple[str, list[Any]]] = []
        self.deaf = deaf
        self._target = HostTarget(threads)
        self._lock = threading.RLock()
        self._numbers = itertools.count(0x1000)
        self._names: dict[int, str] = {1: "legacy", 2: "per thread"}
        self._held: list[npt.NDArray[np.uint8]] = []
        self._pinned: dict[int, Pinned] = {}
        self._captures: dict[int, _Capture] = {}
        self._graphs: dict[int, list[_Work]] = {}
        self._closed = False

    def stream(self, name: str, priority: Priority) -> Stream:
        """Known by its name."""
        self._count("cuStreamCreateWithPriority")
        made = Stream(next(self._numbers))
        self._names[made] = name
        return made

    def adopt_stream(self, name: str) -> Stream:
        """A stream of another library."""
        return self.stream(name, "middle")

    def event(self, *, timed: bool = False) -> Event:
        """Unmarked."""
        self._count("cuEventCreate")
        return Event(next(self._numbers))

    def record(self, event: Event, stream: Stream, *, in_graph: bool = False) -> None:
        """Within a capture only as a node."""
        self._count("cuEventRecordWithFlags" if in_graph else "cuEventRecord")
        with self._lock:
            if stream in self._captures:
                if not in_graph:
                    raise cuda_error("cuEventRecord", "CUDA_ERROR_CAPTURED_EVENT", "a plain mark in a graph", self.at)
                return
            self.races.record(event, self._names[stream])

    def stream_wait(self, stream: Stream, event: Event) -> None:
        """Unless the caller is deaf."""
        self._count("cuStreamWaitEvent")
        with self._lock:
            self._refuse_in_capture(stream, "cuStreamWaitEvent")
            if not self._is_deaf():
                self.races.stream_waits(self._names[stream], event)

    def is_done(self, event: Event) -> bool:
        """As little as can be known: what the host has waited for."""
        self._count("cuEventQuery")
        with self._lock:
            return self._is_deaf() or self.races.host_knows(event)

    def wait_event(self, event: Event) -> None:
        """Unless the caller is deaf."""
        self._count("cuEventSynchronize")
        with self._lock:
            if not self._is_deaf():
                self.races.host_waits_event(event)

    def elapsed_ms(self, begin: Event, end: Event) -> float:
        """No time passes here."""
        self._count("cuEventElapsedTime")
        return 0.0

    def wait_stream(self, stream: Stream) -> None:
        """Never within a capture."""
        self._count("cuStreamSynchronize")
        with self._lock:
            self._refuse_in_capture(stream, "cuStreamSynchronize")
            self.races.host_waits_stream(self._names[stream])

    def allocate(self, nbytes: int) -> int:
        """Aligned to 256 bytes, full of garbage."""
        self._count("cuMemAlloc")
        ptr = self._host_memory(nbytes).ctypes.data
        self.races.add_region(ptr, nbytes, "unnamed")
        return int(ptr)

    def allocate_pinned(self, nbytes: int) -> Pinned:
        """Zeroed; seen by both sides at one address."""
        self._count("cuMemHostAlloc")
        array = self._host_memory(nbytes)
        array.fill(0)
        made = Pinned(array, int(array.ctypes.data))
        self.races.add_region(made.ptr, nbytes, "pinned")
        return made

    def name_range(self, ptr: int, nbytes: int, name: str) -> None:
        """From here on a region of its own."""
        with self._lock:
            self.races.add_region(ptr, nbytes, name)

    def free_bytes(self) -> int:
        """Much."""
        return self.facts.memory_bytes

    def zero(self, ptr: int, nbytes: int, stream: Stream) -> None:
        """By bytes."""
        self._count("cuMemsetD8Async")
        self._put(stream, _Work("zero", [Access(ptr, ptr + nbytes, True)], lambda: _bytes(ptr, nbytes).fill(0)))

    def copy_in(self, ptr: int, array: npt.NDArray[Any], stream: Stream) -> None:
        """Pinned memory is read when the stream comes to it, other memory at once."""
        self._count("cuMemcpyHtoDAsync")
        touches = [Access(ptr, ptr + array.nbytes, True)]
        start = int(array.ctypes.data)
        if self.races.region(start) is not None:
            touches.append(Access(start, start + array.nbytes, False))
            source = array.reshape(-1).view(np.uint8)
        else:
            source = array.reshape(-1).view(np.uint8).copy()
        self._put(stream, _Work("copy in", touches, lambda: np.copyto(_bytes(ptr, source.size), source)))

    def copy_out(self, array: npt.NDArray[Any], ptr: int, stream: Stream) -> None:
        """To pinned or other memory."""
        self._count("cuMemcpyDtoHAsync")
        start = int(array.ctypes.data)
        touches = [Access(ptr, ptr + array.nbytes, False), Access(start, start + array.nbytes, True)]
        to = array.reshape(-1).view(np.uint8)
        self._put(stream, _Work("copy out", touches, lambda: np.copyto(to, _bytes(ptr, to.size))))

    def copy_rows(self, copy: Copy2d, stream: Stream) -> None:
        """Row by row."""
        self._count("cuMemcpy2DAsync")

        def span(ptr: int, pitch: int) -> int:
            return ptr + (copy.rows - 1) * pitch + copy.width_bytes

        def run() -> None:
            for row in range(copy.rows):
                to = _bytes(copy.to_ptr + row * copy.to_pitch_bytes, copy.width_bytes)
                np.copyto(to, _bytes(copy.from_ptr + row * copy.from_pitch_bytes, copy.width_bytes))

        touches = [
            Access(copy.from_ptr, span(copy.from_ptr, copy.from_pitch_bytes), False),
            Access(copy.to_ptr, span(copy.to_ptr, copy.to_pitch_bytes), True),
        ]
        self._put(stream, _Work("copy rows", touches, run))

    def write_pinned(self, pinned: Pinned, offset: int, pitch_bytes: int, rows: npt.NDArray[np.uint8]) -> None:
        """The host's own write."""
        nbytes = rows.shape[0] * pitch_bytes
        with self._lock:
            self.races.host("write pinned", [Access(pinned.ptr + offset, pinned.ptr + offset + nbytes, True)])
        place = pinned.array[offset : offset + nbytes].reshape(rows.shape[0], pitch_bytes)
        np.copyto(place[:, : rows.shape[1]], rows)

    def read_pinned(self, pinned: Pinned) -> npt.NDArray[np.uint8]:
        """The host's own read."""
        with self._lock:
            self.races.host("read pinned", [Access(pinned.ptr, pinned.ptr + pinned.array.size, False)])
        return pinned.array

    def load_kernels(self, cubin: bytes) -> None:
        """The CPU's build is used."""
        self._count("cuModuleLoadData")

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[Any],
        stream: Stream,
    ) -> None:
        """Arguments are copied now; what they point to is read when the stream comes to it."""
        self._count("cuLaunchKernel")
        held = [type(arg).from_buffer_copy(arg) for arg in args]
        touches = [
            self.races.to_the_end(address, is_write=write, what=kernel) for address, write in accesses(kernel, held)
        ]

        def run() -> None:
            self.kernels[kernel] += 1
            self._target.launch(kernel, grid, block, held)

        self._put(stream, _Work(kernel, touches, run))

    def opaque(self, what: str, reads: list[int], writes: list[int], run: Callable[[], None], stream: Stream) -> None:
        """A library's work on one of our streams: opaque but for the addresses that it was given."""
        touches = [self.races.to_the_end(one, is_write=False, what=what) for one in reads]
        touches += [self.races.to_the_end(one, is_write=True, what=what) for one in writes]
        self._put(stream, _Work(what, touches, run))

    def begin_capture(self, stream: Stream) -> None:
        """One at a time on a stream."""
        self._count("cuStreamBeginCapture")
        with self._lock:
            self._refuse_in_capture(stream, "cuStreamBeginCapture")
            self._captures[stream] = _Capture(threading.get_ident())

    def end_capture(self, stream: Stream) -> Graph | None:
        """Empty captures give no graph."""
        self._count("cuStreamEndCapture")
        with self._lock:
            work = self._captures.pop(stream).work
            if not work:
                return None
            self._count("cuGraphInstantiate")
            made = Graph(next(self._numbers))
            self._graphs[made] = work
            return made

    def drop_capture(self, stream: Stream) -> None:
        """If there is one."""
        with self._lock:
            self._captures.pop(stream, None)

    def replay(self, graph: Graph, stream: Stream) -> None:
        """All of it, in order."""
        self._count("cuGraphLaunch")
        with self._lock:
            self._refuse_in_capture(stream, "cuGraphLaunch")
            for work in self._graphs[graph]:
                self._put(stream, work)

    def drop_graph(self, graph: Graph) -> None:
        """Gone: replaying it is a KeyError."""
        self._count("cuGraphExecDestroy")
        with self._lock:
            del self._graphs[graph]

    def close(self) -> None:
        """Memory stays here, so that a later touch is found and not a crash."""
        if not self._closed:
            self._count("cuDevicePrimaryCtxRelease")
            self._closed = True
            self.races.free_all()

    def _put(self, stream: Stream, work: _Work) -> None:
        with self._lock:
            capture = self._captures.get(stream)
            if capture is not None:
                capture.work.append(work)
                return
            self.races.work(self._names[stream], work.what, work.touches)
            work.run()

    def _count(self, name: str) -> None:
        with self._lock:
            if name in ("cuMemAlloc", "cuMemHostAlloc") and self._captures:
                raise cuda_error(name, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "an allocation in a graph", self.at)
            self.calls[name] += 1

    def _refuse_in_capture(self, stream: Stream, name: str) -> None:
        if stream in self._captures:
            raise cuda_error(name, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "not while capturing", self.at)

    def _is_deaf(self) -> bool:
        """Whether this wait is one that the test leaves out; waits are known by the functions that ask for them."""
        frame = sys._getframe(2)
        names = [frame.f_code.co_name]
        while frame.f_back is not None and len(names) < 4:
            frame = frame.f_back
            names.append(frame.f_code.co_name)
        self.waits_by[names[0]] += 1
        return bool(self.deaf & set(names))

    def _host_memory(self, nbytes: int) -> npt.NDArray[np.uint8]:
        whole = np.full(nbytes + 256, GARBAGE, np.uint8)
        start = -whole.ctypes.data % 256
        with self._lock:
            self._held.append(whole)
        return whole[start : start + nbytes]


def _bytes(ptr: int, nbytes: int) -> npt.NDArray[np.uint8]:
    import ctypes

    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(ptr))
