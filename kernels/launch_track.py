"""Launchers from detections to the frame's Faces: tracking, refining and smoothing of points."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kernels.launch_detect import DETECTIONS_MAX, Candidates, CutState, Detections
from kernels.launch_types import Target, Tensor, pointer

TRACKS_MAX = 64
Select: TypeAlias = Literal["all", "largest", "leftmost", "selected"]
SELECT: tuple[Select, ...] = ("all", "largest", "leftmost", "selected")
FIVE_OF_68 = ((36, 41), (42, 47), (30, 30), (48, 48), (54, 54))  # eye corners, nose tip, mouth corners
FIVE_OF_5 = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4))

STATUS_COUNT, STATUS_CUT, STATUS_NEW, STATUS_ERRORS = 0, 1, 2, 3  # words of Faces.status
STATUS_DETECTIONS, STATUS_TRACKS, STATUS_BEST_SCORE, STATUS_FRAME = 4, 5, 6, 7
ERROR_CANDIDATES_FULL, ERROR_TRACKS_FULL, ERROR_FACES_FULL = 1, 2, 4  # bits of status[STATUS_ERRORS]


@dataclass(frozen=True)
class Tracks:
    """What is remembered from frame to frame, one slot a face; T <= 64. All zero bytes is the empty state.

    Another kernel, or the host between frames, may write ``sources`` and ``selected``: identity does.
    """

    ids: Tensor  # int32 [T]: 1, 2, 3... in order of birth, never used again
    active: Tensor  # int32 [T]: 1 while the track lives
    ages: Tensor  # int32 [T]: frames since birth, the first is 1
    misses: Tensor  # int32 [T]: frames since the last detection that matched
    boxes: Tensor  # float32 [T,4] x0,y0,x1,y1 in frame px
    points: Tensor  # float32 [T,5,2] in frame px, not smoothed
    velocities: Tensor  # float32 [T,2] of the centre, px a frame
    scores: Tensor  # float32 [T]
    sources: Tensor  # int32 [T]: which source face it gets, -1 for none
    selected: Tensor  # int32 [T]: 0 at birth; marked by the host for "selected", by the others for those shown
    smooth_points: Tensor  # float32 [T,5,2] what smoothing gave last
    smooth_velocities: Tensor  # float32 [T,5,2] px a frame, low-passed
    smooth_ids: Tensor  # int32 [T]: the track that the smoothing state belongs to
    words: Tensor  # int32 [4]: last id given, frames seen, unused, unused


@dataclass(frozen=True)
class Faces:
    """The faces of one frame, rows 0..count-1 in order of slot; rows from ``count`` on are zero; K <= 64.

    ``status``: count, cut flag, new tracks, error bits, detections, living tracks, best raw score as float32
    bits, frame number. Error bits: 1 candidates dropped, 2 no free track slot, 4 more faces than K.
    """

    boxes: Tensor  # float32 [K,4] x0,y0,x1,y1 in frame px
    points: Tensor  # float32 [K,5,2] in frame px
    scores: Tensor  # float32 [K]
    track_ids: Tensor  # int32 [K]
    slots: Tensor  # int32 [K]: the row of Tracks
    sources: Tensor  # int32 [K]: >= 0
    count: Tensor  # int32 [1]
    status: Tensor  # int32 [8]


class TracksArg(ctypes.Structure):
    """``struct Tracks`` of track.cu."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in (
                "ids", "active", "ages", "misses", "boxes", "points", "velocities", "scores", "sources",
                "selected", "smooth_points", "smooth_velocities", "smooth_ids", "words",
            )
        ),
        ("room", ctypes.c_int),
    ]  # fmt: skip


