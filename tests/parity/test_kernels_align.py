"""Matrices and crops against the NumPy twins, and the twins against OpenCV."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference
from kernels.launch import Colour
from tests.parity.conftest import COLOURS, Device, noise, put_frame, smooth

ARCFACE_128 = ((46.2946, 51.6963), (81.5318, 51.5014), (64.0252, 71.7366), (49.5493, 92.3655), (78.7299, 92.2041))
ZERO, FULL = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
# Scale, degrees, middle of the face in a 160x120 frame: upright, turned, upside down, half and entirely outside.
PLACES = [
    (0.5, 0, (80, 60)),
    (0.9, 33, (70.3, 61.7)),
    (0.3, 180, (20, 100)),
    (1.7, -75, (150, 5)),
    (0.6, 10, (160, 120)),
    (0.5, 45, (-200, 60)),
]


def frame_from_crop(scale: float, degrees: float, middle: tuple[float, float], size: int) -> npt.NDArray[np.float32]:
    """A similarity that puts the middle of a crop at a place of the frame."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    half = (size - 1) / 2
    rows = [[c, -s, middle[0] - c * half + s * half], [s, c, middle[1] - s * half - c * half]]
    return np.array(rows, np.float32)


def fit(
    device: Device, points: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    k = len(points)
    forward, back = (device.put(np.full((k, 2, 3), np.nan, np.float32)) for _ in range(2))
    flags = device.put(np.full(k, -1, np.int32))
    launch.similarity_into(
        device.target,
        device.put(points),
        device.put(np.array([count], np.int32)),
        forward,
        back,
        flags,
        template_px=ARCFACE_128,
    )
    return device.get(forward), device.get(back), device.get(flags)


def test_similarity_is_least_squares_over_all_five(device: Device, rng: np.random.Generator) -> None:
    template = np.array(ARCFACE_128)
    faces = []
    for _ in range(8):
        angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 8)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        faces.append((template - 64) @ turn.T + rng.uniform(-300, 4000, 2) + rng.normal(0, 2 * scale, (5, 2)))
    points = np.array(faces, np.float32)
    forward, back, flags = fit(device, points, len(points))
    assert (flags == 0).all()
    corners = np.array([[0, 0], [127, 0], [0, 127], [127, 127]], np.float64)
    for face, ours, inverse in zip(points, forward, back, strict=True):
        wanted, _, _ = reference.similarity(face, template)
        in_frame = corners @ inverse[:, :2].T + inverse[:, 2]
        assert np.abs(in_frame @ wanted[:, :2].T + wanted[:, 2] - corners).max() < 0.01
        assert np.abs(in_frame @ ours[:, :2].T + ours[:, 2] - corners).max() < 0.01
        # OpenCV searches inliers by RANSAC; with a threshold beyond every residual it refines over all points.
        theirs, _ = cv2.estimateAffinePartial2D(face, template, ransacReprojThreshold=1000, refineIters=100)
        assert np.abs(in_frame @ theirs[:, :2].T + theirs[:, 2] - corners).max() < 0.1


def test_points_without_a_fit_give_a_finite_matrix_and_a_flag(device: Device) -> None:
    same = np.full((5, 2), 77.0, np.float32)
    line = np.array(ARCFACE_128, np.float32)
    broken = line.copy()
    broken[2, 0] = np.nan
    points = np.stack([line, same, broken, line, np.full((5, 2), np.inf, np.float32)])
    forward, back, flags = fit(device, points, 3)
    assert flags.tolist() == [0, 1, 1, 2, 2]
    assert np.isfinite(forward).all()
    assert np.isfinite(back).all()
    assert np.allclose(forward[1, :, :2], np.eye(2))
    assert np.array_equal(forward[3], np.eye(2, 3))


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_box_matrix_is_the_twin(device: Device, keep_aspect: bool) -> None:
    boxes = np.array([[10, 20, 110, 180], [-5, 3, 300.5, 99], [50, 50, 50, 60], [0, 0, 9, 9]], np.float32)
    forward, back = (device.put(np.zeros((4, 2, 3), np.float32)) for _ in range(2))
    flags = device.put(np.zeros(4, np.int32))
    count = device.put(np.array([3], np.int32))
    launch.box_matrix_into(
        device.target,
        device.put(boxes),
        count,
        forward,
        back,
        flags,
        crop_size_px=(192, 160),
        expand=1.5,
        keep_aspect=keep_aspect,
    )
    assert device.get(flags).tolist() == [0, 0, 1, 2]
    for i in range(3):
        wanted, inverse, _ = reference.box_matrix(boxes[i], (192, 160), 1.5, keep_aspect)
        assert np.allclose(device.get(forward)[i], wanted, atol=1e-3)
        assert np.allclose(device.get(back)[i], inverse, atol=1e-3)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("border", ["black", "replicate", (132.0, 133.0, 135.0)])
