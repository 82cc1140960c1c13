"""The real runner, with its three threads, on the cuda backend over the recording driver."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine.backends.cuda import CudaBackend
from tests.clips import cut_out, decoded
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend
from tests.unit.test_cuda_pipeline import SAMPLE, tiny

COUNT = 16


def test_a_file_run_writes_what_it_writes_on_the_cpu_and_nothing_races(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding, computing and encoding on threads of their own; neither NVDEC nor NVENC is here, which is said."""
    clip = cut_out(SAMPLE / "clip.mp4", tmp_path / "short.mp4", start=10, count=COUNT)
    profile, source = tiny(refiner=False, slots=4), SAMPLE / "source_1.png"
    engine.run(profile, source, clip, tmp_path / "cpu.mp4")
    backend = open_backend()
    monkeypatch.setattr("engine.files.open_backend_for", lambda profile, say: backend)
    said: list[str] = []
    result = engine.run(profile, source, clip, tmp_path / "cuda.mp4", say=said.append)
    assert isinstance(backend, CudaBackend)
    assert isinstance(backend.driver, RecordingDriver)
    assert (result.frames, result.faces, result.failed) == (COUNT, 2 * COUNT, 0)
    wanted, got = decoded(tmp_path / "cpu.mp4"), decoded(tmp_path / "cuda.mp4")
    assert [one.tobytes() == other.tobytes() for one, other in zip(got, wanted, strict=True)] == [True] * COUNT
    assert backend.driver.races.found == []
    assert backend.driver.calls["cuDevicePrimaryCtxRelease"] == 1  # closed by the run
    assert backend.counters.replays == 2 * COUNT
    assert backend.counters.waits == COUNT + 1  # and one for the source's picture
