"""Memory stays under 1 GB at 1080p and does not grow."""

from __future__ import annotations

import pytest

from tests.soak.memory import measure


def test_memory_is_bounded_over_a_short_run() -> None:
    figures = measure(300)
    assert figures["frames"] == 300
    assert figures["peak_mb"] <= 1000
    # pictures that only a full round of the garbage collector frees grow by 190,000 bytes a frame
    assert figures["growth_bytes_per_frame"] <= 40_000


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_memory_is_flat_over_3000_frames() -> None:
    figures = measure(3000)
    assert figures["frames"] == 3000
    assert figures["peak_mb"] <= 1000
    # 3,000 frames at this rate of growth would be 3 MB: less than one working frame
    assert figures["growth_bytes_per_frame"] <= 1000
