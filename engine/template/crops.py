"""The rectangle that a lip-sync network works on, by its contract's rule, for all pictures of a stretch at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import ModelError, explain
from engine.template.similarity import inverse, similarity
from models.contract import Contract, load_template
from models.facts import CropFacts

__all__ = ["CropRule", "Places", "Points", "mouth_opening"]

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """What a rule goes by, px: boxes [m, 4], five points [m, 5, 2], 68 points [m, 68, 2] or [m, 0, 2]."""

    boxes: F64
    five: F64
    all_68: F64


@dataclass(frozen=True)
class Places:
    """Rectangles in the frame: middle [m, 2] and sides [m, 2] px (width, height), clockwise turn [m] in radians.

    A rectangle's borders are edges of pixels, whose centres are the integers: x from 0 to 1 is the column at 0.5 here.
    """

    middle: F64
    sides: F64
    turn: F64

    def matrices(self, crop_px: tuple[int, int]) -> tuple[F64, F64]:
        """(crop_from_frame, frame_from_crop) [m, 2, 3] between pixel centres, for a crop of (width, height)."""
        across, down = (self.sides / np.array(crop_px)).T
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        scaled = np.stack(
            [np.stack([across * cosine, -down * sine], -1), np.stack([across * sine, down * cosine], -1)], -2
        )
        centre = (np.array(crop_px) - 1) / 2
        shift = self.middle - 0.5 - scaled @ centre
        frame_from_crop = np.concatenate([scaled, shift[..., None]], axis=-1)
        return inverse(frame_from_crop), frame_from_crop

    def clamped(self, frame_px: tuple[int, int]) -> Places:
        """Cut off at the borders of the frame; for rectangles without a turn."""
        low = np.clip(self.middle - self.sides / 2, 0, np.array(frame_px) - 1.0)
        high = np.clip(self.middle + self.sides / 2, low + 1, np.array(frame_px))
        return _between(low, high)


_Rule: TypeAlias = Callable[["CropRule", Points], Places]


class CropRule:
    """One contract's rule. `places` of a stretch's pictures as its users have them, or before they average anything.

    `needs_68`: the rule goes by 68 points. `note`: what is not as published, in a sentence; empty where all is.
    """

    def __init__(self, contract: Contract) -> None:
        """Raises ModelError for a contract without a rule, and for points that no network here gives."""
        assert contract.lipsync is not None  # the contract's loader refuses a generator without it
        self.contract, self.facts = contract, contract.lipsync
        crop = contract.lipsync.crop
        if crop is None:
            got = "none: how its users cut it is not published"
            raise ModelError(explain(contract.name, "a crop rule", got, "name another generator in models.lipsync"))
        self.crop: CropFacts = crop
        self._rule = self._find_rule()
        self.needs_68 = crop.landmarks in ("ibug_68", "ultralight_110")
        self.clamps = self._rule in (_box, _one_ratio)
        self.note = ""
        if crop.landmarks == "ultralight_110":
            self.note = (
                f"{contract.name}: its crop is made from 68 points in the place of 110, whose network has no contract"
            )
        #: width / height of a face over the whole video, for rules that take one; 0 before `measure`
        self.ratio = 0.0

    def measure(self, points: Points) -> None:
        """Find what holds for the whole video, from all its pictures with the face."""
        if self._rule is _one_ratio:
            sides = points.all_68.max(axis=1) - points.all_68.min(axis=1)
            self.ratio = min(float(np.median(sides[:, 0] / sides[:, 1])), self.crop.numbers["ratio_max"])

    def places(self, points: Points) -> Places:
        """A stretch's rectangles, each from its own picture's points (a radius: from a few pictures around it)."""
        return self._rule(self, points)

    def averaged(self, places: Places) -> Places:
        """What a rule's own users make of neighbouring pictures: the mean of the next `smooth` of them."""
        count = int(self.crop.numbers.get("smooth", 1))
        m = len(places.middle)
        if count == 1:
            return places
        starts = np.minimum(np.arange(m), max(0, m - count))
        windows = np.minimum(starts[:, None] + np.arange(count), m - 1)
        return Places(places.middle[windows].mean(axis=1), places.sides[windows].mean(axis=1), places.turn)

    def _find_rule(self) -> _Rule:
        if self.crop.landmarks == "mediapipe_478":
            got = "MediaPipe's 478, for which no network has a contract"
            wanted = "a crop by a box, five points or 68 points"
            raise ModelError(explain(self.contract.name, wanted, got, "name another generator in models.lipsync"))
        if self.crop.landmarks == "five_points":
            return _similarity
        names = {*self.crop.numbers, *self.crop.points}
        for needed, rule in _RULES:
            if needed <= names:
                return rule
        raise ModelError(
            explain(
                self.contract.name, "a crop rule that this release computes", self.crop.rule, "correct its contract"
            )
        )


