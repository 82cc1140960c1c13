"""Arrays and streams of other libraries on the cuda backend, by stand-ins that have their protocols; no GPU.

Device memory is the twin's, so what is not ordered after the other library's work is a race, and is found.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends import dlpack
from engine.backends.cuda import CudaBackend
from engine.backends.dlpack import CPU, CUDA, pack, unpack
from engine.backends.driver import LEGACY_STREAM, Stream
from engine.backends.foreign import foreign_array, foreign_stream
from engine.errors import DeviceError, InputError
from engine.frame import Nv12Buffer
from models.spec import Spec
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend

WIDTH, HEIGHT, ROWS = 64, 48, 72
U8 = npt.NDArray[np.uint8]


class Rig:
    """A backend with one working frame, and another library's picture in device memory."""

    def __init__(self) -> None:
        self.backend: CudaBackend = open_backend()
        driver = self.backend.driver
        assert isinstance(driver, RecordingDriver)
        self.driver = driver
        self.frame: Nv12Buffer = self.backend.allocate_nv12(WIDTH, HEIGHT)
        self.backend.open_slots([self.frame])
        self.theirs = driver.adopt_stream("theirs")
        self.picture: U8 = np.random.default_rng(3).integers(0, 256, (ROWS, 80), np.uint8)
        self.ptr = driver.allocate(self.picture.nbytes)
        driver.name_range(self.ptr, self.picture.nbytes, "their picture")

    def write_theirs(self, stream: Stream | None = None) -> None:
        """Their kernel fills the picture on their stream."""

        def run() -> None:
            at = np.ctypeslib.as_array((ctypes.c_uint8 * self.picture.nbytes).from_address(self.ptr))
            np.copyto(at.reshape(self.picture.shape), self.picture)

        self.driver.opaque("their kernel", [], [self.ptr], run, stream or self.theirs)

    def interface(self, **more: Any) -> dict[str, Any]:
        """`__cuda_array_interface__` of the picture, of which the frame is the first 64 columns."""
        return {"shape": (ROWS, WIDTH), "typestr": "|u1", "data": (self.ptr, False), "strides": (80, 1), **more}

    def took_it(self) -> bool:
        """Whether the working frame holds the picture, and nothing raced."""
        luma, chroma = self.frame.planes()
        same = np.array_equal(luma, self.picture[:HEIGHT, :WIDTH])
        return same and np.array_equal(chroma, self.picture[HEIGHT:, :WIDTH]) and not self.driver.races.found


@pytest.fixture
def rig() -> Rig:
    return Rig()


class Interface:
    """CuPy, Numba, PyCUDA's GPUArray, DALI's tensors: an attribute."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.__cuda_array_interface__ = table


class TensorLike:
    """PyTorch: DLPack that orders the reader's stream after its own."""

    def __init__(self, rig: Rig, *, refuses_stream: bool = False) -> None:
        self.rig, self.refuses_stream, self.asked = rig, refuses_stream, list[Any]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CUDA, 0)

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.asked.append(stream)
        if stream is not None:
            if self.refuses_stream:  # PyAV's planes
                raise NotImplementedError("CUDA stream synchronization is not supported")
            mark = self.rig.driver.event()
            self.rig.driver.record(mark, self.rig.theirs)
            self.rig.driver.stream_wait(Stream(stream), mark)
        return pack(self.rig.ptr, (ROWS, WIDTH), (80, 1), "uint8", device=(CUDA, 0), owner=self)


def test_an_array_interface_with_its_stream_is_read_after_it(rig: Rig) -> None:
    rig.write_theirs()
    rig.backend.take(Interface(rig.interface(version=3, stream=int(rig.theirs))), rig.frame)
    assert rig.took_it()
    assert rig.backend.counters.frame_copies == 2
    assert rig.driver.calls["cuMemcpyHtoDAsync"] == 0


