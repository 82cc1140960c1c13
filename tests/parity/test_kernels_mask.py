"""Masks against the NumPy twins, and the twins against what the systems they come from do in OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference
from kernels.compile import HostTarget
from tests.parity.conftest import Device
from tests.parity.test_kernels_align import frame_from_crop


@pytest.mark.parametrize("size", [32, 128, 129, 256])
def test_ellipse_mask_is_the_twin(device: Device, size: int) -> None:
    out = device.put(np.full((size, size), np.nan, np.float32))
    launch.ellipse_mask_into(device.target, out)
    wanted = reference.ellipse_mask(size, 0.44, 12 * size / 128, round(15 * size / 128))
    assert np.abs(device.get(out) - wanted).max() < 1e-5


def test_the_ellipse_twin_is_deep_live_cams() -> None:
    """OpenCV draws the rim of the disc by polygons and blurs in 8 bits."""
    disc = np.zeros((128, 128), np.uint8)
    cv2.ellipse(disc, (64, 64), (56, 56), 0, 0, 360, 255, -1)
    wanted = cv2.GaussianBlur(disc, (31, 31), 12) / 255
    assert np.abs(reference.ellipse_mask(128, 0.44, 12, 15) - wanted).max() < 0.01
    assert wanted[64, 0] > 0.1  # the mirrored border keeps it from fading to 0: not to be lost


@pytest.mark.parametrize(
    ("size", "blur", "padding"),
    [(128, 0.3, (0, 0, 0, 0)), (256, 0.3, (0, 0, 0, 0)), (128, 0.6, (10, 0, 25, 5)), (64, 0.0, (0, 0, 0, 0))],
)
def test_box_mask_is_the_twin_and_facefusions(
    device: Device, size: int, blur: float, padding: tuple[float, float, float, float]
) -> None:
    out = device.put(np.full((size, size), np.nan, np.float32))
    launch.box_mask_into(device.target, out, blur=blur, padding_percent=padding)
    assert np.abs(device.get(out) - reference.box_mask(size, blur, padding)).max() < 1e-5

    amount = int(size * 0.5 * blur)
    top, right, bottom, left = (max(amount // 2, 1, int(size * p / 100)) for p in padding)
    wanted = np.ones((size, size), np.float32)
    wanted[:top] = wanted[-bottom:] = 0
    wanted[:, :left] = wanted[:, -right:] = 0
    if amount:
        wanted = cv2.GaussianBlur(wanted, (0, 0), amount * 0.25)
    assert np.abs(device.get(out) - wanted).max() < 1e-4


# Faces of 600, 300, 130 and 60 px (below 100 px the reference's clamps rule), turned, and across the border.
FACES = [
    (4.7, 0, (960, 540)),
    (2.34, 0, (960, 540)),
    (2.34, 30, (700.4, 500.2)),
    (1.0, -20, (300, 300)),
    (0.47, 45, (200, 200)),
    (2.34, 15, (40, 300)),
]


def insightface_mask(matrix: npt.NDArray[np.float32], frame_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The reference's mask in the frame, step by step."""
    white = np.full((128, 128), 255, np.float32)
    mask = cv2.warpAffine(white, matrix, frame_size, flags=cv2.INTER_LINEAR)
    mask[mask > 20] = 255
    rows, columns = np.where(mask == 255)
    mask_size = int(np.sqrt((rows.max() - rows.min()) * (columns.max() - columns.min())))
    kernel = max(mask_size // 10, 10)
    mask = cv2.erode(mask, np.ones((kernel, kernel), np.uint8), iterations=1)
    half = max(mask_size // 20, 5)
    blurred: npt.NDArray[np.float32] = cv2.GaussianBlur(mask, (2 * half + 1, 2 * half + 1), 0) / 255
    return blurred


@pytest.mark.parametrize("face", FACES)
def test_erode_blur_mask_is_the_twin_and_insightfaces(
    device: Device, face: tuple[float, float, tuple[float, float]]
) -> None:
    """The twin works with straight edges where the reference has px steps: half a px of a slope of 0.2 a px.

    Where a slanted edge leaves the frame, the reference mirrors it and the twin goes on straight: a corner of a
    few px differs more.
    """
    frame_size = (1920, 1080)
    matrix = frame_from_crop(*face, 128)
    out = device.put(np.full((1, 128, 128), np.nan, np.float32))
    launch.erode_blur_mask_into(device.target, device.put(matrix[None]), out, frame_size_px=frame_size)
    ours = device.get(out)[0]
    # erff and a truncated coordinate; a mask size at the edge of an integer may fall either way (one step of 10).
    assert np.abs(ours - reference.erode_blur_mask(matrix, 128, frame_size)).max() < 2e-3
    warped = cv2.warpAffine(ours, matrix, frame_size, flags=cv2.INTER_LINEAR)
    difference = np.abs(warped - insightface_mask(matrix, frame_size))
    inside = warped > 0
    assert (difference[inside] > 0.1).mean() < 0.003
    assert difference[inside].mean() < 0.015


def test_masks_combine_by_minimum_shared_and_per_face(device: Device, rng: np.random.Generator) -> None:
    shared = rng.random((96, 96)).astype(np.float32)
    own = rng.random((3, 96, 96)).astype(np.float32)
    out = device.put(np.zeros((3, 96, 96), np.float32))
    launch.min_masks_into(device.target, [device.put(shared), device.put(own)], out)
    assert np.array_equal(device.get(out), reference.min_masks([np.broadcast_to(shared, own.shape), own]))
    one = device.put(shared)
    launch.min_masks_into(device.target, [one, device.put(own[0]), device.put(own[1]), device.put(own[2])], one)
    assert np.array_equal(device.get(one), reference.min_masks([shared, *own]))


def test_a_blur_beyond_the_mask_is_refused() -> None:
    class Mask:
        ptr, shape, dtype, nbytes = 0, (16, 16), "float32", 1024

    with pytest.raises(ValueError, match="ellipse_mask_into: wanted sigma above 0 and a window below 32 px"):
        launch.ellipse_mask_into(HostTarget(1), Mask(), kernel_px=33)
