"""Launchers that keep what a restorer changed, and add it to frames in which it does not run."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

from kernels.launch_align import matrices
from kernels.launch_types import (
    LANES,
    Colour,
    Nv12,
    Order,
    Target,
    Tensor,
    Triple,
    colour_arg,
    denormalise_arg,
    frame_arg,
    pointer,
)

LEAF = 4  # values a px in Residuals.kept
POSE = 12  # values of Residuals.poses


@dataclass(frozen=True)
class Fade:
    """How far now may be from then: all of a change up to the first number, none of it from the second on.

    `pose`: rms distance of the five aligned points, in eye distances of the template, plus |ln| of the ratio of
    scales. `light`: difference of the mean luma over the middle of the face, in codes. `local`: difference of luma
    at one chroma sample, in codes: a blink, an opened mouth, a hand in front.
    """

    pose: tuple[float, float] = (0.015, 0.12)
    light: tuple[float, float] = (6.0, 30.0)
    local: tuple[float, float] = (12.0, 40.0)


@dataclass(frozen=True)
class Residuals:
    """What was changed in each track's aligned crop of S px, for T track slots. All zero bytes is the empty state."""

    kept: Tensor  # float32 [T,S,S,4]: change of Y, U and V codes under the mask, then Y as it was
    poses: Tensor  # float32 [T,12]: five points in crop px, crop px a frame px, unused
    owners: Tensor  # int32 [T]: the track id that it is of, 0 for none


@dataclass(frozen=True)
class Placed:
    """Where the faces of a frame are in their crops; K rows, see Faces and similarity_into."""

    points: Tensor  # float32 [K,5,2] in frame px
    slots: Tensor  # int32 [K]
    track_ids: Tensor  # int32 [K]
    count: Tensor  # int32 [1]
    crop_from_frame: Tensor  # float32 [K,2,3]
    frame_from_crop: Tensor  # float32 [K,2,3]


class FadeArg(ctypes.Structure):
    """``struct Fade`` of residual.cu."""

    _fields_ = [
        (name, ctypes.c_float)
        for name in ("pose_near", "pose_far", "light_near", "light_far", "local_near", "local_far")
    ]


@dataclass(frozen=True)
class Pixels:
    """How a network's values become RGB of 0..255: value * std + mean, clamped, in the tensor's channel order."""

    mean: Triple = field(default=(127.5, 127.5, 127.5))
    std: Triple = field(default=(127.5, 127.5, 127.5))
    order: Order = "rgb"


