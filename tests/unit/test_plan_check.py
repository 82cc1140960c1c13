"""A plan that is run where it was built for: by the runtime on its twin, and what a build makes of the answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_engines import build, on_gpu
from build_engines.__main__ import main
from build_engines.flavour import Machine
from build_engines.samples import Samples, sample_clip
from engine.backends.cuda import CudaBackend
from engine.backends.trt_runtime import TrtRuntime
from engine.backends.trt_session import TrtSessions
from engine.plan_check import run_plan
from engine.plans import PlanChoice
from models.model_files import find
from models.plan_file import Manifest, listed, plan_folder
from tests.recording.driver import RecordingDriver
from tests.recording.trt import GPU, played_trt, write_played_plan

RTX = "tensorrt_rtx-1.7.1.116"


@pytest.fixture(autouse=True)
def _own_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_ENGINE_PLANS", str(tmp_path / "plans"))


def test_the_runtime_runs_a_plan_on_every_input() -> None:
    import onnxruntime

    model = find("tiny_refiner")
    write_played_plan(model, {"image": (2, 3, 96, 96)}, RTX)
    driver = RecordingDriver()
    module, _ = played_trt(RTX, driver)
    flavour, _, version = RTX.partition("-")
    choice = PlanChoice("fp32", flavour, version, "sm_90", GPU, "build it")
    backend = CudaBackend(driver, b"", TrtSessions(TrtRuntime("trt", module), choice))
    random = np.random.default_rng(5)
    feeds = [{"image": random.random((2, 3, 96, 96), dtype=np.float32)} for _ in range(3)]
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    wanted = [session.run([model.tensors["points"]], {model.tensors["image"]: feed["image"]})[0] for feed in feeds]
    got = run_plan(backend, model, feeds, {"points": wanted[0].shape})
    backend.close()
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one["points"], other, atol=1e-6)
    assert not np.array_equal(got[0]["points"], got[1]["points"])


def test_without_a_gpu_the_command_says_so(tmp_path: Path) -> None:
    model = find("tiny_refiner")
    source = tmp_path / "in.npz"
    held: dict[str, Any] = {"in/0/image": np.zeros((1, 3, 96, 96), np.float32), "shape/points": np.array([1, 136])}
    np.savez(source, **held)
    command = [sys.executable, "-m", "engine.plan_check", "tiny_refiner", str(model.path), "fp32", str(source)]
    done = subprocess.run([*command, str(tmp_path / "out.npz")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("backend cuda: wanted a CUDA device")
    assert not (tmp_path / "out.npz").exists()


class Answer:
    """The runtime's process: what it is given to run, and FP32 outputs spoiled by so much."""

    def __init__(self, noise: float) -> None:
        self.noise, self.runs, self.seen = noise, 0, 0

    def __call__(self, manifest: Manifest, file: Any, feeds: Any, exact: Any, folder: Path) -> Any:
        """In the place of on_gpu._run; the plan lies in a folder of its own meanwhile."""
        assert [type(state) for _, state in listed()] == [Manifest]
        assert plan_folder() == folder / "plans"
        self.runs, self.seen = self.runs + 1, len(feeds)
        return [
            {name: value + self.noise * max(np.ptp(value), np.abs(value).max()) for name, value in one.items()}
            for one in exact
        ]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the GPU that is built for, and only the refiner to build."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    monkeypatch.setattr(build, "this_machine", lambda: Machine("sm_89", "a GPU"))
    monkeypatch.setattr(build, "_face_counts", lambda file, profile: [2])
    monkeypatch.setattr(build, "_roles", lambda models: {"refiner": models.refiner})
    files = {"detector": find("tiny_detector"), "refiner": find("tiny_refiner")}
    monkeypatch.setattr(build, "Samples", lambda clip, given, **options: Samples(clip, files, count=4, **options))


BUILD = ["tiny", "--arch", "sm_89", "--precision", "fp16", "--clip", str(sample_clip())]


def test_a_plan_is_run_on_its_gpu_and_its_own_drift_is_kept(
    here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Answer(noise=1e-4)
    monkeypatch.setattr(on_gpu, "_run", answer)
    assert main(BUILD) == 0
    [row] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["plans"]
    assert answer.runs == 1
    [(_, manifest)] = listed()
    assert isinstance(manifest, Manifest)
    assert manifest.drift_source == "plan"
    assert manifest.notes["ran_on"] == answer.seen >= 4
    assert row["drift_db"] == pytest.approx(80, abs=0.1)  # 1e-4 of the range
    assert main([*BUILD, "--no-run", "--size", "640x360"]) == 0  # the refiner's shapes are the same: nothing to do
    assert answer.runs == 1


def test_a_plan_that_drifts_on_its_gpu_is_not_kept(
    here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_gpu, "_run", Answer(noise=0.05))
    assert main(BUILD) == 2
    said = capsys.readouterr().err
    assert said.startswith("tiny_refiner: wanted 40 dB or more of its FP16 plan on this machine's GPU, got ")
    assert "dB at points, where the simulation gave 7" in said
    assert not listed()


def test_a_plan_that_does_not_run_is_not_kept_and_the_runtimes_words_are_told(
    here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(BUILD) == 2
    said = capsys.readouterr().err
    assert said.startswith("tiny_refiner: wanted its plan to run on this machine's GPU, got backend cuda: wanted ")
    assert "--no-run builds without running" in said
    assert not listed()
    assert main([*BUILD, "--no-run"]) == 0
    [(_, manifest)] = listed()
    assert isinstance(manifest, Manifest)
    assert manifest.drift_source == "simulated"
