"""Frames through open pipelines, in rounds: every cell gets its turn in every round, so that a busy moment of the
machine meets all of them; the cold start is measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.bench.input import SAMPLE, BenchInput
from engine.errors import DeviceError, explain
from engine.frame import Frame
from engine.pipeline import Pipeline, open_pipeline
from engine.profiler.summary import stages_json
from engine.stages.detect import Detect
from kernels.launch import Colour
from profiles.profile import Profile

__all__ = ["Cell", "Measured", "TruthDetect", "cold_start", "measure", "open_cell"]

WARM_UP_FRAMES = 5


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a profile on an input. `with_truth`: faces come from the input's truth, not the network.

    That is for twins, whose detector finds nothing that is there; it runs all the same, so that it costs what it does.
    """

    name: str
    profile: Profile
    input: BenchInput
    source: Path
    with_truth: bool = False


@dataclass
class Measured:
    """What a cell measured: wall-clock ms of every frame by round (upload, find and make), and its stages.

    `faces` is the mean number of faces a frame that were changed.
    """

    cell: Cell
    open_ms: float
    backend: str
    rounds_ms: list[list[float]] = field(default_factory=list)
    faces: float = 0.0
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def frames_ms(self) -> list[float]:
        """All rounds in one list."""
        return [ms for one in self.rounds_ms for ms in one]

    def to_json(self) -> dict[str, Any]:
        """The cell's entry in a file of measurements."""
        frames = np.array(self.frames_ms)
        profile = self.cell.profile
        return {
            "name": self.cell.name,
            "profile": profile.name,
            "precision": "fp32" if self.backend == "cpu" else profile.precision,
            "session": "onnxruntime" if self.backend == "cpu" else profile.session,
            "size_px": list(self.cell.input.size_px),
            "input": self.cell.input.says,
            "faces": round(self.faces, 3),
            "open_ms": round(self.open_ms, 1),
            "frame_ms": {
                name: round(float(np.percentile(frames, at)), 3) for name, at in (("p50", 50), ("p95", 95), ("p99", 99))
            }
            | {"min": round(float(frames.min()), 3), "max": round(float(frames.max()), 3)},
            "stages": self.stages,
            "rounds_ms": [[round(ms, 3) for ms in one] for one in self.rounds_ms],
        }


class TruthDetect:
    """A detect stage whose network and kernels run as they are, and whose answer is then the truth."""

    def __init__(self, detect: Detect, cell: Cell) -> None:
        truth = cell.input.truth
        if truth is None:
            raise DeviceError(
                explain("bench --twins", "an input whose faces are known", cell.input.says, "use the input sample")
            )
        self._detect, self._truth, self._input, self._steps = detect, truth, cell.input, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detect, name)

    def __call__(self, frame: Frame, size_px: int = 0) -> None:
        """Detect, then overwrite boxes, points, scores and count. Uploads, so it is for devices that replay nothing."""
        detect = self._detect
        detect(frame, size_px)
        truth = self._truth[self._input.at(self._steps)]
        self._steps += 1
        k = len(truth.boxes)
        for buffer, values in ((detect.box_px, truth.boxes), (detect.points_px, truth.points)):
            rows = detect.backend.to_host(buffer)
            rows[:k] = values
            detect.backend.upload(rows, buffer)
        scores = np.zeros(detect.score.shape, dtype=np.float32)
        scores[:k] = 0.9
        detect.backend.upload(scores, detect.score)
        detect.backend.upload(np.array([k], dtype=np.int32), detect.count)


