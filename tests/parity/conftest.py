"""Devices that kernels run on in the parity tests: the same bodies over the CPU and, where there is one, a GPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends import open_kernels_on_cuda
from engine.backends.base import Backend
from engine.frame import Buffer
from kernels.compile import HostTarget, compile_cubin
from kernels.launch import Arg, Colour, Nv12, Target, Tensor
from kernels.reference import Picture
from models.spec import Spec

GUARD = 0xA5  # fills the bytes between a row's end and its pitch: a kernel that writes there is caught


@dataclass
class DeviceTensor:
    """A tensor of the tests: an address and what lies there."""

    ptr: int
    shape: tuple[int, ...]
    dtype: str
    nbytes: int


class Device(Protocol):
    """Where a test's kernels run, and how its arrays get there and back."""

    @property
    def target(self) -> Target:
        """What the launchers take."""
        ...

    def put(self, array: npt.NDArray[Any]) -> DeviceTensor:
        """A copy on the device."""
        ...

    def get(self, tensor: Tensor) -> npt.NDArray[Any]:
        """A copy on the host, when the launches so far have run."""
        ...


class HostDevice:
    """The CPU with a given number of threads."""

    def __init__(self, threads: int) -> None:
        self.target = HostTarget(threads)
        self._alive: list[npt.NDArray[Any]] = []  # a launcher is given addresses only

    def put(self, array: npt.NDArray[Any]) -> DeviceTensor:
        own = np.array(array, order="C", copy=True)
        self._alive.append(own)
        return DeviceTensor(own.ctypes.data, own.shape, str(own.dtype), own.nbytes)

    def get(self, tensor: Tensor) -> npt.NDArray[Any]:
        data = ctypes.string_at(tensor.ptr, tensor.nbytes)
        return np.frombuffer(data, tensor.dtype).reshape(tensor.shape).copy()


class CudaDevice:
    """The first GPU through the driver alone: no backend of ours between a test and a kernel."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver = driver
        self._check(driver.cuInit(0))
        device = self._check(driver.cuDeviceGet(0))
        if int(driver.cuDevicePrimaryCtxGetState(device)[1]) == 0:
            # as the backend does: whoever comes first decides, and FFmpeg takes no other
            self._check(driver.cuDevicePrimaryCtxSetFlags(device, 4))
        self._check(driver.cuCtxSetCurrent(self._check(driver.cuDevicePrimaryCtxRetain(device))))
        attribute = driver.CUdevice_attribute
        major = self._check(driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device))
        minor = self._check(driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device))
        self._module = self._check(driver.cuModuleLoadData(compile_cubin(f"sm_{major}{minor}")))
        self.target: Target = self

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Arg]) -> None:
        function = self._check(self._driver.cuModuleGetFunction(self._module, kernel.encode()))
        addresses = (ctypes.c_void_p * len(args))(*map(ctypes.addressof, args))
        self._check(self._driver.cuLaunchKernel(function, *grid, *block, 0, 0, ctypes.addressof(addresses), 0))

    def put(self, array: npt.NDArray[Any]) -> DeviceTensor:
        own = np.ascontiguousarray(array)
        ptr = int(self._check(self._driver.cuMemAlloc(max(own.nbytes, 1))))
        self._check(self._driver.cuMemcpyHtoD(ptr, own.ctypes.data, own.nbytes))
        return DeviceTensor(ptr, own.shape, str(own.dtype), own.nbytes)

    def get(self, tensor: Tensor) -> npt.NDArray[Any]:
        out = np.empty(tensor.shape, tensor.dtype)
        self._check(self._driver.cuCtxSynchronize())
        self._check(self._driver.cuMemcpyDtoH(out.ctypes.data, tensor.ptr, tensor.nbytes))
        return out

    def _check(self, result: tuple[Any, ...]) -> Any:
        error, *values = result
        if int(error) != 0:
            raise RuntimeError(f"driver call: wanted CUDA_SUCCESS, got {error}; read the kernel that ran last")
        return values[0] if values else None


class BackendDevice:
    """A backend of the engine: its memory, its stream, its launches."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.target: Target = backend

    def put(self, array: npt.NDArray[Any]) -> DeviceTensor:
        own = np.ascontiguousarray(array)
        buffer = self.backend.allocate(_spec(str(own.dtype), own.shape))
        self.backend.upload(own, buffer)
        return DeviceTensor(buffer.ptr, own.shape, str(own.dtype), own.nbytes)

    def get(self, tensor: Tensor) -> npt.NDArray[Any]:
        return self.backend.to_host(Buffer(_spec(tensor.dtype, tensor.shape), tensor.ptr, None))


