"""Which backend is opened, what is said of it, and what is refused, on machines that are stood in for."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

import engine.backends as backends
from engine.backends import Networks, open_backend
from engine.backends.cuda import CudaBackend
from engine.errors import DeviceError, ModelError
from models.model_files import find
from tests.recording.driver import RecordingDriver
from tests.tensorrt_names import stand_in


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RecordingDriver:
    """A machine with a GPU, a driver and TensorRT 8.5."""
    driver = RecordingDriver()
    monkeypatch.setattr(backends, "_what_is_missing", lambda: "")
    monkeypatch.setattr("engine.backends.cuda_driver.CudaDriver", lambda: driver)
    monkeypatch.setenv("FACE_ENGINE_PLANS", str(tmp_path / "plans"))
    monkeypatch.delenv("FACE_ENGINE_CUDA", raising=False)

    def load(name: str) -> types.ModuleType:
        if name != "tensorrt":
            raise ImportError(f"No module named {name!r}")
        module: types.ModuleType = stand_in("tensorrt-8.5.3.1")
        return module

    monkeypatch.setattr("engine.backends.trt_runtime.importlib", types.SimpleNamespace(import_module=load))
    return driver


def test_auto_takes_the_gpu_and_says_which(hopper: RecordingDriver, said: list[str]) -> None:
    backend = open_backend("auto", threads=2, say=said.append, networks=Networks(precision="fp16"))
    assert isinstance(backend, CudaBackend)
    assert said == ["backend: cuda, Recording Twin (sm_90, CUDA 13.0), tensorrt 8.5.3.1, fp16"]
    backend.close()
    assert hopper.calls["cuDevicePrimaryCtxRelease"] == 1


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_plan_that_is_not_there_is_an_error_and_no_reason_for_the_cpu(
    name: str, hopper: RecordingDriver, said: list[str]
) -> None:
    backend = open_backend(name, threads=2, say=said.append, networks=Networks(rebuild="python -m build_engines tiny"))
    with pytest.raises(
        ModelError,
        match=r"^plan for tiny_swapper: wanted one for fp32 by tensorrt 8\.5\.3\.1 on sm_90, got none in .*; build it: "
        r"python -m build_engines tiny$",
    ):
        backend.open_session(find("tiny_swapper"))


def test_without_a_library_for_networks_auto_takes_the_cpu_and_cuda_is_refused(
    hopper: RecordingDriver, said: list[str]
) -> None:
    networks = Networks(session="onnxruntime-cuda")
    words = r'session = "onnxruntime-cuda": wanted CUDAExecutionProvider, got .*CPUExecutionProvider.*; pip install'
    with pytest.raises(DeviceError, match="^" + words):
        open_backend("cuda", threads=2, say=said.append, networks=networks)
    assert hopper.calls["cuDevicePrimaryCtxRelease"] == 1
    backend = open_backend("auto", threads=2, say=said.append, networks=networks)
    assert backend.name == "cpu"
    assert len(said) == 1
    assert said[0].startswith('backend: cpu, 2 threads (session = "onnxruntime-cuda": wanted CUDAExecutionProvider')


@pytest.mark.parametrize(
    ("bindings", "status", "count", "words"),
    [
        (True, 100, 0, "an NVIDIA driver without a usable device: cuInit or cuDeviceGetCount gave 100"),
        (True, 0, 0, "an NVIDIA driver without a usable device: cuInit or cuDeviceGetCount gave 0"),
        (False, 0, 1, "a CUDA device without cuda.bindings and cuda.core: pip install"),
    ],
)
def test_what_is_missing_is_named(
    bindings: bool, status: int, count: int, words: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def devices(at: Any) -> int:
        at._obj.value = count
        return 0

    library = types.SimpleNamespace(cuInit=lambda flags: status, cuDeviceGetCount=devices)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    monkeypatch.setattr(backends, "_has", lambda name: bindings)
    with pytest.raises(DeviceError, match=f"^backend cuda: wanted a CUDA device and the packages for it, got {words}"):
        open_backend("cuda", threads=1, say=said.append)
    monkeypatch.undo()


def test_without_a_driver_auto_is_the_cpu(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    with monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", missing)
        assert backends._what_is_missing() == "no NVIDIA driver: libcuda.so.1 was not found"


def test_an_unknown_name_or_mode_is_refused(
    hopper: RecordingDriver, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match=r"^backend: wanted auto, cpu or cuda, got 'gpu'; correct the name$"):
        open_backend("gpu", threads=1, say=said.append)
    monkeypatch.setenv("FACE_ENGINE_CUDA", "fast")
    with pytest.raises(
        DeviceError, match=r"^FACE_ENGINE_CUDA: wanted graphs, eager or sync, got 'fast'; correct it or unset it$"
    ):
        open_backend("cuda", threads=1, say=said.append)
    monkeypatch.setenv("FACE_ENGINE_CUDA", "sync")
    backend = open_backend("cuda", threads=1, say=said.append)
    assert isinstance(backend, CudaBackend)
    assert backend.mode == "sync"
    assert said[-1].endswith(", sync")


def test_doctor_runs_a_kernel_on_the_gpu(hopper: RecordingDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import doctor

    found = doctor._cuda_backend()
    assert (found.state, found.found) == ("ok", "kernels ran on Recording Twin (sm_90, CUDA 13.0)")
    assert hopper.races.found == []
    assert hopper.calls["cuDevicePrimaryCtxRelease"] == 1
    monkeypatch.setattr(backends, "_what_is_missing", lambda: "no NVIDIA driver: libcuda.so.1 was not found")
    missing = doctor._cuda_backend()
    assert missing.state == "missing"
    assert missing.found.startswith("backend cuda: wanted a CUDA device and the packages for it, got no NVIDIA driver")