def open_cell(cell: Cell, say: Callable[[str], None]) -> Pipeline:
    """The cell's pipeline, warm."""
    pipeline = open_pipeline(
        cell.profile,
        sources=[cell.source],
        size=cell.input.size_px,
        colour=Colour("bt709"),
        # a random detector shows hundreds of faces in the source's picture
        source_face="largest" if cell.with_truth else "only",
        say=say,
    )
    if cell.with_truth:
        if pipeline.backend.name != "cpu":
            pipeline.close()
            raise DeviceError(
                explain(
                    "bench --twins",
                    "the cpu backend",
                    pipeline.backend.name,
                    "add --backend cpu: a recorded graph can't be given the truth",
                )
            )
        pipeline.detect = TruthDetect(pipeline.detect, cell)  # type: ignore[assignment]
    return pipeline


def measure(
    cells: Sequence[Cell], frames: int, rounds: int, *, say: Callable[[str], None] = lambda line: None
) -> list[Measured]:
    """`frames` warm frames of every cell, in `rounds` turns."""
    results = []
    with ExitStack() as stack:
        pipelines = []
        for cell in cells:
            start = time.perf_counter()
            pipeline = stack.enter_context(open_cell(cell, say))
            results.append(Measured(cell, (time.perf_counter() - start) * 1e3, pipeline.backend.name))
            for index in range(min(WARM_UP_FRAMES, frames)):
                pipeline.step(cell.input.frames[cell.input.at(index)])
            pipeline.timings.clear()
            pipeline.timings.watch({**cell.profile.budget_ms.stages, "frame": cell.profile.budget_ms.frame})
            pipelines.append(pipeline)
        for turn in range(rounds):
            count = frames // rounds + (turn < frames % rounds)
            for pipeline, result in zip(pipelines, results, strict=True):
                if count:
                    result.rounds_ms.append(_turn(pipeline, result, count))
        for pipeline, result in zip(pipelines, results, strict=True):
            result.stages = stages_json(pipeline.timings, pipeline.timings.budgets_ms)
            result.faces /= max(len(result.frames_ms), 1)
    return results


def _turn(pipeline: Pipeline, result: Measured, count: int) -> list[float]:
    source, done = result.cell.input, pipeline.steps
    taken = []
    for index in range(done, done + count):
        picture = source.frames[source.at(index)]
        start = time.perf_counter_ns()
        frame = pipeline.step(picture)
        taken.append((time.perf_counter_ns() - start) / 1e6)
        result.faces += frame.face_count
    return taken


_COLD = """
import json, sys, time
start = time.perf_counter()
marks = {}
def mark(name):
    global start
    now = time.perf_counter(); marks[name] = round((now - start) * 1e3, 2); start = now
import engine.pipeline, numpy
from kernels.launch import Colour
from pathlib import Path
from profiles.profile import load_profile
import dataclasses
mark("import_ms")
name, backend, threads, source, width, height = sys.argv[1:]
profile = dataclasses.replace(load_profile(name), backend=backend, threads=int(threads))
size = int(width), int(height)
pipeline = engine.pipeline.open_pipeline(profile, sources=[Path(source)], size=size, colour=Colour("bt709"))
mark("open_ms")
nv12 = numpy.full((size[1] + (size[1] + 1) // 2, size[0]), 96, numpy.uint8)
pipeline.step(nv12); mark("first_frame_ms")
pipeline.step(nv12); mark("second_frame_ms")
pipeline.close()
print(json.dumps(marks))
"""


def cold_start(profile: Profile, name: str, size_px: tuple[int, int], starts: int = 3) -> dict[str, float]:
    """Median ms of a new process: imports, opening (models, kernels from the cache, warm-up), first and second frame.

    `name` is the profile's name or file. The operating system's file cache is warm.
    """
    told: list[dict[str, float]] = []
    width, height = size_px
    arguments = [name, profile.backend, str(profile.threads), str(SAMPLE / "source_1.png"), str(width), str(height)]
    for _ in range(starts):
        done = subprocess.run([sys.executable, "-c", _COLD, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
            raise DeviceError(
                explain("bench: cold start", "a process that opens the profile", why, "see python -m engine doctor")
            )
        told.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: round(float(np.median([one[key] for one in told])), 2) for key in told[0]}
