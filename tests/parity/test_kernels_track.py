"""Tracking, refining and smoothing against their NumPy twins, and what they promise."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference
from kernels.launch import CutState, Detections, Faces, Select, Tracks
from kernels.reference import Rows, Smoother, Tracker
from tests.parity.conftest import Device
from tests.parity.test_kernels_align import ARCFACE_128
from tests.parity.test_kernels_detect import candidates, zeros

Array = npt.NDArray[Any]
SHAPE = np.array(ARCFACE_128, np.float64) / 128


def new_tracks(device: Device, t: int) -> Tracks:
    """The empty state: all zero."""
    shapes: dict[str, tuple[int, ...]] = {
        "boxes": (t, 4), "points": (t, 5, 2), "velocities": (t, 2), "smooth_points": (t, 5, 2),
        "smooth_velocities": (t, 5, 2), "words": (4,),
    }  # fmt: skip
    floats = {"boxes", "points", "velocities", "scores", "smooth_points", "smooth_velocities"}
    return Tracks(
        **{
            f.name: zeros(device, *shapes.get(f.name, (t,)), dtype="float32" if f.name in floats else "int32")
            for f in fields(Tracks)
        }
    )


def new_faces(device: Device, k: int) -> Faces:
    """Rows full of rubbish."""
    shapes: dict[str, tuple[int, ...]] = {"boxes": (k, 4), "points": (k, 5, 2), "count": (1,), "status": (8,)}
    return Faces(
        **{
            f.name: device.put(
                np.full(
                    shapes.get(f.name, (k,)), 9, np.float32 if f.name in ("boxes", "points", "scores") else np.int32
                )
            )
            for f in fields(Faces)
        }
    )


def rows(middles: Array, sizes: Array, scores: Array) -> Rows:
    """Upright faces at given places, best score first."""
    order = np.argsort(-scores, kind="stable")
    m, s = np.asarray(middles, np.float32)[order], np.asarray(sizes, np.float32)[order]
    box = np.concatenate([m - s[:, None] / 2, m + s[:, None] / 2], axis=1)
    points = m[:, None] + (SHAPE[None].astype(np.float32) - 0.5) * s[:, None, None]
    return Rows(np.asarray(scores, np.float32)[order], np.arange(len(scores)), box, points.astype(np.float32))


class Scene:
    """A tracker on a device beside its twin."""

    def __init__(self, device: Device, t: int, k: int, select: Select = "all", **rules: Any) -> None:
        self.device, self.k = device, k
        self.tracks, self.faces = new_tracks(device, t), new_faces(device, k)
        self.sources = [0 if i % 3 else 1 for i in range(t)]
        self.twin = Tracker([None] * t, self.sources, select, **rules)
        self.rules: dict[str, Any] = {"select": select, **rules}
        if "damping" in self.rules:
            self.rules["velocity_damping"] = self.rules.pop("damping")

    def step(self, found: Rows | None, cut: bool = False) -> list[int]:
        """One frame on both; checks that they agree and returns the ids of the frame's faces."""
        put = self.device.put
        n = 0 if found is None else len(found.score)
        arrays = [np.zeros((64, 4), np.float32), np.zeros((64, 5, 2), np.float32), np.zeros(64, np.float32)]
        if found is not None:
            for array, values in zip(arrays, (found.box, found.points, found.score), strict=True):
                array[:n] = values
        count, best = put(np.array([n], np.int32)), put(np.array([0.75], np.float32))
        detections = Detections(put(arrays[0]), put(arrays[1]), put(arrays[2]), count, best)
        state = CutState(put(np.zeros((64, 64), np.uint8)), put(np.array([5, int(cut), 0, 0], np.int32)))
        launch.track_into(
            self.device.target, candidates(self.device), detections, state,
            put(np.array(self.sources, np.int32)), self.tracks, self.faces, detected=found is not None, **self.rules,
        )  # fmt: skip
        wanted = self.twin.step(found, cut, self.k)
        self._compare(wanted)
        return [track.id for _, track in wanted]

    def read(self, name: str) -> Array:
        """A tensor of Faces."""
        return self.device.get(getattr(self.faces, name))

    def _compare(self, wanted: list[tuple[int, reference.Track]]) -> None:
        n = len(wanted)
        assert self.read("count")[0] == n
        assert self.read("track_ids").tolist() == [track.id for _, track in wanted] + [0] * (self.k - n)
        assert self.read("slots")[:n].tolist() == [slot for slot, _ in wanted]
        assert self.read("sources")[:n].tolist() == [track.source for _, track in wanted]
        for row, (_, track) in enumerate(wanted):
            assert np.abs(self.read("boxes")[row] - track.box).max() < 0.01
            assert np.abs(self.read("points")[row] - track.points).max() < 0.01
            assert self.read("scores")[row] == np.float32(track.score)
        for name in ("boxes", "points", "scores", "sources", "slots"):
            assert not self.read(name)[n:].any()
        status = self.read("status")
        assert status[launch.STATUS_COUNT] == n
        assert status[launch.STATUS_TRACKS] == sum(track is not None for track in self.twin.slots)
        assert bool(status[launch.STATUS_ERRORS] & launch.ERROR_TRACKS_FULL) == (self.twin.lost > 0)
        assert status[launch.STATUS_BEST_SCORE : launch.STATUS_BEST_SCORE + 1].view(np.float32)[0] == 0.75


