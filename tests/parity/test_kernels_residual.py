"""Residuals of a restorer against their NumPy twin: what is kept, how much of it holds, what is added."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference_residual
from kernels.launch import Colour, Fade, Pixels, Placed, Residuals
from kernels.reference import Picture, invert, rectangle
from tests.parity.conftest import COLOURS, Device, DeviceTensor, TestFrame, noise, put_frame, smooth
from tests.parity.test_kernels_align import PLACES, frame_from_crop

Array = npt.NDArray[Any]
SIZE, ROOMS = 48, 5
TEMPLATE = ((17.0, 19.0), (31.0, 19.0), (24.0, 28.0), (18.0, 36.0), (30.0, 36.0))
EYE_PX = 14.0
ALWAYS = Fade(local=(300.0, 400.0))  # nothing in front is ever seen
MEAN = STD = (127.5, 127.5, 127.5)
PIXELS = Pixels(MEAN, STD, "rgb")


@dataclass
class Scene:
    """Faces of a frame on a device, with what is kept of them."""

    device: Device
    frame: TestFrame
    placed: Placed
    residuals: Residuals
    weights: DeviceTensor
    rectangles: DeviceTensor
    matrices: Array

    def keep(self, before: Array, after: Array, mask: Array, pixels: Pixels = PIXELS) -> Array:
        """Run the launcher; returns all that is kept."""
        put = self.device.put
        old, new, under = (put(part.astype(np.float32)) for part in (before, after, mask))
        launch.keep_residual_into(
            self.device.target, old, new, under, self.placed, self.residuals,
            colour=self.frame.nv12.colour, before=pixels, after=pixels,
        )  # fmt: skip
        return self.device.get(self.residuals.kept)

    def weigh(self, fresh: bool, points: Array | None = None, ids: list[int] | None = None) -> Array:
        """Run the launcher, perhaps with other points or tracks; returns the weights."""
        placed = self.placed
        if points is not None:
            placed = dataclasses.replace(placed, points=self.device.put(points.astype(np.float32)))
        if ids is not None:
            placed = dataclasses.replace(placed, track_ids=self.device.put(np.array(ids, np.int32)))
        launch.weigh_residual_into(
            self.device.target, self.frame.nv12, placed, self.residuals, self.weights, template_px=TEMPLATE, fresh=fresh
        )
        return self.device.get(self.weights)

    def add(self, blend: float = 1.0, fade: Fade = ALWAYS) -> Picture:
        """Run the launcher; returns the frame."""
        launch.add_residual_into(
            self.device.target, self.frame.nv12, self.placed, self.residuals, self.weights, self.rectangles,
            blend=blend, fade=fade,
        )  # fmt: skip
        return self.frame.read()


def scene(
    device: Device,
    picture: Picture,
    matrices: Array,
    *,
    slots: list[int] | None = None,
    count: int | None = None,
    kept: Array | None = None,
) -> Scene:
    """Faces at these matrices [k,2,3] (frame_from_crop), their points where the template says."""
    k = len(matrices)
    inverse = np.stack([invert(m.astype(np.float64)) for m in matrices]).astype(np.float32)
    points = np.stack([np.array(TEMPLATE) @ m[:, :2].T + m[:, 2] for m in matrices]).astype(np.float32)
    empty = np.zeros((ROOMS, SIZE, SIZE, 4), np.float32)
    placed = Placed(
        points=device.put(points),
        slots=device.put(np.array(slots if slots is not None else range(k), np.int32)),
        track_ids=device.put(np.arange(11, 11 + k, dtype=np.int32)),
        count=device.put(np.array([k if count is None else count], np.int32)),
        crop_from_frame=device.put(inverse),
        frame_from_crop=device.put(matrices.astype(np.float32)),
    )
    residuals = Residuals(
        device.put(empty if kept is None else kept.astype(np.float32)),
        device.put(np.zeros((ROOMS, 12), np.float32)),
        device.put(np.zeros(ROOMS, np.int32)),
    )
    return Scene(
        device, put_frame(device, picture, extra_bytes=5), placed, residuals,
        device.put(np.full(k, -1, np.float32)), device.put(np.full((k, 4), -1, np.int32)), matrices,
    )  # fmt: skip


def upright(scale: float = 1.0, middle: tuple[float, float] = (60.0, 50.0)) -> Array:
    """One face's matrix."""
    return frame_from_crop(scale, 0, middle, SIZE)[None]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("colour", COLOURS[:6])
