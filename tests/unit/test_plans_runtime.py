"""What the build leaves is what the runtime looks for: real plans by the real TensorRT-RTX, built without a GPU."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from engine.backends.cuda import CudaBackend
from engine.backends.trt_runtime import TrtRuntime
from engine.backends.trt_session import TrtSession, TrtSessions
from engine.errors import ModelError
from engine.plans import PlanChoice, open_plan, plans_for
from models.model_files import find
from profiles.profile import load_profile
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend

ROOT = Path(__file__).parents[2]


@pytest.mark.full
def test_the_runtime_finds_every_plan_that_a_profile_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86-64 alone")
    monkeypatch.setenv("FACE_ENGINE_PLANS", str(tmp_path / "plans"))
    command = [sys.executable, "-m", "build_engines", "tiny", "--precision", "fp32", "--arch", "sm_89"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    runtime = TrtRuntime("tensorrt_rtx", module)
    choice = PlanChoice("fp32", runtime.name, runtime.version, "sm_89", "NVIDIA Any", "python -m build_engines tiny")
    driver = RecordingDriver()
    sessions = TrtSessions(runtime, choice)
    backend = CudaBackend(driver, b"", sessions)
    counts = open_backend().face_counts(load_profile("tiny").track.faces)
    for name, tensor in (("tiny_swapper", "target"), ("tiny_embedder", "image"), ("tiny_refiner", "image")):
        batches = [one.key.shapes[tensor][0] for one in plans_for(find(name), choice)]
        assert batches == list(counts), name
    detector = backend.open_session(find("tiny_detector"))
    assert isinstance(detector, TrtSession)
    for shape in ((1, 3, 384, 640), (1, 3, 96, 128)):  # both passes of the sample's 1280 x 720
        assert detector.fit("image", shape) == shape
    plan = open_plan(plans_for(find("tiny_swapper"), choice)[0], choice)
    assert len(plan) > 100_000
    other = dataclasses.replace(choice, arch="sm_120")
    with pytest.raises(
        ModelError, match=r"^plan for tiny_swapper: wanted one for fp32 by .* on sm_120, got one whose arch"
    ):
        plans_for(find("tiny_swapper"), other)
