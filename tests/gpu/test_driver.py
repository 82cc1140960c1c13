"""The driver seam on a real GPU: what the recording twin claims of it holds."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.backends.cuda_driver import CudaDriver
from engine.backends.driver import Copy2d, Stream
from kernels.compile import compile_cubin

pytestmark = pytest.mark.gpu


@pytest.fixture
def driver(gpu: None) -> Iterator[CudaDriver]:
    opened = CudaDriver()
    yield opened
    opened.close()


@pytest.fixture
def stream(driver: CudaDriver) -> Stream:
    return driver.stream("test", "high")


def test_what_goes_in_comes_out(driver: CudaDriver, stream: Stream) -> None:
    sent = np.random.default_rng(1).integers(0, 256, (37, 113), np.uint8)
    pinned = driver.allocate_pinned(37 * 128)
    driver.write_pinned(pinned, 0, 128, sent)
    near, far = driver.allocate(37 * 128), driver.allocate(37 * 256)
    driver.zero(far, 37 * 256, stream)
    driver.copy_in(near, pinned.array, stream)
    driver.copy_rows(Copy2d(far, 256, near, 128, 113, 37), stream)
    out = np.empty((37, 256), np.uint8)
    driver.copy_out(out, far, stream)
    driver.wait_stream(stream)
    assert np.array_equal(out[:, :113], sent)
    assert not out[:, 113:].any()


def test_a_kernel_writes_into_mapped_memory_that_the_host_reads(driver: CudaDriver, stream: Stream) -> None:
    """The status word's way: no copy, one event."""
    driver.load_kernels(compile_cubin(driver.facts.arch))
    pinned = driver.allocate_pinned(16)
    pinned.array.fill(255)
    event = driver.event()
    driver.launch("reset_candidates", (1, 1, 1), (32, 1, 1), [ctypes.c_void_p(pinned.ptr)], stream)
    driver.record(event, stream)
    driver.wait_event(event)
    assert driver.is_done(event)
    assert not driver.read_pinned(pinned).any()


def test_a_graph_replays_what_was_captured_and_its_events_take_times(driver: CudaDriver, stream: Stream) -> None:
    ptr = driver.allocate(1 << 20)
    begin, end = driver.event(timed=True), driver.event(timed=True)
    driver.begin_capture(stream)
    driver.record(begin, stream, in_graph=True)
    driver.zero(ptr, 1 << 20, stream)
    driver.record(end, stream, in_graph=True)
    graph = driver.end_capture(stream)
    assert graph is not None
    for _ in range(3):
        driver.copy_in(ptr, np.full(1 << 20, 9, np.uint8), stream)
        driver.replay(graph, stream)
        out = np.empty(1 << 20, np.uint8)
        driver.copy_out(out, ptr, stream)
        driver.wait_stream(stream)
        assert not out.any()
        assert 0.0 < driver.elapsed_ms(begin, end) < 50.0
    driver.begin_capture(stream)
    assert driver.end_capture(stream) is None


def test_streams_wait_for_events_and_waiting_lets_other_threads_run(driver: CudaDriver, stream: Stream) -> None:
    import threading

    other = driver.stream("other", "low")
    nbytes = 256 << 20
    ptr = driver.allocate(nbytes)
    event = driver.event()
    for _ in range(50):
        driver.zero(ptr, nbytes, stream)
    driver.copy_in(ptr, np.full(4, 7, np.uint8), stream)
    driver.record(event, stream)
    driver.stream_wait(other, event)
    out = np.zeros(4, np.uint8)
    driver.copy_out(out, ptr, other)
    ticks = [0]
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks[0] += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    driver.wait_stream(other)
    waited_s = time.perf_counter() - start
    done.set()
    thread.join()
    assert out.tolist() == [7] * 4
    assert waited_s < 0.002 or ticks[0] > 3


def test_a_kernel_that_fails_is_named_and_loses_the_context(gpu: None) -> None:
    """In a process of its own, since nothing runs in it afterwards."""
    code = """
import ctypes
from engine.backends.cuda_driver import CudaDriver
from engine.errors import PoisonedError
from kernels.compile import compile_cubin
driver = CudaDriver()
driver.load_kernels(compile_cubin(driver.facts.arch))
stream = driver.stream("test", "high")
driver.at = "find of frame 3"
driver.launch("reset_candidates", (1, 1, 1), (32, 1, 1), [ctypes.c_void_p(0x10)], stream)
try:
    driver.wait_stream(stream)
except PoisonedError as error:
    print(error)
try:
    driver.zero(0x10, 4, stream)
except PoisonedError as error:
    print(error)
driver.close()
print("closed")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout + done.stderr
    assert lines[0].startswith("cuStreamSynchronize, find of frame 3: wanted CUDA_SUCCESS, got CUDA_ERROR_ILLEGAL_ADD")
    assert lines[1].startswith("cuMemsetD8Async: wanted a working context, got one that an earlier error lost")
    assert lines[2] == "closed"