def keep_residual_into(
    target: Target,
    before_nchw: Tensor,
    after_nchw: Tensor,
    mask: Tensor,
    placed: Placed,
    residuals: Residuals,
    *,
    colour: Colour,
    before: Pixels,
    after: Pixels,
) -> None:
    """Keep mask * (after - before) of k faces in the slots of their tracks, as codes of a frame of `colour`.

    before float32 [k,3,S,S], after float32 [k,3,R,R] with R a multiple of S, whose px are averaged down; mask
    float32 [S,S] for all faces, or [k,S,S]. A px with a value that is no number is kept as no change. Rows from
    ``placed.count`` on leave their slots alone.
    """
    where = "keep_residual_into"
    k, _, size, _ = before_nchw.shape if len(before_nchw.shape) == 4 else (0, 0, 1, 0)
    wide = after_nchw.shape[-1]
    if wide % size:
        raise ValueError(f"{where}: wanted an output side that is a multiple of {size} px, got {wide}; resize it first")
    rooms, per_face = residuals.kept.shape[0], len(mask.shape) == 3
    args = (
        pointer(where, before_nchw, "float32", (k, 3, size, size)),
        pointer(where, after_nchw, "float32", (k, 3, wide, wide)),
        pointer(where, mask, "float32", (k, size, size) if per_face else (size, size)),
        ctypes.c_int(size * size if per_face else 0),
        _rows(where, placed.slots, k),
        pointer(where, placed.count, "int32", (1,)),
        colour_arg(colour),
        denormalise_arg(where, before.mean, before.std, before.order),
        denormalise_arg(where, after.mean, after.std, after.order),
        ctypes.c_int(size),
        ctypes.c_int(wide // size),
        ctypes.c_int(rooms),
        pointer(where, residuals.kept, "float32", (rooms, size, size, LEAF)),
    )
    target.launch("residual_keep", (size, 1, k), (min(LANES, 128), 1, 1), args)


def weigh_residual_into(
    target: Target,
    frame: Nv12,
    placed: Placed,
    residuals: Residuals,
    weights: Tensor,
    *,
    template_px: Sequence[tuple[float, float]],
    fresh: bool,
    fade: Fade = Fade(),
) -> None:
    """How much of what is kept holds for the first k faces of a frame: weights float32 [k], 0 to 1.

    With ``fresh`` what was just kept becomes the track's: its pose is noted and the weight is 1. Else the weight is
    0 where the slot holds another track's (a new face, a cut), and otherwise fade(pose) * fade(light), see Fade;
    fade(x) = (far - x) / (far - near) within 0..1.
    """
    where = "weigh_residual_into"
    k = weights.shape[0]
    rooms, size = residuals.kept.shape[:2]
    eye_px = ((template_px[1][0] - template_px[0][0]) ** 2 + (template_px[1][1] - template_px[0][1]) ** 2) ** 0.5
    faces = placed.points.shape[0]
    args = (
        frame_arg(where, frame),
        pointer(where, placed.points, "float32", (faces, 5, 2)),
        _rows(where, placed.slots, k),
        _rows(where, placed.track_ids, k),
        pointer(where, placed.count, "int32", (1,)),
        matrices(where, placed.crop_from_frame, k),
        matrices(where, placed.frame_from_crop, k),
        pointer(where, residuals.kept, "float32", (rooms, size, size, LEAF)),
        ctypes.c_int(size),
        ctypes.c_float(eye_px),
        _fade_arg(where, fade),
        ctypes.c_int(fresh),
        ctypes.c_int(rooms),
        pointer(where, residuals.poses, "float32", (rooms, POSE)),
        pointer(where, residuals.owners, "int32", (rooms,)),
        pointer(where, weights, "float32", (k,)),
    )
    target.launch("residual_weights", (1, 1, k), (LANES, 1, 1), args)


def add_residual_into(
    target: Target,
    frame: Nv12,
    placed: Placed,
    residuals: Residuals,
    weights: Tensor,
    rectangles: Tensor,
    *,
    blend: float = 1.0,
    fade: Fade = Fade(),
) -> None:
    """Add what is kept for the first k faces to an NV12 frame in place, inside their rectangles.

    frame + blend * weight * fade(local) * change, rounded to nearest, luma and chroma each at their own position;
    local is the difference between the mean luma round a chroma sample and the luma that was changed then, see Fade.
    ``rectangles`` int32 [k,4] receives x0,y0,x1,y1 in frame px as paste_into does. Where nothing is added, no bit
    changes.
    """
    where = "add_residual_into"
    k = weights.shape[0]
    rooms, size = residuals.kept.shape[:2]
    side = ctypes.c_int(size)
    args_rectangles = (
        matrices(where, placed.frame_from_crop, k),
        pointer(where, placed.count, "int32", (1,)),
        ctypes.c_int(k),
        side,
        side,
        ctypes.c_int(frame.width_px),
        ctypes.c_int(frame.height_px),
        pointer(where, rectangles, "int32", (k, 4)),
    )
    args = (
        frame_arg(where, frame),
        pointer(where, residuals.kept, "float32", (rooms, size, size, LEAF)),
        _rows(where, placed.slots, k),
        pointer(where, weights, "float32", (k,)),
        matrices(where, placed.crop_from_frame, k),
        ctypes.c_void_p(rectangles.ptr),
        ctypes.c_int(k),
        side,
        _fade_arg(where, fade),
        ctypes.c_float(blend),
        ctypes.c_int(rooms),
    )
    target.launch("paste_rectangles", (1, 1, 1), (64, 1, 1), args_rectangles)
    target.launch("residual_add", ((frame.height_px + 1) // 2, 1, 1), (128, 1, 1), args)


def _rows(where: str, tensor: Tensor, k: int) -> ctypes.c_void_p:
    """The address of int32 [K] with K >= k."""
    if tensor.dtype != "int32" or len(tensor.shape) != 1 or tensor.shape[0] < k:
        raise ValueError(
            f"{where}: wanted int32 [at least {k}], got {tensor.dtype} {list(tensor.shape)}; size it for K faces"
        )
    return ctypes.c_void_p(tensor.ptr)


def _fade_arg(where: str, fade: Fade) -> FadeArg:
    for name, (near, far) in zip(("pose", "light", "local"), astuple(fade), strict=True):
        if not 0.0 <= near < far:
            raise ValueError(f"{where}: wanted fade.{name} to rise from 0 on, got {near} and {far}; swap them")
    return FadeArg(*fade.pose, *fade.light, *fade.local)
