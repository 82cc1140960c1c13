"""Sessions on plans, against modules that have the names of six real wheels and no others. No engine runs here."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends import trt_runtime
from engine.backends.cuda import CudaBackend
from engine.backends.trt_runtime import EITHER, TrtRuntime, find_runtime
from engine.backends.trt_session import TrtSession, TrtSessions
from engine.errors import DeviceError, ModelError
from engine.frame import Buffer
from engine.plans import PlanChoice, plans_for
from kernels.launch import letterbox_size
from models.model_files import ModelFile, find
from models.plan_file import plan_folder
from models.spec import Spec
from tests.recording.driver import RecordingDriver
from tests.recording.trt import GPU, Played, played_trt, write_played_plan
from tests.tensorrt_names import NAMES, stand_in

RTX, OLD = "tensorrt_rtx-1.7.1.116", "tensorrt-8.5.3.1"
REBUILD = "python -m build_engines tiny"


@pytest.fixture(autouse=True)
def _own_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_ENGINE_PLANS", str(tmp_path / "plans"))


def choice_of(wheel: str, arch: str = "sm_90") -> PlanChoice:
    """What the machine takes."""
    flavour, _, version = wheel.rpartition("-")
    return PlanChoice("fp32", flavour, version, arch, GPU, REBUILD)


class Rig:
    """A cuda backend on the twin, whose sessions are TensorRT's."""

    def __init__(self, wheel: str) -> None:
        self.driver = RecordingDriver()
        module, self.played = played_trt(wheel, self.driver)
        self.said: list[str] = []
        self.sessions = TrtSessions(TrtRuntime("trt", module), choice_of(wheel), self.said.append)
        self.backend = CudaBackend(self.driver, b"", self.sessions)

    def open(self, model: ModelFile) -> TrtSession:
        """A session."""
        session = self.backend.open_session(model)
        assert isinstance(session, TrtSession)
        return session

    def buffer(self, *shape: int, fill: float | None = None) -> Buffer:
        """FP32 on the device."""
        made = self.backend.allocate(Spec("float32", shape))
        if fill is not None:
            self.backend.upload(np.full(shape, fill, np.float32), made)
        return made


def refiner_plans(wheel: str, *batches: int) -> ModelFile:
    """The tiny refiner, with plans for these batches."""
    model = find("tiny_refiner")
    for batch in batches:
        write_played_plan(model, {"image": (batch, 3, 96, 96)}, wheel)
    return model


def expected(model: ModelFile, batch: int, fill: float) -> np.ndarray[Any, Any]:
    """What ONNX Runtime says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    feed = np.full((batch, 3, 96, 96), fill, np.float32)
    out: np.ndarray[Any, Any] = session.run(None, {model.tensors["image"]: feed})[0]
    return out


@pytest.mark.parametrize("wheel", NAMES)
def test_every_name_that_is_used_is_in_every_wheel(wheel: str) -> None:
    _check_names(stand_in(wheel))


def test_every_name_that_is_used_is_in_the_installed_tensorrt_rtx() -> None:
    _check_names(pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86-64 alone"))


def _check_names(module: Any) -> None:
    def there(name: str) -> bool:
        kind, _, attribute = name.partition(".")
        return hasattr(getattr(module, kind, None), attribute)

    assert [name for name in trt_runtime.NAMES if not there(name)] == []
    assert [pair for pair in EITHER if not any(map(there, pair))] == []


@pytest.mark.parametrize("wheel", NAMES)
def test_a_session_binds_once_by_name_and_then_only_enqueues(wheel: str) -> None:
    model, rig = refiner_plans(wheel, 1, 2), Rig(wheel)
    session = rig.open(model)
    image, points = rig.buffer(2, 3, 96, 96, fill=0.25), rig.buffer(2, 5, 2)
    session.prepare({"image": image}, {"points": points})
    before, drivers = rig.played.calls.copy(), rig.driver.calls.copy()
    for _ in range(3):
        session.run({"image": image}, {"points": points})
    assert rig.played.calls - before == {"execute_async_v3": 3}
    assert rig.driver.calls - drivers == {}
    assert len(rig.played.scratch) == 1
    assert np.allclose(rig.backend.to_host(points), expected(model, 2, 0.25), atol=1e-5)
    assert rig.said == []
    assert rig.driver.races.found == []


def test_a_constant_that_the_build_made_a_part_of_the_plan_is_not_bound() -> None:
    """As a streaming encoder's offset, which its caller passes to every kind of session."""
    model, rig = refiner_plans(RTX, 1), Rig(RTX)
    session = rig.open(model)
    image, points = rig.buffer(1, 3, 96, 96, fill=0.25), rig.buffer(1, 5, 2)
    [manifest] = session._manifests
    session._opened(manifest)
    offset = Spec("int64", (1,), names=("offset",))
    session.contract = dataclasses.replace(
        session.contract, inputs={**session.contract.inputs, "offset": offset}, constants={"offset": 100.0}
    )
    session._tensors = {**session._tensors, "offset": "offset"}
    session._with_shapes = lambda shapes: manifest if "offset" in shapes else None  # type: ignore[method-assign]
    held = rig.backend.allocate(offset)
    session.run({"image": image, "offset": held}, {"points": points})
    assert np.allclose(rig.backend.to_host(points), expected(model, 1, 0.25), atol=1e-5)


