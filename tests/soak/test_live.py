"""The soak's own arithmetic, and a short run of it."""

from __future__ import annotations

import pytest

from tests.av_marks import BeepFinder, FlashFinder
from tests.live_peer import Received
from tests.soak.live import RATE, _missing, av_offset, measure, memory


def test_the_slope_is_the_least_squares_line_after_warm_up() -> None:
    """500 MB at once, then 1 kB a second: warm-up is no growth."""
    seen = [(float(at), 5e8 * min(at / 50, 1.0) + 1e3 * at) for at in range(600)]
    told = memory(seen)
    assert told["slope_kb_per_min"] == pytest.approx(60.0, abs=0.1)
    assert told["slope_of_last_half_kb_per_min"] == pytest.approx(60.0, abs=0.1)
    assert told["last_mb"] == told["most_mb"] == pytest.approx(500.6, abs=0.1)


def test_what_a_stall_cost_is_told_from_what_else_is_missing() -> None:
    gone = {40, *range(10 * RATE, 13 * RATE)}
    numbers = [number for number in range(500) if number not in gone]
    assert _missing(numbers, (10.0, 4.0)) == {"by_the_stall": 75, "else": 1}
    assert _missing(numbers, (10.0, 0.0)) == {"by_the_stall": 0, "else": 76}


def test_offsets_are_told_by_minute_and_held_to_r37() -> None:
    flashes, beeps = FlashFinder(RATE), BeepFinder()
    flashes.onsets_s = [2.0 * at for at in range(1, 61)]
    beeps.onsets_s = [at - (0.0 if at < 100 else 0.02) for at in flashes.onsets_s]
    told = av_offset(Received(flashes=flashes, beeps=beeps))
    assert told["within_r37"] == "49 of 60", "20 ms early is too early"
    assert told["sound_early_ms"] == [0.0, 0.0, 20.0]
    assert sorted(told["by_minute_ms"]) == ["0", "1"]
    assert told["by_minute_ms"]["1"][2] == 20.0


@pytest.mark.full
@pytest.mark.timeout(180)
def test_sound_and_picture_lie_together_after_a_stall() -> None:
    told = measure(24.0, "tiny", bare=True, stall_s=3.0)
    assert told["received_in_order"]
    assert (told["received_numbers_off"], told["decoder_errors"]) == (0, 0)
    offset = told["av_offset"]
    found, of = offset["within_r37"].split(" of ")
    assert found == of
    assert int(of) >= 3
    assert told["packets"][0] == told["packets"][1] > 0