@pytest.mark.parametrize("select", ["all", "largest", "leftmost"])
@pytest.mark.parametrize(("t", "k"), [(16, 8), (4, 2), (64, 64)])
def test_random_scenes_are_the_twins(device: Device, rng: np.random.Generator, select: Select, t: int, k: int) -> None:
    """Faces walk, vanish, come back, outnumber slots and rows; cuts and frames without detection in between."""
    scene = Scene(device, t, k, select, max_misses=2)
    walkers = rng.uniform(0, 1000, (7, 2))
    steps = rng.normal(0, 12, (7, 2))
    for frame in range(40):
        walkers += steps + rng.normal(0, 2, walkers.shape)
        seen = rng.random(7) < 0.8
        cut = frame in (0, 17)
        if frame % 5 == 4:
            scene.step(None, cut)
        else:
            scene.step(rows(walkers[seen], rng.uniform(80, 160, 7)[seen], rng.uniform(0.5, 1, 7)[seen]), cut)


def test_a_face_keeps_its_slot_and_id_while_others_come_and_go(device: Device) -> None:
    scene = Scene(device, 8, 4)
    scene.sources[:] = [0] * 8
    left, right = [100.0, 100.0], [600.0, 100.0]
    assert scene.step(rows(np.array([left, right]), np.array([90, 90]), np.array([0.9, 0.8]))) == [1, 2]
    for i in range(8):  # the left one is gone: it coasts for five frames, then ends
        moved = [[600.0 + 20 * i, 100.0]]
        ids = scene.step(rows(np.array(moved), np.array([90]), np.array([0.8])))
        assert ids == ([1, 2] if i < 5 else [2])
    assert scene.read("slots")[0] == 1
    assert scene.step(rows(np.array([left, [760.0, 100.0]]), np.array([90, 90]), np.array([0.9, 0.8]))) == [3, 2]


def test_a_cut_ends_all_tracks(device: Device) -> None:
    scene = Scene(device, 8, 4)
    one = rows(np.array([[100.0, 100.0]]), np.array([90]), np.array([0.9]))
    assert scene.step(one, cut=True) == [1]
    assert scene.step(one) == [1]
    assert scene.step(one, cut=True) == [2]
    assert scene.read("status")[launch.STATUS_CUT] == 1
    assert scene.read("status")[launch.STATUS_NEW] == 1


def test_more_faces_than_rows_keeps_the_largest_and_says_so(device: Device) -> None:
    scene = Scene(device, 8, 2)
    crowd = rows(np.array([[100.0, 0], [400, 0], [700, 0], [1000, 0]]), np.array([50, 90, 60, 80]), np.full(4, 0.9))
    assert scene.step(crowd) == [2, 4]
    assert scene.read("status")[launch.STATUS_ERRORS] == launch.ERROR_FACES_FULL


def test_equally_large_faces_stay_by_slot(device: Device) -> None:
    scene = Scene(device, 8, 2)
    assert scene.step(rows(np.array([[100.0, 0], [400, 0], [700, 0]]), np.array([90, 90, 90]), np.full(3, 0.9))) == [
        1,
        2,
    ]