class FacesArg(ctypes.Structure):
    """``struct Faces`` of track.cu."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in ("boxes", "points", "scores", "track_ids", "slots", "sources", "count", "status")
        ),
        ("room", ctypes.c_int),
    ]


class RulesArg(ctypes.Structure):
    """``struct Rules`` of track.cu."""

    _fields_ = [
        ("iou_min", ctypes.c_float),
        ("centre_max", ctypes.c_float),
        ("damping", ctypes.c_float),
        ("max_misses", ctypes.c_int),
        ("select", ctypes.c_int),
        ("detected", ctypes.c_int),
    ]


class FiveArg(ctypes.Structure):
    """``struct Five`` of track.cu: each of the five points is the mean of points first..last."""

    _fields_ = [("first", ctypes.c_int * 5), ("last", ctypes.c_int * 5)]


def track_into(
    target: Target,
    candidates: Candidates,
    detections: Detections,
    cut: CutState,
    source_of_slot: Tensor,
    tracks: Tracks,
    faces: Faces,
    *,
    select: Select = "all",
    detected: bool = True,
    max_misses: int = 5,
    iou_min: float = 0.3,
    centre_max: float = 0.5,
    velocity_damping: float = 0.8,
) -> None:
    """Match detections to tracks, begin, coast and end tracks, and write the frame's Faces and status.

    Detections take, best score first, the free track that overlaps their box most (IoU >= iou_min after moving
    the track by its velocity); failing that the nearest one closer than ``centre_max`` face sizes. What is left
    begins a track in the lowest free slot, with the source ``source_of_slot`` int32 [T] names for that slot. A
    track without a detection moves on by its damped velocity and ends after more than ``max_misses`` frames.
    A cut ends all tracks first. ``detected=False`` is for frames without detection: every track moves on at its
    velocity and none ends, but the frame counts: keep ``max_misses`` above the detection's interval. Tracks with
    source -1 are kept, and left out of Faces. When more are chosen than K, the K largest boxes stay; what was shown
    stays until another box is a fifth larger, with ``largest`` too. ``candidates`` gives the overflow bit only.
    """
    where = "track_into"
    room = detections.scores.shape[0]
    if room > DETECTIONS_MAX:
        raise ValueError(f"{where}: wanted at most {DETECTIONS_MAX} detections, got {room}; size them so")
    if select not in SELECT:
        raise ValueError(f"{where}: wanted select one of {', '.join(SELECT)}, got {select!r}; name a mode")
    tracks_arg = _tracks_arg(where, tracks)
    args = (
        pointer(where, candidates.counters, "int32", (4,)),
        pointer(where, detections.boxes, "float32", (room, 4)),
        pointer(where, detections.points, "float32", (room, 5, 2)),
        pointer(where, detections.scores, "float32", (room,)),
        pointer(where, detections.count, "int32", (1,)),
        pointer(where, detections.best_score, "float32", (1,)),
        pointer(where, cut.words, "int32", (4,)),
        pointer(where, source_of_slot, "int32", (tracks_arg.room,)),
        tracks_arg,
        _faces_arg(where, faces),
        RulesArg(iou_min, centre_max, velocity_damping, max_misses, SELECT.index(select), int(detected)),
    )
    target.launch("track", (1, 1, 1), (64, 1, 1), args)


def refine_points_into(
    target: Target,
    points_crop: Tensor,
    frame_from_crop: Tensor,
    tracks: Tracks,
    faces: Faces,
    *,
    five: Sequence[tuple[int, int]] = FIVE_OF_5,
    scale: float = 1.0,
    offset_px: float = 0.0,
    points_frame: Tensor | None = None,
) -> None:
    """Replace the points of Faces by a landmark network's, and move their tracks along.

    ``points_crop`` float32 [k,N,2] in network units; crop px = value * scale + offset_px. ``frame_from_crop``
    float32 [K,2,3], k <= K. Point i of the five is the mean of points five[i][0]..five[i][1]. A face's track
    takes the new points; its box moves by the mean displacement of the five. ``points_frame`` float32 [k,N,2],
    when given, receives all N in frame px. Rows from ``count`` on, and faces with a point that is not finite,
    are left as they are.
    """
    where = "refine_points_into"
    faces_arg = _faces_arg(where, faces)
    k, n = points_crop.shape[:2] if len(points_crop.shape) == 3 else (0, 0)
    bad = [pair for pair in five if not 0 <= pair[0] <= pair[1] < n]
    if len(five) != 5 or bad:
        raise ValueError(
            f"{where}: wanted five ranges within 0..{n - 1}, got {list(five)}; take them from the contract"
        )
    ranges = FiveArg((ctypes.c_int * 5)(*(pair[0] for pair in five)), (ctypes.c_int * 5)(*(pair[1] for pair in five)))
    out = ctypes.c_void_p(0)
    if points_frame is not None:
        out = pointer(where, points_frame, "float32", (k, n, 2))
    args = (
        pointer(where, points_crop, "float32", (k, n, 2)),
        pointer(where, frame_from_crop, "float32", (_at_least(where, frame_from_crop, k), 2, 3)),
        _tracks_arg(where, tracks),
        faces_arg,
        ranges,
        ctypes.c_int(n),
        ctypes.c_float(scale),
        ctypes.c_float(offset_px),
        out,
    )
    target.launch("refine_points", (k, 1, 1), (64, 1, 1), args)


def smooth_points_into(
    target: Target,
    tracks: Tracks,
    faces: Faces,
    *,
    min_cutoff: float = 0.05,
    beta: float = 6.0,
    velocity_alpha: float = 0.5,
) -> None:
    """Low-pass the points of Faces in place, one weight a face, so that its shape is never bent.

    A one-euro filter at one step a frame: cutoff = min_cutoff + beta * speed cycles a frame, where speed is the
    root mean square of the five points' low-passed velocity divided by their spread around their centre; the
    new frame's weight is 1 / (1 + 1 / (2 pi cutoff)). Still faces rest, fast ones pass unchanged. A new track,
    and every track after a cut, starts from its own points. Run it once a frame, after track or refine.
    """
    where = "smooth_points_into"
    faces_arg = _faces_arg(where, faces)
    args = (
        _tracks_arg(where, tracks),
        faces_arg,
        ctypes.c_float(min_cutoff),
        ctypes.c_float(beta),
        ctypes.c_float(velocity_alpha),
    )
    target.launch("smooth_points", (1, 1, 1), (64, 1, 1), args)


def _at_least(where: str, tensor: Tensor, rows: int) -> int:
    got = tensor.shape[0] if tensor.shape else 0
    if got < rows:
        raise ValueError(f"{where}: wanted at least {rows} matrices, got {got}; size them for K faces")
    return got


def _tracks_arg(where: str, tracks: Tracks) -> TracksArg:
    room = tracks.ids.shape[0]
    if not 1 <= room <= TRACKS_MAX:
        raise ValueError(f"{where}: wanted 1 to {TRACKS_MAX} track slots, got {room}; size the Tracks so")
    return TracksArg(
        pointer(where, tracks.ids, "int32", (room,)),
        pointer(where, tracks.active, "int32", (room,)),
        pointer(where, tracks.ages, "int32", (room,)),
        pointer(where, tracks.misses, "int32", (room,)),
        pointer(where, tracks.boxes, "float32", (room, 4)),
        pointer(where, tracks.points, "float32", (room, 5, 2)),
        pointer(where, tracks.velocities, "float32", (room, 2)),
        pointer(where, tracks.scores, "float32", (room,)),
        pointer(where, tracks.sources, "int32", (room,)),
        pointer(where, tracks.selected, "int32", (room,)),
        pointer(where, tracks.smooth_points, "float32", (room, 5, 2)),
        pointer(where, tracks.smooth_velocities, "float32", (room, 5, 2)),
        pointer(where, tracks.smooth_ids, "int32", (room,)),
        pointer(where, tracks.words, "int32", (4,)),
        room,
    )


def _faces_arg(where: str, faces: Faces) -> FacesArg:
    room = faces.scores.shape[0]
    if not 1 <= room <= TRACKS_MAX:
        raise ValueError(f"{where}: wanted room for 1 to {TRACKS_MAX} faces, got {room}; size the Faces so")
    return FacesArg(
        pointer(where, faces.boxes, "float32", (room, 4)),
        pointer(where, faces.points, "float32", (room, 5, 2)),
        pointer(where, faces.scores, "float32", (room,)),
        pointer(where, faces.track_ids, "int32", (room,)),
        pointer(where, faces.slots, "int32", (room,)),
        pointer(where, faces.sources, "int32", (room,)),
        pointer(where, faces.count, "int32", (1,)),
        pointer(where, faces.status, "int32", (8,)),
        room,
    )
