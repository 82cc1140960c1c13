"""What is taken by DLPack is given back once, whatever goes wrong; what is lent survives the errors of others."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from engine.backends import dlpack
from engine.backends.cuda import CudaBackend
from engine.backends.dlpack import CPU, CUDA, pack, unpack
from engine.backends.driver import LEGACY_STREAM
from engine.backends.foreign import foreign_array
from engine.errors import DeviceError, InputError
from engine.frame import Nv12Buffer
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend

WIDTH, HEIGHT = 64, 48


class Counted:
    """An exporter in device memory that counts what it lent and what came back; `orders`: it takes a stream."""

    def __init__(
        self, ptr: int, shape: tuple[int, ...], dtype: str = "uint8", *, device: int = 0, orders: bool = True
    ) -> None:
        self.lent = self.released = 0
        self._ptr, self._shape, self._dtype, self._device, self._orders = ptr, shape, dtype, device, orders

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CUDA, self._device)

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        if stream is not None and not self._orders:
            raise NotImplementedError("no streams here")
        self.lent += 1
        strides = [int(np.prod(self._shape[axis + 1 :])) for axis in range(len(self._shape))]

        def release() -> None:
            self.released += 1

        device = (CUDA, self._device)
        return pack(self._ptr, self._shape, tuple(strides), self._dtype, device=device, owner=None, on_release=release)


class Rig:
    """A backend with one working frame and room for another library's picture."""

    def __init__(self) -> None:
        self.backend: CudaBackend = open_backend()
        assert isinstance(self.backend.driver, RecordingDriver)
        self.driver = self.backend.driver
        self.frame: Nv12Buffer = self.backend.allocate_nv12(WIDTH, HEIGHT)
        self.backend.open_slots([self.frame])
        self.ptr = self.driver.allocate(WIDTH * HEIGHT * 2)
        self.driver.zero(self.ptr, WIDTH * HEIGHT * 2, LEGACY_STREAM)

    def picture(self, shape: tuple[int, ...] = (72, 64), dtype: str = "uint8", **more: Any) -> Counted:
        """NV12 in one array."""
        return Counted(self.ptr, shape, dtype, **more)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(autouse=True)
def _nothing_is_left_lent() -> Iterator[None]:
    def lent() -> int:
        gc.collect()
        return sum(isinstance(one, dlpack._Lent) for one in gc.get_objects())

    before = lent()
    yield
    assert lent() == before


@pytest.mark.parametrize(
    ("shape", "dtype", "device", "stream"),
    [
        ((72, 32), "uint8", 0, None),  # another size
        ((72, 64), "float32", 0, None),  # another type
        ((72, 64), "uint8", 1, None),  # another GPU
        ((72, 64), "uint8", 0, "no stream"),  # a stream that is none
    ],
)
def test_an_array_that_is_refused_is_given_back_once(
    shape: tuple[int, ...], dtype: str, device: int, stream: Any, rig: Rig
) -> None:
    given = rig.picture(shape, dtype, device=device)
    with pytest.raises(InputError):
        rig.backend.take(given, rig.frame, stream)
    assert (given.lent, given.released) == (1, 1)
    rig.backend.close()
    assert given.released == 1


