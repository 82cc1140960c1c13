"""The file's times and the model's rate: nearest pictures, exact over an hour."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from engine.template.retime import Retiming, retimed

NTSC = Fraction(1001, 30000)


@pytest.mark.parametrize("tick", [Fraction(1, 25), Fraction(1, 12800), Fraction(1, 1000)])
def test_the_same_rate_shows_every_picture_once(tick: Fraction) -> None:
    pts = [round(n / 25 / tick) for n in range(100)]
    assert retimed(pts, round(1 / 25 / tick), tick, Fraction(25)).tolist() == list(range(100))


def test_milliseconds_of_matroska_at_ntsc_rates_lose_no_picture() -> None:
    for count in range(2, 200):
        pts = [round(n * NTSC * 1000) for n in range(count)]
        assert retimed(pts, 33, Fraction(1, 1000), 1 / NTSC).tolist() == list(range(count)), count


@pytest.mark.parametrize(
    ("frame_s", "rate"), [(NTSC, 25), (Fraction(1, 50), 25), (Fraction(1, 60), 20), (NTSC / 2, 25)]
)
def test_an_hour_does_not_drift(frame_s: Fraction, rate: int) -> None:
    count = int(3600 / frame_s)
    shown = retimed(range(count), 1, frame_s, Fraction(rate))
    assert abs(len(shown) - 3600 * rate) <= 1
    assert (np.diff(shown) >= 0).all()
    for n in (0, 1, 999, len(shown) // 2, len(shown) - 2, len(shown) - 1):
        wanted = min((abs(i * frame_s - Fraction(n, rate)), i) for i in range(max(0, shown[n] - 2), shown[n] + 3))
        assert shown[n] == min(wanted[1], count - 1)


def test_uneven_times_show_the_nearest_and_of_two_the_earlier() -> None:
    # pictures at 0, 10, 20, 100 and 130 ms; frames every 50 ms until 180 ms
    assert retimed([0, 10, 20, 100, 130], 50, Fraction(1, 1000), Fraction(20)).tolist() == [0, 2, 3, 4]
    # an instant half way between two pictures
    assert retimed([0, 100], 100, Fraction(1, 1000), Fraction(20)).tolist() == [0, 0, 1, 1]


def test_what_is_told_while_reading_is_what_comes_out_at_the_end() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        pts = np.cumsum(random.integers(1, 90, 60)).tolist()
        rate = Fraction(int(random.integers(10, 40)))
        shown = retimed(pts, 40, Fraction(1, 1000), rate)
        timing, until, used = Retiming(Fraction(1, 1000), rate), -1, []
        for index, (one, other) in enumerate(zip(pts, [*pts[1:], None], strict=True)):
            last = other is None
            now = timing.count(pts[0], one, 40) - 1 if last else timing.between(pts[0], one, other)
            used += [index] if now > until else []
            until = max(until, now)
        assert used == sorted(set(shown.tolist()))