def test_an_array_interface_without_a_stream_is_the_callers_to_order(rig: Rig) -> None:
    """Version 2 has none: the caller names the stream, or has waited."""
    rig.write_theirs()
    rig.backend.take(Interface(rig.interface(version=2)), rig.frame)
    assert any(
        "copy rows on decode is not ordered after their kernel on theirs" in one for one in rig.driver.races.found
    )
    other = Rig()
    other.write_theirs()
    other.backend.take(Interface(other.interface(version=2)), other.frame, stream=int(other.theirs))
    assert other.took_it()


def test_dlpack_is_given_our_stream_to_order_itself(rig: Rig) -> None:
    tensor = TensorLike(rig)
    rig.write_theirs()
    rig.backend.take(tensor, rig.frame)
    assert tensor.asked == [int(rig.backend.decode)]
    assert rig.took_it()


def test_dlpack_that_orders_nothing_is_read_after_the_legacy_stream(rig: Rig) -> None:
    tensor = TensorLike(rig, refuses_stream=True)
    rig.write_theirs(LEGACY_STREAM)
    rig.backend.take(tensor, rig.frame)
    assert tensor.asked == [int(rig.backend.decode), None]
    assert rig.took_it()


def test_host_memory_is_taken_too(rig: Rig) -> None:
    rig.backend.take(rig.picture, rig.frame)
    assert rig.took_it()


@pytest.mark.parametrize("size", [(1, 1), (3, 129), (127, 3), (129, 5), (130, 2), (321, 243)])
@pytest.mark.parametrize("planes", [2, 3])
def test_pictures_of_odd_sizes_arrive_whole(size: tuple[int, int], planes: int) -> None:
    """From a decoder's two or three planes, through pinned memory, and back."""
    width, height = size
    half = ((height + 1) // 2, (width + 1) // 2)
    rng = np.random.default_rng(width)
    luma, chroma = rng.integers(0, 256, (height, width), np.uint8), rng.integers(0, 256, (*half, 2), np.uint8)
    parts = [chroma.reshape(half[0], -1)] if planes == 2 else [chroma[..., 0].copy(), chroma[..., 1].copy()]
    backend = open_backend()
    frame = backend.allocate_nv12(*size)
    backend.open_slots([frame])
    for _ in range(5):  # more than there is staging
        backend.load_planes([luma, *parts], frame)
        got = frame.planes()
        assert np.array_equal(got[0], luma)
        assert np.array_equal(got[1], chroma.reshape(half[0], -1))
    assert isinstance(backend.driver, RecordingDriver)
    assert backend.driver.races.found == []


def test_a_picture_of_another_size_is_refused_by_name(rig: Rig) -> None:
    with pytest.raises(
        DeviceError,
        match=r"^load_planes: wanted dense rows of 64x48 px, got 32x48 px; open the pipeline for this",
    ):
        rig.backend.load_planes([np.zeros((48, 32), np.uint8), np.zeros((24, 32), np.uint8)], rig.frame)


class CudaStreamMethod:
    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, 0x77)


class CudaStreamAttribute:
    __cuda_stream__ = (0, 0x77)


class Handle:
    handle = 0x77


class Ptr:
    ptr = 0x77


class TorchStream:
    cuda_stream = 0x77


@pytest.mark.parametrize("stream", [CudaStreamMethod(), CudaStreamAttribute(), Handle(), Ptr(), TorchStream(), 0x77])
def test_streams_of_every_library_are_known_by_their_handle(stream: Any) -> None:
    assert foreign_stream(stream, "step") == 0x77


def test_what_is_no_stream_is_refused() -> None:
    assert foreign_stream(0, "step") == LEGACY_STREAM
    with pytest.raises(InputError, match=r"^step: wanted a CUDA stream or its handle, got str; pass the stream"):
        foreign_stream("compute", "step")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            Interface({"shape": (4,), "typestr": "|u1"}),
            r"wanted a whole __cuda_array_interface__, got KeyError",
        ),
        (object(), r"wanted an array with DLPack or __cuda_array_interface__, got object; pass an array"),
    ],
)
def test_what_is_no_array_is_refused(array: Any, words: str) -> None:
    with pytest.raises(InputError, match="^step: " + words):
        foreign_array(array, reader=None, where="step")


