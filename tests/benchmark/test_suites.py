"""Timings of every kernel on a frame's path, of every session and of the pipeline, each beside its roofline.

    make bench

What a kernel is given is what the pipeline gives it: one warm frame of 1080p with four faces is recorded, and each of
its launches is run again. The bars are of this project; `extra_info` carries the ceilings that were measured here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine.bench.input import SAMPLE, sample_input
from engine.bench.measure import Cell, open_cell
from engine.pipeline import Pipeline
from engine.timing import Timings
from models.model_files import find
from models.spec import Spec
from profiles.profile import load_profile
from tests.benchmark.profiler_overhead import one_profiled_frame
from tests.benchmark.roofline import Work, ceilings, network_work

pytestmark = pytest.mark.benchmark_suite

SIZE_PX = (1920, 1080)
FACES = 4
THREADS = len(os.sched_getaffinity(0))


class Launch(NamedTuple):
    """One launch of a frame, as the backend got it."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: Any


class Recorded(NamedTuple):
    """An open pipeline, and what one warm frame launched in it."""

    pipeline: Pipeline
    launches: list[Launch]
    picture: Any


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    profile = dataclasses.replace(load_profile("tiny"), backend="cpu")
    source = sample_input(SIZE_PX, FACES, 4)
    with open_cell(Cell("suite", profile, source, SAMPLE / "source_1.png"), lambda line: None) as pipeline:
        for picture in source.frames:
            frame = pipeline.step(picture)
        assert frame.face_count == FACES
        launches: list[Launch] = []
        run = pipeline.backend.launch

        def record(kernel: str, grid: Any, block: Any, args: Any) -> None:
            launches.append(Launch(kernel, grid, block, args))
            run(kernel, grid, block, args)

        pipeline.backend.launch = record  # type: ignore[method-assign]
        pipeline.step(source.frames[0])
        pipeline.backend.launch = run  # type: ignore[method-assign]
        yield Recorded(pipeline, launches, source.frames[0])


def kernel_work(pipeline: Pipeline, kernel: str, at: int) -> Work | None:
    """Bytes that the at-th launch of a kernel in a frame must read and write; None for those that move next to none.

    Multiply-adds are those of the interpolation alone.
    """
    frame_bytes = SIZE_PX[0] * SIZE_PX[1] * 3 // 2
    if kernel == "letterbox":
        one = pipeline.detect.passes[at]
        outputs = int(np.prod(one.image.shape))
        return Work(min(frame_bytes, outputs * 4) + 4 * outputs, 4 * outputs)
    if kernel == "crop":
        crop = (pipeline.refine.crop if pipeline.refine else pipeline.crop, pipeline.crop)[at]
        outputs = int(np.prod(crop.inputs[FACES].shape))
        return Work(4 * outputs + outputs // 2, 4 * outputs)
    if kernel == "paste":
        boxes = pipeline.backend.to_host(pipeline.paste.rectangles[FACES])
        pixels = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum())
        return Work(pixels * 3 + 4 * int(np.prod(pipeline.generate.outputs[FACES].shape)), pixels * 16)
    return None


KERNELS = (
    *(("letterbox", at) for at in range(2)),
    *(("crop", at) for at in range(2)),
    *((name, 0) for name in ("cut_score", "scrfd_decode", "nms", "track", "similarity", "refine_points")),
    *((name, 0) for name in ("smooth_points", "gather_rows", "paste_rectangles", "paste")),
)


@pytest.mark.parametrize(("kernel", "at"), KERNELS, ids=lambda value: str(value))
def test_kernel(recorded: Recorded, benchmark: Any, kernel: str, at: int) -> None:
    pipeline, launches, _ = recorded
    launch = [one for one in launches if one.kernel == kernel][at]
    benchmark.group = "kernels, 1920x1080, 4 faces"
    benchmark.pedantic(pipeline.backend.launch, launch, rounds=60, warmup_rounds=5)
    _beside(benchmark, kernel_work(pipeline, kernel, at))


def test_no_kernel_of_a_frame_is_left_out(recorded: Recorded) -> None:
    launched = {launch.kernel for launch in recorded.launches}
    assert launched == {kernel for kernel, _ in KERNELS} | {"reset_candidates"}


SESSIONS: tuple[tuple[str, dict[str, tuple[int, ...]]], ...] = (
    ("tiny_detector", {"image": (1, 3, 384, 640)}),
    ("tiny_refiner", {"image": (1, 3, 96, 96)}),
    ("tiny_embedder", {"image": (1, 3, 112, 112)}),
    *(("tiny_swapper", {"target": (k, 3, 128, 128), "source": (k, 512)}) for k in (1, 4)),
)


@pytest.mark.parametrize(("name", "shapes"), SESSIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_session(recorded: Recorded, benchmark: Any, name: str, shapes: dict[str, Any]) -> None:
    backend, model = recorded.pipeline.backend, find(name)
    session = backend.open_session(model)
    inputs = {key: backend.allocate(Spec("float32", shape)) for key, shape in shapes.items()}
    k = next(iter(shapes.values()))[0]
    outputs = {
        key: backend.allocate(Spec("float32", shape))
        for key, shape in _outputs(recorded.pipeline, name, k, shapes).items()
    }
    benchmark.group = "sessions"
    benchmark.pedantic(session.run, (inputs, outputs), rounds=30, warmup_rounds=3)
    _beside(benchmark, network_work(model, shapes))


def _outputs(pipeline: Pipeline, name: str, k: int, shapes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a session's outputs, as the stages have them."""
    if name == "tiny_detector":
        return {key: buffer.shape for key, buffer in pipeline.detect.passes[0].outputs.items()}
    if name == "tiny_swapper":
        return {"output": pipeline.generate.outputs[k].shape}
    return {"points": (k, 5, 2)} if name == "tiny_refiner" else {"embedding": (k, 512)}


def test_pipeline(recorded: Recorded, benchmark: Any) -> None:
    pipeline, _, picture = recorded
    benchmark.group = "pipeline, 1920x1080, 4 faces"
    benchmark.pedantic(pipeline.step, (picture,), rounds=20, warmup_rounds=2)
    works = [network_work(find(name), shapes) for name, shapes in (SESSIONS[0], SESSIONS[4])]
    works += [network_work(find("tiny_refiner"), {"image": (FACES, 3, 96, 96)})]
    frame_bytes = 2 * SIZE_PX[0] * SIZE_PX[1] * 3 // 2
    whole = Work(frame_bytes + sum(one.moved_bytes for one in works), sum(one.multiply_adds for one in works))
    _beside(benchmark, whole)


def test_spans_of_a_frame_cost_less_than_20_us(benchmark: Any) -> None:
    timings = Timings()
    timings.watch({"frame": 40.0})
    indices = count()
    benchmark.group = "profiler"
    benchmark.pedantic(one_profiled_frame, (timings, indices), rounds=200, iterations=20, warmup_rounds=5)
    benchmark.extra_info["frame_us"] = round(benchmark.stats.stats.min * 1e6, 2)
    assert benchmark.stats.stats.min <= 20e-6


def _beside(benchmark: Any, work: Work | None) -> None:
    if work is None:
        return
    held = ceilings(THREADS)
    took_ms = benchmark.stats.stats.min * 1e3
    benchmark.extra_info |= held.beside(work, took_ms)
    benchmark.extra_info["ceilings"] = f"{held.gbytes_per_s:.1f} GB/s, {held.gmacs_per_s:.1f} GMAC/s"
    # a share above 1 would mean that the work or the ceiling is counted wrongly
    assert 0 < held.least_ms(work) / took_ms < 1.1