def test_what_is_kept_is_the_twins(
    device: Device, rng: np.random.Generator, colour: Colour, order: Any, ratio: int, own: bool
) -> None:
    picture = noise(rng, 64, 48, colour)
    one = scene(device, picture, np.concatenate([upright(), upright(0.7)]), slots=[3, 0])
    before = rng.uniform(-1.2, 1.2, (2, 3, SIZE, SIZE))
    after = rng.uniform(-1.2, 1.2, (2, 3, ratio * SIZE, ratio * SIZE))
    mask = rng.random((2, SIZE, SIZE) if own else (SIZE, SIZE))
    kept = one.keep(before, after, mask, Pixels(MEAN, STD, order))
    for face, slot in enumerate((3, 0)):
        under = mask[face] if own else mask
        wanted = reference_residual.residual_keep(before[face], after[face], under, picture, MEAN, STD, order)
        assert np.abs(kept[slot] - wanted).max() < 2e-3  # float32 on codes of up to 255
    assert np.abs(kept[3, ..., :3]).max() > 50
    assert not kept[[1, 2, 4]].any()


def test_rows_beyond_the_count_and_slots_that_are_none_are_left_alone(device: Device, rng: np.random.Generator) -> None:
    three = np.concatenate([upright()] * 3)
    one = scene(device, noise(rng, 64, 48), three, slots=[2, -1, 0], count=2)
    crops = rng.uniform(-1, 1, (2, 3, 3, SIZE, SIZE))
    kept = one.keep(crops[0], crops[1], np.ones((SIZE, SIZE)))
    assert [bool(part.any()) for part in kept] == [False, False, True, False, False]
    assert one.weigh(fresh=True).tolist() == [1.0, 0.0, 0.0]


def test_an_output_that_is_no_number_changes_nothing(device: Device, rng: np.random.Generator) -> None:
    one = scene(device, noise(rng, 64, 48), upright())
    before, after = rng.uniform(-1, 1, (2, 1, 3, SIZE, SIZE))
    after[0, 1, 5, 7], after[0, 2, 9, 9] = np.nan, np.inf
    kept = one.keep(before, after, np.ones((SIZE, SIZE)))[0]
    assert not kept[5, 7, :3].any()
    assert not kept[9, 9, :3].any()
    assert np.isfinite(kept).all()
    assert kept[..., :3].any(-1).mean() > 0.99


def test_an_output_of_another_side_is_refused(device: Device, rng: np.random.Generator) -> None:
    one = scene(device, noise(rng, 64, 48), upright())
    crops = np.zeros((1, 3, SIZE, SIZE))
    with pytest.raises(
        ValueError, match=r"^keep_residual_into: wanted an output side that is a multiple of 48 px, got 72; resize it"
    ):
        one.keep(crops, np.zeros((1, 3, 72, 72)), np.zeros((SIZE, SIZE)))
    with pytest.raises(ValueError, match=r"^add_residual_into: wanted fade.local to rise from 0 on, got 9.0 and 2.0"):
        one.add(fade=Fade(local=(9.0, 2.0)))


