"""Begin and finish: the next frame may be begun before the last is finished, and that changes no byte."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine.frame import Frame
from engine.pipeline import Pipeline
from profiles.profile import Profile, load_profile
from tests.clips import U8, decoded

SIZE = (1280, 720)


@pytest.fixture(scope="module")
def frames() -> list[U8]:
    return decoded(Path(__file__).parents[2] / "models" / "tiny" / "sample" / "clip.mp4", 8)


def without_refiner() -> Profile:
    profile = load_profile("tiny")
    return dataclasses.replace(profile, models=dataclasses.replace(profile.models, refiner=""))


@pytest.fixture
def pipeline(sample: Path) -> Iterator[Pipeline]:
    with engine.open_pipeline(without_refiner(), source=sample / "source_1.png", size=SIZE) as opened:
        yield opened


def test_beginning_the_next_frame_first_changes_no_byte(pipeline: Pipeline, frames: list[U8], sample: Path) -> None:
    assert pipeline.lookahead == 1
    ahead, begun = [], []
    for nv12 in frames:
        begun.append(pipeline.begin(nv12))
        if len(begun) > 1:
            ahead.append(_bytes_of(pipeline, begun.pop(0)))
    ahead.append(_bytes_of(pipeline, begun.pop(0)))
    with engine.open_pipeline(without_refiner(), source=sample / "source_1.png", size=SIZE) as other:
        in_turn = [_bytes_of(other, other.begin(nv12)) for nv12 in frames]
    assert ahead == in_turn
    assert len(set(ahead)) == len(frames)


def _bytes_of(pipeline: Pipeline, begun: Frame) -> bytes:
    frame = pipeline.finish(begun)
    assert frame.face_count == 2
    return b"".join(plane.tobytes() for plane in frame.planes())


def test_what_moves_or_edits_tracks_allows_no_lookahead(sample: Path) -> None:
    """Refining (tiny's own) and identifying write what the next find reads."""
    with engine.open_pipeline("tiny", source=sample / "source_1.png", size=SIZE) as refined:
        assert refined.lookahead == 0
    with engine.open_pipeline(
        without_refiner(), source=sample / "source_1.png", size=SIZE, faces=f"like={sample / 'person_1.png'}"
    ) as choosing:
        assert choosing.lookahead == 0


def test_a_frame_costs_its_own_time_and_not_that_of_the_one_begun_in_between(
    pipeline: Pipeline, frames: list[U8]
) -> None:
    start = time.perf_counter()
    first = pipeline.begin(frames[0])
    second = pipeline.begin(frames[1])
    pipeline.finish(first)
    pipeline.finish(second)
    wall_ms = (time.perf_counter() - start) * 1e3
    stages = pipeline.timings.stages
    whole, parts = stages["frame"].total_ms, sum(stages[name].total_ms for name in stages if name != "frame")
    assert stages["frame"].count == 2
    assert parts <= whole <= wall_ms
