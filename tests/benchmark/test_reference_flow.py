"""The bars of the first release, as a ratio within one process: see reference_flow.py."""

from __future__ import annotations

import pytest

from tests.benchmark.reference_flow import measure

pytestmark = pytest.mark.benchmark_suite


def test_the_steps_around_the_networks_beat_the_reference_flow() -> None:
    figures = measure(40)
    assert figures["conditions"]["faces"] == 1
    assert figures["ours_total_ms"] <= 8.0
    assert figures["ratio"] >= 8.0
