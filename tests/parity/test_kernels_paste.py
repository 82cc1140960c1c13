"""Paste against the NumPy twin and OpenCV, and the promises it makes about what it leaves alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference
from kernels.launch import Colour
from kernels.reference import Picture
from tests.parity.conftest import COLOURS, Device, TestFrame, noise, put_frame, smooth
from tests.parity.test_kernels_align import PLACES, frame_from_crop

Array = npt.NDArray[Any]
ZERO, FULL = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)


def paste(
    device: Device,
    frame: TestFrame,
    faces: Array,
    mask: Array,
    matrices: Array,
    count: int | None = None,
    **options: Any,
) -> npt.NDArray[np.int32]:
    """Run paste_into and return its rectangles."""
    k = len(faces)
    inverse = np.stack([reference.invert(m.astype(np.float64)) for m in matrices]).astype(np.float32)
    rectangles = device.put(np.full((k, 4), -1, np.int32))
    launch.paste_into(
        device.target,
        device.put(faces.astype(np.float32)),
        device.put(mask.astype(np.float32)),
        device.put(inverse),
        device.put(matrices.astype(np.float32)),
        device.put(np.array([k if count is None else count], np.int32)),
        frame.nv12,
        rectangles,
        **options,
    )
    return device.get(rectangles)


def outside(shape: tuple[int, ...], rectangles: Array, scale: int) -> npt.NDArray[np.bool_]:
    """True where no rectangle lies, on luma (scale 1) or chroma (scale 2)."""
    free = np.ones(shape[:2], bool)
    for x0, y0, x1, y1 in rectangles:
        free[y0 // scale : -(-y1 // scale), x0 // scale : -(-x1 // scale)] = False
    return free


def levels(a: Array, b: Array) -> npt.NDArray[np.int64]:
    """Absolute difference of two byte arrays."""
    return np.abs(a.astype(np.int64) - b.astype(np.int64))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("size", "colour"), [((160, 120), Colour("bt601", True, "center")), ((161, 119), Colour("bt709", False, "left"))]
)
def test_paste_is_the_twin_and_stays_in_its_rectangle(
    device: Device,
    rng: np.random.Generator,
    place: tuple[float, float, tuple[float, float]],
    size: tuple[int, int],
    colour: Colour,
) -> None:
    picture = noise(rng, *size, colour)
    frame = put_frame(device, picture, extra_bytes=11)
    face = rng.random((1, 3, 40, 48))
    mask = rng.random((40, 48)) * (rng.random((40, 48)) > 0.3)
    matrix = frame_from_crop(*place, 48)
    rectangles = paste(device, frame, face, mask, matrix[None], order="bgr", opacity=0.8)
    got = frame.read()
    inverse = reference.invert(matrix.astype(np.float64))
    wanted = reference.paste(picture, face[0], mask, inverse, ZERO, FULL, "bgr", 0.8)
    assert tuple(rectangles[0]) == reference.rectangle(matrix, (48, 40), size)
    # One level: both round, and float32 coordinates move a value by up to a hundredth of a level.
    for ours, theirs, before, scale in ((got.y, wanted.y, picture.y, 1), (got.uv, wanted.uv, picture.uv, 2)):
        assert levels(ours, theirs).max() <= 1
        assert (ours != theirs).mean() < 0.01
        free = outside(before.shape, rectangles, scale)
        assert np.array_equal(ours[free], before[free])
        assert np.array_equal(theirs[free], before[free])


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan])
def test_a_mask_of_nothing_changes_no_bit(device: Device, rng: np.random.Generator, nothing: float) -> None:
    picture = noise(rng, 64, 48)
    frame = put_frame(device, picture)
    face = np.full((1, 3, 32, 32), np.nan)  # not even through NaN
    mask = np.full((32, 32), nothing)
    rectangles = paste(device, frame, face, mask, frame_from_crop(1.1, 20, (30, 20), 32)[None])
    assert (rectangles[0, 2:] > rectangles[0, :2]).all()
    assert np.array_equal(frame.read().y, picture.y)
    assert np.array_equal(frame.read().uv, picture.uv)


def test_half_a_mask_leaves_the_other_half_alone(device: Device, rng: np.random.Generator) -> None:
    picture = noise(rng, 64, 64)
    frame = put_frame(device, picture)
    mask = np.ones((32, 32))
    mask[:, :16] = 0
    paste(device, frame, np.full((1, 3, 32, 32), 0.5), mask, frame_from_crop(1.0, 0, (31.5, 31.5), 32)[None])
    got = frame.read()
    assert np.array_equal(got.y[:, :32], picture.y[:, :32])
    assert np.array_equal(got.uv[:, :16], picture.uv[:, :16])
    assert (levels(got.y, picture.y)[16:48, 33:47] > 0).mean() > 0.9


def test_faces_beyond_the_count_and_broken_matrices_are_not_pasted(device: Device, rng: np.random.Generator) -> None:
    picture = noise(rng, 64, 48)
    faces, mask = rng.random((3, 3, 16, 16)), np.ones((16, 16))
    good = frame_from_crop(1.0, 0, (20, 20), 16)
    frame = put_frame(device, picture)
    assert not paste(device, frame, faces, mask, np.stack([good] * 3), count=0).any()
    assert np.array_equal(frame.read().y, picture.y)
    broken = np.full((2, 3), np.nan, np.float32)
    inverse = np.stack([good, good, good])
    rectangles = device.put(np.zeros((3, 4), np.int32))
    launch.paste_into(
        device.target,
        device.put(faces.astype(np.float32)),
        device.put(mask.astype(np.float32)),
        device.put(inverse),
        device.put(np.stack([broken, good, broken]).astype(np.float32)),
        device.put(np.array([1], np.int32)),
        frame.nv12,
        rectangles,
    )
    assert not device.get(rectangles).any()
    assert np.array_equal(frame.read().y, picture.y)


def test_overlapping_faces_are_pasted_in_order_with_their_own_masks(device: Device, rng: np.random.Generator) -> None:
    picture = noise(rng, 96, 80)
    faces, masks = rng.random((3, 3, 32, 32)), rng.random((3, 32, 32))
    matrices = np.stack([frame_from_crop(1.2, a, (40 + a / 5, 35), 32) for a in (0, 25, -40)])
    frame = put_frame(device, picture)
    paste(device, frame, faces, masks, matrices)
    wanted = picture
    for face, mask, matrix in zip(faces, masks, matrices, strict=True):
        wanted = reference.paste(wanted, face, mask, reference.invert(matrix.astype(np.float64)), ZERO, FULL, "rgb")
    assert levels(frame.read().y, wanted.y).max() <= 1
    assert levels(frame.read().uv, wanted.uv).max() <= 1


def bars(colour: Colour, width: int = 128, height: int = 96) -> Picture:
    """Eight 75 % colour bars: saturated, and within RGB's range."""
    rgb = np.zeros((height, width, 3), np.uint8)
    for i in range(8):
        level = [191 * (i >> 2 & 1), 191 * (i >> 1 & 1), 191 * (i & 1)]
        rgb[:, i * width // 8 : (i + 1) * width // 8] = level
    return reference.rgb_to_nv12(rgb, colour)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_colour_bars_go_through_crop_and_paste_unchanged(device: Device, colour: Colour, scale: float) -> None:
    """Everywhere but 4 px around a bar's edge, where interpolated chroma and sharp luma leave RGB's range."""
    picture = bars(colour)
    frame = put_frame(device, picture)
    size = 64
    matrix = frame_from_crop(scale, 0, (64, 48), size)[None]
    crops = device.put(np.zeros((1, 3, size, size), np.float32))
    launch.crop_into(device.target, frame.nv12, device.put(matrix), crops, mean=ZERO, std=FULL)
    paste(device, frame, device.get(crops), np.ones((size, size)), matrix)
    got = frame.read()
    away = np.abs((np.arange(128) % 16) - 7.5) < 4
    assert levels(got.y, picture.y)[:, away].max() <= 1
    assert levels(got.uv, picture.uv)[:, away[::2] & away[1::2]].max() <= 1


@pytest.mark.parametrize("colour", COLOURS)
def test_a_whole_frame_of_mild_colour_comes_back_px_by_px(
    device: Device, rng: np.random.Generator, colour: Colour
) -> None:
    """On the frame's own grid luma is exact; chroma is interpolated there and back, on waves of 100 px."""
    picture = smooth(rng, 96, 96, colour)
    frame = put_frame(device, picture)
    identity = np.eye(2, 3, dtype=np.float32)[None]
    crops = device.put(np.zeros((1, 3, 96, 96), np.float32))
    launch.crop_into(device.target, frame.nv12, device.put(identity), crops, mean=ZERO, std=FULL)
    paste(device, frame, device.get(crops), np.ones((96, 96)), identity)
    assert levels(frame.read().y, picture.y).max() <= 1
    assert levels(frame.read().uv, picture.uv).max() <= 1


def test_paste_is_opencvs_warp_and_blend(rng: np.random.Generator, device: Device) -> None:
    """On luma, full range, against warpAffine of face and mask. OpenCV's 1/32 px and 8-bit steps: 2 levels."""
    picture = smooth(rng, 320, 240, Colour("bt709", True))
    face = cv2.resize(rng.random((6, 6)).astype(np.float32), (128, 128), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    mask = reference.ellipse_mask(128, 0.4, 6, 9).astype(np.float32)
    matrix = frame_from_crop(1.3, 20, (150, 110), 128)
    warped = cv2.warpAffine(face * 255, matrix, (320, 240), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(mask, matrix, (320, 240), flags=cv2.INTER_LINEAR)
    wanted = alpha * warped + (1 - alpha) * picture.y
    frame = put_frame(device, picture)
    paste(device, frame, np.stack([face] * 3)[None], mask, matrix[None])
    assert np.abs(frame.read().y - wanted).max() < 2.0
    assert np.abs(frame.read().y - wanted).mean() < 0.3


def test_a_mask_of_another_size_is_refused(device: Device) -> None:
    frame = put_frame(device, Picture(np.zeros((8, 8), np.uint8), np.zeros((4, 4, 2), np.uint8), Colour()))
    with pytest.raises(ValueError, match=r"paste_into: wanted float32 \[16, 16\], got float32 \[8, 8\]"):
        paste(device, frame, np.zeros((1, 3, 16, 16)), np.zeros((8, 8)), np.eye(2, 3)[None])