def test_the_largest_face_stays_until_another_is_a_fifth_larger(device: Device) -> None:
    scene = Scene(device, 8, 4, "largest")
    middles, scores = np.array([[100.0, 0], [400, 0]]), np.array([0.9, 0.8])
    shown = [scene.step(rows(middles, np.array([90, side]), scores)) for side in (85, 95, 98, 101, 95, 90)]
    assert shown == [[1], [1], [1], [2], [2], [2]]  # 98 px square is 1.19 of 90, 101 px is 1.26


def test_a_face_that_is_shown_keeps_its_row_until_another_is_a_fifth_larger(device: Device) -> None:
    """Of two faces of nearly one size, and room for one, not the one and then the other."""
    scene = Scene(device, 8, 1)
    middles, scores = np.array([[100.0, 0], [400, 0]]), np.array([0.9, 0.8])
    shown = [scene.step(rows(middles, np.array([90, side]), scores)) for side in (85, 95, 98, 101, 95, 90)]
    assert shown == [[1], [1], [1], [2], [2], [2]]


def test_room_may_change_from_frame_to_frame_and_tracks_go_on(device: Device) -> None:
    """Faces narrowed to fewer rows for a while: ids and slots are the same afterwards."""
    scene = Scene(device, 8, 4)
    middles, scores = np.array([[100.0, 0], [400, 0], [700, 0]]), np.array([0.9, 0.8, 0.7])
    whole = scene.faces
    for k, ids in ((4, [1, 2, 3]), (1, [2]), (1, [2]), (2, [2, 3]), (4, [1, 2, 3])):
        scene.k, scene.faces = k, new_faces(device, k) if k < 4 else whole
        assert scene.step(rows(middles, np.array([80, 100, 90]), scores)) == ids


def test_a_frame_without_detection_is_no_cut(device: Device) -> None:
    """The cut word is the last detection's, which has had its effect."""
    scene = Scene(device, 8, 4)
    one = rows(np.array([[100.0, 100.0]]), np.array([90]), np.array([0.9]))
    assert scene.step(one, cut=True) == [1]
    assert scene.step(None, cut=True) == [1]
    assert scene.read("status")[launch.STATUS_CUT] == 0
    assert scene.step(one) == [1]


def test_a_face_of_quite_another_size_in_the_same_place_is_another_face(device: Device) -> None:
    scene = Scene(device, 8, 4, max_misses=0)
    middle = np.array([[300.0, 300.0]])
    assert scene.step(rows(middle, np.array([40]), np.array([0.9]))) == [1]
    assert scene.step(rows(middle, np.array([75]), np.array([0.9]))) == [1]  # IoU 0.28, less than twice the side
    assert scene.step(rows(middle, np.array([200]), np.array([0.9]))) == [2]


def test_selected_tracks_only(device: Device) -> None:
    scene = Scene(device, 8, 4, "selected")
    pair = rows(np.array([[100.0, 0], [400, 0]]), np.array([90, 90]), np.array([0.9, 0.8]))
    assert scene.step(pair) == []
    marked = np.zeros(8, np.int32)
    marked[1] = 1
    scene.tracks = Tracks(**{**vars(scene.tracks), "selected": device.put(marked)})
    assert scene.twin.slots[1] is not None
    scene.twin.slots[1].selected = True
    assert scene.step(pair) == [2]
    assert scene.step(pair, cut=True) == []  # other faces in the same slots: not the ones that were selected


def test_a_track_without_a_source_is_followed_but_not_shown(device: Device) -> None:
    scene = Scene(device, 4, 4)
    scene.sources[:] = [-1, 0, 0, 0]
    pair = rows(np.array([[100.0, 0], [400, 0]]), np.array([90, 90]), np.array([0.9, 0.8]))
    assert scene.step(pair) == [2]
    assert scene.read("status")[launch.STATUS_TRACKS] == 2


