"""The governor's ladder on a GPU: every rung recorded when the pipeline opens, and what that takes of its memory."""

from __future__ import annotations

import pytest

from engine.backends import Networks
from profiles.profile import load_profile
from tests.clips import U8
from tests.gpu.conftest import cuda_of, open_on
from tests.recording.flows import live_mode, to_nv12

pytestmark = pytest.mark.gpu


def test_going_up_and_down_the_ladder_allocates_and_records_nothing(any_networks: Networks, frames: list[U8]) -> None:
    profile = load_profile("tiny")
    with open_on(any_networks, profile) as plain:
        without = cuda_of(plain).driver.free_bytes()
    with open_on(any_networks, profile, governed=True) as pipeline:
        driver = cuda_of(pipeline).driver
        print(f"the ladder takes {(without - driver.free_bytes()) / 1e6:.1f} MB of the GPU's memory")
        list(live_mode(pipeline, [to_nv12(frames[0], 0)]))
        calls, free, counters = driver.calls.copy(), driver.free_bytes(), vars(pipeline.backend.counters).copy()
        counts = []
        for index, rung in enumerate((0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 2, 0)):
            pipeline.rung = rung
            picture = to_nv12(frames[index % len(frames)], index)
            counts += [frame.face_count for frame in live_mode(pipeline, [picture])]
        made, driver_free = driver.calls - calls, driver.free_bytes()
    assert counts == [2] * 8 + [1, 1, 2, 2]
    after = vars(pipeline.backend.counters)
    for name in ("allocations", "sessions", "launches", "uploads"):
        assert after[name] == counters[name], name
    assert not any("Capture" in name or "Instantiate" in name or "Alloc" in name for name in made), made
    assert free - driver_free < 1 << 20