def test_a_picture_of_another_size_or_gpu_is_refused(rig: Rig) -> None:
    with pytest.raises(InputError, match=r"^pipeline\.step: wanted NV12 as uint8 \[72, 64 or more\], got uint8 "):
        rig.backend.take(Interface(rig.interface(shape=(ROWS, 32))), rig.frame)
    with pytest.raises(InputError, match=r"^pipeline\.step: wanted NV12 as uint8 \[72, 64 or more\], got float32 "):
        rig.backend.take(Interface(rig.interface(typestr="<f4")), rig.frame)

    class Elsewhere(TensorLike):
        def __dlpack__(self, *, stream: int | None = None) -> Any:
            return pack(rig.ptr, (ROWS, WIDTH), (80, 1), "uint8", device=(CUDA, 1), owner=self)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (CUDA, 1)

    with pytest.raises(InputError, match=r"wanted memory of CUDA device 0, got CUDA device 1; copy it to the pipeline"):
        rig.backend.take(Elsewhere(rig), rig.frame)


class Plane:
    """One plane of a decoder's surface, as PyAV shows it."""

    def __init__(self, rig: Rig, at: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.rig, self.place, self.released = rig, (rig.ptr + at, shape, strides), 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CUDA, 0)

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        if stream is not None:
            raise NotImplementedError("CUDA stream synchronization is not supported")

        def release() -> None:
            self.released += 1

        return pack(*self.place, "uint8", device=(CUDA, 0), owner=self, on_release=release)


