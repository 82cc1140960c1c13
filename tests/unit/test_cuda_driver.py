"""The driver seam on cuda.bindings, without a driver: names, arguments, errors, and what closing gives back."""

from __future__ import annotations

import ctypes
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends import cuda_driver
from engine.backends.cuda_driver import NAMES, CudaDriver
from engine.backends.driver import Copy2d, Driver, Event, Stream, cuda_error
from engine.errors import DeviceError, PoisonedError
from tests.recording.driver import RecordingDriver

driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings has no wheel for this machine")
FOLDER = Path(__file__).parents[1] / "cuda_names"
OK = driver.CUresult.CUDA_SUCCESS


def test_every_name_is_in_the_installed_bindings() -> None:
    missing = []
    for name in NAMES:
        kind, _, member = name.partition(".")
        if not hasattr(driver, kind) or (member and not hasattr(getattr(driver, kind), member)):
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_name_is_in_the_bindings_of_cuda_12(path: Path) -> None:
    """The names of a real wheel of CUDA 12, as its module listed them."""
    table = json.loads(path.read_text())
    whole = {*table["names"], *(f"{kind}.{member}" for kind in table for member in table[kind])}
    assert [name for name in NAMES if name not in whole] == []


def test_every_call_that_is_made_is_in_names() -> None:
    text = Path(cuda_driver.__file__).read_text()
    used = set(re.findall(r'"(cu[A-Z]\w+)"', text)) | set(re.findall(r"_cu\.(cu[A-Z]\w+)", text))
    assert used - {"cuEventSynchronize", "cuStreamSynchronize"} <= set(NAMES)  # those two go through ctypes


def test_the_twin_has_every_method_of_the_seam() -> None:
    wanted = {name for name in vars(Driver) if not name.startswith("_")}
    for kind in (CudaDriver, RecordingDriver):
        assert wanted <= set(vars(kind)), wanted - set(vars(kind))


class Played:
    """cuda.bindings.driver with real enums and structures, whose functions answer as told and are written down."""

    def __init__(self) -> None:
        self.log: list[tuple[str, tuple[Any, ...]]] = []
        self.fail: dict[str, Any] = {}
        self._next = 0x7000
        self.context_flags = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(driver, name)
        if not name.startswith("cu"):
            return real

        def call(*args: Any) -> tuple[Any, ...]:
            self.log.append((name, args))
            if name in self.fail:
                return (self.fail[name], None)
            return (OK, *self._answer(name))

        return call

    def _answer(self, name: str) -> tuple[Any, ...]:
        self._next += 0x100
        answers: dict[str, tuple[Any, ...]] = {
            "cuDeviceGetCount": (1,),
            "cuDriverGetVersion": (12080,),
            "cuDevicePrimaryCtxGetState": (self.context_flags, 0),
            "cuDeviceGetName": (b"NVIDIA Stand-in\0\0",),
            "cuDeviceTotalMem": (1 << 34,),
            "cuDeviceGetAttribute": (9 if self._asked_major() else 0,),
            "cuCtxGetStreamPriorityRange": (0, -5),
            "cuGraphGetNodes": ([], 3),
            "cuMemGetInfo": (5, 10),
            "cuGetErrorName": (b"CUDA_ERROR_ILLEGAL_ADDRESS",),
            "cuGetErrorString": (b"an illegal memory access was encountered",),
            "cuEventElapsedTime": (1.5,),
        }
        if name in answers:
            return answers[name]
        gives = ("Create", "Retain", "cuMemAlloc", "HostAlloc", "Instantiate", "EndCapture", "Load", "GetFunction",
                 "cuDeviceGet", "GetDevicePointer")  # fmt: skip
        if name == "cuMemHostAlloc":
            self._memory = np.zeros(4096, np.uint8)
            return (int(self._memory.ctypes.data),)
        return (self._next,) if any(part in name for part in gives) else ()

    def _asked_major(self) -> bool:
        args = self.log[-1][1]
        return bool(args and args[0] == driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)

    def names(self) -> list[str]:
        """Calls in order."""
        return [name for name, _ in self.log]


class Library:
    """libcuda's waiting calls."""

    def __init__(self, played: Played) -> None:
        self._played = played

    def __getattr__(self, name: str) -> Any:
        def call(handle: ctypes.c_void_p) -> int:
            self._played.log.append((name, (handle.value,)))
            return int(self._played.fail.get(name, 0))

        return call


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    made = Played()
    with monkeypatch.context() as patch:
        patch.setattr("cuda.bindings.driver", made)
        patch.setitem(__import__("sys").modules, "cuda.bindings.driver", made)
        patch.setattr("ctypes.CDLL", lambda name: Library(made))
        yield made


