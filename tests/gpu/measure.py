"""python -m tests.gpu.measure PROFILE: what a profile costs on this machine's GPU, as one JSON with its conditions.

Frames of noise with a stated number of faces, whose places are given to the graphs in place of the detector's answer
(the detector runs all the same), so that twins can be measured. Nothing is decoded and nothing encoded: pictures come
from the host as NV12 and go back to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.base import Session
from engine.backends.cuda import CudaBackend
from engine.backends.driver import Copy2d
from engine.bench.twins import twins_in_place
from engine.frame import Buffer, Frame
from engine.pipeline import Pipeline, open_backend_for, open_pipeline, warm_up
from engine.profiler.conditions import conditions
from engine.stages.detect import Detect
from kernels.launch import Colour, gather_rows_into
from models.spec import Spec
from profiles.profile import Profile, load_profile
from tests.gpu.plans import build_plans
from tests.recording.flows import Decoded, file_mode, live_mode, to_nv12

__all__ = ["main", "measure"]

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
FACE_PX = 300.0


class GivenFaces:
    """A detect stage that runs as it is, and whose answer is then k faces at known places; launches alone."""

    def __init__(self, detect: Detect, k: int, size: tuple[int, int]) -> None:
        self._detect = detect
        backend, room = detect.backend, detect.score.shape[0]
        boxes, points = np.zeros((room, 4), np.float32), np.zeros((room, 5, 2), np.float32)
        five = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.58], [0.38, 0.74], [0.62, 0.74]], np.float32)
        for face in range(k):
            x = (face + 0.5) * size[0] / k - FACE_PX / 2
            y = (size[1] - FACE_PX) / 2
            boxes[face] = (x, y, x + FACE_PX, y + FACE_PX)
            points[face] = five * FACE_PX + (x, y)
        scores = np.where(np.arange(room) < k, 0.9, 0.0).astype(np.float32)
        count = np.array([k], np.int32).view(np.float32)  # copied bit by bit
        self._row = backend.allocate(Spec("int32", (1,)))
        self._pairs: list[tuple[Buffer, Buffer]] = []
        targets = (detect.box_px, detect.points_px, detect.score, detect.count)
        for values, to in zip((boxes, points, scores, count), targets, strict=True):
            flat = Spec("float32", (1, values.size))
            table = backend.allocate(flat)
            backend.upload(values.reshape(1, -1), table)
            self._pairs.append((table, Buffer(flat, to.ptr, to.owner, to.device)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detect, name)

    def __call__(self, frame: Frame) -> None:
        """Detect, then the given faces."""
        self._detect(frame)
        for table, to in self._pairs:
            gather_rows_into(self._detect.backend, table, self._row, to)


@contextmanager
def opened(profile: Profile, k: int, size: tuple[int, int], *, timed: bool) -> Iterator[Pipeline]:
    """A pipeline that finds k faces in every frame; not `timed`, without the events that take times by stage."""
    backend = open_backend_for(profile, say=lambda line: print(line, file=sys.stderr))
    assert isinstance(backend, CudaBackend)
    backend.spans.timed = timed
    try:
        pipeline = open_pipeline(
            profile,
            sources=[SAMPLE / "source_1.png"],
            size=size,
            colour=Colour(),
            source_face="largest",
            say=lambda line: print(line, file=sys.stderr),
            backend=backend,
        )
        pipeline.detect = GivenFaces(pipeline.detect, k, size)  # type: ignore[assignment]
        warm_up(pipeline)
        yield pipeline
    finally:
        backend.close()


def measure(profile: Profile, k: int, size: tuple[int, int], frames: int, *, timed: bool = True) -> dict[str, Any]:
    """All figures for k faces."""
    start = time.perf_counter()
    with opened(profile, k, size, timed=timed) as pipeline:
        open_s = time.perf_counter() - start
        backend = pipeline.backend
        assert isinstance(backend, CudaBackend)
        noise = np.random.default_rng(0).integers(16, 236, (size[1] * 3 // 2, size[0]), np.uint8)
        pictures = [to_nv12(noise, i) for i in range(frames)]
        list(live_mode(pipeline, pictures[:20]))
        pipeline.timings.stages.clear()
        before = backend.driver.calls.copy()
        steps_ms, waits_ms = _steps(pipeline, pictures)
        calls = backend.driver.calls - before
        backend.wait_idle()
        stages = {name: _spread_of(held) for name, held in pipeline.timings.stages.items()}
        start = time.perf_counter()
        faces = sum(count for count, _ in file_mode(pipeline, pictures))
        file_ms = (time.perf_counter() - start) * 1e3 / frames
        own_ms = _sessions_own_ms(pipeline, backend, k)
        free = backend.driver.free_bytes()
        return {
            "faces": faces / frames,
            "open_s": round(open_s, 2),
            "step_ms": _spread(steps_ms),
            "host_ms": _spread(np.array(steps_ms) - np.array(waits_ms)),
            "file_mode_ms_a_frame": round(file_ms, 3),
            "gpu_ms": round(_gpu_ms(pipeline, backend, pictures[:50]), 4),
            "stages_ms": stages,
            "sessions_own_graphs_ms": own_ms,
            "calls_a_frame": {name: round(count / frames, 2) for name, count in sorted(calls.items())},
            "memory_bytes": backend.memory_by_part()
            | {"in use on the device": backend.driver.facts.memory_bytes - free},
            "copy_gb_s": round(_copy_gb_s(backend), 1),
        }


def _steps(pipeline: Pipeline, pictures: list[Decoded]) -> tuple[list[float], list[float]]:
    """ms of every load and step on the host, and how much of it was waiting."""
    backend = pipeline.backend
    wait, waited, steps, waits = backend.wait_status, [0.0], [], []

    def timed(buffer: Buffer) -> Any:
        start = time.perf_counter()
        words = wait(buffer)
        waited[0] = (time.perf_counter() - start) * 1e3
        return words

    backend.wait_status = timed  # type: ignore[method-assign]
    frames = live_mode(pipeline, pictures)
    for _ in pictures:
        start = time.perf_counter()
        next(frames)
        steps.append((time.perf_counter() - start) * 1e3)
        waits.append(waited[0])
    backend.wait_status = wait  # type: ignore[method-assign]
    return steps, waits


def _gpu_ms(pipeline: Pipeline, backend: CudaBackend, pictures: list[Decoded]) -> float:
    """Mean time on the compute stream of find and make, with nothing idle in between."""
    driver = backend.driver
    begin, end = driver.event(timed=True), driver.event(timed=True)
    frame = pipeline.frames[0]
    pipeline.load(frame, pictures[0])
    pipeline.step(frame)
    backend.wait_idle()
    driver.record(begin, backend.compute)
    for _ in pictures:
        pipeline.begin(frame)
        pipeline._replay("make", pipeline._make, frame, frame.face_count)
    driver.record(end, backend.compute)
    backend.wait_idle()
    return driver.elapsed_ms(begin, end) / len(pictures)


def _sessions_own_ms(pipeline: Pipeline, backend: CudaBackend, k: int) -> dict[str, float]:
    """Mean of every network's own graph, or call, as this frame runs it."""
    rows = next(count for count in pipeline.face_counts if count >= k)
    generate = pipeline.generate
    runs: dict[str, Callable[[], None]] = {}
    for one in pipeline.detect.passes:
        size = "x".join(map(str, one.size_px))
        runs[f"detector {size}"] = _run_of(pipeline.detect.session, {"image": one.image}, one.outputs)
    ins = {"target": pipeline.crop.inputs[rows], "source": generate.sources[rows]}
    runs[f"swapper x{rows}"] = _run_of(generate.session, ins, {"output": generate.outputs[rows]})
    if pipeline.refine is not None:
        image = {"image": pipeline.refine.crop.inputs[rows]}
        runs[f"refiner x{rows}"] = _run_of(pipeline.refine.session, image, {"points": pipeline.refine.points[rows]})
    return {name: round(_mean_ms(backend, run), 4) for name, run in runs.items()}


