"""ONNX Runtime's CUDA provider, stood in for: what it is asked for, what it is bound to, and where it runs."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engine.backends import ort_cuda_session, ort_session
from engine.backends.cuda import CudaBackend
from engine.backends.ort_cuda_session import open_ort_cuda
from engine.errors import DeviceError
from engine.frame import Buffer
from models.model_files import find
from models.spec import Spec
from tests.recording.driver import RecordingDriver

REAL = onnxruntime


class Binding:
    """Writes down what it is bound to, in the real binding's signature."""

    def __init__(self) -> None:
        self.bound: dict[str, tuple[Any, ...]] = {}

    def bind_input(self, name: str, device: str, index: int, kind: int, shape: tuple[int, ...], ptr: int) -> None:
        self.bound[name] = (device, index, kind, tuple(shape), ptr)

    def bind_output(self, name: str, device: str, index: int, kind: int, shape: tuple[int, ...], ptr: int) -> None:
        self.bound[name] = (device, index, kind, tuple(shape), ptr)


class Session:
    """The real file's shapes; runs on the CPU at the bound addresses, as work of the stream that it was given."""

    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    driver: RecordingDriver
    opened: list[Session] = []  # noqa: RUF012 - of one test at a time

    def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
        self.asked, self.options = providers, options
        self.real = REAL.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.runs: list[Any] = []
        Session.opened.append(self)

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_providers(self) -> list[str]:
        return list(self.providers)

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        self.runs.append(options)
        own = self.real.io_binding()
        inputs = [item.name for item in self.real.get_inputs()]
        for name, (_, _, kind, shape, ptr) in binding.bound.items():
            bind = own.bind_input if name in inputs else own.bind_output
            bind(name, "cpu", 0, kind, shape, ptr)
        reads = [held[4] for name, held in binding.bound.items() if name in inputs]
        writes = [held[4] for name, held in binding.bound.items() if name not in inputs]
        stream = int(self.asked[0][1]["user_compute_stream"])
        self.driver.opaque("onnxruntime", reads, writes, lambda: self.real.run_with_iobinding(own), stream)  # type: ignore[arg-type]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """The cuda backend on the twin, with an ONNX Runtime that has CUDA."""
    driver = RecordingDriver()
    Session.driver, Session.opened = driver, []
    library = types.SimpleNamespace(
        InferenceSession=Session,
        SessionOptions=REAL.SessionOptions,
        RunOptions=REAL.RunOptions,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        __version__="1.31.1",
    )
    for module in (ort_cuda_session, ort_session):
        monkeypatch.setattr(module, "onnxruntime", library)
    return CudaBackend(driver, b"", open_ort_cuda)


def buffer(backend: CudaBackend, *shape: int) -> Buffer:
    return backend.allocate(Spec("float32", shape))


def test_it_runs_on_our_stream_and_our_memory_and_waits_for_nothing(backend: CudaBackend) -> None:
    session = backend.open_session(find("tiny_refiner"))
    image, points = buffer(backend, 2, 3, 96, 96), buffer(backend, 2, 5, 2)
    session.prepare({"image": image}, {"points": points})
    backend.upload(np.full((2, 3, 96, 96), 0.5, np.float32), image)
    before = backend.driver.calls.copy()
    session.run({"image": image}, {"points": points})
    assert backend.driver.calls - before == {}
    (opened,) = Session.opened
    name, options = opened.asked[0]
    assert (name, options["user_compute_stream"]) == ("CUDAExecutionProvider", str(int(backend.compute)))
    assert (options["use_tf32"], options["device_id"]) == ("0", "0")
    entry = opened.runs[-1].get_run_config_entry("disable_synchronize_execution_providers")
    assert entry == "1"
    feed = np.full((2, 3, 96, 96), 0.5, np.float32)
    wanted = opened.real.run(None, {opened.real.get_inputs()[0].name: feed})[0]
    assert np.allclose(backend.to_host(points), wanted, atol=1e-5)
    assert isinstance(backend.driver, RecordingDriver)
    assert backend.driver.races.found == []


def test_it_stands_between_two_graphs(backend: CudaBackend) -> None:
    session = backend.open_session(find("tiny_refiner"))
    image, points = buffer(backend, 1, 3, 96, 96), buffer(backend, 1, 5, 2)
    session.prepare({"image": image}, {"points": points})
    driver, stream = backend.driver, backend.compute

    def body() -> None:
        driver.zero(image.ptr, image.nbytes, stream)
        session.run({"image": image}, {"points": points})
        driver.zero(image.ptr, image.nbytes, stream)

    recording = backend._recorder.record(body)
    assert [isinstance(step, int) for step in recording.steps] == [True, False, True]
    assert recording.graphs == 2
    runs = len(Session.opened[0].runs)
    backend._recorder.replay(recording)
    assert len(Session.opened[0].runs) == runs + 1


def test_a_provider_that_fell_back_to_the_cpu_is_refused(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "providers", ("CPUExecutionProvider",))
    with pytest.raises(
        DeviceError,
        match=r"^tiny_refiner on ONNX Runtime: wanted CUDAExecutionProvider, got CPUExecutionProvider; install the cu",
    ):
        backend.open_session(find("tiny_refiner"))
