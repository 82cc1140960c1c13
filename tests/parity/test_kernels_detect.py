"""Decode, suppression and the cut score against their NumPy twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference
from kernels.launch import Candidates, CutState, Detections
from kernels.reference import Rows
from tests.parity.conftest import Device

Array = npt.NDArray[Any]
STRIDES = (8, 16, 32)
ZERO3, ONE3 = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def zeros(device: Device, *shape: int, dtype: str = "float32") -> Any:
    """A zeroed tensor."""
    return device.put(np.zeros(shape, dtype))


def candidates(device: Device, room: int = 1024) -> Candidates:
    """An empty area with rubbish in its rows."""
    f = [device.put(np.full(s, np.nan, np.float32)) for s in ((room,), (room, 4), (room, 5, 2))]
    return Candidates(f[0], zeros(device, room, dtype="int32"), f[1], f[2], zeros(device, 4, dtype="int32"))


def detections(device: Device, room: int = 64) -> Detections:
    """Room for detections."""
    return Detections(
        zeros(device, room, 4), zeros(device, room, 5, 2), zeros(device, room), zeros(device, 1, dtype="int32"),
        zeros(device, 1),
    )  # fmt: skip


@dataclass
class Outputs:
    """Three tensors a stride, as a detector gives them."""

    scores: list[Array]
    boxes: list[Array]
    points: list[Array]


def outputs(rng: np.random.Generator, width: int, height: int, share: float, anchors: int = 2) -> Outputs:
    """Random rows, of which ``share`` score above 0.5."""
    out = Outputs([], [], [])
    for stride in STRIDES:
        n = -(-width // stride) * -(-height // stride) * anchors
        score = np.where(rng.random(n) < share, rng.uniform(0.5, 1, n), rng.uniform(0, 0.5, n))
        out.scores.append(score.astype(np.float32)[:, None])
        out.boxes.append(rng.uniform(0, 6, (n, 4)).astype(np.float32))
        out.points.append(rng.normal(0, 2, (n, 10)).astype(np.float32))
    return out


def decode(device: Device, raw: Outputs, area: Candidates, size: tuple[int, int], **options: Any) -> None:
    """Run scrfd_decode_into on host arrays."""
    settings: dict[str, Any] = {"threshold": 0.5, "det_scale": 1 / 3, "anchors_per_cell": 2, **options}
    launch.scrfd_decode_into(
        device.target,
        [device.put(a) for a in raw.scores],
        [device.put(a) for a in raw.boxes],
        [device.put(a) for a in raw.points],
        area,
        strides=STRIDES,
        input_size=size,
        **settings,
    )


def held(device: Device, area: Candidates) -> Rows:
    """The rows of a Candidates area, by index."""
    n = int(device.get(area.counters)[0])
    parts = [device.get(t)[:n] for t in (area.scores, area.indices, area.boxes, area.points)]
    return Rows(*parts).take(np.argsort(parts[1]))


def check_rows(got: Rows, wanted: Rows) -> None:
    """Same rows; coordinates to float32's precision at a few thousand px."""
    assert got.index.tolist() == wanted.index.tolist()
    assert np.array_equal(got.score, wanted.score)
    assert np.abs(got.box - wanted.box).max(initial=0) < 2e-3
    assert np.abs(got.points - wanted.points).max(initial=0) < 2e-3


@pytest.mark.parametrize("size", [(640, 640), (160, 96), (128, 128)])
@pytest.mark.parametrize("batched", [False, True])
def test_decode_is_the_twin_over_two_passes(
    device: Device, rng: np.random.Generator, size: tuple[int, int], batched: bool
) -> None:
    first, second = outputs(rng, *size, 0.01), outputs(rng, 128, 128, 0.02)
    shown = first
    if batched:
        shown = Outputs(*([a[None] for a in part] for part in (first.scores, first.boxes, first.points)))
    area = candidates(device)
    launch.reset_into(device.target, area)
    decode(device, shown, area, size)
    decode(device, second, area, (128, 128), det_scale=0.07, pass_index=1)
    wanted = [
        reference.scrfd_decode(
            raw.scores, raw.boxes, raw.points, strides=STRIDES, anchors=2, input_width=width, threshold=0.5,
            det_scale=scale, pass_index=i,
        )
        for i, (raw, width, scale) in enumerate(((first, size[0], 1 / 3), (second, 128, 0.07)))
    ]  # fmt: skip
    both = Rows(*(np.concatenate([getattr(r, name) for r in wanted]) for name in ("score", "index", "box", "points")))
    check_rows(held(device, area), both)
    counters = device.get(area.counters)
    best = max(s.max() for s in [*first.scores, *second.scores])
    assert counters[1] == 0
    assert counters[2:3].view(np.float32)[0] == best
    assert counters[3] == len(both.score)


def test_when_room_is_short_the_best_stay_and_the_rest_is_counted(device: Device, rng: np.random.Generator) -> None:
    raw = outputs(rng, 320, 320, 0.05)
    area = candidates(device, 100)
    launch.reset_into(device.target, area)
    decode(device, raw, area, (320, 320))
    everything = reference.scrfd_decode(
        raw.scores, raw.boxes, raw.points, strides=STRIDES, anchors=2, input_width=320, threshold=0.5, det_scale=1 / 3
    )
    got = held(device, area)
    assert len(got.score) == 100
    assert device.get(area.counters)[1] == len(everything.score) - 100
    # The best to within one of 256 bins of score.
    assert got.score.min() >= np.sort(everything.score)[-100] - 1 / 255


