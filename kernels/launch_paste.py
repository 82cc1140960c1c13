"""The launcher that writes faces back into the working frame."""

from __future__ import annotations

import ctypes

from kernels.launch_align import matrices
from kernels.launch_types import Nv12, Order, Target, Tensor, Triple, denormalise_arg, frame_arg, pointer


def paste_into(
    target: Target,
    faces_nchw: Tensor,
    mask: Tensor,
    crop_from_frame: Tensor,
    frame_from_crop: Tensor,
    count: Tensor,
    frame: Nv12,
    rectangles: Tensor,
    *,
    mean: Triple = (0.0, 0.0, 0.0),
    std: Triple = (255.0, 255.0, 255.0),
    order: Order = "rgb",
    opacity: float = 1.0,
) -> None:
    """Blend k faces into NV12 in place, each inside its own rectangle only.

    faces float32 [k,3,H,W], RGB of 0..255 = value * std + mean (clamped); mask float32 [H,W] or [k,H,W] in 0..1,
    0 outside the crop; matrices float32 [K,2,3], K >= k, any affine; count int32 [1], rows from it on are not
    pasted. ``rectangles`` int32 [k,4] receives x0,y0,x1,y1 in frame px, x1 and y1 exclusive, even except at the
    frame's odd border, all 0 where nothing is pasted. Where mask * opacity is 0, luma and chroma keep their bits.
    Faces are pasted in order of their rows, so overlaps are the same every time. Luma and chroma are blended
    each at their own position: frame + mask * opacity * (face - frame), rounded to nearest.
    """
    where = "paste_into"
    k, _, height, width = faces_nchw.shape if len(faces_nchw.shape) == 4 else (0, 0, 0, 0)
    per_face = len(mask.shape) == 3
    args_rectangles = (
        matrices(where, frame_from_crop, k),
        pointer(where, count, "int32", (1,)),
        ctypes.c_int(k),
        ctypes.c_int(width),
        ctypes.c_int(height),
        ctypes.c_int(frame.width_px),
        ctypes.c_int(frame.height_px),
        pointer(where, rectangles, "int32", (k, 4)),
    )
    args = (
        frame_arg(where, frame),
        pointer(where, faces_nchw, "float32", (k, 3, height, width)),
        pointer(where, mask, "float32", (k, height, width) if per_face else (height, width)),
        ctypes.c_int(height * width if per_face else 0),
        matrices(where, crop_from_frame, k),
        ctypes.c_void_p(rectangles.ptr),
        ctypes.c_int(k),
        ctypes.c_int(width),
        ctypes.c_int(height),
        denormalise_arg(where, mean, std, order),
        ctypes.c_float(opacity),
    )
    target.launch("paste_rectangles", (1, 1, 1), (64, 1, 1), args_rectangles)
    target.launch("paste", ((frame.height_px + 1) // 2, 1, 1), (128, 1, 1), args)