@pytest.mark.parametrize("colour", [COLOURS[0], COLOURS[3], COLOURS[5]])
@pytest.mark.parametrize("size", [(160, 120), (161, 119)])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_added_is_the_twins_and_stays_in_its_rectangle(
    device: Device,
    rng: np.random.Generator,
    place: tuple[float, float, tuple[float, float]],
    size: tuple[int, int],
    colour: Colour,
) -> None:
    picture = smooth(rng, *size, colour)
    kept = rng.normal(0, 20, (ROOMS, SIZE, SIZE, 4))
    kept[..., 3] = 125 + rng.normal(0, 12, (ROOMS, SIZE, SIZE))
    fade = Fade(local=(6.0, 60.0))
    matrix = frame_from_crop(*place, SIZE)
    one = scene(device, picture, matrix[None], slots=[4], kept=kept)
    one.weigh(fresh=True)
    got = one.add(0.7, fade)
    assert tuple(device.get(one.rectangles)[0]) == rectangle(matrix, (SIZE, SIZE), size)
    back = invert(matrix.astype(np.float64))
    wanted = reference_residual.residual_add(picture, kept[4].astype(np.float32), back, matrix, 0.7, fade.local)
    for ours, theirs in ((got.y, wanted.y), (got.uv, wanted.uv)):
        assert np.abs(ours.astype(int) - theirs).max() <= 1  # both round; coordinates are float32
        assert (ours != theirs).mean() < 0.01
    if place[2][0] > 0:
        assert (got.y != picture.y).mean() > 0.005


def test_weights_are_the_stated_formula(device: Device, rng: np.random.Generator) -> None:
    matrices = np.concatenate([upright(0.9, (50.0, 40.0)), upright(0.6, (110.0, 70.0))])
    picture = smooth(rng, 160, 120)
    picture.y[:] = 115 + (picture.y - 125.0) * 0.1  # about a dozen codes below what was kept
    picture.y[:, :37] -= 9  # beside the middle half of the first face, which alone is asked
    one = scene(device, picture, matrices)
    y = np.full((2, 3, SIZE, SIZE), 0.0)
    kept = one.keep(y, y + 0.1, np.ones((SIZE, SIZE)))
    assert one.weigh(fresh=True).tolist() == [1.0, 1.0]
    points = device.get(one.placed.points)
    moved = points.copy()
    moved[0, 2] += (0.0, 2.0)  # the nose: what a turning head does
    moved[1] += (0.6, 0.3)  # all alike, while the matrix stays
    got = one.weigh(fresh=False, points=moved)
    limits = Fade()
    for face, matrix in enumerate(matrices):
        back = invert(matrix.astype(np.float64))
        now = moved[face] @ back[:, :2].T + back[:, 2]
        away = reference_residual.residual_distance(now, np.array(TEMPLATE), 1.0, EYE_PX)
        light = reference_residual.residual_light(picture, kept[face], matrix)
        wanted = reference_residual.residual_fade(away, limits.pose) * reference_residual.residual_fade(
            light, limits.light
        )
        assert abs(got[face] - wanted) < 2e-3
    assert (got > 0.1).all()
    assert (got < 0.9).all()
    assert np.array_equal(one.weigh(fresh=False, points=moved), got)  # what was then stays what it was


def test_a_face_that_comes_nearer_fades(device: Device, rng: np.random.Generator) -> None:
    flat = Picture(np.full((120, 160), 126, np.uint8), np.full((60, 80, 2), 128, np.uint8), Colour())
    kept = np.zeros((ROOMS, SIZE, SIZE, 4))
    kept[..., 3] = 126
    near, far = Fade().pose
    for zoom in (1.0, 1.02, 1.1, 0.92, 1.4):
        one = scene(device, flat, upright(1.0), kept=kept)
        one.weigh(fresh=True)
        later = scene(device, flat, upright(zoom), kept=kept)
        later.residuals = one.residuals
        got = float(later.weigh(fresh=False)[0])
        assert abs(got - np.clip((far - abs(np.log(zoom))) / (far - near), 0, 1)) < 1e-3


def test_light_that_changes_fades(device: Device) -> None:
    kept = np.zeros((ROOMS, SIZE, SIZE, 4))
    kept[..., 3] = 100
    for level, wanted in ((100, 1.0), (106, 1.0), (118, 0.5), (82, 0.5), (140, 0.0)):
        flat = Picture(np.full((120, 160), level, np.uint8), np.full((60, 80, 2), 128, np.uint8), Colour())
        one = scene(device, flat, upright(1.0), kept=kept)
        one.weigh(fresh=True)
        assert abs(float(one.weigh(fresh=False)[0]) - wanted) < 1e-3


