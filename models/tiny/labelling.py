"""How well occlusion mask, parser and 68 points label held-out faces of the film look, placed as they learned it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.tiny.measure import HELD_OUT
from models.tiny.pack import Pack
from models.tiny.renderer import CLASSES
from models.tiny.train import parts

__all__ = ["class_overlaps", "eye_distance_px", "labelling", "overlap"]

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Figures = dict[str, float]

_SEED = HELD_OUT + 6
_BOXED_SEED = HELD_OUT + 7
_LEAST_EYE_PX = 20.0  # what counts as the distance of eyes that lie nearly behind each other


def overlap(found: Mask, truth: Mask) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return float((found & truth).sum()) / union if union else 1.0


def class_overlaps(counts: Counts) -> dict[str, float]:
    """IoU of each class that the truth has, from counts [19,19] of pixels (true class, found class)."""
    right = np.diagonal(counts)
    union = counts.sum(0) + counts.sum(1) - right
    return {name: float(right[i] / union[i]) for i, name in enumerate(CLASSES) if counts[i].any()}


def eye_distance_px(points: Doubles) -> float:
    """Distance of the middles of both eyes of iBUG's 68 points [68,2], at least 20 px."""
    apart = points[36:42].mean(0) - points[42:48].mean(0)
    return max(float(np.hypot(*apart)), _LEAST_EYE_PX)


def _aligned(pack: Pack, pictures: int, seed: int) -> Figures:
    """Figures of mask and parser, of whichever is there."""
    shares: list[float] = []
    counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for i in range(pictures):
        part = parts.part(np.random.default_rng([seed, i]))
        if pack.occluder is not None:
            shares.append(overlap(pack.seen(part.image[None])[0] > 0.5, part.seen > 127))
        if pack.parser is not None:
            both = part.classes.astype(np.int64) * len(CLASSES) + pack.classes(part.image[None])[0]
            counts += np.bincount(both.ravel(), minlength=counts.size).reshape(counts.shape)
    out: Figures = {}
    if shares:
        out["mask_iou"], out["mask_iou_p5"] = float(np.mean(shares)), float(np.percentile(shares, 5))
    if counts.any():
        each = class_overlaps(counts)
        out["parser_miou"] = float(np.mean(list(each.values())))
        out["parser_right"] = float(np.trace(counts) / counts.sum())
        out |= {f"parser_iou_{name.replace(' ', '_')}": value for name, value in each.items()}
    return out


def _boxed(pack: Pack, pictures: int, seed: int) -> Figures:
    """Figures of the 68 points."""
    errors = []
    for i in range(pictures):
        part = parts.boxed_part(np.random.default_rng([seed, i]))
        truth = part.points.astype(np.float64)
        off = np.hypot(*(pack.points68(part.image[None])[0] - truth).T)
        errors.append(float(off.mean()) / eye_distance_px(truth))
    return {"points68_error": float(np.mean(errors)), "points68_error_p95": float(np.percentile(errors, 95))}


def labelling(pack: Pack, pictures: int, look: str = "film") -> Figures:
    """Mask: mean IoU of pictures. Parser: IoU of classes over all pixels together, and the mean of those that occur.

    68 points: mean distance of a face's points over its projected eye distance. A network that the pack lacks is left
    out. Faces are of the film look, the only one with such labels, whatever look the others are measured on.
    """
    out: Figures = {"pictures": float(pictures)}
    if pack.occluder is not None or pack.parser is not None:
        out |= _aligned(pack, pictures, _SEED)
    if pack.landmarks is not None:
        out |= _boxed(pack, pictures, _BOXED_SEED)
    return out
