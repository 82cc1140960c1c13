"""From one person's sightings to crops: gaps filled, outliers put right, still faces at rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.template.chunks import Found
from engine.template.crops import CropRule, Places, Points, mouth_opening
from engine.template.people import Choice
from engine.template.smooth import filled, runs, smoothed, without_outliers

__all__ = ["Laid", "lay_out"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Laid:
    """What a Template holds, for each picture that is shown; rows without the face are zero."""

    has_face: Flags
    crop_from_frame: npt.NDArray[np.float32]
    frame_from_crop: npt.NDArray[np.float32]
    raw_crop_from_frame: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    references: list[int]


def lay_out(
    found: Found, used: I64, choice: Choice, rule: CropRule, size_px: tuple[int, int], gap_pictures: int
) -> Laid:
    """Crops of the chosen person in the pictures `used`. One that is missed in `gap_pictures` or fewer pictures of a
    scene stands on the line between its neighbours."""
    m = len(used)
    known = choice.row >= 0
    cuts = found.cut[used]
    has_face = known | _short_gaps(known, cuts | _changes(choice.track), gap_pictures)
    rule.measure(_points_of(found, choice.row[known]))
    crop_px = rule.facts.crop_px
    laid = Laid(
        has_face=has_face,
        crop_from_frame=np.zeros((m, 2, 3), np.float32),
        frame_from_crop=np.zeros((m, 2, 3), np.float32),
        raw_crop_from_frame=np.zeros((m, 2, 3), np.float32),
        points=np.zeros((m, 5, 2), np.float32),
        boxes=np.zeros((m, 4), np.float32),
        references=_references(found, choice, rule, known),
    )
    for run in runs(has_face, cuts | _changes(choice.track)):
        raw = _filled(found, choice.row[run])
        size = np.sqrt(np.prod(np.maximum(raw.boxes[:, 2:] - raw.boxes[:, :2], 1.0), axis=1))
        clean = Points(*(_clean(values, size) for values in (raw.boxes, raw.five, raw.all_68)))
        places = _at_rest(rule.places(clean))
        published = rule.averaged(rule.places(raw))
        if rule.clamps:
            places, published = places.clamped(size_px), published.clamped(size_px)
        laid.crop_from_frame[run], laid.frame_from_crop[run] = places.matrices(crop_px)
        laid.raw_crop_from_frame[run] = published.matrices(crop_px)[0]
        face_px = float(np.median(size))
        laid.points[run] = smoothed(clean.five.reshape(-1, 10), face_px).reshape(-1, 5, 2)
        laid.boxes[run] = smoothed(clean.boxes, face_px)
    return laid


def _points_of(found: Found, rows: I64) -> Points:
    return Points(*(values[rows].astype(np.float64) for values in (found.boxes, found.points, found.points_68)))


def _filled(found: Found, rows: I64) -> Points:
    """Points of a stretch; pictures without a row stand between their neighbours."""
    held = _points_of(found, np.maximum(rows, 0))
    flat = [values.reshape(len(rows), -1) for values in (held.boxes, held.five, held.all_68)]
    flat = [filled(values, rows >= 0) if values.shape[1] else values for values in flat]
    return Points(flat[0], flat[1].reshape(-1, 5, 2), flat[2].reshape(len(rows), -1, 2))


def _clean(values: F64, size: F64) -> F64:
    """Without outliers; of several points, one leaps as far as they do on average (root mean square)."""
    flat = values.reshape(len(values), -1)
    if not flat.shape[1]:
        return values
    per_point = np.sqrt(flat.shape[1] / 2)
    return np.asarray(without_outliers(flat, size * per_point).reshape(values.shape))


def _at_rest(places: Places) -> Places:
    """Smoothed: middle, size and turn each for itself, all of them measured in px of the frame."""
    size = float(np.median(np.sqrt(np.prod(places.sides, axis=1))))
    sides = np.exp(smoothed(np.log(places.sides) * size, size) / size)
    turn = smoothed(places.turn[:, None] * size, size)[:, 0] / size
    return Places(smoothed(places.middle, size), sides, turn)


def _changes(track: I64) -> Flags:
    """Where another track begins than the one before; a picture without any changes nothing."""
    known = np.flatnonzero(track >= 0)
    begins = np.zeros(len(track), np.bool_)
    begins[known[1:]] = np.diff(track[known]) != 0
    return begins


def _short_gaps(known: Flags, begins: Flags, gap_pictures: int) -> Flags:
    """Pictures that are missing between two of a stretch, if they are few."""
    gaps = np.zeros(len(known), np.bool_)
    at = np.flatnonzero(known)
    for before, after in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
        if 1 < after - before <= gap_pictures + 1 and not begins[before + 1 : after + 1].any():
            gaps[before + 1 : after] = True
    return gaps


def _references(found: Found, choice: Choice, rule: CropRule, known: Flags) -> list[int]:
    """Pictures for a contract that stacks `picture 1`, `picture 2`, ...: spread in time, mouths open where known.

    With 68 points they are the most open of each part of the more open half; without, the middle of each part.
    """
    stacked = {name for names in rule.facts.stack.values() for name in names if name.startswith("picture ")}
    at = np.flatnonzero(known)
    if not stacked:
        return []
    opening = np.zeros(len(at))
    if rule.needs_68:
        opening = mouth_opening(found.points_68[choice.row[at]].astype(np.float64))
        wide = np.sort(np.argsort(-opening, kind="stable")[: max(len(stacked), (len(at) + 1) // 2)])
        at, opening = at[wide], opening[wide]
    chosen = []
    for part in np.array_split(np.arange(len(at)), len(stacked)):
        if not len(part):
            chosen.append(int(at[-1]))
        elif rule.needs_68:
            chosen.append(int(at[part[np.argmax(opening[part])]]))
        else:
            chosen.append(int(at[part[len(part) // 2]]))
    return chosen