def _similarity(rule: CropRule, points: Points) -> Places:
    template = load_template(rule.contract.template)
    crop_px = np.array(rule.facts.crop_px)
    template_px = np.array(template.points_px) * (crop_px / template.size_px)
    crop_from_frame, frame_from_crop = similarity(points.five, template_px)
    scale = np.linalg.norm(crop_from_frame[:, 0, :2], axis=1)
    middle = frame_from_crop[:, :, :2] @ ((crop_px - 1) / 2) + frame_from_crop[:, :, 2] + 0.5
    turn = np.unwrap(np.arctan2(frame_from_crop[:, 1, 0], frame_from_crop[:, 0, 0]))
    return Places(middle, crop_px / scale[:, None], turn)


def _box(rule: CropRule, points: Points) -> Places:
    low, high = points.boxes[:, :2], points.boxes[:, 2:].copy()
    high[:, 1] += rule.crop.numbers["pad_bottom_px"]
    return _between(low, high)


def _one_ratio(rule: CropRule, points: Points) -> Places:
    """HeyGem's: a square whose side is the face's width by the video's one ratio of width to height."""
    numbers = rule.crop.numbers
    some = points.all_68[:, list(rule.crop.points["width"])]
    low, high = some.min(axis=1), some.max(axis=1)
    side = (high[:, 0] - low[:, 0]) / rule.ratio
    middle_x = (low[:, 0] + high[:, 0]) / 2
    half = numbers["half"] * side
    return _between(
        np.stack([middle_x - half, low[:, 1] + numbers["top"] * side], -1),
        np.stack([middle_x + half, low[:, 1] + numbers["bottom"] * side], -1),
    )


def _radius(rule: CropRule, points: Points) -> Places:
    """DINet's: by a radius over the pictures of the sound's window, in steps."""
    numbers, named = rule.crop.numbers, rule.crop.points
    nose, left, right, middle = (points.all_68[:, list(named[name])].mean(axis=1) for name in _RADIUS_POINTS)
    reach = np.maximum(points.all_68[:, :, 1].max(axis=1) - nose[:, 1], right[:, 0] - left[:, 0])
    m = len(reach)
    window = np.arange(-rule.facts.before, rule.facts.after)
    widest = reach[np.clip(np.arange(m)[:, None] + window, 0, m - 1)].max(axis=1)
    quantum = numbers["quantum"]
    r = (np.floor(widest * numbers["grow"] / 2 / quantum) + 1) * quantum
    return _between(
        np.stack([middle[:, 0] - numbers["side"] * r, nose[:, 1] - numbers["up"] * r], -1),
        np.stack([middle[:, 0] + numbers["side"] * r, nose[:, 1] + numbers["down"] * r], -1),
    )


def _nose_middle(rule: CropRule, points: Points) -> Places:
    """MuseTalk's: as far above the nose as the lowest point is below it, then a margin at the bottom."""
    low, high = points.all_68.min(axis=1), points.all_68.max(axis=1)
    nose_y = points.all_68[:, list(rule.crop.points["nose"]), 1].mean(axis=1)
    low[:, 1] = 2 * nose_y - high[:, 1]
    high[:, 1] += rule.crop.numbers["margin_px"]
    return _between(low, high)


def _jaw_square(rule: CropRule, points: Points) -> Places:
    """Ultralight's: from one side of the jaw to the other, and as far down from the bridge of the nose."""
    left, right, top = (points.all_68[:, list(rule.crop.from_68[name])].mean(axis=1) for name in _SQUARE_POINTS)
    side = right[:, 0] - left[:, 0]
    low = np.stack([left[:, 0], top[:, 1]], -1)
    return _between(low, low + side[:, None])


def _between(low: F64, high: F64) -> Places:
    return Places((low + high) / 2, np.maximum(high - low, 1.0), np.zeros(len(low)))


_RADIUS_POINTS = ("nose", "left", "right", "middle")
_SQUARE_POINTS = ("left", "right", "top")
#: A rule is known by the numbers and points that its sentence names.
_RULES: tuple[tuple[set[str], _Rule], ...] = (
    ({"pad_bottom_px"}, _box),
    ({"half", "top", "bottom", "ratio_max", "width"}, _one_ratio),
    ({"grow", "quantum", "up", "down", "side", *_RADIUS_POINTS}, _radius),
    ({"margin_px", "nose"}, _nose_middle),
    ({*_SQUARE_POINTS}, _jaw_square),
)


def mouth_opening(points_68: F64) -> F64:
    """How far each mouth is open [m]: between the inner lips (iBUG 62 and 66) over the mouth's width (48 to 54)."""
    gap = np.linalg.norm(points_68[:, 62] - points_68[:, 66], axis=1)
    width = np.linalg.norm(points_68[:, 48] - points_68[:, 54], axis=1)
    return np.asarray(gap / np.maximum(width, 1e-6))
