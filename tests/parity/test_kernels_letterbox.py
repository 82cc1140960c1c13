"""The detector's input against the NumPy twin, and the twin against OpenCV's resize."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kernels import launch, reference
from kernels.compile import HostTarget
from kernels.launch import Colour, letterbox_size
from kernels.reference_pixels import axis_weights
from tests.parity.conftest import COLOURS, Device, noise, put_frame

MEAN, STD = (127.5, 127.5, 127.5), (128.0, 128.0, 128.0)
# Whole and broken ratios on either side of 2, tall and wide, enlarged, a single px, wider than one tile holds.
CASES = [
    ((192, 108), (64, 64)),
    ((128, 72), (64, 64)),
    ((256, 144), (64, 64)),
    ((97, 131), (64, 64)),
    ((131, 97), (64, 96)),
    ((301, 203), (96, 64)),
    ((40, 30), (64, 64)),
    ((1, 1), (32, 32)),
    ((3, 200), (32, 32)),
    ((4200, 6), (640, 32)),
    ((1290, 12), (640, 32)),
    ((6000, 5), (32, 32)),
]


@pytest.mark.parametrize(("size", "into"), CASES)
@pytest.mark.parametrize("siting", ["left", "center"])
def test_letterbox_is_the_twin(
    device: Device, rng: np.random.Generator, size: tuple[int, int], into: tuple[int, int], siting: str
) -> None:
    picture = noise(rng, *size, Colour("bt709", False, "left" if siting == "left" else "center"))
    frame = put_frame(device, picture, extra_bytes=7)
    new_w, new_h, _ = letterbox_size(*size, *into)
    out = device.put(np.full((1, 3, into[1], into[0]), np.nan, np.float32))
    launch.letterbox_into(
        device.target, frame.nv12, out, fit=(new_w, new_h), mean=MEAN, std=STD, order="bgr", pad=(10.0, 20.0, 30.0)
    )
    expected = reference.letterbox(picture, into, (new_w, new_h), MEAN, STD, "bgr", (10.0, 20.0, 30.0))
    assert np.abs(device.get(out)[0] - expected).max() < 2e-3  # a quarter of a level


@pytest.mark.parametrize("colour", COLOURS)
def test_letterbox_in_every_colour(device: Device, rng: np.random.Generator, colour: Colour) -> None:
    picture = noise(rng, 90, 50, colour)
    out = device.put(np.zeros((1, 3, 32, 32), np.float32))
    fit = letterbox_size(90, 50, 32, 32)[:2]
    launch.letterbox_into(device.target, put_frame(device, picture).nv12, out, fit=fit, mean=(0, 0, 0), std=(1, 1, 1))
    expected = reference.letterbox(picture, (32, 32), fit, (0, 0, 0), (1, 1, 1), "rgb", (0, 0, 0))
    assert np.abs(device.get(out)[0] - expected).max() < 0.1


def test_padding_can_be_left_alone(device: Device, rng: np.random.Generator) -> None:
    out = device.put(np.full((1, 3, 64, 64), 5, np.float32))
    frame = put_frame(device, noise(rng, 160, 90))
    launch.letterbox_into(device.target, frame.nv12, out, fit=(64, 36), mean=MEAN, std=STD, fill_pad=False)
    got = device.get(out)[0]
    assert (got[:, 36:] == 5).all()
    assert (got[:, :36] != 5).all()


@pytest.mark.parametrize(("n", "out"), [(96, 32), (97, 32), (1920, 640), (200, 63)])
def test_the_area_filter_is_opencvs(rng: np.random.Generator, n: int, out: int) -> None:
    row = rng.uniform(0, 255, (1, n)).astype(np.float32)
    # OpenCV holds its weights in float32.
    wanted = cv2.resize(row, (out, 1), interpolation=cv2.INTER_AREA)[0]
    assert np.abs(axis_weights(n, out, n / out, 0) @ row[0] - wanted).max() < 2e-3


@pytest.mark.parametrize(("n", "out"), [(64, 32), (60, 32), (32, 32), (20, 32)])
def test_the_bilinear_filter_is_opencvs(rng: np.random.Generator, n: int, out: int) -> None:
    row = rng.uniform(0, 255, (1, n)).astype(np.float32)
    wanted = cv2.resize(row, (out, 1), interpolation=cv2.INTER_LINEAR)[0]
    assert np.abs(axis_weights(n, out, n / out, 0) @ row[0] - wanted).max() < 2e-3


@pytest.mark.parametrize(
    ("size", "fit"),
    [((1920, 1080), (640, 360)), ((1080, 1920), (360, 640)), ((100, 100), (640, 640)), ((1366, 768), (640, 359))],
)
def test_letterbox_size_truncates_as_insightface_does(size: tuple[int, int], fit: tuple[int, int]) -> None:
    new_w, new_h, scale = letterbox_size(*size, 640, 640)
    assert (new_w, new_h) == fit
    assert scale == new_h / size[1]


def test_a_fit_beyond_the_input_is_refused(rng: np.random.Generator) -> None:
    device_frame = noise(rng, 4, 4)
    frame = launch.Nv12(device_frame.y.ctypes.data, device_frame.uv.ctypes.data, 4, 4, 4, 4)

    class Input:
        ptr, shape, dtype, nbytes = 0, (1, 3, 32, 32), "float32", 0

    with pytest.raises(ValueError, match="letterbox_into: wanted fit within 32x32, got 33x32; use letterbox_size"):
        launch.letterbox_into(HostTarget(1), frame, Input(), fit=(33, 32), mean=MEAN, std=STD)