@pytest.mark.parametrize("wheel", [OLD, RTX])
def test_a_recorded_session_replays_at_its_addresses(wheel: str) -> None:
    model, rig = refiner_plans(wheel, 1), Rig(wheel)
    session = rig.open(model)
    image, points = rig.buffer(1, 3, 96, 96), rig.buffer(1, 5, 2)
    session.prepare({"image": image}, {"points": points})
    other = rig.buffer(1, 3, 96, 96)
    recording = rig.backend._recorder.record(lambda: session.run({"image": image}, {"points": points}))
    assert recording.graphs == len(recording.steps) == 1
    session.run({"image": other}, {"points": points})  # binds elsewhere: the graph keeps its own
    rig.backend.upload(np.full((1, 3, 96, 96), 0.75, np.float32), image)
    rig.backend._recorder.replay(recording)
    assert np.allclose(rig.backend.to_host(points), expected(model, 1, 0.75), atol=1e-5)


def test_sessions_share_the_scratch_of_the_one_that_needs_most() -> None:
    rig = Rig(OLD)
    rig.played.scratch_bytes = {"tiny_refiner": 4000, "tiny_embedder": 9000}
    refiner, embedder = refiner_plans(OLD, 1), find("tiny_embedder")
    write_played_plan(embedder, {"image": (1, 3, 112, 112)}, OLD)
    first, second = rig.open(refiner), rig.open(embedder)
    image, points = rig.buffer(1, 3, 96, 96), rig.buffer(1, 5, 2)
    first.prepare({"image": image}, {"points": points})
    second.prepare({"image": rig.buffer(1, 3, 112, 112)}, {"embedding": rig.buffer(1, 512)})
    first.run({"image": image}, {"points": points})
    assert rig.sessions.scratch_bytes == 9000
    assert rig.played.scratch[-2:] == [(rig.sessions.scratch_ptr, 9000)] * 2 or {
        pair[0] for pair in rig.played.scratch[-2:]
    } == {rig.sessions.scratch_ptr}
    assert rig.backend.memory_by_part()["scratch"] <= 9216 + 4096


def test_a_plan_of_batch_one_runs_once_for_each_face_and_a_larger_one_once() -> None:
    for batches, runs in (((1,), 3), ((1, 3), 1)):
        rig = Rig(OLD)
        model = refiner_plans(OLD, *batches)
        session = rig.open(model)
        image, points = rig.buffer(3, 3, 96, 96, fill=0.5), rig.buffer(3, 5, 2)
        before = rig.played.calls["execute_async_v3"]
        session.run({"image": image}, {"points": points})
        assert rig.played.calls["execute_async_v3"] - before == runs
        assert np.allclose(rig.backend.to_host(points), expected(model, 3, 0.5), atol=1e-5)


