"""A mouth's way to a network and back against the NumPy twins, and the twins against OpenCV."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch, reference
from kernels.launch import PLACE_FLOATS, PLACE_OPACITY, PLACE_RECTANGLE, Colour, Values
from kernels.reference import Picture
from kernels.reference_pixels import normalise
from tests.parity.conftest import Device, DeviceTensor, TestFrame, noise, put_frame, smooth
from tests.parity.test_kernels_align import frame_from_crop
from tests.parity.test_kernels_paste import levels

Array = npt.NDArray[Any]
BGR = Values(order="bgr")
SIGNED = Values((127.5, 120.0, 110.0), (127.5, 128.0, 90.0), "rgb")


def boxed(x0: int, y0: int, x1: int, y1: int, crop: tuple[int, int]) -> npt.NDArray[np.float64]:
    """frame_from_crop of a box whose edges meet the crop's."""
    sx, sy = (x1 - x0) / crop[0], (y1 - y0) / crop[1]
    return np.array([[sx, 0, x0 + 0.5 * sx - 0.5], [0, sy, y0 + 0.5 * sy - 0.5]])


def put_place(
    device: Device, matrix: Array, opacity: float = 1.0, rectangle: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> DeviceTensor:
    """What a frame brings along."""
    values = np.zeros(PLACE_FLOATS, np.float32)
    values[:6] = np.asarray(matrix).reshape(-1)
    values[6:12] = reference.invert(np.asarray(matrix, np.float64)).reshape(-1)
    values[PLACE_OPACITY] = opacity
    values[PLACE_RECTANGLE : PLACE_RECTANGLE + 4] = rectangle
    return device.put(values)


def crop_of(
    device: Device, frame: TestFrame, matrix: Array, size: tuple[int, int], **options: Any
) -> tuple[Array, Array]:
    """(masked, whole) of one call, halves of one input."""
    width, height = size
    stacked = device.put(np.full((2, 3, height, width), np.nan, np.float32))
    half = DeviceTensor(stacked.ptr, (1, 3, height, width), "float32", stacked.nbytes // 2)
    other = DeviceTensor(stacked.ptr + half.nbytes, half.shape, "float32", half.nbytes)
    launch.mouth_crop_into(device.target, frame.nv12, put_place(device, matrix), masked=half, whole=other, **options)
    masked, whole = device.get(stacked)
    return masked, whole


@pytest.mark.parametrize("scale", [0.6, 1.3, 2.4, 9.0])
@pytest.mark.parametrize(("degrees", "middle"), [(0, (80.0, 60.0)), (33, (70.3, 61.7)), (-75, (150.0, 5.0))])
@pytest.mark.parametrize("values", [BGR, SIGNED])
def test_a_crop_is_the_twins_in_both_halves(
    device: Device, rng: np.random.Generator, scale: float, degrees: float, middle: tuple[float, float], values: Values
) -> None:
    picture = noise(rng, 161, 119, Colour("bt601", True, "center"))
    frame = put_frame(device, picture, extra_bytes=5)
    matrix, blank = frame_from_crop(scale, degrees, middle, 44), (5, 6, 20, 17)
    size, offset = (40, 36), (2, 4)
    masked, whole = crop_of(
        device, frame, matrix, size, crop_px=(44, 44), offset_px=offset, blank_xywh_px=blank, values=values
    )
    wanted = reference.mouth_crop(picture, matrix, size, offset, values)
    # noise changes by 255 levels a px; float32 coordinates are right to 1e-4 px
    tolerance = 0.1 / min(values.std)
    assert np.abs(whole - wanted).max() < tolerance
    assert np.abs(masked - reference.hide(wanted, blank, values)).max() < tolerance
    black = masked[:, 6:23, 5:25]
    assert np.array_equal(black, np.broadcast_to(black[:, :1, :1], black.shape))
    assert not np.array_equal(masked, whole)


def test_a_shrinking_crop_averages_what_a_plain_one_skips(device: Device, rng: np.random.Generator) -> None:
    """Against OpenCV's area filter on the luma of a grey picture."""
    picture = noise(rng, 128, 128, Colour("bt709", True, "center"))
    picture.uv[...] = 128
    frame = put_frame(device, picture)
    matrix = boxed(0, 0, 128, 128, (32, 32))
    values = Values((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    _, whole = crop_of(device, frame, matrix, (32, 32), crop_px=(32, 32), values=values)
    area = cv2.resize(picture.y.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(whole[1] - area).max() < 1e-3
    _, plain = crop_of(device, frame, matrix, (32, 32), crop_px=(32, 32), values=values, bounded=True)
    assert np.abs(plain[1] - area).mean() > 10


@pytest.mark.parametrize("box", [(20, 11, 61, 83), (0, 0, 30, 30), (100, 60, 160, 120), (31, 20, 151, 110)])
def test_a_bounded_crop_is_opencvs_resize_of_the_box(
    device: Device, rng: np.random.Generator, box: tuple[int, int, int, int]
) -> None:
    picture = noise(rng, 160, 120, Colour("bt709", True, "center"))
    picture.uv[...] = 128  # then RGB is luma, which OpenCV resizes as it is
    frame = put_frame(device, picture)
    x0, y0, x1, y1 = box
    values = Values((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    _, whole = crop_of(device, frame, boxed(*box, (48, 48)), (48, 48), crop_px=(48, 48), values=values, bounded=True)
    wanted = cv2.resize(picture.y[y0:y1, x0:x1].astype(np.float32), (48, 48), interpolation=cv2.INTER_LINEAR)
    assert np.abs(whole - wanted).max() < 0.05
    twin = reference.mouth_crop(picture, boxed(*box, (48, 48)), (48, 48), (0, 0), values, box)
    assert np.abs(whole - twin).max() < 0.05


@pytest.mark.parametrize("which", ["masked", "whole"])
def test_one_picture_may_be_asked_for_alone(device: Device, rng: np.random.Generator, which: str) -> None:
    frame = put_frame(device, noise(rng, 64, 48))
    matrix = frame_from_crop(1.1, 20, (30, 20), 16)
    pair = dict(zip(("masked", "whole"), crop_of(device, frame, matrix, (16, 16), crop_px=(16, 16)), strict=True))
    alone = device.put(np.zeros((1, 3, 16, 16), np.float32))
    chosen: dict[str, Any] = {which: alone}
    launch.mouth_crop_into(device.target, frame.nv12, put_place(device, matrix), crop_px=(16, 16), **chosen)
    assert np.array_equal(device.get(alone)[0], pair[which])


def test_a_generated_picture_is_joined_in_the_others_values(device: Device, rng: np.random.Generator) -> None:
    generated, whole = rng.random((1, 3, 10, 12), np.float32) * 1.4 - 0.2, rng.random((1, 3, 16, 20), np.float32)
    there = device.put(whole)
    launch.mouth_join_into(
        device.target, device.put(generated), there, offset_px=(4, 3), generated_values=BGR, values=SIGNED
    )
    wanted = reference.mouth_join(generated[0], whole[0], (4, 3), BGR, SIGNED)
    assert np.abs(device.get(there)[0] - wanted).max() < 1e-5


def paste(
    device: Device,
    picture: Picture,
    matrix: Array,
    rectangle: tuple[int, int, int, int],
    generated: Array,
    opacity: float,
    *,
    offset: tuple[int, int] = (0, 0),
    reach: int | None = None,
    **options: Any,
) -> Picture:
    """The kernel's picture."""
    frame = put_frame(device, picture, extra_bytes=9)
    held: dict[str, Any] = {
        name: device.put(options.pop(name).astype(np.float32)) for name in ("mask", "whole") if name in options
    }
    launch.mouth_paste_into(
        device.target,
        device.put(generated[None].astype(np.float32)),
        put_place(device, matrix, opacity, rectangle),
        frame.nv12,
        device.put(np.full((6, *generated.shape[1:]), np.nan, np.float32)),
        offset_px=offset,
        reach_px=reach,
        **held,
        **options,
    )
    return frame.read()


def paste_both(
    device: Device,
    picture: Picture,
    matrix: Array,
    rectangle: tuple[int, int, int, int],
    generated: Array,
    opacity: float,
    **options: Any,
) -> tuple[Picture, Picture]:
    """(the kernel's picture, the twin's)."""
    twin = {name: value[0] if name == "whole" else value for name, value in options.items()}
    inverse = reference.invert(np.asarray(matrix, np.float64))
    wanted = reference.mouth_paste(picture, generated, inverse, opacity, rectangle, **twin)
    return paste(device, picture, matrix, rectangle, generated, opacity, **options), wanted


@pytest.mark.parametrize("siting", ["left", "center"])
@pytest.mark.parametrize(("scale", "degrees"), [(0.7, 0), (1.9, 24), (3.1, -80)])
@pytest.mark.parametrize("kept", ["texture", "texture within 2 px", "none"])
def test_a_paste_is_the_twins_and_stays_in_its_rectangle(
    device: Device,
    rng: np.random.Generator,
    siting: Literal["left", "center"],
    scale: float,
    degrees: float,
    kept: str,
) -> None:
    picture = noise(rng, 121, 99, Colour("bt601", False, siting))
    matrix = frame_from_crop(scale, degrees, (60.3, 50.9), 40)
    generated, mask = rng.random((3, 30, 34)), rng.random((30, 34)) * (rng.random((30, 34)) > 0.3)
    options: dict[str, Any] = {"mask": mask, "offset": (3, 5), "generated_values": BGR, "whole_values": SIGNED}
    if kept != "none":
        rgb = normalise(np.clip(_rgb(generated) + rng.normal(0, 25, (30, 34, 3)), 0, 255), *_three(SIGNED))
        options |= {"whole": rgb[None], "texture": 0.9, "alike": 5.0, "unlike": 40.0}
        options["reach"] = 2 if "within" in kept else 0
    rectangle = (12, 8, 110, 93)
    ours, twin = paste_both(device, picture, matrix, rectangle, generated, 0.8, **options)
    for got, wanted, before, step in ((ours.y, twin.y, picture.y, 1), (ours.uv, twin.uv, picture.uv, 2)):
        assert levels(got, wanted).max() <= 1
        assert (got != wanted).mean() < 0.01
        outside = np.ones(before.shape[:2], bool)
        outside[8 // step : -(-93 // step), 12 // step : -(-110 // step)] = False
        assert np.array_equal(got[outside], before[outside])
        assert (levels(got, before) > 3).any()


def _rgb(generated: Array) -> Array:
    return np.moveaxis(generated, 0, -1)[..., ::-1] * 255


def _three(values: Values) -> tuple[Any, Any, str]:
    return values.mean, values.std, values.order


@pytest.mark.parametrize("rectangle", [(20, 12, 60, 52), (21, 13, 59, 51), (0, 0, 97, 77)])
def test_a_hard_paste_overwrites_its_rectangle_to_the_last_px(
    device: Device, rng: np.random.Generator, rectangle: tuple[int, int, int, int]
) -> None:
    """What OpenCV does: a picture resized to the box and written over it."""
    picture = smooth(rng, 97, 77, Colour("bt709", True, "center"))
    x0, y0, x1, y1 = rectangle
    matrix = boxed(x0, y0, x1, y1, (24, 24))
    generated = np.broadcast_to(rng.random((24, 24)), (3, 24, 24))
    ours, twin = paste_both(device, picture, matrix, rectangle, generated, 1.0, hard=True)
    assert levels(ours.y, twin.y).max() <= 1
    assert levels(ours.uv, twin.uv).max() <= 1
    resized = cv2.resize(generated[0].astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) * 255
    assert np.abs(ours.y[y0:y1, x0:x1] - resized).max() < 1.0
    inside = np.zeros(picture.y.shape, bool)
    inside[y0:y1, x0:x1] = True
    assert np.array_equal(ours.y[~inside], picture.y[~inside])


def test_no_opacity_and_no_mask_change_no_bit(device: Device, rng: np.random.Generator) -> None:
    picture = noise(rng, 64, 48)
    broken = np.full((3, 16, 16), np.nan)  # not even through NaN
    matrix = frame_from_crop(1.5, 10, (30, 20), 16)
    for opacity, mask in ((0.0, np.ones((16, 16))), (np.nan, np.ones((16, 16))), (1.0, np.zeros((16, 16)))):
        for options in ({}, {"whole": broken[None]}):
            given: dict[str, Any] = options
            ours = paste(device, picture, matrix, (0, 0, 64, 48), broken, opacity, mask=mask, **given)
            assert np.array_equal(ours.y, picture.y)
            assert np.array_equal(ours.uv, picture.uv)


def test_a_picture_that_changed_nothing_gives_the_frame_back(device: Device, rng: np.random.Generator) -> None:
    """The frame's own texture is whole again, however coarse the crop: the reason for pasting by difference."""
    picture = noise(rng, 96, 96)
    frame = put_frame(device, picture)
    matrix = boxed(10, 10, 80, 80, (20, 20))
    _, whole = crop_of(device, frame, matrix, (20, 20), crop_px=(20, 20), values=BGR)
    options: dict[str, Any] = {"generated_values": BGR, "mask": np.ones((20, 20))}
    kept = paste(device, picture, matrix, (10, 10, 80, 80), whole, 1.0, whole=whole[None], whole_values=BGR, **options)
    lost = paste(device, picture, matrix, (10, 10, 80, 80), whole, 1.0, **options)
    assert levels(kept.y, picture.y).max() <= 1
    assert levels(lost.y, picture.y).mean() > 10


def test_beside_a_change_no_texture_of_the_frame_is_kept(device: Device, rng: np.random.Generator) -> None:
    """A fine line of the frame hardly shows in a coarse crop: it would shine through next to what took its place."""
    picture = noise(rng, 96, 96)
    frame = put_frame(device, picture)
    matrix = boxed(0, 0, 96, 96, (24, 24))
    _, whole = crop_of(device, frame, matrix, (24, 24), crop_px=(24, 24), values=BGR)
    generated = whole.copy()
    generated[:, 12, 12] = 1.0 - np.round(whole[:, 12, 12])  # one px says something else
    options: dict[str, Any] = {"generated_values": BGR, "whole": whole[None], "whole_values": BGR}
    options |= {"mask": np.ones((24, 24)), "reach": 2}
    kept = paste(device, picture, matrix, (0, 0, 96, 96), generated, 1.0, **options)
    bare = paste(device, picture, matrix, (0, 0, 96, 96), generated, 1.0, **{**options, "texture": 0.0})
    middle = slice(4 * 11, 4 * 14)
    assert levels(kept.y[middle, middle], bare.y[middle, middle]).max() <= 1
    far = slice(0, 4 * 8)
    assert levels(kept.y[far, far], picture.y[far, far]).max() <= 1


@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 1.0])
def test_a_fade_is_the_twins_and_exact_at_its_ends(device: Device, rng: np.random.Generator, part: float) -> None:
    one, other = noise(rng, 67, 45), noise(rng, 67, 45)
    frame, source = put_frame(device, one, extra_bytes=3), put_frame(device, other, extra_bytes=8)
    launch.fade_nv12_into(device.target, source.nv12, frame.nv12, part=part)
    got, wanted = frame.read(), reference.fade(one, other, part)
    assert levels(got.y, wanted.y).max() <= 1
    assert (got.y != wanted.y).mean() < 0.02
    if part in (0.0, 1.0):
        whole = other if part else one
        assert np.array_equal(got.y, whole.y)
        assert np.array_equal(got.uv, whole.uv)
    assert np.array_equal(source.read().y, other.y)


def test_what_does_not_fit_is_refused(device: Device, rng: np.random.Generator) -> None:
    frame = put_frame(device, noise(rng, 32, 32))
    place, picture = put_place(device, boxed(0, 0, 8, 8, (8, 8))), device.put(np.zeros((1, 3, 8, 8), np.float32))
    room = device.put(np.zeros((6, 8, 8), np.float32))
    with pytest.raises(ValueError, match="mouth_crop_into: wanted a picture to fill, got none; pass whole, masked or"):
        launch.mouth_crop_into(device.target, frame.nv12, place, crop_px=(8, 8))
    with pytest.raises(ValueError, match=r"mouth_join_into: wanted 8x8 px inside 8x8, got them at 1, 0; correct the"):
        launch.mouth_join_into(device.target, picture, picture, offset_px=(1, 0))
    with pytest.raises(ValueError, match=r"mouth_paste_into: wanted 0 <= alike < unlike, got 9 and 9; correct the lev"):
        launch.mouth_paste_into(device.target, picture, place, frame.nv12, room, alike=9, unlike=9)
    wide = device.put(np.zeros((1, 3, 1, 1025), np.float32))
    with pytest.raises(
        ValueError, match=r"mouth_paste_into: wanted a picture up to 1024 px wide, got 1025; generate a"
    ):
        launch.mouth_paste_into(device.target, wide, place, frame.nv12, room)
    with pytest.raises(ValueError, match=r"fade_nv12_into: wanted a part of 0 to 1, got 1.5; correct it"):
        launch.fade_nv12_into(device.target, frame.nv12, frame.nv12, part=1.5)
    with pytest.raises(ValueError, match=r"mouth_paste_into: wanted float32 \[6, 8, 8\], got float32 \[1, 3, 8, 8\]"):
        launch.mouth_paste_into(device.target, picture, place, frame.nv12, picture)
    with pytest.raises(ValueError, match=r"mouth_paste_into: wanted float32 \[64\], got float32 \[1, 3, 8, 8\]"):
        launch.mouth_paste_into(device.target, picture, picture, frame.nv12, room)