def test_equal_scores_beyond_the_room_stay_by_index(device: Device, rng: np.random.Generator) -> None:
    raw = outputs(rng, 64, 64, 0.0)
    for score in raw.scores:
        score[:] = 1.0
    area = candidates(device, 50)
    launch.reset_into(device.target, area)
    decode(device, raw, area, (64, 64))
    assert held(device, area).index.tolist() == list(range(50))


def test_rows_that_are_not_finite_are_left_out(device: Device, rng: np.random.Generator) -> None:
    raw = outputs(rng, 64, 64, 0.0)
    raw.scores[0][3:7] = 0.9
    raw.scores[0][8] = np.nan
    raw.scores[0][9] = np.inf
    raw.boxes[0][3, 2] = np.inf
    raw.points[0][4, 9] = np.nan
    area = candidates(device)
    launch.reset_into(device.target, area)
    decode(device, raw, area, (64, 64))
    assert held(device, area).index.tolist() == [5, 6]


def put_rows(device: Device, rows: Rows, room: int = 1024) -> Candidates:
    """Candidates that hold given rows in their order."""
    n = len(rows.score)
    arrays = [np.zeros(s, d) for s, d in (((room,), "float32"), ((room,), "int32"), ((room, 4), "float32"))]
    points = np.zeros((room, 5, 2), np.float32)
    for array, values in zip([*arrays, points], (rows.score, rows.index, rows.box, rows.points), strict=True):
        array[:n] = values
    best = np.array([rows.score.max(initial=0)], np.float32).view(np.int32)[0]
    counters = np.array([n, 0, best, n], np.int32)
    return Candidates(*(device.put(a) for a in (arrays[0], arrays[1], arrays[2], points, counters)))


def faces(rng: np.random.Generator, n: int) -> Rows:
    """Boxes in heaps, with ties of score."""
    middle = rng.uniform(0, 1500, (max(n // 8, 1), 2))[rng.integers(0, max(n // 8, 1), n)] + rng.normal(0, 8, (n, 2))
    size = rng.uniform(40, 90, (n, 2))
    box = np.concatenate([middle - size, middle + size], axis=1).astype(np.float32)
    score = (rng.integers(128, 256, n) / 256).astype(np.float32)
    points = rng.uniform(0, 1500, (n, 5, 2)).astype(np.float32)
    return Rows(score, rng.permutation(n).astype(np.int32), box, points)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 37, 300, 1024])
@pytest.mark.parametrize("room", [64, 5])
def test_nms_is_the_brute_force_twin_in_any_order(device: Device, rng: np.random.Generator, n: int, room: int) -> None:
    rows = faces(rng, n)
    wanted = reference.nms(rows, 0.4, room)
    for _ in range(2):
        out = detections(device, room)
        launch.nms_into(device.target, put_rows(device, rows), out)
        count = int(device.get(out.count)[0])
        assert count == len(wanted.score)
        for tensor, expected in ((out.scores, wanted.score), (out.boxes, wanted.box), (out.points, wanted.points)):
            got = device.get(tensor)
            assert np.array_equal(got[:count], expected)
            assert not got[count:].any()
        assert device.get(out.best_score)[0] == rows.score.max(initial=0)
        rows = rows.take(rng.permutation(n))


def test_suppression_counts_both_border_pixels(device: Device) -> None:
    """Two boxes of 9x9 px that share 6 columns: IoU 10*7/(200-70) = 0.538 with the border, 0.5 without."""
    box = np.array([[0, 0, 9, 9], [3, 0, 12, 9]], np.float32)
    rows = Rows(np.array([0.9, 0.8]), np.array([0, 1]), box, np.zeros((2, 5, 2)))
    for threshold, left in ((0.53, 1), (0.54, 2)):
        out = detections(device)
        launch.nms_into(device.target, put_rows(device, rows), out, iou_threshold=threshold)
        assert device.get(out.count)[0] == left


def test_an_overlap_of_just_the_threshold_survives(device: Device) -> None:
    box = np.array([[0, 0, 9, 9], [0, 0, 9, 4]], np.float32)  # 50 of 100 px: exactly a half
    rows = Rows(np.array([0.9, 0.8]), np.array([0, 1]), box, np.zeros((2, 5, 2)))
    for threshold, left in ((0.5, 2), (0.4999, 1)):
        out = detections(device)
        launch.nms_into(device.target, put_rows(device, rows), out, iou_threshold=threshold)
        assert device.get(out.count)[0] == left


def test_cut_score_is_the_twin_and_the_first_frame_is_a_cut(device: Device, rng: np.random.Generator) -> None:
    mean, std, fit = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), (150, 90)
    cut = CutState(zeros(device, 64, 64, dtype="uint8"), zeros(device, 4, dtype="int32"))
    base = rng.normal(0, 0.5, (3, 96, 160)).astype(np.float32)
    shown = [base, base, base + 0.05, -base + 1.0]
    last: Array = np.zeros((64, 64), np.int64)
    cuts = []
    for i, picture in enumerate(shown):
        launch.cut_score_into(
            device.target, device.put(picture[None]), cut, fit=fit, mean=mean, std=std, order="bgr", threshold_levels=20
        )
        levels = reference.cut_levels(picture, fit, mean, std, "bgr")
        words = device.get(cut.words)
        # A cell within float32's error of a half may round either way.
        assert abs(int(words[2]) - np.abs(levels - last).sum()) < 10
        assert words[0] == i + 1
        cuts.append(int(words[1]))
        last = levels
    assert cuts == [1, 0, 0, 1]


def test_tensors_of_other_strides_are_refused(device: Device, rng: np.random.Generator) -> None:
    with pytest.raises(
        ValueError, match=r"scrfd_decode_into: wanted float32 \[128, 1\], got float32 \[200, 1\]; check"
    ):
        decode(device, outputs(rng, 80, 80, 0.0), candidates(device), (64, 64))
