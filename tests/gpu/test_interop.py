"""Arrays and streams of other libraries on a real GPU: taken without a copy to the host, ordered after their work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine.backends import Networks
from engine.pipeline import Pipeline
from tests.clips import U8
from tests.gpu.conftest import cuda_of, open_on, tiny

pytestmark = pytest.mark.gpu


@pytest.fixture
def pipeline(any_networks: Networks) -> Iterator[Pipeline]:
    with open_on(any_networks, tiny(slots=3)) as opened:
        yield opened


def step_and_compare(pipeline: Pipeline, array: Any, stream: Any, nv12: U8) -> None:
    """One step on device memory gives the bytes of one on host memory, without an upload of the frame."""
    driver = cuda_of(pipeline).driver
    before = driver.calls.copy()
    luma, chroma = pipeline.step(array, stream).planes()
    calls = driver.calls - before
    assert calls["cuMemcpyHtoDAsync"] == 0
    assert calls["cuMemcpy2DAsync"] == 2  # luma and chroma, on the device
    pipeline.detect.forget()
    pipeline.track.forget()
    other = pipeline.step(nv12).planes()
    assert np.array_equal(luma, other[0])
    assert np.array_equal(chroma, other[1])


@pytest.fixture(autouse=True)
def _fresh(pipeline: Pipeline) -> None:
    pipeline.detect.forget()
    pipeline.track.forget()


def test_pytorch_tensors_and_streams(pipeline: Pipeline, frames: list[U8]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        big = torch.ones(8192, 8192, device="cuda")
        for _ in range(8):
            big = big @ big.clamp(0, 1e-3)  # work that the copy of the picture must not overtake
        tensor = torch.from_numpy(frames[0]).cuda(non_blocking=True)
    step_and_compare(pipeline, tensor, stream, frames[0])
    memory = pipeline.frames[0].nv12.memory
    seen = torch.from_dlpack(memory)
    assert seen.data_ptr() == memory.ptr
    assert tuple(seen.shape) == memory.shape


def test_cupy_arrays_and_streams(pipeline: Pipeline, frames: list[U8]) -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        array = cupy.asarray(frames[1])
    step_and_compare(pipeline, array, stream, frames[1])
    memory = pipeline.frames[0].nv12.memory
    assert cupy.asarray(memory).data.ptr == memory.ptr


def test_pycuda_arrays_and_streams_on_the_primary_context(pipeline: Pipeline, frames: list[U8]) -> None:
    cuda = pytest.importorskip("pycuda.driver", reason="PyCUDA is not installed")
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        gpuarray = pytest.importorskip("pycuda.gpuarray")
        stream = cuda.Stream()
        array = gpuarray.to_gpu_async(frames[2], stream=stream)
        step_and_compare(pipeline, array, stream, frames[2])
    finally:
        context.pop()


def test_dali_tensors(pipeline: Pipeline, frames: list[U8]) -> None:
    dali = pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    giver = dali.Pipeline(batch_size=1, num_threads=1, device_id=0)
    with giver:
        giver.set_outputs(dali.fn.external_source(source=lambda: [frames[3]], device="gpu"))
    giver.build()
    (out,) = giver.run()
    step_and_compare(pipeline, out[0], None, frames[3])


def test_a_raw_handle_and_a_bare_interface(pipeline: Pipeline, frames: list[U8]) -> None:
    """No library at all: an address, and a stream of the driver's."""
    backend = cuda_of(pipeline)
    driver = backend.driver
    stream = driver.stream("theirs", "low")
    ptr = driver.allocate(frames[4].nbytes)
    driver.copy_in(ptr, frames[4], stream)

    class Bare:
        """Nothing but the interface."""

        def __init__(self) -> None:
            place = {"shape": frames[4].shape, "typestr": "|u1", "data": (ptr, True)}
            self.__cuda_array_interface__ = {"version": 2, **place}

    step_and_compare(pipeline, Bare(), int(stream), frames[4])


def test_our_frames_are_read_by_a_consumer_in_order(pipeline: Pipeline, frames: list[U8]) -> None:
    """A frame that was just stepped, read back on the legacy stream by its address alone, is the finished one."""
    from cuda.bindings import driver as cu

    frame = pipeline.step(frames[5])
    memory = frame.nv12.memory
    capsule = memory.__dlpack__()  # the legacy stream waits
    out = np.empty(memory.shape, np.uint8)
    assert int(cu.cuMemcpyDtoH(out.ctypes.data, memory.ptr, memory.nbytes)[0]) == 0
    del capsule
    luma, _ = frame.nv12.cut(out)
    assert np.array_equal(luma, frame.planes()[0])