def _run_of(session: Session, inputs: dict[str, Buffer], outputs: dict[str, Buffer]) -> Callable[[], None]:
    return lambda: session.run(inputs, outputs)


def _mean_ms(backend: CudaBackend, run: Callable[[], None], repeats: int = 50) -> float:
    recording = backend._recorder.record(run) if backend.mode == "graphs" else None
    driver = backend.driver
    begin, end = driver.event(timed=True), driver.event(timed=True)
    for turn in range(repeats + 5):
        if turn == 5:
            driver.record(begin, backend.compute)
        if recording is not None:
            backend._recorder.replay(recording)
        else:
            run()
    driver.record(end, backend.compute)
    driver.wait_event(end)
    return driver.elapsed_ms(begin, end) / repeats


def _copy_gb_s(backend: CudaBackend, nbytes: int = 256 << 20) -> float:
    """Bytes read and written a second by a copy on the device: the ceiling that memory sets."""
    driver = backend.driver
    one, other = driver.allocate(nbytes), driver.allocate(nbytes)
    row = 1 << 20
    copy = Copy2d(one, row, other, row, row, nbytes // row)
    ms = _timed(backend, lambda: driver.copy_rows(copy, backend.compute))
    return 2 * nbytes / ms / 1e6 if ms else 0.0


def _timed(backend: CudaBackend, run: Callable[[], None], repeats: int = 20) -> float:
    driver = backend.driver
    begin, end = driver.event(timed=True), driver.event(timed=True)
    run()
    driver.record(begin, backend.compute)
    for _ in range(repeats):
        run()
    driver.record(end, backend.compute)
    driver.wait_event(end)
    return driver.elapsed_ms(begin, end) / repeats


def _spread(values: Any) -> dict[str, float]:
    held = np.asarray(values)
    return {name: round(float(np.percentile(held, at)), 4) for name, at in (("p50", 50), ("p99", 99), ("max", 100))}


def _spread_of(histogram: Any) -> dict[str, float]:
    return {
        "calls": histogram.count,
        "p50": round(histogram.percentile_ms(50), 4),
        "p99": round(histogram.percentile_ms(99), 4),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure every face count asked for; print one JSON, and write it with --write."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measure", description=__doc__)
    parser.add_argument("profile", help="a profile's name or .toml file")
    parser.add_argument("--twins", action="store_true", help="published topologies with random weights, for cost only")
    parser.add_argument("--session", choices=("tensorrt", "onnxruntime-cuda"), default="tensorrt")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), help="default: the profile's")
    parser.add_argument("--faces", default="1,4", help="face counts, one measurement each")
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--untimed", action="store_true", help="no events by stage: what taking the times costs")
    parser.add_argument("--write", type=Path, help="a JSON file; it appears when it is complete")
    chosen = parser.parse_args(arguments)
    profile = load_profile(chosen.profile)
    precision = chosen.precision or profile.precision
    profile = dataclasses.replace(profile, backend="cuda", session=chosen.session, precision=precision)
    width, height = (int(side) for side in chosen.size.split("x"))
    counts = [int(count) for count in chosen.faces.split(",")]
    with ExitStack() as stack:
        twins = stack.enter_context(twins_in_place(profile)) if chosen.twins else {}
        if chosen.session == "tensorrt":
            build_plans(chosen.profile, precision, "--size", chosen.size)
        timed = not chosen.untimed
        cells = {f"{k} faces": measure(profile, k, (width, height), chosen.frames, timed=timed) for k in counts}
    weights = f"twins: {', '.join(twins.values())}" if twins else "the profile's own models"
    said = conditions(profile, session=chosen.session, precision=precision, weights=weights, size_px=[width, height])
    text = json.dumps({"conditions": said, "cells": cells}, indent=1)
    if chosen.write:
        part = chosen.write.with_suffix(".part")
        part.write_text(text + "\n")
        part.replace(chosen.write)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