@pytest.mark.parametrize("call", ["copy_rows", "stream_wait", "record"])
def test_an_array_whose_copy_fails_is_given_back_once(call: str, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    given = rig.picture()

    def fail(*args: Any, **more: Any) -> None:
        raise DeviceError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(rig.driver, call, fail)
        with pytest.raises(DeviceError, match="planted"):
            rig.backend.take(given, rig.frame)
    assert (given.lent, given.released) == (1, 1)
    again = rig.picture()
    rig.backend.take(again, rig.frame)
    assert again.released == 0
    rig.backend.close()
    assert (given.released, again.released) == (1, 1)


def test_a_second_plane_that_is_none_gives_the_first_one_back(rig: Rig) -> None:
    luma = Counted(rig.ptr, (HEIGHT, WIDTH), orders=False)
    with pytest.raises(InputError, match="wanted an array with DLPack or __cuda_array_interface__, got object"):
        rig.backend.load_device_planes((luma, object()), rig.frame)
    assert (luma.lent, luma.released) == (1, 1)


def test_a_type_without_a_name_is_given_back_and_not_asked_for_again(rig: Rig) -> None:
    """bfloat16 of DLPack: NumPy has none, and an exporter that was asked once has lent once."""
    given = rig.picture()
    plain = given.__dlpack__

    def bfloat16(*, stream: int | None = None) -> Any:
        capsule = plain(stream=stream)
        tensor = ctypes.cast(dlpack._pointer(capsule, b"dltensor"), ctypes.POINTER(dlpack._Managed)).contents.tensor
        tensor.code, tensor.bits = 4, 16
        return capsule

    given.__dlpack__ = bfloat16  # type: ignore[method-assign]

    class Through:
        """Looks the method up on the object."""

        def __dlpack__(self, **options: Any) -> Any:
            return given.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return given.__dlpack_device__()

    with pytest.raises(InputError, match=r"^step: wanted an array with DLPack, got .*\?2"):
        foreign_array(Through(), reader=rig.backend.decode, where="step")
    assert (given.lent, given.released) == (1, 1)


def test_a_tensor_that_can_not_be_read_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Counted(0x100, (4,))
    monkeypatch.setattr(dlpack, "_read", lambda tensor, release: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        unpack(given.__dlpack__())
    assert given.released == 1


def test_a_tensor_is_given_back_once_by_many_threads() -> None:
    given = Counted(0x100, (4,))
    held = unpack(given.__dlpack__())
    threads = [threading.Thread(target=held.release) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given.released == 1


def test_pythons_functions_and_deleters_run_with_the_interpreters_lock() -> None:
    """A deleter of another library may be Python's own: called without the lock it would crash."""
    found: list[Any] = [dlpack._is_valid, dlpack._pointer, dlpack._rename, dlpack._Deleter]
    for one in found:
        kind: Any = one if isinstance(one, type) else type(one)
        assert kind._flags_ & 0x4, one  # FUNCFLAG_PYTHONAPI of ctypes


def _raises_with(make: Callable[[], Any]) -> Any:
    return (make(), [][1])


def test_a_capsule_that_dies_amid_an_error_leaves_that_error_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in FFmpeg's bindings, when they refuse a plane: the error must come out as it was, and the memory back."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    given = Counted(0x100, (4,))
    with pytest.raises(IndexError):
        _raises_with(given.__dlpack__)
    assert given.released == 1

    def taken() -> Any:
        capsule = given.__dlpack__()
        unpack(capsule).release()
        return capsule

    with pytest.raises(IndexError):
        _raises_with(taken)
    assert given.released == 2
    assert unraisable == []


def test_pyav_refuses_a_plane_in_its_own_words_and_gives_both_back() -> None:
    av = pytest.importorskip("av", minversion="18", reason="from_dlpack is there since PyAV 18")

    memory = np.zeros((72, 64), np.uint8)

    class Host(Counted):
        """NumPy would read it, and so does PyAV."""

        def __dlpack__(self, *, stream: int | None = None) -> Any:
            self.lent += 1

            def release() -> None:
                self.released += 1

            shape = self._shape
            return pack(self._ptr, shape, (shape[1], 1), "uint8", device=(CPU, 0), owner=memory, on_release=release)

    planes = [Host(memory.ctypes.data, (HEIGHT, WIDTH)), Host(memory.ctypes.data, (HEIGHT, WIDTH))]
    with pytest.raises(ValueError, match="plane 1 must have shape"):
        av.VideoFrame.from_dlpack(planes, format="nv12", width=WIDTH, height=HEIGHT)
    assert [(one.lent, one.released) for one in planes] == [(1, 1)] * 2
