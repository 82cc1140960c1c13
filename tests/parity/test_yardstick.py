"""The yardsticks do the work that they are timed for: all three ways put the same face on the same faces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from engine.bench.input import SAMPLE, BenchInput, sample_input
from engine.bench.measure import Cell, open_cell
from profiles.profile import Mask, Profile, load_profile
from tests.benchmark.ways import BestOpenWay, Ours, RoopWay
from tests.benchmark.yardstick import Case, measure

U8 = npt.NDArray[np.uint8]


def luma(nv12: U8, source: BenchInput) -> npt.NDArray[np.float64]:
    return nv12[: source.size_px[1], : source.size_px[0]].astype(np.float64)


def psnr_db(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one - other) ** 2)))


@pytest.fixture
def profile() -> Profile:
    """No refiner, as the yardsticks have none, and the mask of (a)."""
    tiny = load_profile("tiny")
    bare = dataclasses.replace(tiny.models, refiner="")
    return dataclasses.replace(tiny, backend="cpu", models=bare, mask=Mask(kinds=("erode_blur",)))


@pytest.mark.parametrize(("kind", "least_db"), [(RoopWay, 33.0), (BestOpenWay, 28.0)])
def test_all_ways_change_the_same_faces_alike_and_nothing_else(
    profile: Profile, kind: Callable[..., RoopWay | BestOpenWay], least_db: float
) -> None:
    source = sample_input((1280, 720), 2, 2)
    assert source.truth is not None
    with open_cell(Cell("cell", profile, source, SAMPLE / "source_1.png"), lambda line: None) as pipeline:
        latent = pipeline.backend.to_host(pipeline.generate.latents)[:1]
        ours = luma(Ours(pipeline, source).frame(0), source)
        assert pipeline.frames[0].face_count == 2
    threads = cv2.getNumThreads()
    try:
        theirs = luma(kind(profile, source, latent, 2, with_truth=False).frame(0), source)
    finally:
        cv2.setNumThreads(threads)
    before = luma(source.frames[0], source)
    outside = np.ones(before.shape, dtype=bool)
    for box in source.truth[0].boxes:
        x0, y0, x1, y1 = box.astype(int)
        width, height = x1 - x0, y1 - y0
        inside = np.s_[y0 + height // 5 : y1 - height // 5, x0 + width // 5 : x1 - width // 5]
        assert psnr_db(ours[inside], theirs[inside]) > least_db
        assert psnr_db(before[inside], theirs[inside]) < psnr_db(ours[inside], theirs[inside]) - 8.0
        outside[max(y0 - height, 0) : y1 + height, max(x0 - width, 0) : x1 + width] = False
    assert np.abs(theirs - before)[outside].max() <= 2.0
    assert np.array_equal(ours[outside], before[outside])


def test_rows_of_a_frame_are_added_up_and_compared(profile: Profile) -> None:
    source = sample_input((640, 360), 2, 2)
    threads = cv2.getNumThreads()
    try:
        case = measure(profile, source, 2, 2, with_truth=False)
    finally:
        cv2.setNumThreads(threads)
    told = case.to_json()
    for way in ("ours", "a", "b"):
        assert {"in and out", "detect", "crop", "paste"} <= set(told[way]["around"])
        assert set(told[way]["networks"]) == {"detect", "generate"}
    fixed = {
        way: {"around": {"in and out": 1.0, "paste": ms}, "networks": {"detect": 2.0}}
        for way, ms in (("ours", 1.0), ("a", 9.0), ("b", 3.0))
    }
    told = Case((2, 2), 1, fixed, {"ours": 2.0, "a": 8.0, "b": 3.0}).to_json()
    assert told["a"]["sum"] == {"around": 10.0, "around_without_in_and_out": 9.0, "whole": 12.0, "whole_cpu": 8.0}
    ratios = {"around": 5.0, "around_without_in_and_out": 9.0, "whole": 3.0, "whole_cpu": 4.0}
    assert told["ours_faster_than_a"] == ratios
    ratios = {"around": 2.0, "around_without_in_and_out": 3.0, "whole": 1.5, "whole_cpu": 1.5}
    assert told["ours_faster_than_b"] == ratios
