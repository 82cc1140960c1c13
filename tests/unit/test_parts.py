"""Training pictures with all their labels: what a mirror makes of them, and that the labels agree with each other."""

from __future__ import annotations

import numpy as np

from models.tiny.renderer import CLASSES
from models.tiny.train import parts

SKIN_AND_FEATURES = (1, 2, 3, 4, 5, 10, 11, 12, 13)


def test_a_mirror_swaps_left_and_right() -> None:
    names = [CLASSES[i] for i in parts.CLASSES_MIRRORED]
    swapped = [name.replace("left", "?").replace("right", "left").replace("?", "right") for name in CLASSES]
    assert names == swapped
    assert sorted(parts.POINTS_MIRRORED) == list(range(68))
    assert (parts.POINTS_MIRRORED[parts.POINTS_MIRRORED] == np.arange(68)).all()


def test_a_mirrored_face_has_its_points_in_the_order_of_the_scheme() -> None:
    """From the picture's left to its right, as iBUG numbers jaw and brows, and its left eye before its right one."""
    for seed in range(4):
        points = parts.boxed_part(np.random.default_rng([1, seed])).points
        for side in (points, points[parts.POINTS_MIRRORED] * [-1, 1] + [parts.SIZE - 1, 0]):
            assert side[0, 0] < side[8, 0] < side[16, 0]
            assert side[36:42, 0].mean() < side[42:48, 0].mean()
            assert side[48, 0] < side[54, 0]
            assert side[19, 1] < side[37, 1] < side[33, 1] < side[51, 1] < side[57, 1] < side[8, 1]


def test_labels_agree() -> None:
    """The visible face is skin and features; eyes lie round their points; the box's longer side is as it says."""
    eyes = 0
    for seed in range(4):
        one = parts.part(np.random.default_rng([2, seed]))
        face = np.isin(one.classes, (*SKIN_AND_FEATURES, 6, 7, 8, 9))
        seen = one.seen > 128
        assert (face & seen).sum() > 0.93 * seen.sum()
        for name, points in (("left eye", one.points[36:42]), ("right eye", one.points[42:48])):
            rows, columns = np.where(one.classes == CLASSES.index(name))
            x, y = points.T
            area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
            if len(rows) > 0.6 * area:  # an occluder may hide it
                eyes += 1
                assert abs(columns.mean() - points[:, 0].mean()) < 6
                assert abs(rows.mean() - points[:, 1].mean()) < 6
    assert eyes >= 6
    sides = [np.ptp(parts.boxed_part(np.random.default_rng([3, seed])).points, axis=0).max() for seed in range(6)]
    assert 0.6 * parts.BOX_SIDE < np.mean(sides) < 1.05 * parts.BOX_SIDE
