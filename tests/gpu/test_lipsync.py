"""Talking frames on a GPU: like the CPU's, the same recorded or not, no wait of a frame for its own work."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends import Networks, open_backend
from engine.backends.cuda import CudaBackend, Mode
from engine.lipsync import LipsyncPipeline, open_lipsync
from models.contract import load_contract
from profiles.profile import load_profile
from tests.clips import U8
from tests.gpu.conftest import build
from tests.gpu.test_pipeline import PSNR_DB, psnr_db
from tests.lipsync_parts import sample_template
from tests.recording.flows import to_i420, to_nv12

pytestmark = pytest.mark.gpu

COUNT = 12


def opened(networks: Networks | None, mode: Mode = "graphs") -> LipsyncPipeline:
    """The embedded generator on the sample clip, on a GPU, or on the CPU for no networks."""
    if networks is not None and networks.session == "tensorrt":
        build("tiny_lipsync", networks.precision)
    backend = open_backend("cpu" if networks is None else "cuda", threads=4, say=print, networks=networks or Networks())
    if isinstance(backend, CudaBackend):
        backend.mode = mode
    profile = dataclasses.replace(load_profile("tiny_lipsync"), slots=3)
    try:
        template = sample_template(load_contract("tiny_lipsync"), COUNT)
        return open_lipsync(profile, template=template, backend=backend)
    except BaseException:
        backend.close()
        raise


def heard(pipeline: LipsyncPipeline, n: int) -> npt.NDArray[np.float32]:
    """Some condition for frame n."""
    return np.random.default_rng(n).normal(0, 1, pipeline.listen.conditions.shape).astype(np.float32)


def spoken(pipeline: LipsyncPipeline, frames: list[U8]) -> list[bytes]:
    """The frames with a mouth in each."""
    found = []
    for n, picture in enumerate(frames[:COUNT]):
        frame = pipeline.frames[n % len(pipeline.frames)]
        pipeline.load(frame, (to_nv12 if n % 2 else to_i420)(picture, n), 0)
        pipeline.finish(pipeline.begin(frame, n, heard(pipeline, n)))
        found.append(b"".join(plane.tobytes() for plane in frame.planes()))
    return found


def test_frames_are_the_cpus_to_rounding(networks: Networks, frames: list[U8]) -> None:
    with opened(None) as cpu:
        wanted = spoken(cpu, frames)
    with opened(networks) as pipeline:
        got = spoken(pipeline, frames)
    found_db = [psnr_db(one, other) for one, other in zip(got, wanted, strict=True)]
    print(f"{networks.session}: cuda against cpu, PSNR {min(found_db):.1f} to {max(found_db):.1f} dB")
    assert min(found_db) >= PSNR_DB
    changed_db = [psnr_db(one, frame.tobytes()) for one, frame in zip(got, frames, strict=False)]
    assert max(changed_db) < PSNR_DB - 5


def test_graphs_change_no_byte(networks: Networks, frames: list[U8]) -> None:
    results = []
    modes: tuple[Mode, ...] = ("graphs", "eager")
    for mode in modes:
        with opened(networks, mode) as pipeline:
            results.append(spoken(pipeline, frames))
    assert results[0] == results[1]


def test_a_warm_frame_brings_one_upload_and_allocates_nothing(networks: Networks, frames: list[U8]) -> None:
    with opened(networks) as pipeline:
        spoken(pipeline, frames)
        before = dataclasses.replace(pipeline.backend.counters)
        spoken(pipeline, frames)
        after = pipeline.backend.counters
        assert after.allocations == before.allocations
        assert after.uploads - before.uploads == COUNT
        assert after.waits - before.waits == COUNT  # each for what was done to its slot a ring ago
        assert {"crop", "generate", "paste"} <= set(pipeline.timings.stages)
