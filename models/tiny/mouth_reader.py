"""Reads from a picture how far a mouth is open: a linear fit to drawings of the same person with known mouths.

It knows nothing of sound or of the generator that it judges. Its own error is measured on drawings that the fit has
not seen, and is told with every figure that rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.pack import warp
from models.tiny.renderer import Person, apply, draw, geometry, similarity, soften
from models.tiny.train import mouths
from models.tiny.train.crops import shaken

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_UPPER, _LOWER = 62, 66  # middles of the inner lips among iBUG's 68
_LOOK_XYXY = (14, 18, 82, 90)  # px of the crop that it looks at
_SMALL = 2  # its pixels are means of so many a side
_RIDGE = 2e-4


def opening(person: Person) -> float:
    """Distance of the inner lips' middles over that of the eyes: the truth of a drawn mouth."""
    eyes, lips = geometry(person)[0], geometry(person, 68)[0]
    return float(np.hypot(*(lips[_LOWER] - lips[_UPPER])) / np.hypot(*(eyes[1] - eyes[0])))


def crop_of(image: Bytes, points_px: Doubles) -> Bytes:
    """The contract's crop [96,96,3] of a picture, by exact points of its face."""
    return warp(image, similarity(points_px, mouths.template_px()), mouths.SIZE)


@dataclass(frozen=True)
class Moment:
    """One frame of a drawn template: who, pixels_from_head [2,3], and the picture behind [h,w,3]."""

    person: Person
    view: Doubles
    ground: Bytes

    @property
    def points_px(self) -> Doubles:
        """The face's five points in the picture."""
        return apply(self.view, geometry(self.person)[0])


def _features(crops: Sequence[Bytes]) -> Doubles:
    x0, y0, x1, y1 = _LOOK_XYXY
    part = np.stack(crops)[:, y0:y1, x0:x1].astype(np.float64) / 255.0
    n, h, w, _ = part.shape
    small = part.reshape(n, h // _SMALL, _SMALL, w // _SMALL, _SMALL, 3).mean((2, 4)).reshape(n, -1)
    return np.asarray(np.concatenate([small, np.ones((n, 1))], 1))


class MouthReader:
    """The reader of one person's mouth over a template's moments.

    `error` and `correlation`: mean absolute error (in eye distances) and correlation on drawings kept from the fit.
    """

    def __init__(self, moments: Sequence[Moment], count: int = 360, seed: int = 770_101) -> None:
        rng = np.random.default_rng(seed)
        crops, truth = [], []
        for i in range(count):
            moment = moments[int(rng.integers(len(moments)))]
            shape = mouths.random_shapes(rng, 2)[1 if i % 6 else 0]
            person = mouths.with_mouth(moment.person, shape)
            crops.append(self._drawn(rng, moment, person))
            truth.append(opening(person))
        features, wanted = _features(crops), np.array(truth)
        fit = np.arange(count) % 4 != 3
        self._weights = self._solved(features[fit], wanted[fit])
        told = features[~fit] @ self._weights
        self.error = float(np.abs(told - wanted[~fit]).mean())
        self.correlation = float(np.corrcoef(told, wanted[~fit])[0, 1])

    @staticmethod
    def _drawn(rng: np.random.Generator, moment: Moment, person: Person) -> Bytes:
        """A crop as a video of this moment would give it: a little soft, cut a little off."""
        points = shaken(rng, mouths.template_px(), 0.01)
        crop_from_frame = similarity(moment.points_px, points)
        image = warp(moment.ground, crop_from_frame, mouths.SIZE)
        linear = crop_from_frame[:, :2] @ moment.view[:, :2]
        shift = crop_from_frame[:, :2] @ moment.view[:, 2] + crop_from_frame[:, 2]
        draw(person, np.concatenate([linear, shift[:, None]], 1), image)
        return soften(image, float(rng.uniform(0.0, 1.2)))

    @staticmethod
    def _solved(features: Doubles, wanted: Doubles) -> Doubles:
        """Ridge regression in the space of samples, which are fewer than pixels."""
        inner = features @ features.T
        inner += _RIDGE * np.trace(inner) / len(inner) * np.eye(len(inner))
        return np.asarray(features.T @ np.linalg.solve(inner, wanted))

    def read(self, crops: Sequence[Bytes]) -> Doubles:
        """Openings [n], in eye distances, of crops [96,96,3] RGB cut by `crop_of`."""
        return np.asarray(_features(crops) @ self._weights)