def _spec(dtype: str, shape: tuple[int, ...]) -> Spec:
    return Spec(dtype, shape)  # type: ignore[arg-type]  # NumPy's name, one of Spec's


_CUDA: list[CudaDevice] = []
_GPU = [pytest.param(name, marks=pytest.mark.gpu) for name in ("cuda", "cuda backend")]


@pytest.fixture(params=["cpu", *_GPU])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Each kind of device in turn; the GPU is asked of the ``gpu`` fixture, which skips or fails without one."""
    if request.param == "cpu":
        yield HostDevice(2)
        return
    request.getfixturevalue("gpu")
    if not _CUDA:
        _CUDA.append(CudaDevice())
    if request.param == "cuda":
        yield _CUDA[0]
        return
    backend = open_kernels_on_cuda()
    yield BackendDevice(backend)
    backend.close()


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same on every run."""
    return np.random.default_rng(int(os.environ.get("KERNEL_TEST_SEED", "20")))


@dataclass
class TestFrame:
    """A frame on a device with rows longer than the picture, and how to read it back."""

    __test__ = False

    device: Device
    y: DeviceTensor
    uv: DeviceTensor
    nv12: Nv12
    planes: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] = field(repr=False)

    def read(self) -> Picture:
        """The picture, after checking that nothing was written beyond its rows."""
        y, uv = self.device.get(self.y), self.device.get(self.uv)
        width = self.nv12.width_px
        half = (width + 1) // 2
        assert (y[:, width:] == GUARD).all(), "luma was written beyond the row"
        assert (uv[:, 2 * half :] == GUARD).all(), "chroma was written beyond the row"
        return Picture(y[:, :width].copy(), uv[:, : 2 * half].reshape(uv.shape[0], half, 2).copy(), self.nv12.colour)


def put_frame(device: Device, picture: Picture, extra_bytes: int = 0) -> TestFrame:
    """Put a picture on a device with ``extra_bytes`` of guard after each row."""
    width, height = picture.size
    half_w, half_h = (width + 1) // 2, (height + 1) // 2
    y = np.full((height, width + extra_bytes), GUARD, np.uint8)
    uv = np.full((half_h, 2 * half_w + extra_bytes), GUARD, np.uint8)
    y[:, :width] = picture.y
    uv[:, : 2 * half_w] = picture.uv.reshape(half_h, 2 * half_w)
    ty, tuv = device.put(y), device.put(uv)
    nv12 = Nv12(ty.ptr, tuv.ptr, y.shape[1], uv.shape[1], width, height, picture.colour)
    return TestFrame(device, ty, tuv, nv12, (y, uv))


def noise(rng: np.random.Generator, width: int, height: int, colour: Colour | None = None) -> Picture:
    """A picture of random codes: every px differs from its neighbours."""
    colour = colour or Colour()
    y = rng.integers(0, 256, (height, width), np.uint8)
    uv = rng.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 2), np.uint8)
    return Picture(y, uv, colour)


def smooth(rng: np.random.Generator, width: int, height: int, colour: Colour | None = None) -> Picture:
    """A picture of slow waves whose colours RGB can hold: what filters and sitings differ by stays small."""
    yy, xx = np.mgrid[0:height, 0:width] / max(width, height)
    a, b, c = rng.uniform(2, 5, 3)
    y = 125 + 30 * np.sin(a * xx + b * yy) + 25 * np.cos(c * (xx - yy))
    half = yy[::2, ::2], xx[::2, ::2]
    u = 128 + 18 * np.sin(b * half[1]) * np.cos(a * half[0])
    v = 128 + 18 * np.cos(c * half[1] + half[0])
    chroma = np.stack([u, v], axis=-1).round().astype(np.uint8)
    return Picture(y.round().astype(np.uint8), chroma, colour or Colour())


def with_colour(picture: Picture, colour: Colour) -> Picture:
    """The same codes read another way."""
    return replace(picture, colour=colour)


MATRICES = ("bt601", "bt709", "bt2020")
COLOURS = [
    pytest.param(Colour(matrix, full, siting), id=f"{matrix}-{'full' if full else 'limited'}-{siting}")  # type: ignore[arg-type]
    for matrix in MATRICES
    for full in (False, True)
    for siting in ("left", "center")
]