def test_a_decoders_surface_is_copied_after_the_legacy_stream_and_held_until_then(rig: Rig) -> None:
    y = Plane(rig, 0, (HEIGHT, WIDTH), (80, 1))
    uv = Plane(rig, HEIGHT * 80, (HEIGHT // 2, WIDTH // 2, 2), (80, 2, 1))
    rig.write_theirs(LEGACY_STREAM)
    rig.backend.load_device_planes((y, uv), rig.frame)
    assert (y.released, uv.released) == (0, 0)
    assert rig.took_it()
    assert rig.driver.calls["cuMemcpy2DAsync"] == 2
    rig.backend.load_planes((rig.picture[:HEIGHT, :WIDTH], rig.picture[HEIGHT:, :WIDTH]), rig.frame)
    assert (y.released, uv.released) == (1, 1)


def test_a_surface_of_another_size_is_refused_and_let_go(rig: Rig) -> None:
    y = Plane(rig, 0, (HEIGHT, 32), (80, 1))
    uv = Plane(rig, HEIGHT * 80, (HEIGHT // 2, WIDTH // 2, 2), (80, 2, 1))
    with pytest.raises(DeviceError, match=r"^load_device_planes: wanted uint8 \[\(48, 64\), \(24, 32, 2\)\] in "):
        rig.backend.load_device_planes((y, uv), rig.frame)
    assert (y.released, uv.released) == (1, 1)


def test_a_buffer_is_shown_with_its_stream(rig: Rig) -> None:
    buffer = rig.backend.allocate(Spec("float32", (4, 3)))
    table = buffer.__cuda_array_interface__
    assert table == {
        "version": 3,
        "shape": (4, 3),
        "typestr": "<f4",
        "data": (buffer.ptr, False),
        "strides": None,
        "stream": int(rig.backend.compute),
    }
    assert buffer.rows(2, 1).__cuda_array_interface__["data"] == (buffer.ptr + 24, False)
    assert buffer.__dlpack_device__() == (CUDA, 0)


@pytest.mark.parametrize(("asked", "waits"), [(None, True), (0x5000, True), (-1, False)])
def test_a_reader_of_a_buffer_waits_for_our_work(rig: Rig, asked: int | None, waits: bool) -> None:
    buffer = rig.backend.allocate(Spec("float32", (4, 3)))
    rig.driver._names[0x5000] = "reader"
    held = unpack(buffer.__dlpack__(stream=asked))
    assert (held.ptr, held.shape, held.strides, held.dtype) == (buffer.ptr, (4, 3), (3, 1), "float32")
    reader = Stream(0x5000) if asked == 0x5000 else LEGACY_STREAM
    rig.driver.opaque("reader", [buffer.ptr], [], lambda: None, reader)
    assert (rig.driver.races.found == []) is waits
    held.release()


def test_what_dlpack_can_not_give_is_a_buffer_error(rig: Rig) -> None:
    buffer = rig.backend.allocate(Spec("float32", (4, 3)))
    with pytest.raises(BufferError, match="wanted memory as it lies, got copy=True"):
        buffer.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="wanted CUDA device 0, got \\(1, 0\\); copy it with to_host"):
        buffer.__dlpack__(dl_device=(1, 0))


def test_an_encoder_surface_comes_back_when_both_planes_are_let_go(rig: Rig) -> None:
    rig.backend.take(rig.picture, rig.frame)
    surfaces = rig.backend._slots._surfaces
    y, uv = rig.backend.encoder_planes(rig.frame, copy=True)
    capsules = [y.__dlpack__(), uv.__dlpack__()]
    ptr = y.ptr
    assert (uv.ptr - ptr, y.shape, uv.shape, y.strides) == (HEIGHT * 128, (48, 64), (24, 64), (128, 1))
    del y, uv
    gc.collect()
    assert not surfaces  # FFmpeg still holds them
    capsules.pop()
    gc.collect()
    assert not surfaces
    capsules.pop()
    gc.collect()
    assert list(surfaces) == [ptr]
    again, _ = rig.backend.encoder_planes(rig.frame, copy=True)
    assert again.ptr == ptr
    straight, _ = rig.backend.encoder_planes(rig.frame, copy=False)
    assert straight.ptr == rig.frame.memory.ptr


@pytest.fixture
def lent() -> Iterator[int]:
    """How many capsules are out; none may be left over."""
    before = count_lent()
    yield before
    assert count_lent() == before


def count_lent() -> int:
    gc.collect()
    return sum(isinstance(one, dlpack._Lent) for one in gc.get_objects())


class Holder:
    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0)


def test_capsules_are_what_numpy_reads_and_writes(lent: int) -> None:
    """NumPy is the independent judge of the layout, in both directions."""
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    done: list[str] = []
    capsule = pack(
        array.ctypes.data, (4, 3), (6, 2), "float32", device=(CPU, 0), owner=array, on_release=lambda: done.append("x")
    )
    seen = np.from_dlpack(Holder(capsule))
    assert np.array_equal(seen, array[:, ::2])
    assert done == []
    del seen, capsule
    gc.collect()
    assert done == ["x"]
    held = unpack(array[1:, ::3].__dlpack__())
    assert (held.ptr, held.shape, held.strides) == (array.ctypes.data + 24, (3, 2), (6, 3))
    assert (held.dtype, held.device_type) == ("float32", CPU)
    held.release()
    held.release()


def test_a_capsule_that_nobody_took_gives_back_what_it_holds(lent: int) -> None:
    done: list[str] = []
    capsule = pack(0x100, (1,), (1,), "uint8", device=(CUDA, 0), owner=None, on_release=lambda: done.append("x"))
    del capsule
    gc.collect()
    assert done == ["x"]


def test_a_capsule_is_taken_once(lent: int) -> None:
    capsule = pack(0x100, (1,), (1,), "uint8", device=(CUDA, 0), owner=None)
    unpack(capsule).release()
    with pytest.raises(TypeError, match=r"wanted a fresh capsule dltensor, got <capsule object .used_dltensor"):
        unpack(capsule)


def test_the_installed_pyav_orders_nothing_itself() -> None:
    """What load_device_planes relies on: a plane in device memory refuses a stream by NotImplementedError."""
    import av.video

    text = Path(av.video.__file__).with_name("plane.py").read_text()
    assert "CUDA stream synchronization is not supported" in text
    assert "raise NotImplementedError" in text
