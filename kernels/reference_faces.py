"""Kernels on points and boxes, in plain NumPy: decode, suppression, tracking, matrices, smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


@dataclass
class Rows:
    """Candidates or detections: score [N], index [N], box [N,4], points [N,5,2]."""

    score: Float
    index: Ints
    box: Float
    points: Float

    def take(self, chosen: Sequence[int] | Ints) -> Rows:
        """The chosen rows in the order given."""
        rows = np.asarray(chosen, dtype=np.int64)
        return Rows(self.score[rows], self.index[rows], self.box[rows], self.points[rows])


def scrfd_decode(
    scores: Sequence[Float], boxes: Sequence[Float], points: Sequence[Float], *, strides: Sequence[int],
    anchors: int, input_width: int, threshold: float, det_scale: float, pass_index: int = 0,
) -> Rows:  # fmt: skip
    """Rows with score >= threshold in frame px, by index. Tensors as the network gives them, one a stride."""
    found: list[Rows] = []
    first = pass_index << 24
    for score, box, point, stride in zip(scores, boxes, points, strides, strict=True):
        n = score.size
        cell = np.arange(n) // anchors
        across = -(-input_width // stride)
        centre = np.stack([cell % across, cell // across], axis=1) * float(stride)
        b = box.reshape(n, 4).astype(np.float64) * stride
        corners = np.concatenate([centre - b[:, :2], centre + b[:, 2:]], axis=1) / det_scale
        p = (centre[:, None] + point.reshape(n, 5, 2).astype(np.float64) * stride) / det_scale
        flat = score.reshape(n).astype(np.float64)
        finite = np.isfinite(corners).all(1) & np.isfinite(p).all((1, 2)) & np.isfinite(flat)
        rows = Rows(flat, first + np.arange(n), corners, p)
        found.append(rows.take(np.flatnonzero((flat >= threshold) & finite)))
        first += n
    return Rows(
        *(np.concatenate([getattr(rows, name) for rows in found]) for name in ("score", "index", "box", "points"))
    )


def iou_plus_one(a: Float, b: Float) -> float:
    """Intersection over union of two boxes that include their last row and column."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = max(w, 0.0) * max(h, 0.0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return float(both / (areas[0] + areas[1] - both))


def nms(rows: Rows, threshold: float, room: int) -> Rows:
    """Greedy suppression in order of (score down, index up); at most ``room`` rows."""
    kept: list[int] = []
    for i in sorted(range(len(rows.score)), key=lambda i: (-rows.score[i], rows.index[i])):
        if len(kept) < room and all(iou_plus_one(rows.box[i], rows.box[j]) <= threshold for j in kept):
            kept.append(i)
    return rows.take(kept)


def cut_levels(input_chw: Float, fit: tuple[int, int], mean: Sequence[float], std: Sequence[float], order: str) -> Ints:
    """[64,64] luma cells of a detector input, four samples each, rounded to 0..255."""
    rgb = np.asarray(input_chw, np.float64) * np.asarray(std)[:, None, None] + np.asarray(mean)[:, None, None]
    if order == "bgr":
        rgb = rgb[::-1]
    luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    cells = np.arange(64)
    total = np.zeros((64, 64))
    for dy in (1, 3):
        for dx in (1, 3):
            x, y = (4 * cells + dx) * fit[0] // 256, (4 * cells + dy) * fit[1] // 256
            total += 0.25 * luma[np.ix_(y, x)]
    return np.floor(np.clip(total, 0, 255) + 0.5).astype(np.int64)


def similarity(points: Float, template: Float) -> tuple[Float, Float, int]:
    """crop_from_frame, frame_from_crop [2,3] and a flag, by NumPy's general least squares on four unknowns."""
    p, q = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if not np.isfinite(p).all():
        return np.eye(2, 3), np.eye(2, 3), 1
    mean_p, mean_q = p.mean(0), q.mean(0)
    x, y = (p - mean_p).T
    if (x * x + y * y).sum() <= 1e-4:
        shift = np.array([[1, 0, mean_q[0] - mean_p[0]], [0, 1, mean_q[1] - mean_p[1]]])
        back = np.array([[1, 0, mean_p[0] - mean_q[0]], [0, 1, mean_p[1] - mean_q[1]]])
        return shift, back, 1
    system = np.concatenate([np.stack([x, -y], 1), np.stack([y, x], 1)])
    a, b = np.linalg.lstsq(system, np.concatenate((q - mean_q).T), rcond=None)[0]
    linear = np.array([[a, -b], [b, a]])
    forward = np.concatenate([linear, (mean_q - linear @ mean_p)[:, None]], axis=1)
    return forward, invert(forward), 0


def box_matrix(box: Float, size: tuple[int, int], expand: float, keep_aspect: bool) -> tuple[Float, Float, int]:
    """Upright matrices that put a box in the middle of a crop of (w, h); edges meet, half a px outside centres."""
    w, h = (box[2] - box[0]) * expand, (box[3] - box[1]) * expand
    if not (w > 0.01 and h > 0.01):
        sx = sy = 1.0
    elif keep_aspect:
        sx = sy = min(size) / max(w, h)
    else:
        sx, sy = size[0] / w, size[1] / h
    cx, cy = (box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) / 2 - 0.5
    forward = np.array([[sx, 0, (size[0] - 1) / 2 - sx * cx], [0, sy, (size[1] - 1) / 2 - sy * cy]])
    return forward, invert(forward), 0 if w > 0.01 and h > 0.01 else 1


def invert(matrix: Float) -> Float:
    """The inverse of a [2,3] affine matrix."""
    inverse: Float = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    return inverse


