"""Launchers from a detector's raw outputs to detections, and the cut score."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from kernels.launch_types import LANES, NormArg, Order, Target, Tensor, Triple, denormalise_arg, pointer

CANDIDATES_MAX = 1024  # what one block of nms.cu sorts in shared memory
DETECTIONS_MAX = 64
LEVELS_MAX = 5
THUMBNAIL_PX = 64


@dataclass(frozen=True)
class Candidates:
    """Rows above the threshold, in any order, of all passes of one frame; C <= 1024.

    ``counters``: [0] rows held, [1] rows dropped because C was full, [2] best score seen at all, as the bits
    of a float32, [3] rows above the threshold.
    """

    scores: Tensor  # float32 [C]
    indices: Tensor  # int32 [C]: unique over the passes of a frame; breaks ties of score
    boxes: Tensor  # float32 [C,4] x0,y0,x1,y1 in frame px
    points: Tensor  # float32 [C,5,2] in frame px
    counters: Tensor  # int32 [4]


@dataclass(frozen=True)
class Detections:
    """Faces that survived suppression, best score first; M <= 64. Rows from ``count`` on are zero."""

    boxes: Tensor  # float32 [M,4] x0,y0,x1,y1 in frame px
    points: Tensor  # float32 [M,5,2] in frame px
    scores: Tensor  # float32 [M]
    count: Tensor  # int32 [1]
    best_score: Tensor  # float32 [1]: the highest raw score of the frame, below the threshold as well


@dataclass(frozen=True)
class CutState:
    """The last detector input as a thumbnail. All zero bytes is the state before the first frame.

    ``words``: [0] frames seen, [1] 1 when the last frame was a cut, [2] the sum of absolute differences over
    the 4096 cells (divide by 4096 for the mean in luma levels), [3] unused.
    """

    thumbnail: Tensor  # uint8 [64,64]
    words: Tensor  # int32 [4]


class LevelsArg(ctypes.Structure):
    """``struct Levels`` of detect.cu."""

    _fields_ = [
        ("scores", ctypes.c_void_p * LEVELS_MAX),
        ("boxes", ctypes.c_void_p * LEVELS_MAX),
        ("points", ctypes.c_void_p * LEVELS_MAX),
        ("rows", ctypes.c_int * LEVELS_MAX),
        ("stride", ctypes.c_int * LEVELS_MAX),
        ("cells_x", ctypes.c_int * LEVELS_MAX),
        ("count", ctypes.c_int),
        ("anchors", ctypes.c_int),
    ]


def reset_into(target: Target, candidates: Candidates) -> None:
    """Empty the candidates: the first launch of every frame's detection."""
    counters = pointer("reset_into", candidates.counters, "int32", (4,))
    target.launch("reset_candidates", (1, 1, 1), (32, 1, 1), (counters,))