def test_another_track_in_the_slot_gets_nothing(device: Device, rng: np.random.Generator) -> None:
    """A cut ends all tracks and ids are never used again: what was kept before it is not added behind it."""
    picture = Picture(np.full((120, 160), 126, np.uint8), np.full((60, 80, 2), 128, np.uint8), Colour())
    one = scene(device, picture, np.concatenate([upright(), upright(0.5)]))
    before = np.zeros((2, 3, SIZE, SIZE))
    one.keep(before, rng.uniform(-1, 1, before.shape), np.ones((SIZE, SIZE)))
    assert one.weigh(fresh=False).tolist() == [0.0, 0.0]  # nobody's yet
    one.weigh(fresh=True)
    assert one.weigh(fresh=False).tolist() == [1.0, 1.0]
    assert one.weigh(fresh=False, ids=[11, 99]).tolist() == [1.0, 0.0]
    assert one.weigh(fresh=False, ids=[98, 99]).tolist() == [0.0, 0.0]
    got = one.add()
    assert np.array_equal(got.y, picture.y)
    assert np.array_equal(got.uv, picture.uv)


def test_what_came_in_front_is_left_alone(device: Device) -> None:
    """The change is for what was there: where luma is another by far, no bit of it is added."""
    flat = Picture(np.full((120, 160), 120, np.uint8), np.full((60, 80, 2), 128, np.uint8), Colour())
    hand = Picture(flat.y.copy(), flat.uv.copy(), flat.colour)
    hand.y[:, 60:] = 190
    kept = np.zeros((ROOMS, SIZE, SIZE, 4))
    kept[..., :3], kept[..., 3] = 15.0, 120
    one = scene(device, hand, upright(1.5, (60.0, 60.0)), kept=kept)
    one.weigh(fresh=True)
    got = one.add(fade=Fade())
    assert np.array_equal(got.y[:, 60:], hand.y[:, 60:])
    assert np.array_equal(got.uv[:, 30:], hand.uv[:, 30:])
    assert (got.y[40:80, 40:60] == 135).all()
    assert (got.uv[20:40, 20:30] == 143).all()


def test_no_change_and_no_blend_change_no_bit(device: Device, rng: np.random.Generator) -> None:
    picture = noise(rng, 97, 83)
    for kept, blend in ((np.zeros((ROOMS, SIZE, SIZE, 4)), 1.0), (rng.normal(0, 50, (ROOMS, SIZE, SIZE, 4)), 0.0)):
        one = scene(device, picture, upright(1.2, (40.0, 40.0)), kept=kept)
        one.weigh(fresh=True)
        got = one.add(blend)
        assert np.array_equal(got.y, picture.y)
        assert np.array_equal(got.uv, picture.uv)


def test_a_kept_change_added_gives_the_restored_face(device: Device, rng: np.random.Generator) -> None:
    """Crop, change, keep, add: at the crop's own scale the frame then shows what the restorer made."""
    picture = smooth(rng, 96, 96, Colour("bt601", True, "center"))
    matrix = np.array([[[1.0, 0, 20], [0, 1, 24]]], np.float32)
    one = scene(device, picture, matrix)
    before = device.put(np.zeros((1, 3, SIZE, SIZE), np.float32))
    launch.crop_into(
        device.target, one.frame.nv12, one.placed.frame_from_crop, before, mean=MEAN, std=STD
    )  # fmt: skip
    crop = device.get(before)
    grey = 25.0 / 127.5
    one.keep(crop, crop + grey, np.ones((SIZE, SIZE)))
    one.weigh(fresh=True)
    got = one.add(fade=Fade())
    inner = slice(26, 66)
    assert np.abs(got.y[inner, inner].astype(int) - picture.y[inner, inner] - 25).max() <= 1
    assert np.abs(got.uv[14:32, 14:32].astype(int) - picture.uv[14:32, 14:32]).max() <= 1
