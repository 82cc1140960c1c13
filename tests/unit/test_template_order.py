"""The order of a template's frames: to and fro without a repeated turning frame, and the way into silence."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.template.order import FrameOrder


def shown(order: FrameOrder, speaks: bool, steps: int) -> list[int]:
    return [order.next(speaks) for _ in range(steps)]


def test_turning_points_repeat_no_frame() -> None:
    assert shown(FrameOrder(4), True, 13) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert shown(FrameOrder(2), True, 5) == [0, 1, 0, 1, 0]
    assert shown(FrameOrder(1), True, 3) == [0, 0, 0]


@pytest.mark.parametrize("idle", [range(0), range(2, 5), range(7, 8)])
def test_every_step_is_to_a_neighbour(idle: range) -> None:
    order = FrameOrder(9, idle)
    frames = [order.next(speaks=step % 11 < 6 or step > 60) for step in range(200)]
    for step, (one, other) in enumerate(pairwise(frames)):
        stays = idle == range(7, 8) and one == 7 and other == 7
        assert abs(one - other) == 1 or stays, (step, one, other)


def test_silence_without_an_idle_stretch_goes_on_as_speech_does() -> None:
    assert shown(FrameOrder(3), False, 6) == shown(FrameOrder(3), True, 6)


def test_silence_goes_to_the_idle_stretch_by_the_shortest_way_and_stays() -> None:
    order = FrameOrder(12, range(3, 6))
    assert shown(order, True, 9) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert shown(order, False, 9) == [7, 6, 5, 4, 3, 4, 5, 4, 3]
    assert shown(order, True, 4) == [2, 1, 0, 1]
    order.reset()
    assert shown(order, True, 2) == [0, 1]
    assert shown(order, False, 5) == [2, 3, 4, 5, 4]


def test_a_first_silence_begins_in_the_idle_stretch() -> None:
    order = FrameOrder(12, range(3, 6))
    assert shown(order, False, 4) == [3, 4, 5, 4]
    assert order.at == 4
    order.reset()
    assert shown(order, True, 1) == [0]


def test_speech_inside_of_the_idle_stretch_leaves_it_in_the_direction_it_had() -> None:
    order = FrameOrder(12, range(3, 6))
    assert shown(order, False, 4) == [3, 4, 5, 4]
    assert shown(order, True, 5) == [3, 2, 1, 0, 1]


def test_a_far_idle_stretch_is_jumped_to_and_the_old_way_is_told() -> None:
    order = FrameOrder(40, range(3, 6), jump_beyond=4)
    assert shown(order, True, 10) == list(range(10))
    assert shown(order, False, 3) == [8, 7, 6]
    assert order.go_on(3) == []
    assert shown(order, False, 2) == [5, 4]
    assert shown(order, True, 9) == [3, 2, 1, 0, 1, 2, 3, 4, 5]
    assert shown(order, True, 34) == list(range(6, 40))
    assert order.next(speaks=False) == 5
    assert order.go_on(3) == [38, 37, 36]
    assert order.next(speaks=False) == 4
    assert order.go_on(3) == []


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"FrameOrder: wanted 1 frame or more, got 0; prepare a longer template"):
        FrameOrder(0)
    with pytest.raises(ValueError, match=r"FrameOrder: wanted an idle range within 0\.\.3, got range\(2, 5\)"):
        FrameOrder(4, range(2, 5))