def gather_rows(table: Float, rows: Ints) -> Float:
    """Rows of a table, zeros for numbers outside it."""
    known = (rows >= 0) & (rows < len(table))
    return np.where(known[:, None], table[np.where(known, rows, 0)], 0.0)


@dataclass
class Track:
    """One followed face."""

    id: int
    box: Float
    points: Float
    score: float
    source: int
    velocity: Float = field(default_factory=lambda: np.zeros(2))
    age: int = 0
    misses: int = 0
    selected: bool = False

    def move(self, by: Float) -> None:
        """Shift box and points."""
        self.box = self.box + np.tile(by, 2)
        self.points = self.points + by


def _area(box: Float) -> float:
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))


def _affinity(a: Float, b: Float, iou_min: float, centre_max: float) -> float:
    w = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    small, large = sorted((_area(a), _area(b)))
    if small <= 0:
        return 0.0
    iou = w * h / (small + large - w * h)
    if iou >= iou_min:
        return float(1 + iou)
    apart = math.hypot(*((a[:2] + a[2:] - b[:2] - b[2:]) / 2)) / math.sqrt(small)
    return 1 - apart if apart < centre_max and large < 4 * small else 0.0


@dataclass
class Tracker:
    """The state of track_into as a list of slots; ``step`` is one frame."""

    slots: list[Track | None]
    source_of_slot: Sequence[int]
    select: str = "all"
    max_misses: int = 5
    iou_min: float = 0.3
    centre_max: float = 0.5
    damping: float = 0.8
    last_id: int = 0
    lost: int = 0

    def step(self, detections: Rows | None, cut: bool, room: int) -> list[tuple[int, Track]]:
        """Advance one frame; returns (slot, track) of the frame's faces. None: no detection was run."""
        if cut and detections is not None:
            self.slots = [None] * len(self.slots)
        for living in self.slots:
            if living:
                living.move(living.velocity)
        found = detections if detections is not None else Rows(*(np.zeros(0) for _ in range(4)))  # type: ignore[arg-type]
        taken = self._match(found)
        for slot, old in enumerate(self.slots):
            if old and slot not in taken:
                if detections is not None and old.misses >= self.max_misses:
                    self.slots[slot] = None
                    continue
                old.misses += 1
                old.age += 1
                old.velocity = old.velocity * (self.damping if detections is not None else 1.0)
        for slot, d in taken.items():
            track = self.slots[slot]
            assert track is not None
            surprise = (found.box[d][:2] + found.box[d][2:] - track.box[:2] - track.box[2:]) / 2
            track.velocity = track.velocity + 0.5 * surprise / (track.misses + 1)
            track.box, track.points, track.score = found.box[d], found.points[d], float(found.score[d])
            track.misses = 0
            track.age += 1
        self._begin(found, set(taken.values()))
        return self._choose(room)

    def _match(self, found: Rows) -> dict[int, int]:
        taken: dict[int, int] = {}
        for d in range(len(found.score)):
            alike = [
                0.0
                if track is None or slot in taken
                else _affinity(found.box[d], track.box, self.iou_min, self.centre_max)
                for slot, track in enumerate(self.slots)
            ]
            if max(alike) > 0:
                taken[int(np.argmax(alike))] = d
        return taken

    def _begin(self, found: Rows, used: set[int]) -> None:
        self.lost = 0
        for d in range(len(found.score)):
            if d in used:
                continue
            if None not in self.slots:
                self.lost += 1
                continue
            slot = self.slots.index(None)
            self.last_id += 1
            self.slots[slot] = Track(
                self.last_id, found.box[d], found.points[d], float(found.score[d]), self.source_of_slot[slot], age=1
            )

    def _choose(self, room: int) -> list[tuple[int, Track]]:
        chosen = [
            (slot, track)
            for slot, track in enumerate(self.slots)
            if track and track.source >= 0 and (self.select != "selected" or track.selected)
        ]
        if self.select == "leftmost":
            return sorted(chosen, key=lambda item: (item[1].box[0], item[0]))[:1]
        if self.select == "selected":
            best = sorted(chosen, key=lambda item: (-_area(item[1].box), item[0]))[:room]
            return sorted(best, key=lambda item: item[0])
        # those shown last stay until another is a fifth larger
        best = sorted(chosen, key=lambda item: (-_area(item[1].box) * (1.2 if item[1].selected else 1), item[0]))
        best = best[: 1 if self.select == "largest" else room]
        for track in self.slots:
            if track:
                track.selected = any(track is shown for _, shown in best)
        return sorted(best, key=lambda item: item[0])


@dataclass
class Smoother:
    """One face's one-euro filter over five points, one weight for all."""

    min_cutoff: float = 0.05
    beta: float = 6.0
    velocity_alpha: float = 0.5
    last: Float | None = None
    velocity: Float = field(default_factory=lambda: np.zeros((5, 2)))

    def step(self, points: Float) -> Float:
        """The smoothed points [5,2] of one more frame."""
        if self.last is None:
            self.last = points
            return points
        self.velocity = self.velocity + self.velocity_alpha * (points - self.last - self.velocity)
        spread = max(float(((points - points.mean(0)) ** 2).sum()), 1e-6)
        cutoff = self.min_cutoff + self.beta * math.sqrt(float((self.velocity**2).sum()) / spread)
        part = 1 / (1 + 1 / (2 * math.pi * cutoff))
        self.last = self.last + part * (points - self.last)
        return self.last


def refine_points(
    points_crop: Float, frame_from_crop: Float, five: Sequence[tuple[int, int]], scale: float, offset: float
) -> tuple[Float, Float]:
    """All N points in frame px, and the five of them, each the mean of a range."""
    crop_px = np.asarray(points_crop, np.float64) * scale + offset
    everything = crop_px @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]
    return everything, np.stack([everything[first : last + 1].mean(0) for first, last in five])