def test_a_device_says_what_it_is(played: Played) -> None:
    opened = CudaDriver()
    assert (opened.facts.name, opened.facts.arch, opened.facts.cuda) == ("NVIDIA Stand-in", "sm_90", (12, 8))
    assert opened.facts.memory_bytes == 1 << 34


@pytest.mark.parametrize(("flags", "sets"), [(0, True), (1, False), (4, False)])
def test_the_primary_context_is_one_that_ffmpeg_takes_unless_somebody_chose_another(
    flags: int, sets: bool, played: Played
) -> None:
    """FFmpeg refuses a context that is active with other flags than blocking sync, 4."""
    played.context_flags = flags
    CudaDriver()
    names = played.names()
    assert ("cuDevicePrimaryCtxSetFlags" in names) is sets
    if sets:
        assert played.log[names.index("cuDevicePrimaryCtxSetFlags")][1][1] == 4
        assert names.index("cuDevicePrimaryCtxSetFlags") < names.index("cuDevicePrimaryCtxRetain")


def test_a_launch_hands_the_arguments_over_as_they_lie(played: Played) -> None:
    opened = CudaDriver()
    stream = opened.stream("compute", "high")
    assert played.log[-1] == ("cuStreamCreateWithPriority", (1, -5))
    opened.load_kernels(b"cubin")
    numbers: list[Any] = [ctypes.c_int(7), ctypes.c_float(0.5), ctypes.c_void_p(0x1234)]
    seen: list[list[int | None]] = []
    call = played.__getattr__("cuLaunchKernel")

    def spy(*args: Any) -> Any:
        places = (ctypes.c_void_p * 3).from_address(args[9])
        seen.append([ctypes.c_int.from_address(places[0] or 0).value, places[1], places[2]])
        return call(*args)

    played.cuLaunchKernel = spy  # type: ignore[attr-defined]
    for _ in range(2):
        opened.launch("crop", (3, 1, 2), (128, 1, 1), numbers, stream)

    name, args = played.log[-1][0], list(played.log[-1][1])
    assert [name, args[1:7], args[7], args[8]] == ["cuLaunchKernel", [3, 1, 2, 128, 1, 1], 0, stream]
    assert seen[0] == [7, ctypes.addressof(numbers[1]), ctypes.addressof(numbers[2])]
    assert played.names().count("cuModuleGetFunction") == 1
    assert opened.calls["cuLaunchKernel"] == 2


def test_an_error_carries_name_meaning_and_what_was_running(played: Played) -> None:
    opened = CudaDriver()
    stream = opened.stream("compute", "low")
    opened.at = "make of frame 12"
    played.fail["cuMemsetD8Async"] = driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(
        PoisonedError,
        match=r"^cuMemsetD8Async, make of frame 12: wanted CUDA_SUCCESS, got CUDA_ERROR_ILLEGAL_ADDRESS \(an illegal "
        r"memory access was encountered\); run again with FACE_ENGINE_CUDA=sync, which names the kernel or netw",
    ):
        opened.zero(0x100, 4, stream)


def test_after_a_lost_context_nothing_is_asked_of_the_driver(played: Played) -> None:
    opened = CudaDriver()
    stream = opened.stream("compute", "low")
    played.fail["cuStreamSynchronize"] = 700  # CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(PoisonedError):
        opened.wait_stream(stream)
    asked = len(played.log)
    with pytest.raises(PoisonedError, match=r"^cuMemsetD8Async: wanted a working context, got one that an earlier err"):
        opened.zero(0x100, 4, stream)
    with pytest.raises(PoisonedError):
        opened.is_done(Event(0x10))
    opened.close()
    assert len(played.log) == asked


@pytest.mark.parametrize(
    ("name", "kind", "do"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", DeviceError, "lower track.faces or slots in the profile, or end other programs"),
        ("CUDA_ERROR_NO_BINARY_FOR_GPU", DeviceError, "install the extra of this driver's CUDA"),
        ("CUDA_ERROR_INVALID_VALUE", DeviceError, "see python -m engine doctor"),
        (
            "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
            DeviceError,
            "run with FACE_ENGINE_CUDA=eager, which records no graphs",
        ),
        ("CUDA_ERROR_LAUNCH_FAILED", PoisonedError, "run again with FACE_ENGINE_CUDA=sync"),
    ],
)
def test_errors_say_what_to_do(name: str, kind: type[DeviceError], do: str) -> None:
    error = cuda_error("cuMemAlloc", name, "", "")
    assert type(error) is kind
    assert str(error).startswith(f"cuMemAlloc: wanted CUDA_SUCCESS, got {name}; {do}")