@pytest.mark.parametrize("wheel", [OLD, RTX])
def test_what_refuses_to_be_captured_runs_between_two_graphs_and_says_so(wheel: str) -> None:
    model, rig = refiner_plans(wheel, 1), Rig(wheel)
    rig.played.spoils = True
    session = rig.open(model)
    image, points = rig.buffer(1, 3, 96, 96), rig.buffer(1, 5, 2)
    session.prepare({"image": image}, {"points": points})
    assert rig.said == ["tiny_refiner: TensorRT can't be captured here; it runs between two graphs"]
    ptr, stream = image.ptr, rig.backend.compute

    def body() -> None:
        rig.driver.zero(ptr, image.nbytes, stream)
        session.run({"image": image}, {"points": points})
        rig.driver.zero(ptr, image.nbytes, stream)

    recording = rig.backend._recorder.record(body)
    assert [isinstance(step, int) for step in recording.steps] == [True, False, True]
    rig.backend.upload(np.full((1, 3, 96, 96), 0.75, np.float32), image)
    rig.backend._recorder.replay(recording)
    assert np.allclose(rig.backend.to_host(points), expected(model, 1, 0.0), atol=1e-5)


def test_the_plan_nearest_in_size_is_taken() -> None:
    rig, model = Rig(OLD), find("tiny_detector")
    for width, height in ((640, 384), (128, 96)):
        write_played_plan(model, {"image": (1, 3, height, width)}, OLD)
    session = rig.open(model)
    assert session.fit("image", (1, 3, 384, 640)) == (1, 3, 384, 640)
    assert session.fit("image", (1, 3, 640, 640)) == (1, 3, 384, 640)
    assert session.fit("image", (1, 3, 640, 384)) == (1, 3, 384, 640)
    assert session.fit("image", (1, 3, 128, 128)) == (1, 3, 96, 128)
    session.fit("image", (1, 3, 128, 128))
    assert rig.said == [
        f"tiny_detector: no plan for image [1, 3, {wanted}], so it runs at [1, 3, {got}]; "
        "python -m build_engines tiny --size WIDTHxHEIGHT builds one"
        for wanted, got in (("640, 640", "384, 640"), ("640, 384", "384, 640"), ("128, 128", "96, 128"))
    ]


def test_a_missing_plan_names_the_nearest_and_the_command() -> None:
    rig, model = Rig(OLD), find("tiny_refiner")
    where = r"^plan for tiny_refiner: wanted one for fp32 by tensorrt 8\.5\.3\.1 on sm_90, got "
    with pytest.raises(ModelError, match=where + r"none in .*plans; build it: python -m build_engines tiny$"):
        rig.open(model)
    write_played_plan(model, {"image": (1, 3, 96, 96)}, OLD, arch="sm_89")
    with pytest.raises(ModelError, match=where + r"one whose arch is sm_89; build it: python -m build_engines tiny$"):
        rig.open(model)
    write_played_plan(model, {"image": (1, 3, 96, 96)}, OLD, precision="int8")
    with pytest.raises(ModelError, match=where + r"one whose (arch|precision) is (sm_89|int8); build it: "):
        rig.open(model)


def test_shapes_without_a_plan_name_those_that_have_one() -> None:
    rig = Rig(OLD)
    session = rig.open(refiner_plans(OLD, 2))
    with pytest.raises(
        ModelError,
        match=r"^plan for tiny_refiner: wanted image \[3, 3, 96, 96\], got plans for image \[2, 3, 96, 96\]; build ",
    ):
        session.run({"image": rig.buffer(3, 3, 96, 96)}, {"points": rig.buffer(3, 5, 2)})


def test_bytes_that_are_not_the_manifests_are_refused_before_tensorrt_sees_them() -> None:
    rig, model = Rig(OLD), refiner_plans(OLD, 1)
    path = next(plan_folder().glob("*.plan"))
    path.write_bytes(path.read_bytes().replace(b"onnx", b"onnX"))
    session = rig.open(model)
    with pytest.raises(ModelError, match=r"wanted the SHA-256 .*build it: python -m build_engines tiny$"):
        session.run({"image": rig.buffer(1, 3, 96, 96)}, {"points": rig.buffer(1, 5, 2)})
    assert rig.played.calls["deserialize_cuda_engine"] == 0


