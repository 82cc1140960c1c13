"""Launchers between a crop and networks that say which of its pixels count: inputs, scores to masks, blur."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Literal

from kernels.launch_align import matrices
from kernels.launch_mask import BLUR_HALF_MAX, SIZE_MAX_PX
from kernels.launch_types import (
    LANES,
    Nv12,
    Order,
    Target,
    Tensor,
    Triple,
    denormalise_arg,
    frame_arg,
    normalise_arg,
    pointer,
)

CLASSES_MAX = 31  # bits of the set of classes that are kept
_KINDS = {"classes": 0, "face": 1, "logit": 2}


def crop_nhwc_into(
    target: Target,
    frame: Nv12,
    frame_from_crop: Tensor,
    crops_nhwc: Tensor,
    *,
    mean: Triple,
    std: Triple,
    order: Order = "rgb",
    border: Literal["black", "replicate"] = "black",
) -> None:
    """As crop_into, for a network whose input has its channels last: float32 [k,H,W,3]."""
    where = "crop_nhwc_into"
    k, height, width, _ = crops_nhwc.shape if len(crops_nhwc.shape) == 4 else (0, 0, 0, 0)
    args = (
        frame_arg(where, frame),
        matrices(where, frame_from_crop, k),
        pointer(where, crops_nhwc, "float32", (k, height, width, 3)),
        ctypes.c_int(width),
        ctypes.c_int(height),
        normalise_arg(where, mean, std, order),
        ctypes.c_int(border == "black"),
    )
    target.launch("crop_nhwc", (height, 1, k), (min(LANES, 128), 1, 1), args)


def rescale_matrices_into(target: Target, frame_from_crop: Tensor, out: Tensor, *, from_px: int, to_px: int) -> None:
    """frame_from_crop float32 [K,2,3] of squares of `from_px`, for squares of `to_px` over the same part of the frame.

    The borders of both squares meet, not their outermost centres.
    """
    where = "rescale_matrices_into"
    k = frame_from_crop.shape[0]
    args = (
        pointer(where, frame_from_crop, "float32", (k, 2, 3)),
        pointer(where, out, "float32", (k, 2, 3)),
        ctypes.c_float(from_px / to_px),
        ctypes.c_int(k),
    )
    target.launch("rescale_matrices", (1, 1, 1), (64, 1, 1), args)


def rescale_faces_into(
    target: Target,
    faces_nchw: Tensor,
    out: Tensor,
    *,
    mean: Triple,
    std: Triple,
    order: Order,
    out_mean: Triple,
    out_std: Triple,
    out_order: Order,
    nhwc: bool = False,
) -> None:
    """Faces of one network float32 [k,3,H,W] as the input of another, [k,3,H2,W2] or with `nhwc` [k,H2,W2,3].

    Bilinear, the borders of both meeting; RGB = value * std + mean is clamped to 0..255 in between.
    """
    where = "rescale_faces_into"
    k, _, height, width = faces_nchw.shape if len(faces_nchw.shape) == 4 else (0, 0, 0, 0)
    shape = out.shape if len(out.shape) == 4 else (0, 0, 0, 0)
    out_h, out_w = shape[1:3] if nhwc else shape[2:4]
    wanted = (k, out_h, out_w, 3) if nhwc else (k, 3, out_h, out_w)
    args = (
        pointer(where, faces_nchw, "float32", (k, 3, height, width)),
        pointer(where, out, "float32", wanted),
        ctypes.c_int(width),
        ctypes.c_int(height),
        ctypes.c_int(out_w),
        ctypes.c_int(out_h),
        denormalise_arg(where, mean, std, order),
        normalise_arg(where, out_mean, out_std, out_order),
        ctypes.c_int(nhwc),
    )
    target.launch("rescale_faces", (out_h, 1, k), (min(LANES, 128), 1, 1), args)


def seen_pixels_into(
    target: Target,
    scores: Tensor,
    seen: Tensor,
    *,
    kind: Literal["classes", "face", "logit"],
    keep: Sequence[int] = (),
    zero_below: float = 0.0,
) -> None:
    """A network's scores to 0..1 for each of its pixels. seen float32 [k,H,W].

    classes: scores [k,C,H,W] are logits, 1 where the highest is one of `keep`; face: [k,H,W,1] or [k,1,H,W] is a
    probability, 0 where it is under `zero_below`; logit: the same shapes, 1 where it is above 0.
    """
    where = "seen_pixels_into"
    k, height, width = seen.shape if len(seen.shape) == 3 else (0, 0, 0)
    channels = scores.shape[1] if kind == "classes" and len(scores.shape) == 4 else 1
    if channels > CLASSES_MAX or any(not 0 <= one < channels for one in keep):
        raise ValueError(
            f"{where}: wanted up to {CLASSES_MAX} classes, those to keep among them, got {channels} and {list(keep)}; "
            "correct the contract"
        )
    shapes = {
        "classes": (k, channels, height, width),
        "last": (k, height, width, 1),
        "first": (k, 1, height, width),
    }
    shape = shapes["classes"] if kind == "classes" else shapes["last" if scores.shape[-1] == 1 else "first"]
    args = (
        pointer(where, scores, "float32", shape),
        pointer(where, seen, "float32", (k, height, width)),
        ctypes.c_int(height * width),
        ctypes.c_int(channels),
        ctypes.c_int(_KINDS[kind]),
        ctypes.c_int(sum(1 << one for one in set(keep))),
        ctypes.c_float(zero_below),
    )
    target.launch("seen_pixels", (math.ceil(height * width / 1024), 1, k), (LANES, 1, 1), args)


def soften_into(
    target: Target,
    seen: Tensor,
    rows: Tensor,
    masks: Tensor,
    *,
    sigma_px: float,
    remap: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Pixels that count to a soft mask of the crop: resized, blurred, stretched. masks float32 [k,S,S].

    seen float32 [k,H,W]; rows float32 [k,S,S] is used in between. The Gaussian has OpenCV's own window for float
    pictures (8 sigma) and its mirrored border; `remap` (low, high) becomes 0..1, what lies outside is clamped.
    """
    where = "soften_into"
    k, size = masks.shape[:2] if len(masks.shape) == 3 else (0, 0)
    height, width = seen.shape[1:] if len(seen.shape) == 3 else (0, 0)
    half = (round(sigma_px * 8.0 + 1.0) | 1) // 2
    if size > SIZE_MAX_PX or not sigma_px >= 0.0 or half > BLUR_HALF_MAX or half >= size:
        raise ValueError(
            f"{where}: wanted masks up to {SIZE_MAX_PX} px and a window below their size, got {size} px and "
            f"{2 * half + 1}; blur less"
        )
    low, high = remap
    if not low < high:
        raise ValueError(f"{where}: wanted remap (low, high) with low below high, got {remap}; correct the contract")
    first = (
        pointer(where, seen, "float32", (k, height, width)),
        pointer(where, rows, "float32", (k, size, size)),
        ctypes.c_int(width),
        ctypes.c_int(height),
        ctypes.c_int(size),
        ctypes.c_float(max(sigma_px, 1e-3)),
        ctypes.c_int(half),
    )
    second = (
        pointer(where, rows, "float32", (k, size, size)),
        pointer(where, masks, "float32", (k, size, size)),
        ctypes.c_int(size),
        ctypes.c_float(max(sigma_px, 1e-3)),
        ctypes.c_int(half),
        ctypes.c_float(low),
        ctypes.c_float(high),
    )
    target.launch("soften_rows", (size, 1, k), (min(LANES, 128), 1, 1), first)
    target.launch("soften_columns", (size, 1, k), (min(LANES, 128), 1, 1), second)