def test_every_thread_enters_the_context_once(played: Played) -> None:
    opened = CudaDriver()
    stream = opened.stream("compute", "low")

    def work() -> None:
        for _ in range(3):
            opened.record(Event(1), stream)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    assert played.names().count("cuCtxSetCurrent") == 2


def test_copies_say_where_from_and_where_to(played: Played) -> None:
    opened = CudaDriver()
    opened.copy_rows(Copy2d(0x1000, 128, 0x9000, 512, 100, 30), Stream(5))
    what, stream = played.log[-1][1]
    assert stream == 5
    assert (int(what.dstDevice), what.dstPitch, int(what.srcDevice), what.srcPitch) == (0x1000, 128, 0x9000, 512)
    assert (what.WidthInBytes, what.Height) == (100, 30)
    assert what.srcMemoryType == what.dstMemoryType == driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
    pinned = opened.allocate_pinned(4096)
    opened.write_pinned(pinned, 8, 16, np.full((2, 10), 3, np.uint8))
    assert pinned.array[8:34].tolist() == [3] * 10 + [0] * 6 + [3] * 10


def test_a_graph_is_made_once_and_an_empty_one_not_at_all(played: Played) -> None:
    opened = CudaDriver()
    opened.begin_capture(Stream(5))
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert played.log[-1] == ("cuStreamBeginCapture", (5, mode))
    graph = opened.end_capture(Stream(5))
    assert graph is not None
    assert played.names()[-5:] == [
        "cuStreamEndCapture", "cuGraphGetNodes", "cuGraphInstantiate", "cuGraphDestroy", "cuGraphUpload"
    ]  # fmt: skip
    opened.replay(graph, Stream(5))
    assert played.log[-1] == ("cuGraphLaunch", (graph, 5))
    played._answer = lambda name: ([], 0) if name == "cuGraphGetNodes" else (0x10,)  # type: ignore[method-assign]
    assert opened.end_capture(Stream(5)) is None


def test_closing_gives_everything_back_once(played: Played) -> None:
    opened = CudaDriver()
    opened.stream("compute", "low")
    opened.event()
    opened.allocate(100)
    opened.allocate_pinned(4096)
    opened.load_kernels(b"cubin")
    opened.begin_capture(Stream(5))
    opened.end_capture(Stream(5))
    start = len(played.log)
    opened.close()
    opened.close()
    assert played.names()[start:] == [
        "cuCtxSynchronize", "cuGraphExecDestroy", "cuEventDestroy", "cuModuleUnload", "cuMemFree", "cuMemFreeHost",
        "cuStreamDestroy", "cuDevicePrimaryCtxRelease",
    ]  # fmt: skip


def test_without_a_driver_the_error_says_what_was_looked_for() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(DeviceError, match=r"^backend cuda: wanted a CUDA device, got .*; install the driver; pyth"):
        CudaDriver()


def test_after_close_every_call_is_refused_by_name(played: Played) -> None:
    """A thread that was stuck in an encoder comes back to a device that is gone."""
    opened = CudaDriver()
    stream = opened.stream("compute", "low")
    opened.close()
    asked = len(played.log)
    for call in (lambda: opened.zero(0x100, 4, stream), lambda: opened.wait_stream(stream), lambda: opened.event()):
        with pytest.raises(
            DeviceError,
            match=r"^cu\w+: wanted an open device, got one that was closed; end the threads that use it before close$",
        ):
            call()
    assert len(played.log) == asked


def test_a_lost_context_stays_lost_whatever_fails_next(played: Played) -> None:
    opened = CudaDriver()
    played.fail["cuMemsetD8Async"] = driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(PoisonedError):
        opened.zero(0x100, 4, Stream(5))
    # another thread's call was under way, and comes back with an error of its own
    played._answer = lambda name: (b"CUDA_ERROR_INVALID_VALUE",)  # type: ignore[method-assign]
    with pytest.raises(DeviceError):
        opened._check("cuEventRecord", driver.CUresult.CUDA_ERROR_INVALID_VALUE)
    with pytest.raises(PoisonedError):
        opened.event()


def test_a_graph_that_is_dropped_is_destroyed_once(played: Played) -> None:
    opened = CudaDriver()
    opened.begin_capture(Stream(5))
    graph = opened.end_capture(Stream(5))
    assert graph is not None
    opened.drop_graph(graph)
    opened.close()
    assert played.names().count("cuGraphExecDestroy") == 1