def smoothed(device: Device, path: Array) -> Array:
    """Run smooth_points_into over a path of five points [N,5,2] and compare with the twin on the way."""
    tracks, faces, twin = new_tracks(device, 4), new_faces(device, 2), Smoother()
    out = []
    for points in path.astype(np.float32):
        both = np.stack([points, np.full((5, 2), 9)]).astype(np.float32)
        values: dict[str, Array] = {
            "points": both, "slots": np.array([2, 2], np.int32), "track_ids": np.array([7, 0], np.int32),
            "count": np.array([1], np.int32),
        }  # fmt: skip
        faces = Faces(**{**vars(faces), **{name: device.put(value) for name, value in values.items()}})
        launch.smooth_points_into(device.target, tracks, faces)
        got = device.get(faces.points)
        assert np.abs(got[0] - twin.step(points.astype(np.float64))).max() < 0.02
        assert (got[1] == 9).all()
        out.append(got[0])
    return np.array(out, np.float64)


def test_a_still_face_jitters_less_and_a_fast_one_does_not_lag(device: Device, rng: np.random.Generator) -> None:
    face = SHAPE * 300 + [800, 400]
    noise = rng.normal(0, 0.5, (60, 5, 2))
    still = smoothed(device, face + noise)
    raw_jitter = np.diff(face + noise, axis=0)[10:].std()
    assert np.diff(still, axis=0)[10:].std() < 0.4 * raw_jitter
    moves = np.arange(60)[:, None, None] * np.array([25.0, 10.0])
    fast = smoothed(device, face + moves)
    lag = np.abs(fast - (face + moves))[5:].max()
    assert lag < 2.0  # of 27 px a frame
    assert np.abs(fast[1] - (face + moves)[1]).max() < 6.0  # the very first move


def test_smoothing_starts_again_with_a_new_track(device: Device) -> None:
    tracks, faces = new_tracks(device, 4), new_faces(device, 1)
    for identity, at in ((1, 100.0), (2, 900.0)):
        points = (SHAPE[None] * 100 + at).astype(np.float32)
        faces = Faces(
            **{
                **vars(faces),
                "points": device.put(points),
                "slots": device.put(np.zeros(1, np.int32)),
                "track_ids": device.put(np.array([identity], np.int32)),
                "count": device.put(np.ones(1, np.int32)),
            }
        )
        launch.smooth_points_into(device.target, tracks, faces)
        assert np.array_equal(device.get(faces.points), points)


@pytest.mark.parametrize(("n", "five"), [(5, launch.FIVE_OF_5), (68, launch.FIVE_OF_68)])
def test_refine_is_the_twin_and_moves_the_track(
    device: Device, rng: np.random.Generator, n: int, five: tuple[tuple[int, int], ...]
) -> None:
    scene = Scene(device, 8, 4)
    scene.step(rows(np.array([[100.0, 90], [400, 95]]), np.array([90, 120]), np.array([0.9, 0.8])))
    old_boxes, old_points = scene.read("boxes"), scene.read("points")
    network = rng.uniform(0, 64, (4, n, 2)).astype(np.float32)
    network[1, five[4][0]] = np.nan
    matrices = rng.normal(0, 2, (4, 2, 3)).astype(np.float32)
    everything = device.put(np.zeros((4, n, 2), np.float32))
    launch.refine_points_into(
        device.target, device.put(network), device.put(matrices), scene.tracks, scene.faces, five=five, scale=4.0,
        offset_px=0.5, points_frame=everything,
    )  # fmt: skip
    wanted_all, wanted = reference.refine_points(network[0], matrices[0], five, 4.0, 0.5)
    assert np.abs(scene.read("points")[0] - wanted).max() < 0.01
    assert np.abs(device.get(everything)[0] - wanted_all).max() < 0.01
    assert not device.get(everything)[2:].any()
    assert np.array_equal(scene.read("points")[1], old_points[1])
    moved = (wanted - old_points[0]).mean(0)
    assert np.abs(scene.read("boxes")[0] - (old_boxes[0] + np.tile(moved, 2))).max() < 0.01
    assert np.abs(device.get(scene.tracks.points)[0] - wanted).max() < 0.01
    assert np.abs(device.get(scene.tracks.velocities)[0] - 0.5 * moved).max() < 0.01


def test_ranges_beyond_the_points_are_refused(device: Device) -> None:
    with pytest.raises(ValueError, match=r"refine_points_into: wanted five ranges within 0..4, got \[\(36, 41\)"):
        launch.refine_points_into(
            device.target, zeros(device, 2, 5, 2), zeros(device, 2, 2, 3), new_tracks(device, 4), new_faces(device, 2),
            five=launch.FIVE_OF_68,
        )  # fmt: skip