def scrfd_decode_into(
    target: Target,
    scores: Sequence[Tensor],
    boxes: Sequence[Tensor],
    points: Sequence[Tensor],
    candidates: Candidates,
    *,
    strides: Sequence[int],
    anchors_per_cell: int,
    input_size: tuple[int, int],
    threshold: float,
    det_scale: float,
    pass_index: int = 0,
) -> None:
    """Append a pass's rows with score >= threshold to the candidates, in frame px (divided by det_scale).

    One tensor a stride: scores float32 [A,1], boxes [A,4] and points [A,10] in stride units, with or without a
    leading batch axis of 1; A = cells * anchors, cells row by row, a cell's anchors adjacent, centres at
    (x*stride, y*stride). ``input_size`` is (w, h) px of the network input. When more rows pass than there is
    room, the best stay and the rest is counted. Raises ValueError for shapes that do not fit.
    """
    where = "scrfd_decode_into"
    levels = len(strides)
    if not (1 <= levels <= LEVELS_MAX and len(scores) == len(boxes) == len(points) == levels):
        raise ValueError(
            f"{where}: wanted one score, box and point tensor for each of 1 to {LEVELS_MAX} strides, got "
            f"{len(scores)}, {len(boxes)} and {len(points)} for {levels}; bind the outputs by name"
        )
    arg = LevelsArg(count=levels, anchors=anchors_per_cell)
    for i, stride in enumerate(strides):
        cells_x, cells_y = -(-input_size[0] // stride), -(-input_size[1] // stride)
        rows = cells_x * cells_y * anchors_per_cell
        arg.scores[i] = _level(where, scores[i], rows, 1)
        arg.boxes[i] = _level(where, boxes[i], rows, 4)
        arg.points[i] = _level(where, points[i], rows, 10)
        arg.rows[i], arg.stride[i], arg.cells_x[i] = rows, stride, cells_x
    if not det_scale > 0.0:
        raise ValueError(f"{where}: wanted det_scale above 0, got {det_scale}; take it from letterbox_size")
    args = (
        arg,
        ctypes.c_float(threshold),
        ctypes.c_float(1.0 / det_scale),
        ctypes.c_int(pass_index << 24),
        *_candidate_args(where, candidates),
    )
    target.launch("scrfd_decode", (1, 1, 1), (1024, 1, 1), args)


def nms_into(target: Target, candidates: Candidates, detections: Detections, *, iou_threshold: float = 0.4) -> None:
    """Sort by (score down, index up) and keep greedily what overlaps no better one by more than the threshold.

    Areas and overlaps count both border pixels (the "+1" convention of insightface). The
    result does not depend on the order in which candidates were appended.
    """
    where = "nms_into"
    room = detections.scores.shape[0]
    if not 1 <= room <= DETECTIONS_MAX:
        raise ValueError(
            f"{where}: wanted room for 1 to {DETECTIONS_MAX} detections, got {room}; size the Detections so"
        )
    args = (
        *_candidate_args(where, candidates),
        ctypes.c_float(iou_threshold),
        pointer(where, detections.boxes, "float32", (room, 4)),
        pointer(where, detections.points, "float32", (room, 5, 2)),
        pointer(where, detections.scores, "float32", (room,)),
        pointer(where, detections.count, "int32", (1,)),
        pointer(where, detections.best_score, "float32", (1,)),
        ctypes.c_int(room),
    )
    target.launch("nms", (1, 1, 1), (512, 1, 1), args)


def cut_score_into(
    target: Target,
    input_nchw: Tensor,
    cut: CutState,
    *,
    fit: tuple[int, int],
    mean: Triple,
    std: Triple,
    order: Order = "rgb",
    threshold_levels: float = 30.0,
) -> None:
    """Compare the detector input's luma with the last one's and write whether a new scene began.

    ``fit`` = (new_w, new_h) px of picture in float32 [1,3,H,W]; mean, std and order as in letterbox_into. The
    score is the mean absolute difference of 64x64 luma cells, in levels of 0..255; a frame is a cut when it is
    above ``threshold_levels`` or when it is the first. Integer sums: the same on every run.
    """
    where = "cut_score_into"
    height, width = input_nchw.shape[-2:] if len(input_nchw.shape) == 4 else (0, 0)
    norm: NormArg = denormalise_arg(where, mean, std, order)
    args = (
        pointer(where, input_nchw, "float32", (1, 3, height, width)),
        ctypes.c_int(width),
        ctypes.c_int(height),
        ctypes.c_int(min(fit[0], width)),
        ctypes.c_int(min(fit[1], height)),
        norm,
        ctypes.c_int(round(threshold_levels * THUMBNAIL_PX * THUMBNAIL_PX)),
        pointer(where, cut.thumbnail, "uint8", (THUMBNAIL_PX, THUMBNAIL_PX)),
        pointer(where, cut.words, "int32", (4,)),
    )
    target.launch("cut_score", (1, 1, 1), (LANES * 2, 1, 1), args)


def _level(where: str, tensor: Tensor, rows: int, channels: int) -> int:
    shape = tensor.shape[1:] if len(tensor.shape) == 3 and tensor.shape[0] == 1 else tensor.shape
    if tensor.dtype != "float32" or shape != (rows, channels):
        raise ValueError(
            f"{where}: wanted float32 [{rows}, {channels}], got {tensor.dtype} {list(tensor.shape)}; "
            "check strides, anchors and input size against the contract"
        )
    return tensor.ptr


def _candidate_args(where: str, candidates: Candidates) -> tuple[ctypes.c_void_p | ctypes.c_int, ...]:
    room = candidates.scores.shape[0]
    if not 1 <= room <= CANDIDATES_MAX:
        raise ValueError(
            f"{where}: wanted room for 1 to {CANDIDATES_MAX} candidates, got {room}; size the Candidates so"
        )
    return (
        pointer(where, candidates.scores, "float32", (room,)),
        pointer(where, candidates.indices, "int32", (room,)),
        pointer(where, candidates.boxes, "float32", (room, 4)),
        pointer(where, candidates.points, "float32", (room, 5, 2)),
        pointer(where, candidates.counters, "int32", (4,)),
        ctypes.c_int(room),
    )
