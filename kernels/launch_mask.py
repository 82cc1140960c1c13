"""Launchers of soft masks in crop space: float32 in 0..1, combined by minimum."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

from kernels.launch_align import matrices
from kernels.launch_types import LANES, Target, Tensor, pointer

MASK_ROWS = 16  # rows of a block of erode_blur_mask
SIZE_MAX_PX = 2048  # a row or column of a mask in shared memory
BLUR_HALF_MAX = 512  # half of a Gaussian's window, what mask.cu keeps in shared memory
MASKS_MAX = 4


class MasksArg(ctypes.Structure):
    """``struct Masks`` of mask.cu."""

    _fields_ = [
        ("ptr", ctypes.c_void_p * MASKS_MAX),
        ("stride", ctypes.c_int * MASKS_MAX),
        ("count", ctypes.c_int),
    ]


def ellipse_mask_into(
    target: Target,
    mask: Tensor,
    *,
    axis_fraction: float = 0.44,
    sigma_px: float | None = None,
    kernel_px: int | None = None,
) -> None:
    """A filled ellipse around the middle, blurred: Deep-Live-Cam's mask. mask float32 [S,S].

    Semi-axes are int(axis_fraction * S) px around (S//2, S//2). sigma 12 and a window of 31 at S = 128, in
    proportion elsewhere unless given; the window reflects at the border as OpenCV's default does.
    """
    where = "ellipse_mask_into"
    size = mask.shape[0]
    _check_size(where, size)
    sigma = 12.0 * size / 128.0 if sigma_px is None else sigma_px
    half = round(15.0 * size / 128.0) if kernel_px is None else kernel_px // 2
    _check_blur(where, size, sigma, half)
    args = (
        pointer(where, mask, "float32", (size, size)),
        ctypes.c_int(size),
        ctypes.c_int(int(axis_fraction * size)),
        ctypes.c_float(sigma),
        ctypes.c_int(half),
    )
    target.launch("ellipse_mask", (size, 1, 1), (LANES, 1, 1), args)


def box_mask_into(
    target: Target,
    mask: Tensor,
    *,
    blur: float = 0.3,
    padding_percent: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
) -> None:
    """A square with a soft rim: facefusion's box mask. mask float32 [S,S]; padding is top, right, bottom, left.

    b = int(S * 0.5 * blur); max(b // 2, 1, padding % of S) px are zero on each side; then a Gaussian of sigma
    b / 4 with OpenCV's own window for float pictures.
    """
    where = "box_mask_into"
    size = mask.shape[0]
    amount = int(size * 0.5 * blur)
    rim = max(amount // 2, 1)
    top, right, bottom, left = (max(rim, int(size * p / 100.0)) for p in padding_percent)
    sigma = amount * 0.25
    half = (round(sigma * 8.0 + 1.0) | 1) // 2 if sigma > 0.0 else 0
    _check_blur(where, size, max(sigma, 1e-3), half)
    args = (
        pointer(where, mask, "float32", (size, size)),
        ctypes.c_int(size),
        ctypes.c_int(left),
        ctypes.c_int(size - right),
        ctypes.c_int(top),
        ctypes.c_int(size - bottom),
        ctypes.c_float(max(sigma, 1e-3)),
        ctypes.c_int(half),
    )
    target.launch("box_mask", (size, 1, 1), (LANES, 1, 1), args)


def erode_blur_mask_into(
    target: Target, frame_from_crop: Tensor, masks: Tensor, *, frame_size_px: tuple[int, int]
) -> None:
    """insightface's erode-and-blur mask for each face, from its matrix. masks float32 [k,S,S].

    The reference works in the frame: extents of the warped square, erosion by max(size // 10, 10) px upright,
    Gaussian of 2 * max(size // 20, 5) + 1 px. A similarity turns both into an inset and a sigma in crop px, so
    the clamps of small faces are kept. ``frame_size_px`` is (w, h).
    """
    where = "erode_blur_mask_into"
    k, size = masks.shape[:2] if len(masks.shape) == 3 else (0, 0)
    args = (
        matrices(where, frame_from_crop, k),
        pointer(where, masks, "float32", (k, size, size)),
        ctypes.c_int(size),
        ctypes.c_int(frame_size_px[0]),
        ctypes.c_int(frame_size_px[1]),
    )
    _check_size(where, size)
    target.launch("erode_blur_mask", (math.ceil(size / MASK_ROWS), 1, k), (LANES, 1, 1), args)


def min_masks_into(target: Target, masks: Sequence[Tensor], out: Tensor) -> None:
    """The smallest of 1 to 4 masks at each pixel. Masks are float32 [S,S] for all faces, or [k,S,S]; so is out.

    out may be one of the masks.
    """
    where = "min_masks_into"
    per_face = len(out.shape) == 3
    size = out.shape[-1]
    k = out.shape[0] if per_face else 1
    if not 1 <= len(masks) <= MASKS_MAX:
        raise ValueError(f"{where}: wanted 1 to {MASKS_MAX} masks, got {len(masks)}; combine them in two steps")
    arg = MasksArg(count=len(masks))
    for i, mask in enumerate(masks):
        own = len(mask.shape) == 3
        arg.ptr[i] = pointer(where, mask, "float32", (k, size, size) if own else (size, size)).value
        arg.stride[i] = size * size if own else 0
    args = (
        arg,
        pointer(where, out, "float32", (k, size, size) if per_face else (size, size)),
        ctypes.c_int(size * size),
    )
    target.launch("min_masks", (math.ceil(size * size / 4096), 1, k), (LANES, 1, 1), args)


def _check_size(where: str, size: int) -> None:
    if size > SIZE_MAX_PX:
        raise ValueError(f"{where}: wanted masks up to {SIZE_MAX_PX} px, got {size}; paste at a smaller size")


def _check_blur(where: str, size: int, sigma: float, half: int) -> None:
    if not (sigma > 0.0 and 0 <= half <= BLUR_HALF_MAX and half < size):
        raise ValueError(
            f"{where}: wanted sigma above 0 and a window below {2 * min(BLUR_HALF_MAX, size)} px, got {sigma} "
            f"and {2 * half + 1}; blur less"
        )
