"""Durations that a device tells late are kept with the frame they belong to, also when the next one has been begun."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from engine.backends.driver import Event
from engine.pipeline import open_pipeline
from kernels.launch import Colour
from profiles.profile import load_profile
from tests.clips import decoded
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"


class CountingDriver(RecordingDriver):
    """Its n-th reading of two events is n ms, so that each is told apart."""

    read = 0

    def elapsed_ms(self, begin: Event, end: Event) -> float:
        self.read += 1
        return float(self.read)


@pytest.mark.parametrize("in_graph", [True, False])
def test_a_late_span_goes_to_its_own_frame(in_graph: bool) -> None:
    tiny = load_profile("tiny")
    profile = dataclasses.replace(tiny, models=dataclasses.replace(tiny.models, refiner=""))
    frames = decoded(SAMPLE / "clip.mp4", 8)
    backend = open_backend(CountingDriver(), in_graph=in_graph)
    source, size = [SAMPLE / "source_1.png"], (1280, 720)
    with open_pipeline(profile, sources=source, size=size, colour=Colour(), backend=backend) as pipeline:
        assert pipeline.lookahead == 1
        pipeline.timings.clear()
        begun = pipeline.begin(frames[0])
        for picture in frames[1:]:
            ahead = pipeline.begin(picture)
            pipeline.finish(begun)
            begun = ahead
        pipeline.finish(begun)
        history = pipeline.timings.history
        told = {}
        for index in range(len(frames)):
            record = history.find(index)
            assert record is not None
            told[index] = record.stages_ms()
    # the last ones have not been read yet; of the others nothing is missing, and nothing is twice
    for stages in list(told.values())[:5]:
        assert {"detect", "track", "crop", "generate", "paste", "frame"} <= set(stages)
    detects = [stages["detect"] for stages in told.values() if "detect" in stages]
    makes = [stages["generate"] for stages in told.values() if "generate" in stages]
    assert detects == sorted(detects)
    assert makes == sorted(makes)
    assert all(value == int(value) for value in detects + makes)
    counted = pipeline.timings.stages["detect"].count
    assert len(detects) == counted
