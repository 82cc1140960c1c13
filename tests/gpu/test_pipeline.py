"""Whole frames on a GPU: like the CPU's, the same however they are run, and with the discipline of a warm frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

import engine
from engine.backends import Networks
from engine.frame import held_buffer
from engine.pipeline import Pipeline
from tests.clips import U8
from tests.discipline import broken_by
from tests.gpu.conftest import SAMPLE, SIZE, cuda_of, networks_of, open_on, tiny
from tests.recording.flows import Decoded, file_mode, to_i420, to_nv12

pytestmark = pytest.mark.gpu

PSNR_DB = 45.0  # whole frames, FP32 networks: other orders of adding, and points that move by thousandths of a px


def psnr_db(one: bytes, other: bytes) -> float:
    """Of two frames' codes."""
    a, b = (np.frombuffer(frame, np.uint8).astype(np.float64) for frame in (one, other))
    return float(10 * np.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-12)))


def mixed(frames: list[U8]) -> list[Decoded]:
    """As a software and as a hardware decoder give them, in turn."""
    return [(to_nv12 if i % 2 else to_i420)(frame, i) for i, frame in enumerate(frames)]


def share_latents(cpu: Pipeline, cuda: Pipeline) -> None:
    """Both put the same identity on: a plan may be built for another size than the source's picture."""
    cuda.backend.upload(cpu.backend.to_host(cpu.generate.latents), cuda.generate.latents)


def test_frames_are_the_cpus_to_rounding(networks: Networks, cpu: Pipeline, frames: list[U8]) -> None:
    wanted = list(file_mode(cpu, mixed(frames)))
    with open_on(networks, tiny()) as pipeline:
        share_latents(cpu, pipeline)
        got = list(file_mode(pipeline, mixed(frames)))
    assert [count for count, _ in got] == [count for count, _ in wanted] == [2] * len(frames)
    found_db = [psnr_db(one, other) for (_, one), (_, other) in zip(got, wanted, strict=True)]
    print(f"{networks.session}: cuda against cpu, PSNR {min(found_db):.1f} to {max(found_db):.1f} dB")
    assert min(found_db) >= PSNR_DB
    changed_db = [psnr_db(one, frame.tobytes()) for (_, one), frame in zip(got, frames, strict=True)]
    assert max(changed_db) < PSNR_DB - 5  # the faces differ from the clip's by more than the backends do


def test_graphs_change_no_byte(networks: Networks, frames: list[U8]) -> None:
    """Recorded or launch by launch, the next frame begun first or not: the same bytes."""
    results = []
    for mode, ahead in (("graphs", 4), ("graphs", 1), ("eager", 2)):
        with open_on(networks, tiny(), mode=mode) as pipeline:  # type: ignore[arg-type]
            results.append(list(file_mode(pipeline, mixed(frames), ahead=ahead)))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", ["refiner", "every third", "like"])
def test_every_shape_of_a_step_runs(kind: str, any_networks: Networks, frames: list[U8]) -> None:
    profile = tiny(refiner=kind != "like", every=3 if kind == "every third" else 1)
    faces = [f"like={SAMPLE / 'person_1.png'}"] if kind == "like" else ["all"]
    with open_on(any_networks, profile, faces=faces) as pipeline:
        counts = [count for count, _ in file_mode(pipeline, mixed(frames))]
    assert counts == [1 if kind == "like" else 2] * len(frames)


def test_a_warm_frame_keeps_the_discipline(gpu: None, frames: list[U8]) -> None:
    """Two graph launches, two copies, one wait on the compute side: counted by the driver's own names."""
    with open_on(networks_of("tensorrt", "fp32"), tiny()) as pipeline:
        pictures = [to_nv12(frame, i) for i, frame in enumerate(frames)]
        list(file_mode(pipeline, pictures[:12], ahead=1))
        driver = cuda_of(pipeline).driver
        before = driver.calls.copy()
        list(file_mode(pipeline, pictures[:10], ahead=1))
        calls = driver.calls - before
    print(dict(calls))
    # a copy that has run by the time it is asked for is not waited for: fewer waits are fine, more are not
    assert calls["cuEventSynchronize"] <= 20
    calls["cuEventSynchronize"] = 20
    assert broken_by(calls, 10) == []


def test_outside_the_faces_every_pixel_keeps_its_bits(any_networks: Networks, frames: list[U8]) -> None:
    with open_on(any_networks, tiny()) as pipeline:
        for original in frames[:4]:
            frame = pipeline.step(original)
            luma, chroma = frame.planes()
            rectangles = pipeline.backend.to_host(pipeline.paste.rectangles[2])
            inside: npt.NDArray[np.bool_] = np.zeros(luma.shape, dtype=bool)
            for x0, y0, x1, y1 in rectangles:
                inside[y0:y1, x0:x1] = True
            assert 0.01 < inside.mean() < 0.3
            assert np.array_equal(luma[~inside], original[: SIZE[1]][~inside])
            assert not np.array_equal(luma[inside], original[: SIZE[1]][inside])
            assert chroma.shape == (SIZE[1] // 2, SIZE[0])


def test_the_status_word_is_the_faces_that_the_device_holds(any_networks: Networks, frames: list[U8]) -> None:
    with open_on(any_networks, tiny()) as pipeline:
        for nv12 in frames[:6]:
            frame = pipeline.step(nv12)
            count = pipeline.backend.to_host(held_buffer(frame.faces.count))
            assert frame.face_count == int(count[0]) == 2


def test_closing_gives_the_memory_back(any_networks: Networks, frames: list[U8]) -> None:
    """Opened and closed again and again, the device's free memory does not fall: libraries keep some once."""
    free = []
    for _ in range(4):
        with open_on(any_networks, tiny()) as pipeline:
            pipeline.step(frames[0])
            driver = cuda_of(pipeline).driver
            free.append(driver.free_bytes())
    assert free[1] - free[3] <= 16 << 20, free


def test_one_step_through_the_public_api(any_networks: Networks, frames: list[U8]) -> None:
    profile = dataclasses.replace(tiny(), backend="cuda", session=any_networks.session)
    said: list[str] = []
    with engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=SIZE, say=said.append) as pipeline:
        assert pipeline.step(frames[0]).face_count == 2
    assert any(line.startswith("backend: cuda, ") for line in said)
