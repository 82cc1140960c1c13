"""Launchers on whole frames: copies, colour, the detector's letterbox."""

from __future__ import annotations

import ctypes
import math

from kernels.launch_types import (
    I420,
    LANES,
    Nv12,
    Order,
    Target,
    Tensor,
    Triple,
    frame_arg,
    normalise_arg,
    planes_arg,
    pointer,
    same_size,
)

LETTERBOX_COLUMNS = 2048  # source columns that a block of letterbox.cu keeps in shared memory
LETTERBOX_TILE = 256  # output columns of one block, at most
LETTERBOX_ROWS = 4  # output rows of one block


class PadArg(ctypes.Structure):
    """``struct Pad`` of letterbox.cu: one value a channel, as the network sees it."""

    _fields_ = [("value", ctypes.c_float * 3)]


def copy_planar_into(target: Target, planes: I420, frame: Nv12) -> None:
    """Interleave a decoder's three planes into the working NV12 frame: the one copy of a frame on the CPU.

    Both have the same width and height in px; the colour description is the caller's to carry over.
    """
    _same("copy_planar_into", planes, frame)
    rows = (frame.height_px + 1) // 2
    args = (planes_arg("copy_planar_into", planes), frame_arg("copy_planar_into", frame))
    target.launch("copy_planar", (rows, 1, 1), (LANES, 1, 1), args)


def copy_nv12_into(target: Target, source: Nv12, frame: Nv12) -> None:
    """Copy one NV12 frame into another of the same size, whatever their pitches."""
    _same("copy_nv12_into", source, frame)
    rows = (frame.height_px + 1) // 2
    args = (frame_arg("copy_nv12_into", source), frame_arg("copy_nv12_into", frame))
    target.launch("copy_nv12", (rows, 1, 1), (LANES, 1, 1), args)


def nv12_to_planar_into(target: Target, frame: Nv12, planes: I420) -> None:
    """Split the working frame into the three planes that a software encoder takes; same size, exact."""
    _same("nv12_to_planar_into", frame, planes)
    rows = (frame.height_px + 1) // 2
    args = (frame_arg("nv12_to_planar_into", frame), planes_arg("nv12_to_planar_into", planes))
    target.launch("nv12_to_planar", (rows, 1, 1), (LANES, 1, 1), args)


def nv12_to_rgb_into(
    target: Target,
    frame: Nv12,
    rgb: Tensor,
    *,
    mean: Triple = (0.0, 0.0, 0.0),
    std: Triple = (1.0, 1.0, 1.0),
    order: Order = "rgb",
) -> None:
    """Convert a whole frame: uint8 [H,W,3] rounded to nearest, or float32 [1,3,H,W] as (rgb - mean) / std.

    Chroma is interpolated bilinearly at its siting. Not on the path of a frame: for source pictures and tests.
    """
    where = "nv12_to_rgb_into"
    height, width = frame.height_px, frame.width_px
    if rgb.dtype == "uint8":
        args = (
            frame_arg(where, frame),
            pointer(where, rgb, "uint8", (height, width, 3)),
            ctypes.c_int(order == "bgr"),
        )
        target.launch("nv12_to_rgb_hwc", (height, 1, 1), (LANES, 1, 1), args)
        return
    norm = normalise_arg(where, mean, std, order)
    out = pointer(where, rgb, "float32", (1, 3, height, width))
    target.launch("nv12_to_rgb_nchw", (height, 1, 1), (LANES, 1, 1), (frame_arg(where, frame), out, norm))


def rgb_to_nv12_into(target: Target, rgb: Tensor, frame: Nv12, *, order: Order = "rgb") -> None:
    """Convert uint8 [H,W,3] into an NV12 frame in the frame's own colour description, rounded to nearest.

    Chroma is averaged over the pixels around its siting: 2x2 for ``center``, 1-2-1 by two rows for ``left``.
    """
    where = "rgb_to_nv12_into"
    args = (
        pointer(where, rgb, "uint8", (frame.height_px, frame.width_px, 3)),
        frame_arg(where, frame),
        ctypes.c_int(order == "bgr"),
    )
    target.launch("rgb_to_nv12", ((frame.height_px + 1) // 2, 1, 1), (LANES, 1, 1), args)


def letterbox_size(width: int, height: int, in_w: int, in_h: int) -> tuple[int, int, float]:
    """Size (new_w, new_h) in px of a picture fitted into in_w x in_h, and det_scale = new_h / height.

    The rule of insightface's SCRFD, truncation included; small pictures are enlarged.
    """
    if min(width, height, in_w, in_h) < 1:
        raise ValueError(
            f"letterbox_size: wanted sizes of at least 1 px, got {width}x{height} into {in_w}x{in_h}; "
            "pass the frame's and the network's size"
        )
    ratio = height / width
    if ratio > in_h / in_w:
        new_w, new_h = int(in_h / ratio), in_h
    else:
        new_w, new_h = in_w, int(in_w * ratio)
    new_w, new_h = max(new_w, 1), max(new_h, 1)
    return new_w, new_h, new_h / height


def letterbox_into(
    target: Target,
    frame: Nv12,
    input_nchw: Tensor,
    *,
    fit: tuple[int, int],
    mean: Triple,
    std: Triple,
    order: Order = "rgb",
    pad: Triple = (0.0, 0.0, 0.0),
    fill_pad: bool = True,
) -> None:
    """Resample a frame into the top left ``fit`` = (new_w, new_h) px of float32 [1,3,H,W], normalised.

    Luma and chroma are resampled on their own planes, so colour is converted once per output pixel. A plane
    that shrinks by more than 2 along an axis is averaged over the pixel's area there, else it is
    interpolated bilinearly with centres aligned. The rest is ``pad`` (RGB 0..255, in the tensor's order),
    normalised; ``fill_pad=False`` leaves it alone, for a buffer that nobody else writes.
    """
    where = "letterbox_into"
    height, width = input_nchw.shape[-2:] if len(input_nchw.shape) == 4 else (0, 0)
    out = pointer(where, input_nchw, "float32", (1, 3, height, width))
    new_w, new_h = fit
    if not (1 <= new_w <= width and 1 <= new_h <= height):
        raise ValueError(f"{where}: wanted fit within {width}x{height}, got {new_w}x{new_h}; use letterbox_size")
    ratio = frame.width_px / new_w
    tile = min(LETTERBOX_TILE, int((LETTERBOX_COLUMNS - 8) / ratio))
    if tile < 1:
        raise ValueError(f"{where}: wanted a shrink below 2000, got {ratio:.0f}; scale the frame down first")
    norm = normalise_arg(where, mean, std, order)
    padding = [p * m + a for p, m, a in zip(pad, norm.mul, norm.add, strict=True)]
    columns, rows = (width, height) if fill_pad else (new_w, new_h)
    args = (
        frame_arg(where, frame),
        out,
        ctypes.c_int(width),
        ctypes.c_int(height),
        ctypes.c_int(new_w),
        ctypes.c_int(new_h),
        ctypes.c_int(columns),
        ctypes.c_int(tile),
        norm,
        PadArg((ctypes.c_float * 3)(*padding)),
    )
    target.launch("letterbox", (math.ceil(columns / tile), math.ceil(rows / LETTERBOX_ROWS), 1), (LANES, 1, 1), args)


def _same(where: str, one: Nv12 | I420, other: Nv12 | I420) -> None:
    same_size(where, (one.width_px, one.height_px), (other.width_px, other.height_px))
