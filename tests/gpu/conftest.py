"""What the GPU tests share: pipelines on a real device, with each library that can run networks there.

Plans of the tiny pack are built on first use into the user's own plan folder, and found there the next time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from engine.backends import Networks, open_backend
from engine.backends.cuda import CudaBackend, Mode
from engine.errors import DeviceError
from engine.pipeline import Pipeline, open_pipeline
from kernels.launch import Colour
from profiles.profile import Profile, load_profile
from tests.clips import U8, decoded
from tests.gpu.plans import build_plans

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
SIZE = (1280, 720)
LIBRARIES: tuple[Literal["tensorrt", "onnxruntime-cuda"], ...] = ("tensorrt", "onnxruntime-cuda")
_FRAMES: list[U8] = []
_BUILT: dict[str, str] = {}  # precision: what the build said, empty when it went well


@pytest.fixture(params=LIBRARIES)
def networks(request: pytest.FixtureRequest, gpu: None) -> Networks:
    """Each library in turn, in FP32; one that is not installed is a skip, since no GPU is missing then."""
    return networks_of(request.param, "fp32")


@pytest.fixture
def any_networks(gpu: None) -> Networks:
    """The first library that is there, for tests that are not about networks."""
    return first_networks("fp32")


def first_networks(precision: str) -> Networks:
    """The first library that is installed; a failure without any, since a GPU test needs one."""
    reasons = []
    for library in LIBRARIES:
        try:
            return networks_of(library, precision)
        except pytest.skip.Exception as reason:
            reasons.append(str(reason))
    pytest.fail("no library runs networks on this GPU: " + "; ".join(reasons))


def networks_of(library: Literal["tensorrt", "onnxruntime-cuda"], precision: str) -> Networks:
    """This library with the tiny pack's plans built, where it takes plans."""
    wanted = Networks(library, precision, f"python -m build_engines tiny --precision {precision}")
    try:
        open_backend("cuda", threads=2, say=print, networks=wanted).close()
    except DeviceError as error:
        pytest.skip(f"{library}: {error}")
    if library == "tensorrt":
        build("tiny", precision)
    return wanted


def build(profile: str, precision: str, *more: str) -> None:
    """Plans for this GPU; fails the test with the build's own words."""
    key = f"{profile} {precision} {' '.join(more)}"
    if key not in _BUILT:
        try:
            build_plans(profile, precision, *more)
            _BUILT[key] = ""
        except RuntimeError as error:
            _BUILT[key] = str(error)
    if _BUILT[key]:
        pytest.fail(f"plans for {key}: {_BUILT[key]}")


@pytest.fixture
def frames() -> list[U8]:
    """The beginning of the sample clip, NV12."""
    if not _FRAMES:
        _FRAMES.extend(decoded(SAMPLE / "clip.mp4", 24))
    return _FRAMES


def tiny(*, refiner: bool = False, slots: int = 6, every: int = 1) -> Profile:
    """The tiny profile, without its refiner unless asked, so that find may run ahead of make."""
    profile = load_profile("tiny")
    models = profile.models if refiner else dataclasses.replace(profile.models, refiner="")
    detect = dataclasses.replace(profile.detect, every=every)
    return dataclasses.replace(profile, models=models, slots=slots, detect=detect)


def open_on(
    networks: Networks | None,
    profile: Profile,
    *,
    mode: Mode = "graphs",
    faces: Sequence[str] = ("all",),
    size: tuple[int, int] = SIZE,
    governed: bool = False,
) -> Pipeline:
    """A pipeline on the GPU, or on the CPU for no networks; `governed` with the profile's ladder."""
    name = "cpu" if networks is None else "cuda"
    backend = open_backend(name, threads=4, say=print, networks=networks or Networks())
    if isinstance(backend, CudaBackend):
        backend.mode = mode
    try:
        return open_pipeline(
            profile,
            sources=[SAMPLE / "source_1.png"],
            size=size,
            colour=Colour(),
            faces=faces,
            backend=backend,
            governed=governed,
        )
    except BaseException:
        backend.close()
        raise


def cuda_of(pipeline: Pipeline) -> CudaBackend:
    """Its backend, which is the GPU's."""
    assert isinstance(pipeline.backend, CudaBackend)
    return pipeline.backend


@pytest.fixture
def cpu() -> Iterator[Pipeline]:
    """The same pipeline on the CPU: what a GPU's frames are compared with."""
    with open_on(None, tiny()) as pipeline:
        yield pipeline