def test_crop_is_the_twin(
    device: Device,
    rng: np.random.Generator,
    place: tuple[float, float, tuple[float, float]],
    border: Literal["black", "replicate"] | tuple[float, float, float],
) -> None:
    picture = noise(rng, 161, 119)
    matrices = np.stack([frame_from_crop(*place, 48), frame_from_crop(1.0, 0, (80, 60), 48), np.zeros((2, 3))])
    out = device.put(np.full((2, 3, 40, 48), np.nan, np.float32))
    launch.crop_into(
        device.target,
        put_frame(device, picture, extra_bytes=3).nv12,
        device.put(matrices.astype(np.float32)),
        out,
        mean=(100.0, 110.0, 120.0),
        std=(50.0, 60.0, 70.0),
        order="bgr",
        border=border,
    )
    got = device.get(out)
    for i in range(2):
        wanted = reference.crop(
            picture, matrices[i], (48, 40), (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), "bgr", border
        )
        assert np.abs(got[i] - wanted).max() < 0.03  # 255 levels within a px times float32's error in coordinates


@pytest.mark.parametrize("place", PLACES)
def test_the_crop_twin_is_opencvs_warp(
    rng: np.random.Generator, place: tuple[float, float, tuple[float, float]]
) -> None:
    """On a gray frame, where chroma plays no part. OpenCV rounds coordinates to 1/32 px, so the picture is slow."""
    picture = smooth(rng, 160, 120, Colour("bt709", True))
    picture.uv[:] = 128
    matrix = frame_from_crop(*place, 64)
    wanted = cv2.warpAffine(
        picture.y.astype(np.float32), matrix, (64, 64), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    ours = reference.crop(picture, matrix, (64, 64), ZERO, (1.0, 1.0, 1.0), "rgb", "black")
    # At the black border a coordinate that is off by 1/64 px moves up to 4 levels.
    difference = np.abs(ours - wanted)
    assert difference.max() < 5.0
    assert difference.mean() < 0.2


@pytest.mark.parametrize("colour", COLOURS)
def test_crop_in_every_colour(device: Device, rng: np.random.Generator, colour: Colour) -> None:
    picture = noise(rng, 64, 48, colour)
    matrix = frame_from_crop(0.7, 20, (30, 25), 32)
    out = device.put(np.zeros((1, 3, 32, 32), np.float32))
    launch.crop_into(device.target, put_frame(device, picture).nv12, device.put(matrix[None]), out, mean=ZERO, std=FULL)
    wanted = reference.crop(picture, matrix, (32, 32), ZERO, FULL, "rgb", "black")
    assert np.abs(device.get(out)[0] - wanted).max() < 0.003


def test_a_matrix_of_nan_reads_no_wild_address(device: Device, rng: np.random.Generator) -> None:
    out = device.put(np.zeros((1, 3, 8, 8), np.float32))
    matrix = device.put(np.full((1, 2, 3), np.nan, np.float32))
    frame = put_frame(device, noise(rng, 16, 16))
    launch.crop_into(device.target, frame.nv12, matrix, out, mean=ZERO, std=FULL)
    assert device.get(out).shape == (1, 3, 8, 8)


def test_gather_rows(device: Device, rng: np.random.Generator) -> None:
    table = rng.normal(size=(3, 512)).astype(np.float32)
    rows = np.array([2, 0, -1, 3, 1], np.int32)
    out = device.put(np.full((4, 512), np.nan, np.float32))
    launch.gather_rows_into(device.target, device.put(table), device.put(rows), out)
    assert np.array_equal(device.get(out), reference.gather_rows(table, rows[:4]))


def test_fewer_matrices_than_faces_are_refused(device: Device) -> None:
    tensor = device.put(np.zeros((1, 2, 3), np.float32))
    crops = device.put(np.zeros((2, 3, 8, 8), np.float32))
    frame = launch.Nv12(0, 0, 8, 8, 8, 8)
    with pytest.raises(ValueError, match=r"crop_into: wanted float32 \[at least 2, 2, 3\], got float32 \[1, 2, 3\]"):
        launch.crop_into(device.target, frame, tensor, crops, mean=ZERO, std=FULL)
