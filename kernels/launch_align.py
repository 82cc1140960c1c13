"""Launchers between frame and crop: matrices, crops, source rows.

A matrix is float32 [K,2,3], row-major; crop_from_frame takes frame px to crop px, frame_from_crop back. Integer
coordinates are pixel centres, as in OpenCV's warpAffine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Literal

from kernels.launch_types import (
    LANES,
    Nv12,
    Order,
    Target,
    Tensor,
    Triple,
    frame_arg,
    normalise_arg,
    pointer,
)


class RgbArg(ctypes.Structure):
    """``struct Rgb`` of device.cuh: 0..255."""

    _fields_ = [("r", ctypes.c_float), ("g", ctypes.c_float), ("b", ctypes.c_float)]


class TemplateArg(ctypes.Structure):
    """``struct Template`` of align.cu: five points in crop px."""

    _fields_ = [("xy", ctypes.c_float * 10)]


def similarity_into(
    target: Target,
    points: Tensor,
    count: Tensor,
    crop_from_frame: Tensor,
    frame_from_crop: Tensor,
    flags: Tensor,
    *,
    template_px: Sequence[tuple[float, float]],
) -> None:
    """Fit rotation, one scale and shift that take five points to a template, by least squares over all five.

    points float32 [K,5,2] in frame px, count int32 [1], matrices float32 [K,2,3]; ``template_px`` holds five
    (x, y) in px of the crop. ``flags`` int32 [K]: 0 fitted, 1 degenerate (points equal, mirrored onto nothing
    or not finite; the matrix then has scale 1 and no rotation and carries centre to centre), 2 no face in the
    row (identity). The closed form is Umeyama's without reflection.
    """
    where = "similarity_into"
    if len(template_px) != 5:
        raise ValueError(f"{where}: wanted five template points, got {len(template_px)}; take a five-point template")
    k = points.shape[0]
    template = TemplateArg((ctypes.c_float * 10)(*(value for point in template_px for value in point)))
    args = (
        pointer(where, points, "float32", (k, 5, 2)),
        pointer(where, count, "int32", (1,)),
        template,
        *_matrix_args(where, k, crop_from_frame, frame_from_crop, flags),
    )
    target.launch("similarity", (1, 1, 1), (64, 1, 1), args)


def box_matrix_into(
    target: Target,
    boxes: Tensor,
    count: Tensor,
    crop_from_frame: Tensor,
    frame_from_crop: Tensor,
    flags: Tensor,
    *,
    crop_size_px: tuple[int, int],
    expand: float = 1.0,
    keep_aspect: bool = True,
) -> None:
    """Upright matrices that put a box in the middle of a crop of (w, h) px: for landmark and mouth networks.

    boxes float32 [K,4] x0,y0,x1,y1 in frame px. With ``keep_aspect`` the longer side times ``expand`` fills the
    crop's shorter side; else each side times ``expand`` fills the crop. Borders of box and crop meet (pixel
    edges, not centres). ``flags`` as in similarity_into; a box without area is degenerate.
    """
    where = "box_matrix_into"
    k = boxes.shape[0]
    args = (
        pointer(where, boxes, "float32", (k, 4)),
        pointer(where, count, "int32", (1,)),
        ctypes.c_int(crop_size_px[0]),
        ctypes.c_int(crop_size_px[1]),
        ctypes.c_float(expand),
        ctypes.c_int(keep_aspect),
        *_matrix_args(where, k, crop_from_frame, frame_from_crop, flags),
    )
    target.launch("box_matrix", (1, 1, 1), (64, 1, 1), args)


def crop_into(
    target: Target,
    frame: Nv12,
    frame_from_crop: Tensor,
    crops_nchw: Tensor,
    *,
    mean: Triple,
    std: Triple,
    order: Order = "rgb",
    border: Literal["black", "replicate"] | Triple = "black",
) -> None:
    """Sample k faces from NV12 straight into a network's input float32 [k,3,H,W], as (rgb - mean) / std.

    ``frame_from_crop`` float32 [K,2,3] with k <= K; its first k rows are used. Luma and chroma are interpolated
    bilinearly on their own planes, RGB is clamped to 0..255. ``black``, or an RGB of 0..255, is what the crop blends
    to beyond the frame, as with warpAffine's constant border; ``replicate`` repeats the edge.
    """
    where = "crop_into"
    if isinstance(border, str) and border not in ("black", "replicate"):
        raise ValueError(f"{where}: wanted border black or replicate, got {border!r}; name one")
    outside = (0.0, 0.0, 0.0) if isinstance(border, str) else border
    k, _, height, width = crops_nchw.shape if len(crops_nchw.shape) == 4 else (0, 0, 0, 0)
    args = (
        frame_arg(where, frame),
        matrices(where, frame_from_crop, k),
        pointer(where, crops_nchw, "float32", (k, 3, height, width)),
        ctypes.c_int(width),
        ctypes.c_int(height),
        normalise_arg(where, mean, std, order),
        ctypes.c_int(border != "replicate"),
        RgbArg(*outside),
    )
    target.launch("crop", (height, 1, k), (min(LANES, 128), 1, 1), args)


def gather_rows_into(target: Target, table: Tensor, rows: Tensor, out: Tensor) -> None:
    """Copy rows of a table, e.g. source latents float32 [S,N] by Faces.sources int32 [K], into out [k,N].

    k <= K. A row number outside 0..S-1 gives zeros.
    """
    where = "gather_rows_into"
    s, n = table.shape if len(table.shape) == 2 else (0, 0)
    k = out.shape[0]
    if rows.dtype != "int32" or len(rows.shape) != 1 or rows.shape[0] < k:
        raise ValueError(
            f"{where}: wanted int32 [at least {k}], got {rows.dtype} {list(rows.shape)}; pass Faces.sources"
        )
    args = (
        pointer(where, table, "float32", (s, n)),
        ctypes.c_void_p(rows.ptr),
        pointer(where, out, "float32", (k, n)),
        ctypes.c_int(s),
        ctypes.c_int(n),
    )
    target.launch("gather_rows", (k, 1, 1), (LANES, 1, 1), args)


def matrices(where: str, tensor: Tensor, k: int) -> ctypes.c_void_p:
    """The address of float32 [K,2,3] with K >= k."""
    if k < 1 or tensor.dtype != "float32" or tensor.shape[1:] != (2, 3) or tensor.shape[0] < k:
        raise ValueError(
            f"{where}: wanted float32 [at least {max(k, 1)}, 2, 3], got {tensor.dtype} {list(tensor.shape)}; "
            "size the matrices for K faces"
        )
    return ctypes.c_void_p(tensor.ptr)


def _matrix_args(
    where: str, k: int, crop_from_frame: Tensor, frame_from_crop: Tensor, flags: Tensor
) -> tuple[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]:
    return (
        pointer(where, crop_from_frame, "float32", (k, 2, 3)),
        pointer(where, frame_from_crop, "float32", (k, 2, 3)),
        pointer(where, flags, "int32", (k,)),
        ctypes.c_int(k),
    )
