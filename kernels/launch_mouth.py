"""Launchers of a mouth's way to a network and back, and of one frame faded into another.

What changes from frame to frame stands in `place`, float32 [PLACE_FLOATS] in device memory: frame_from_crop [2,3] and
crop_from_frame [2,3] in px of the contract's crop, then the opacity, then the rectangle x0, y0, x1, y1 of the frame
inside which it may change, ends excluded. Integer coordinates are pixel centres.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from kernels.launch_types import (
    LANES,
    Nv12,
    Order,
    Target,
    Tensor,
    Triple,
    colour_arg,
    denormalise_arg,
    frame_arg,
    normalise_arg,
    pointer,
    same_size,
)

PLACE_FLOATS = 64  # what lies behind it in one allocation is aligned to 256 bytes, as networks want it
WIDTH_MAX_PX = 1024  # of a mouth's picture: what mouth.cu keeps of a row in shared memory
REACH_OF_WIDTH = 48  # of a mouth's picture: as far as a line of the frame shows in the crop's px
PLACE_BACK, PLACE_THERE, PLACE_OPACITY, PLACE_RECTANGLE = 0, 6, 12, 13

_ZERO: Triple = (0.0, 0.0, 0.0)
_FULL: Triple = (255.0, 255.0, 255.0)


@dataclass(frozen=True)
class Values:
    """How RGB of 0..255 stands in a picture: (rgb - mean) / std, in the tensor's channel order."""

    mean: Triple = _ZERO
    std: Triple = _FULL
    order: Order = "rgb"


class WindowArg(ctypes.Structure):
    """``struct Window`` of mouth.cu."""

    _fields_ = [("x0", ctypes.c_int), ("y0", ctypes.c_int), ("x1", ctypes.c_int), ("y1", ctypes.c_int)]


class InsideArg(ctypes.Structure):
    """``struct Inside`` of mouth.cu."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "width", "height", "bounded")]


class TextureArg(ctypes.Structure):
    """``struct Texture`` of mouth.cu."""

    _fields_ = [("part", ctypes.c_float), ("alike", ctypes.c_float), ("unlike", ctypes.c_float)]


def mouth_crop_into(
    target: Target,
    frame: Nv12,
    place: Tensor,
    *,
    whole: Tensor | None = None,
    masked: Tensor | None = None,
    crop_px: tuple[int, int],
    offset_px: tuple[int, int] = (0, 0),
    blank_xywh_px: tuple[int, int, int, int] = (0, 0, 0, 0),
    values: Values = Values(),
    bounded: bool = False,
) -> None:
    """Sample a frame once into one or both of two pictures float32 [1,3,H,W], which may be halves of one input.

    They show the crop of `crop_px` (width, height) from `offset_px` on; `masked` is black (RGB 0) inside
    `blank_xywh_px` of itself. Where the crop shrinks the frame by more than 2, up to 4 x 4 samples are averaged. With
    `bounded` the crop is a box cut out and resized bilinearly, as OpenCV's resize does it: nothing beside it is seen.
    """
    where = "mouth_crop_into"
    first = whole if whole is not None else masked
    if first is None:
        raise ValueError(f"{where}: wanted a picture to fill, got none; pass whole, masked or both")
    height, width = first.shape[2:] if len(first.shape) == 4 else (0, 0)
    shape = (1, 3, height, width)
    x, y, w, h = blank_xywh_px
    args = (
        frame_arg(where, frame),
        _place(where, place),
        ctypes.c_void_p(None) if masked is None else pointer(where, masked, "float32", shape),
        ctypes.c_void_p(None) if whole is None else pointer(where, whole, "float32", shape),
        ctypes.c_int(width),
        ctypes.c_int(height),
        InsideArg(*offset_px, *crop_px, int(bounded)),
        WindowArg(x, y, x + w, y + h),
        normalise_arg(where, values.mean, values.std, values.order),
    )
    target.launch("mouth_crop", (height, 1, 1), (min(LANES, 128), 1, 1), args)


def mouth_join_into(
    target: Target,
    generated: Tensor,
    whole: Tensor,
    *,
    offset_px: tuple[int, int],
    generated_values: Values = Values(),
    values: Values = Values(),
) -> None:
    """Put a generated picture [1,3,h,w] into a larger one [1,3,H,W] at `offset_px`, in the larger one's values."""
    where = "mouth_join_into"
    height, width = generated.shape[2:] if len(generated.shape) == 4 else (0, 0)
    whole_height, whole_width = whole.shape[2:] if len(whole.shape) == 4 else (0, 0)
    x, y = offset_px
    if not (0 <= x <= whole_width - width and 0 <= y <= whole_height - height):
        raise ValueError(
            f"{where}: wanted {width}x{height} px inside {whole_width}x{whole_height}, got them at {x}, {y}; "
            "correct the offset"
        )
    args = (
        pointer(where, generated, "float32", (1, 3, height, width)),
        ctypes.c_int(width),
        ctypes.c_int(height),
        pointer(where, whole, "float32", (1, 3, whole_height, whole_width)),
        ctypes.c_int(whole_width),
        ctypes.c_int(whole_height),
        ctypes.c_int(x),
        ctypes.c_int(y),
        denormalise_arg(where, generated_values.mean, generated_values.std, generated_values.order),
        normalise_arg(where, values.mean, values.std, values.order),
    )
    target.launch("mouth_join", (height, 1, 1), (min(LANES, 128), 1, 1), args)


