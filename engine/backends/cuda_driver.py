"""The CUDA driver behind the seam: the one module that calls cuda.bindings, where its untyped values stop.

cuda.bindings 12.8 and later and 13 have every name used here; a test compares `NAMES` with what is installed.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.driver import (
    Copy2d,
    DeviceFacts,
    Driver,
    Event,
    Graph,
    Pinned,
    Priority,
    Stream,
    cuda_error,
)
from engine.errors import DeviceError, PoisonedError, explain

__all__ = ["NAMES", "CudaDriver"]

NAMES = (
    "cuInit", "cuDriverGetVersion", "cuDeviceGet", "cuDeviceGetCount", "cuDeviceGetName", "cuDeviceTotalMem",
    "cuDeviceGetAttribute", "cuDevicePrimaryCtxGetState", "cuDevicePrimaryCtxSetFlags", "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease", "cuCtxSetCurrent", "cuCtxSynchronize", "CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC",
    "cuCtxGetStreamPriorityRange", "cuStreamCreateWithPriority", "cuStreamDestroy", "cuStreamWaitEvent",
    "cuStreamBeginCapture", "cuStreamEndCapture", "cuEventCreate", "cuEventRecord", "cuEventRecordWithFlags",
    "cuEventQuery", "cuEventElapsedTime", "cuEventDestroy", "cuMemAlloc", "cuMemFree", "cuMemGetInfo",
    "cuMemHostAlloc", "cuMemFreeHost", "cuMemHostGetDevicePointer", "cuMemsetD8Async", "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync", "cuMemcpy2DAsync", "cuModuleLoadData", "cuModuleUnload", "cuModuleGetFunction",
    "cuLaunchKernel", "cuGraphInstantiate", "cuGraphUpload", "cuGraphLaunch", "cuGraphExecDestroy",
    "cuGraphDestroy", "cuGraphGetNodes", "cuGetErrorName", "cuGetErrorString", "CUresult.CUDA_SUCCESS",
    "CUresult.CUDA_ERROR_NOT_READY", "CUDA_MEMCPY2D", "CUmemorytype.CU_MEMORYTYPE_DEVICE",
    "CUstream_flags.CU_STREAM_NON_BLOCKING", "CUevent_flags.CU_EVENT_DISABLE_TIMING",
    "CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL", "CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL",
    "CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR",
    "CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR",
)  # fmt: skip
_MAPPED_AND_PORTABLE = 0x02 | 0x01  # CU_MEMHOSTALLOC_DEVICEMAP and _PORTABLE of cuda.h


class CudaDriver(Driver):
    """A GPU through the driver, on its primary context, which torch, CuPy and TensorRT use as well.

    Raises DeviceError without cuda.bindings, without a driver and without this device.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            from cuda.bindings import driver
        except ImportError as error:
            do = 'install it: pip install "face-engine[cuda13]" (or cuda12 for a driver of CUDA 12)'
            raise DeviceError(explain("backend cuda", "the package cuda-bindings", str(error), do)) from error
        self._cu = driver
        self._success, self._not_ready = driver.CUresult.CUDA_SUCCESS, driver.CUresult.CUDA_ERROR_NOT_READY
        self._thread = threading.local()
        self._context: Any = None
        self._closed = self._poisoned = False
        self._kernels: dict[str, Any] = {}
        self._modules: list[Any] = []
        self._streams: list[Stream] = []
        self._events: list[Event] = []
        self._graphs: list[Graph] = []
        self._device_memory: list[int] = []
        self._host_memory: list[int] = []
        self.calls: Counter[str] = Counter()
        self.at = ""
        self._open(index)
        # cuda.bindings keeps the interpreter's lock while it waits; ctypes lets it go
        self._library = ctypes.CDLL("libcuda.so.1")

    def _open(self, index: int) -> None:
        try:
            self._call("cuInit", 0)
            count = int(self._call("cuDeviceGetCount"))
        except PoisonedError:
            raise
        except (DeviceError, RuntimeError) as error:  # without libcuda cuda.bindings raises its own RuntimeError
            do = "install the driver; python -m engine doctor shows what was found"
            raise DeviceError(explain("backend cuda", "a CUDA device", str(error), do)) from error
        if index >= count:
            do = "see nvidia-smi and CUDA_VISIBLE_DEVICES"
            raise DeviceError(explain("backend cuda", f"CUDA device {index}", f"{count} devices", do))
        self._device = self._call("cuDeviceGet", index)
        flags, _ = self._call("cuDevicePrimaryCtxGetState", self._device)
        if not int(flags):
            # FFmpeg takes the primary context with these flags only, and nobody has asked for others; waiting for our
            # events spins all the same
            blocking = int(self._cu.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC)
            self._call("cuDevicePrimaryCtxSetFlags", self._device, blocking)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        attribute = self._cu.CUdevice_attribute
        major, minor = (
            int(self._call("cuDeviceGetAttribute", one, self._device))
            for one in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        version = int(self._call("cuDriverGetVersion"))
        self.facts = DeviceFacts(
            index=index,
            name=bytes(self._call("cuDeviceGetName", 128, self._device)).split(b"\0")[0].decode(),
            arch=f"sm_{major}{minor}",
            memory_bytes=int(self._call("cuDeviceTotalMem", self._device)),
            cuda=(version // 1000, version % 1000 // 10),
        )
        lowest, highest = (int(one) for one in self._call("cuCtxGetStreamPriorityRange"))
        self._priorities: dict[Priority, int] = {
            "high": highest,
            "middle": (lowest + highest) // 2,
            "low": lowest,
        }

    def _call(self, name: str, *args: Any) -> Any:
        """One call: counted, on this device's context, its status turned into an error."""
        self._enter(name)
        return self._ask(name, *args)

    def _ask(self, name: str, *args: Any) -> Any:
        status, *values = getattr(self._cu, name)(*args)
        if status != self._success:
            self._check(name, status)
        return values[0] if len(values) == 1 else values

    def _enter(self, name: str) -> None:
        if self._closed:
            do = "end the threads that use it before close"
            raise DeviceError(explain(name, "an open device", "one that was closed", do))
        if self._poisoned:
            raise PoisonedError(explain(name, "a working context", "one that an earlier error lost", "start again"))
        if self._context is not None and not getattr(self._thread, "entered", False):
            self._check("cuCtxSetCurrent", self._cu.cuCtxSetCurrent(self._context)[0])
            self._thread.entered = True
        self.calls[name] += 1

    def _check(self, name: str, status: Any) -> None:
        if status == self._success:
            return
        words = [self._cu.cuGetErrorName(status)[1], self._cu.cuGetErrorString(status)[1]]
        text = [word.decode() if isinstance(word, bytes) else str(status) for word in words]
        error = cuda_error(name, text[0], text[1], self.at)
        self._poisoned |= isinstance(error, PoisonedError)
        raise error

    def stream(self, name: str, priority: Priority) -> Stream:
        """Non-blocking; `name` is for the recording twin."""
        flag = self._cu.CUstream_flags.CU_STREAM_NON_BLOCKING
        made = Stream(int(self._call("cuStreamCreateWithPriority", int(flag), self._priorities[priority])))
        self._streams.append(made)
        return made

    def event(self, *, timed: bool = False) -> Event:
        """Waiting for it spins, which is what answers soonest."""
        flag = 0 if timed else int(self._cu.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        made = Event(int(self._call("cuEventCreate", flag)))
        self._events.append(made)
        return made

    def record(self, event: Event, stream: Stream, *, in_graph: bool = False) -> None:
        """In a graph, an external record node: every replay marks the event anew."""
        if in_graph:
            flag = int(self._cu.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL)
            self._call("cuEventRecordWithFlags", event, stream, flag)
        else:
            self._call("cuEventRecord", event, stream)

    def stream_wait(self, stream: Stream, event: Event) -> None:
        """No flags."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def is_done(self, event: Event) -> bool:
        """One query."""
        self._enter("cuEventQuery")
        status = self._cu.cuEventQuery(event)[0]
        if status == self._not_ready:
            return False
        self._check("cuEventQuery", status)
        return True

    def wait_event(self, event: Event) -> None:
        """Through ctypes, so that other threads go on meanwhile."""
        self._wait("cuEventSynchronize", event)

    def wait_stream(self, stream: Stream) -> None:
        """Through ctypes, so that other threads go on meanwhile."""
        self._wait("cuStreamSynchronize", stream)

    def _wait(self, name: str, handle: int) -> None:
        self._enter(name)
        status = getattr(self._library, name)(ctypes.c_void_p(handle))
        self._check(name, self._cu.CUresult(status))

    def elapsed_ms(self, begin: Event, end: Event) -> float:
        """To half a microsecond, as the driver measures."""
        return float(self._call("cuEventElapsedTime", begin, end))

    def allocate(self, nbytes: int) -> int:
        """Kept until `close`."""
        ptr = int(self._call("cuMemAlloc", nbytes))
        self._device_memory.append(ptr)
        return ptr

    def allocate_pinned(self, nbytes: int) -> Pinned:
        """Mapped and portable; kept until `close`."""
        address = int(self._call("cuMemHostAlloc", nbytes, _MAPPED_AND_PORTABLE))
        self._host_memory.append(address)
        array = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        array.fill(0)
        return Pinned(array, int(self._call("cuMemHostGetDevicePointer", address, 0)))

    def name_range(self, ptr: int, nbytes: int, name: str) -> None:
        """The driver keeps no names."""

    def free_bytes(self) -> int:
        """Of the whole device, other programs counted."""
        return int(self._call("cuMemGetInfo")[0])

    def zero(self, ptr: int, nbytes: int, stream: Stream) -> None:
        """By bytes."""
        self._call("cuMemsetD8Async", ptr, 0, nbytes, stream)

    def copy_in(self, ptr: int, array: npt.NDArray[Any], stream: Stream) -> None:
        """Dense arrays only: their bytes as they lie."""
        self._call("cuMemcpyHtoDAsync", ptr, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: npt.NDArray[Any], ptr: int, stream: Stream) -> None:
        """Dense arrays only."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, ptr, array.nbytes, stream)

    def copy_rows(self, copy: Copy2d, stream: Stream) -> None:
        """One copy of the copy engine."""
        device = self._cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
        what = self._cu.CUDA_MEMCPY2D()
        what.srcMemoryType = what.dstMemoryType = device
        what.srcDevice, what.srcPitch = copy.from_ptr, copy.from_pitch_bytes
        what.dstDevice, what.dstPitch = copy.to_ptr, copy.to_pitch_bytes
        what.WidthInBytes, what.Height = copy.width_bytes, copy.rows
        self._call("cuMemcpy2DAsync", what, stream)

    def write_pinned(self, pinned: Pinned, offset: int, pitch_bytes: int, rows: npt.NDArray[np.uint8]) -> None:
        """A plain copy by NumPy, which lets the interpreter's lock go."""
        place = pinned.array[offset : offset + rows.shape[0] * pitch_bytes].reshape(rows.shape[0], pitch_bytes)
        np.copyto(place[:, : rows.shape[1]], rows)

    def read_pinned(self, pinned: Pinned) -> npt.NDArray[np.uint8]:
        """The memory itself."""
        return pinned.array

    def load_kernels(self, cubin: bytes) -> None:
        """Every kernel is looked up on its first launch."""
        self._modules.append(self._call("cuModuleLoadData", cubin))

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[Any],
        stream: Stream,
    ) -> None:
        """The addresses of the ctypes arguments go to the driver as they are."""
        function = self._kernels.get(kernel)
        if function is None:
            function = self._kernels[kernel] = self._call("cuModuleGetFunction", self._modules[-1], kernel.encode())
        addresses = (ctypes.c_void_p * len(args))(*map(ctypes.addressof, args))
        self._call("cuLaunchKernel", function, *grid, *block, 0, stream, ctypes.addressof(addresses), 0)

    def begin_capture(self, stream: Stream) -> None:
        """Of this thread only: another thread may allocate and copy meanwhile."""
        mode = self._cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Stream) -> Graph | None:
        """Instantiated and uploaded, so that the first replay is like any other."""
        graph = self._call("cuStreamEndCapture", stream)
        if not int(self._call("cuGraphGetNodes", graph)[1]):
            self._call("cuGraphDestroy", graph)
            return None
        made = self._call("cuGraphInstantiate", graph, 0)
        self._call("cuGraphDestroy", graph)
        self._call("cuGraphUpload", made, stream)
        self._graphs.append(Graph(int(made)))
        return self._graphs[-1]

    def drop_capture(self, stream: Stream) -> None:
        """Whatever state it was in."""
        status, graph = self._cu.cuStreamEndCapture(stream)
        if status == self._success and int(graph):
            self._call("cuGraphDestroy", graph)

    def replay(self, graph: Graph, stream: Stream) -> None:
        """One launch."""
        self._call("cuGraphLaunch", graph, stream)

    def drop_graph(self, graph: Graph) -> None:
        """The driver keeps what still runs until it has run."""
        self._graphs.remove(graph)
        self._call("cuGraphExecDestroy", graph)

    def close(self) -> None:
        """A lost context can't be asked for anything: its memory goes with the process."""
        if self._closed:
            return
        self.at = "close"
        is_alive = not self._poisoned and self._context is not None
        if is_alive:
            self._enter("cuCtxSynchronize")
        self._closed = True  # from here on every other thread is refused
        if is_alive:
            self._give_back()

    def _give_back(self) -> None:
        self._ask("cuCtxSynchronize")
        for graph in self._graphs:
            self._ask("cuGraphExecDestroy", graph)
        for event in self._events:
            self._ask("cuEventDestroy", event)
        for module in self._modules:
            self._ask("cuModuleUnload", module)
        for ptr in self._device_memory:
            self._ask("cuMemFree", ptr)
        for address in self._host_memory:
            self._ask("cuMemFreeHost", address)
        for stream in self._streams:
            self._ask("cuStreamDestroy", stream)
        self._ask("cuDevicePrimaryCtxRelease", self._device)
