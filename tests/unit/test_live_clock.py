"""Six hours of a sender whose clock is off: sound and picture stay together, and near the machine's clock."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from engine.video.live_clock import CaptureClock, own_ticks

HOURS, RATE = 6, 2
PICTURES, SOUND = Fraction(1, 90_000), Fraction(1, 48_000)
# EBU R37: sound at most 5 ms early and 15 ms late
EARLY_MS, LATE_MS = 5.0, 15.0


def shifts(ppm: float, *, both_s: float, picture_s: float, stand_s: float) -> dict[str, list[tuple[float, float]]]:
    """(true time in s, how far it was moved in ms) of every stamp, for pictures and sound.

    Gaps of these lengths: both streams at 2 h, pictures alone at 3 h, and at 4 h the sender with its clock stands.
    """
    clock, rng = CaptureClock(), random.Random(1)
    found: dict[str, list[tuple[float, float]]] = {"picture": [], "sound": []}
    for number in range(HOURS * 3600 * RATE):
        true_s = number / RATE
        if 7200 <= true_s < 7200 + both_s:
            continue
        stood_s = stand_s if true_s > 14_400 else 0.0
        sender_s = true_s * (1 + ppm / 1e6) + 1000
        for kind, stream, base, ahead_s in (("picture", 0, PICTURES, 0.0), ("sound", 1, SOUND, 0.06)):
            if kind == "picture" and 10_800 <= true_s < 10_800 + picture_s:
                continue
            stamp = round((sender_s + ahead_s) / base)
            arrived_ns = round((true_s + stood_s + 0.02 + rng.random() * 0.05) * 1e9)
            offset = clock.offset(stream, stamp, base, arrived_ns)
            line_s = (own_ticks(stamp, base) + offset) / 90_000
            found[kind].append((true_s + ahead_s, (line_s - true_s - ahead_s - stood_s) * 1e3))
    assert clock.jumps == 0
    return found


@pytest.mark.parametrize("ppm", [-500.0, 0.0, 500.0])
def test_sound_and_picture_stay_together_for_six_hours(ppm: float) -> None:
    found = shifts(ppm, both_s=40.0, picture_s=20.0, stand_s=30.0)
    pictures = dict(found["picture"])
    apart = []
    for at, moved_ms in found["sound"]:
        # the pictures before and behind: where the line has a gap, one of them is on the sound's side of it
        near = [pictures[one] for one in (math.floor(at * RATE) / RATE, math.ceil(at * RATE) / RATE) if one in pictures]
        if near:
            apart.append(min((moved_ms - one for one in near), key=abs))
    assert len(apart) > HOURS * 3600 * RATE * 0.99
    assert -EARLY_MS < min(apart) <= max(apart) < LATE_MS
    # and the line stays with this machine's clock: but for the 10 s or so until a sender that stood is known to have
    off = [ms for at, ms in found["picture"] if not 14_400 <= at <= 14_440]
    assert max(off) - min(off) < 250
    if not ppm:
        assert len({round(ms, 3) for at, ms in found["picture"] if at < 14_400}) == 1