def test_tensorrts_own_words_are_in_the_error() -> None:
    rig, model = Rig(OLD), refiner_plans(OLD, 1)
    rig.played.refuses = "Serialization assertion failed: version tag does not match"
    session = rig.open(model)
    with pytest.raises(
        ModelError,
        match=r"^plan tiny_refiner-fp32-sm_90-.*: wanted a plan that trt 8\.5\.3\.1 loads, got Serialization assertion "
        r"failed: version tag does not match; build it again on this machine$",
    ):
        session.run({"image": rig.buffer(1, 3, 96, 96)}, {"points": rig.buffer(1, 5, 2)})


def test_the_installed_tensorrt_rtx_refuses_bytes_that_are_no_plan() -> None:
    """The real library, which needs no GPU to say no."""
    module = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86-64 alone")
    with pytest.raises(
        ModelError, match=r"^plan x: wanted a plan that tensorrt_rtx .* loads, got .*magicTag.*; build it again on this"
    ):
        TrtRuntime("tensorrt_rtx", module).deserialize(b"no plan" * 100, "plan x")


def test_a_runtime_that_does_not_come_up_is_an_error() -> None:
    """8.5 without a device: its constructor raises TypeError."""
    module = stand_in(OLD)

    def nothing(log: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    module.Runtime = nothing
    with pytest.raises(
        DeviceError, match=r"^trt 8\.5\.3\.1: wanted a runtime, got pybind11::init\(\): factory function"
    ):
        TrtRuntime("trt", module).deserialize(b"", "plan x")


def test_a_run_that_fails_is_an_error_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, model = Rig(OLD), refiner_plans(OLD, 1)
    session = rig.open(model)
    monkeypatch.setattr(rig.sessions, "reserve", lambda backend, nbytes: None)  # without scratch it refuses to run
    buffers = rig.buffer(1, 3, 96, 96), rig.buffer(1, 5, 2)
    with pytest.raises(
        DeviceError,
        match=r"^plan tiny_refiner-.*: wanted a run of the network, got an address is missing; run again with FACE_",
    ):
        session.run({"image": buffers[0]}, {"points": buffers[1]})


def test_a_plan_with_other_tensors_is_refused() -> None:
    rig, model = Rig(OLD), refiner_plans(OLD, 1)
    session = rig.open(dataclasses.replace(model, tensors={"image": "image", "points": "landmarks"}))
    with pytest.raises(ModelError, match=r"^plan tiny_refiner-.*: wanted the tensors image, landmarks, got .*; python"):
        session.run({"image": rig.buffer(1, 3, 96, 96)}, {"points": rig.buffer(1, 5, 2)})


def test_what_rtx_compiles_is_kept_for_the_next_start() -> None:
    model = refiner_plans(RTX, 1)
    seen = []
    for _ in range(2):
        rig = Rig(RTX)
        rig.open(model).prepare({"image": rig.buffer(1, 3, 96, 96)}, {"points": rig.buffer(1, 5, 2)})
        seen.append(rig.played.jit_seen)
    assert seen == [[], [b"what RTX compiled"]]
    assert (plan_folder() / "jit").stat().st_mode & 0o777 == 0o700
    (plan_folder() / "jit").chmod(0o777)
    rig = Rig(RTX)
    session = rig.open(model)
    with pytest.raises(ModelError, match=r"jit: wanted a folder that only you can write, got mode 777; .*remove it$"):
        session.run({"image": rig.buffer(1, 3, 96, 96)}, {"points": rig.buffer(1, 5, 2)})
    assert rig.played.calls["deserialize_cuda_engine"] == 0


def test_the_flavour_is_one_that_runs_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, Any] = {"tensorrt_rtx": stand_in(RTX), "tensorrt": stand_in(OLD)}

    def load(name: str) -> types.ModuleType:
        if name not in there:
            raise ImportError(f"No module named {name!r}")
        module: types.ModuleType = there[name]
        return module

    monkeypatch.setattr("importlib.import_module", load)
    assert find_runtime("sm_89").name == "tensorrt_rtx"
    assert find_runtime("sm_90").name == "tensorrt"
    del there["tensorrt"]
    with pytest.raises(
        DeviceError,
        match=r"^TensorRT: wanted tensorrt_rtx or tensorrt for sm_90, got tensorrt_rtx 1\.7\.1\.116 runs on .*sm_89.*, "
        r"not on sm_90; tensorrt: No module named 'tensorrt'; pip install ",
    ):
        find_runtime("sm_90")