def mouth_paste_into(
    target: Target,
    generated: Tensor,
    place: Tensor,
    frame: Nv12,
    weighed: Tensor,
    *,
    mask: Tensor | None = None,
    whole: Tensor | None = None,
    offset_px: tuple[int, int] = (0, 0),
    hard: bool = False,
    generated_values: Values = Values(),
    whole_values: Values = Values(),
    texture: float = 1.0,
    alike: float = 24.0,
    unlike: float = 96.0,
    reach_px: int | None = None,
) -> None:
    """Blend a generated picture [1,3,H,W] into NV12 in place, inside the rectangle of `place` alone.

    New = old + mask * opacity * (made - old), rounded to nearest; where mask * opacity is 0 codes keep their bits.
    mask float32 [H,W] in 0..1, 0 outside the picture; with `hard` the picture's edges are repeated up to the
    rectangle's. With `whole`, the crop that the picture was made from, the frame keeps its own fine detail: made =
    generated + w * (frame - whole), with w = `texture` where the two pictures differ by `alike` levels of 0..255 or
    less all around, within `reach_px` (W // 48 unless given), falling to 0 at `unlike`. `weighed` float32 [6,H,W] is
    room for what is worked out on the picture's own px.
    """
    where = "mouth_paste_into"
    height, width = generated.shape[2:] if len(generated.shape) == 4 else (0, 0)
    if width > WIDTH_MAX_PX:
        raise ValueError(f"{where}: wanted a picture up to {WIDTH_MAX_PX} px wide, got {width}; generate a smaller one")
    if not 0 <= alike < unlike:
        raise ValueError(f"{where}: wanted 0 <= alike < unlike, got {alike} and {unlike}; correct the levels")
    shape, lanes = (1, 3, height, width), (min(LANES, 128), 1, 1)
    picture = pointer(where, generated, "float32", shape)
    crop = ctypes.c_void_p(None) if whole is None else pointer(where, whole, "float32", shape)
    room = pointer(where, weighed, "float32", (6, height, width))
    agreed = ctypes.c_void_p(weighed.ptr + 5 * 4 * height * width)
    size = (ctypes.c_int(width), ctypes.c_int(height))
    reach = ctypes.c_int(width // REACH_OF_WIDTH if reach_px is None else reach_px)
    of_made = denormalise_arg(where, generated_values.mean, generated_values.std, generated_values.order)
    of_crop = denormalise_arg(where, whole_values.mean, whole_values.std, whole_values.order)
    weigh = (
        picture,
        crop,
        ctypes.c_void_p(None) if mask is None else pointer(where, mask, "float32", (height, width)),
        agreed,
        room,
        *size,
        reach,
        colour_arg(frame.colour),
        of_made,
        of_crop,
    )
    paste = (
        frame_arg(where, frame),
        room,
        _place(where, place),
        *size,
        ctypes.c_int(offset_px[0]),
        ctypes.c_int(offset_px[1]),
        ctypes.c_int(hard),
    )
    if whole is not None:
        levels = TextureArg(texture, alike, unlike)
        agree = (picture, crop, agreed, *size, reach, of_made, of_crop, levels)
        target.launch("mouth_agree", (height, 1, 1), lanes, agree)
    target.launch("mouth_weigh", (height, 1, 1), lanes, weigh)
    target.launch("mouth_paste", ((frame.height_px + 1) // 2, 1, 1), (128, 1, 1), paste)


def fade_nv12_into(target: Target, source: Nv12, frame: Nv12, *, part: float) -> None:
    """Fade one frame into another of the same size: code + part * (source's - code); 0 and 1 are exact."""
    where = "fade_nv12_into"
    same_size(where, (frame.width_px, frame.height_px), (source.width_px, source.height_px))
    if not 0.0 <= part <= 1.0:
        raise ValueError(f"{where}: wanted a part of 0 to 1, got {part}; correct it")
    args = (frame_arg(where, source), frame_arg(where, frame), ctypes.c_float(part))
    target.launch("fade_nv12", ((frame.height_px + 1) // 2, 1, 1), (LANES, 1, 1), args)


def _place(where: str, place: Tensor) -> ctypes.c_void_p:
    return pointer(where, place, "float32", (PLACE_FLOATS,))
