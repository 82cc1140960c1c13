"""Copies and colour against the NumPy twin, and the twin against FFmpeg's converter."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
import pytest
from av.video import reformatter

from kernels import launch, reference
from kernels.compile import HostTarget
from kernels.launch import I420, Colour
from kernels.launch_types import Matrix
from tests.parity.conftest import COLOURS, Device, DeviceTensor, noise, put_frame, smooth

SIZES = [(1, 1), (2, 2), (5, 3), (64, 48), (67, 35)]


def _planes(tensors: Sequence[DeviceTensor], size: tuple[int, int]) -> I420:
    (y, u, v), (width, height) = tensors, size
    return I420(y.ptr, u.ptr, v.ptr, y.shape[1], u.shape[1], v.shape[1], width, height)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extra", [0, 13])
def test_planes_to_nv12_and_back_are_exact(
    device: Device, rng: np.random.Generator, size: tuple[int, int], extra: int
) -> None:
    picture = noise(rng, *size)
    y, u, v = reference.nv12_to_planar(picture)
    tensors = [device.put(np.pad(plane, ((0, 0), (0, extra)), constant_values=7)) for plane in (y, u, v)]
    planes = _planes(tensors, size)
    frame = put_frame(device, noise(rng, *size), extra_bytes=5)
    launch.copy_planar_into(device.target, planes, frame.nv12)
    got = frame.read()
    assert np.array_equal(got.y, picture.y)
    assert np.array_equal(got.uv, picture.uv)

    blank = [device.put(np.full(t.shape, 7, np.uint8)) for t in tensors]
    launch.nv12_to_planar_into(device.target, frame.nv12, _planes(blank, size))
    for before, after in zip(tensors, blank, strict=True):
        assert np.array_equal(device.get(before), device.get(after))

    second = put_frame(device, noise(rng, *size), extra_bytes=9)
    launch.copy_nv12_into(device.target, frame.nv12, second.nv12)
    assert np.array_equal(second.read().y, picture.y)
    assert np.array_equal(second.read().uv, picture.uv)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(5, 3), (64, 48)])
def test_nv12_to_rgb_is_the_twin_for_every_matrix_and_range(
    device: Device, rng: np.random.Generator, colour: Colour, size: tuple[int, int]
) -> None:
    picture = noise(rng, *size, colour)
    frame = put_frame(device, picture, extra_bytes=3)
    expected = reference.nv12_to_rgb(picture)
    rgb = device.put(np.zeros((size[1], size[0], 3), np.uint8))
    launch.nv12_to_rgb_into(device.target, frame.nv12, rgb)
    # Rounding to nearest: at most half a level, and what float32 adds.
    assert np.abs(device.get(rgb) - expected).max() < 0.501
    chw = device.put(np.zeros((1, 3, size[1], size[0]), np.float32))
    launch.nv12_to_rgb_into(device.target, frame.nv12, chw, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), order="bgr")
    wanted = np.moveaxis((expected[..., ::-1] - [1, 2, 3]) / [4, 5, 6], -1, 0)
    assert np.abs(device.get(chw)[0] - wanted).max() < 1e-3


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 48)])
def test_rgb_to_nv12_is_the_twin(
    device: Device, rng: np.random.Generator, colour: Colour, size: tuple[int, int]
) -> None:
    rgb = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    frame = put_frame(device, noise(rng, *size, colour), extra_bytes=3)
    launch.rgb_to_nv12_into(device.target, device.put(rgb), frame.nv12)
    got, expected = frame.read(), reference.rgb_to_nv12(rgb, colour)
    # A value within float32's error of a half may round either way.
    assert np.abs(got.y.astype(int) - expected.y).max() <= 1
    assert np.abs(got.uv.astype(int) - expected.uv).max() <= 1
    assert (got.y != expected.y).mean() < 0.02


@pytest.mark.parametrize("colour", COLOURS)
def test_flat_colours_survive_the_way_to_rgb_and_back(device: Device, colour: Colour) -> None:
    """Codes that RGB can hold come back exactly: the two directions are inverses."""
    for ycc in ((16, 128, 128), (81, 90, 200), (145, 60, 60), (200, 128, 120)):
        y = np.full((6, 8), ycc[0], np.uint8)
        uv = np.broadcast_to(np.array(ycc[1:], np.uint8), (3, 4, 2)).copy()
        picture = reference.Picture(y, uv, colour)
        exact = reference.nv12_to_rgb(picture)[0, 0]
        if (exact == 0).any() or (exact == 255).any():
            continue  # clamped: not a colour
        frame = put_frame(device, picture)
        rgb = device.put(np.zeros((6, 8, 3), np.uint8))
        launch.nv12_to_rgb_into(device.target, frame.nv12, rgb)
        back = put_frame(device, reference.Picture(y * 0, uv * 0, colour))
        launch.rgb_to_nv12_into(device.target, rgb, back.nv12)
        assert np.abs(back.read().y.astype(int) - y).max() <= 1
        assert np.abs(back.read().uv.astype(int) - uv).max() <= 1


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="PyAV has FFmpeg's exact flags since 18")
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_the_twin_agrees_with_ffmpeg(rng: np.random.Generator, matrix: Matrix, full_range: bool) -> None:
    """FFmpeg with accurate rounding and interpolated chroma, on chroma between the columns as it assumes.

    Both round the same number, so they differ by one rounding: below 1 level, a quarter on average. (Its default
    flags repeat chroma over 2x2 px and use tables that lie 1.5 to 2 levels low on average: not an oracle.)
    """
    picture = smooth(rng, 320, 240, Colour(matrix, full_range, "center"))
    frame = av.VideoFrame.from_ndarray(np.concatenate([picture.y, picture.uv.reshape(120, 320)]), format="nv12")
    space = reformatter.Colorspace.ITU709 if matrix == "bt709" else reformatter.Colorspace.ITU601
    flags = reformatter.Interpolation
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=reformatter.ColorRange.JPEG if full_range else reformatter.ColorRange.MPEG,
        dst_color_range=reformatter.ColorRange.JPEG,
        interpolation=flags.BICUBIC | flags.FULL_CHR_H_INT | flags.ACCURATE_RND,
    ).to_ndarray()
    error = np.abs(rgb - reference.nv12_to_rgb(picture))
    assert error.max() < 1.0
    assert error.mean() < 0.3
    other: Matrix = "bt601" if matrix == "bt709" else "bt709"
    wrong = reference.Picture(picture.y, picture.uv, Colour(other, full_range, "center"))
    assert np.abs(rgb - reference.nv12_to_rgb(wrong)).mean() > 3 * error.mean()
    ranged = reference.Picture(picture.y, picture.uv, Colour(matrix, not full_range, "center"))
    assert np.abs(rgb - reference.nv12_to_rgb(ranged)).mean() > 10 * error.mean()


def test_a_pitch_below_the_width_is_refused() -> None:
    frame = launch.Nv12(1, 1, 7, 8, 8, 4)
    with pytest.raises(ValueError, match="copy_nv12_into: wanted pitches of at least 8 and 8 bytes, got 7 and 8"):
        launch.copy_nv12_into(HostTarget(1), frame, frame)