def test_plans_lie_in_order_of_their_shapes() -> None:
    model = refiner_plans(OLD, 4, 1, 2)
    assert [one.key.shapes["image"][0] for one in plans_for(model, choice_of(OLD))] == [1, 2, 4]


def detector_shapes(*sizes: tuple[int, int]) -> set[tuple[int, ...]]:
    """The detector's inputs for frames and pictures of these sizes, in both passes."""
    found: set[tuple[int, ...]] = set()
    for width, height in sizes:
        for side in (640, 128):
            fit = letterbox_size(width, height, side, side)
            found.add((1, 3, -(-fit[1] // 32) * 32, -(-fit[0] // 32) * 32))
    return found


@pytest.mark.parametrize("wheel", [OLD, pytest.param(RTX, marks=pytest.mark.full)])
def test_the_whole_pipeline_runs_on_plans(wheel: str) -> None:
    """The real pipeline, backend and session; the engines inside are ONNX Runtime's. The bytes are the cpu's."""
    import engine
    from engine.pipeline import open_pipeline
    from engine.video.pictures import read_picture
    from kernels.launch import Colour
    from profiles.profile import load_profile
    from tests.clips import decoded
    from tests.recording.flows import file_mode, to_i420

    sample = Path(__file__).parents[2] / "models" / "tiny" / "sample"
    picture = read_picture(sample / "source_1.png")
    for shape in detector_shapes((1280, 720), (picture.shape[1], picture.shape[0])):
        write_played_plan(find("tiny_detector"), {"image": shape}, wheel)
    for batch in (1, 2, 4):
        write_played_plan(find("tiny_embedder"), {"image": (batch, 3, 112, 112)}, wheel)
        write_played_plan(find("tiny_swapper"), {"target": (batch, 3, 128, 128), "source": (batch, 512)}, wheel)
    profile = load_profile("tiny")
    profile = dataclasses.replace(profile, models=dataclasses.replace(profile.models, refiner=""), slots=3)
    frames = [to_i420(frame, i) for i, frame in enumerate(decoded(sample / "clip.mp4", 5))]
    with engine.open_pipeline(profile, source=sample / "source_1.png", size=(1280, 720)) as cpu:
        wanted = list(file_mode(cpu, frames))
    rig = Rig(wheel)
    with open_pipeline(
        profile, sources=[sample / "source_1.png"], size=(1280, 720), colour=Colour(), backend=rig.backend
    ) as pipeline:
        calls: Played = rig.played
        before = calls.calls.copy()
        got = list(file_mode(pipeline, frames))
        assert calls.calls - before == {}  # warm: TensorRT is in the graphs, nobody calls it
    assert [count for count, _ in got] == [2] * 5
    assert [out == other for (_, out), (_, other) in zip(got, wanted, strict=True)] == [True] * 5
    assert rig.driver.races.found == []


def test_a_manifest_of_another_release_stands_in_nobodys_way() -> None:
    model = refiner_plans(RTX, 1, 2)
    for name in ("tiny_refiner-a", "tiny_refiner-z"):
        (plan_folder() / f"{name}.plan").write_bytes(b"older")
        (plan_folder() / f"{name}.json").write_text('{"format": 1}')
    assert len(plans_for(model, choice_of(RTX))) == 2
