"""Masks that networks give: their inputs, scores and blur against the NumPy twins, and the twins against OpenCV."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest

from kernels import launch, reference, reference_seen
from kernels.compile import HostTarget, HostTensor
from tests.parity.conftest import Device, noise, put_frame
from tests.parity.test_kernels_align import frame_from_crop

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RNG = np.random.default_rng


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("border", ["black", "replicate"])
def test_channels_last_hold_what_channels_first_do(
    device: Device, order: Literal["rgb", "bgr"], border: Literal["black", "replicate"]
) -> None:
    frame = noise(RNG(0), 131, 77)
    view = put_frame(device, frame, 5).nv12
    matrices = np.stack([frame_from_crop(1.3, 20, (60, 30), 40), frame_from_crop(2.0, -5, (0, 0), 40)])
    back = device.put(matrices.astype(np.float32))
    out = device.put(np.full((2, 33, 40, 3), np.nan, np.float32))
    launch.crop_nhwc_into(
        device.target, view, back, out, mean=IMAGENET_MEAN, std=IMAGENET_STD, order=order, border=border
    )
    for got, matrix in zip(device.get(out), matrices, strict=True):
        wanted = reference.crop(frame, matrix, (40, 33), IMAGENET_MEAN, IMAGENET_STD, order, border)
        assert np.abs(np.moveaxis(got, -1, 0) - wanted).max() < 2e-3


def test_matrices_of_another_size_cover_the_same_square(device: Device) -> None:
    matrices = np.stack([frame_from_crop(1.3, 20, (60, 30), 128), frame_from_crop(0.4, -75, (500, 300), 128)])
    out = device.put(np.full((2, 2, 3), np.nan, np.float32))
    launch.rescale_matrices_into(device.target, device.put(matrices.astype(np.float32)), out, from_px=128, to_px=256)
    for got, matrix in zip(device.get(out), matrices, strict=True):
        assert np.abs(got - reference_seen.rescale_matrix(matrix, 128, 256)).max() < 1e-3
        for corner in (-0.5, 0.5):  # the borders meet: half a px outside the outermost centres
            small = matrix @ [128 * (corner + 0.5) - 0.5, 128 * (corner + 0.5) - 0.5, 1]
            large = got @ [256 * (corner + 0.5) - 0.5, 256 * (corner + 0.5) - 0.5, 1]
            assert np.abs(small - large).max() < 1e-3


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize(("size", "to"), [((32, 32), (128, 128)), ((128, 128), (51, 64)), ((40, 40), (40, 40))])
def test_rescaled_faces_are_the_twins_and_opencvs(
    device: Device, size: tuple[int, int], to: tuple[int, int], nhwc: bool
) -> None:
    faces = RNG(1).uniform(-0.1, 1.1, (2, 3, size[1], size[0])).astype(np.float32)
    shape = (2, to[1], to[0], 3) if nhwc else (2, 3, to[1], to[0])
    out = device.put(np.full(shape, np.nan, np.float32))
    zeros, full = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
    launch.rescale_faces_into(
        device.target, device.put(faces), out, mean=zeros, std=full, order="bgr",
        out_mean=IMAGENET_MEAN, out_std=IMAGENET_STD, out_order="rgb", nhwc=nhwc,
    )  # fmt: skip
    got = device.get(out)
    for face, one in zip(faces, got, strict=True):
        wanted = reference_seen.rescale_face(face, to, zeros, full, "bgr", IMAGENET_MEAN, IMAGENET_STD, "rgb")
        assert np.abs((np.moveaxis(one, -1, 0) if nhwc else one) - wanted).max() < 1e-4
    large = cv2.resize(np.moveaxis(faces[0], 0, -1), to, interpolation=cv2.INTER_LINEAR)
    wanted = (np.clip(large[:, :, ::-1] * 255, 0, 255) - IMAGENET_MEAN) / IMAGENET_STD
    assert np.abs((got[0] if nhwc else np.moveaxis(got[0], 0, -1)) - wanted).max() < 1e-3


def test_classes_that_are_kept(device: Device) -> None:
    scores = RNG(2).normal(size=(2, 19, 37, 29)).astype(np.float32)
    scores[0, :, 0, 0] = 1.5  # all equal: the first class, the background
    seen = device.put(np.full((2, 37, 29), np.nan, np.float32))
    launch.seen_pixels_into(device.target, device.put(scores), seen, kind="classes", keep=(1, 10, 18))
    wanted = np.stack([reference_seen.seen_pixels(one, "classes", (1, 10, 18)) for one in scores])
    assert np.array_equal(device.get(seen), wanted)
    assert 0.05 < wanted.mean() < 0.3
    assert device.get(seen)[0, 0, 0] == 0


@pytest.mark.parametrize(("kind", "zero_below"), [("face", 0.0), ("face", 0.1), ("logit", 0.0)])
@pytest.mark.parametrize("last", [False, True])
def test_one_score_a_pixel(device: Device, kind: Literal["face", "logit"], zero_below: float, last: bool) -> None:
    scores = RNG(3).uniform(-0.2, 1.2, (2, 40, 33)).astype(np.float32)
    seen = device.put(np.full((2, 40, 33), np.nan, np.float32))
    given = device.put(scores[..., None] if last else scores[:, None])
    launch.seen_pixels_into(device.target, given, seen, kind=kind, zero_below=zero_below)
    wanted = np.stack([reference_seen.seen_pixels(one, kind, (), zero_below) for one in scores])
    assert np.abs(device.get(seen) - wanted).max() < 1e-6


@pytest.mark.parametrize(
    ("shape", "size", "sigma", "remap"),
    [
        ((256, 256), 128, 5.0, (0.5, 1.0)),
        ((40, 61), 64, 2.0, (0.0, 1.0)),
        ((64, 64), 128, 3.3, (0.2, 0.7)),
        ((64, 64), 48, 0.0, (0.0, 1.0)),
    ],
)
def test_soft_masks_are_the_twins_and_opencvs(
    device: Device, shape: tuple[int, int], size: int, sigma: float, remap: tuple[float, float]
) -> None:
    seen = (cv2.GaussianBlur(RNG(4).normal(size=(2, *shape)).transpose(1, 2, 0), (0, 0), 6) > 0).astype(np.float32)
    seen = np.ascontiguousarray(seen.transpose(2, 0, 1))
    rows, masks = (device.put(np.full((2, size, size), np.nan, np.float32)) for _ in range(2))
    launch.soften_into(device.target, device.put(seen), rows, masks, sigma_px=sigma, remap=remap)
    got = device.get(masks)
    for one, mask in zip(seen, got, strict=True):
        assert np.abs(mask - reference_seen.soften(one, size, sigma, remap)).max() < 1e-5
        blurred = cv2.resize(one, (size, size))
        blurred = cv2.GaussianBlur(blurred, (0, 0), sigma) if sigma else blurred
        assert np.abs(mask - (np.clip(blurred, *remap) - remap[0]) / (remap[1] - remap[0])).max() < 1e-4
    assert got.max() > 0.9
    assert got.min() < 0.1


def test_what_does_not_fit_is_refused() -> None:
    device = HostTarget(1)
    scores, seen = HostTensor(np.zeros((1, 4, 8, 8), np.float32)), HostTensor(np.zeros((1, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"seen_pixels_into: wanted up to 31 classes, .* got 4 and \[7\]; correct"):
        launch.seen_pixels_into(device, scores, seen, kind="classes", keep=(7,))
    with pytest.raises(ValueError, match=r"soften_into: wanted masks up to 2048 px and a window below their size"):
        launch.soften_into(device, seen, seen, seen, sigma_px=5.0)
    with pytest.raises(
        ValueError, match=r"soften_into: wanted remap \(low, high\) with low below high, got \(1.0, 0.5\)"
    ):
        launch.soften_into(device, seen, seen, seen, sigma_px=0.4, remap=(1.0, 0.5))
