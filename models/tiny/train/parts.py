"""What parser, occlusion mask and 68-point landmarks learn from: a face of the film look with all its labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import (
    ARCFACE_128,
    Person,
    Range,
    aligned,
    apply,
    backdrop,
    draw,
    geometry,
    labels,
    light_from,
    place,
    random_camera,
    random_person,
)
from models.tiny.train.crops import shaken

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SIZE = 256
_ANY = Range(yaw=50.0, pitch=24.0, roll=14.0, occluder=0.3, glasses=0.2)
BOX_SIDE = 195.0  # px of the crop that the longer side of a face's box takes: FAN's and facefusion's way
# What a mirror makes of the classes and of the 68 points.
CLASSES_MIRRORED = np.array([0, 1, 3, 2, 5, 4, 6, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], np.uint8)
POINTS_MIRRORED = np.array(
    [
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """image [256,256,3]; classes [256,256] of the parser; seen [256,256] visible face, 255 = all; points [68,2] px."""

    image: Bytes
    classes: Bytes
    seen: Bytes
    points: Floats


def _drawn(rng: np.random.Generator, placed: str) -> Part:
    person = random_person(rng, _ANY, "film")
    if placed == "template":
        view = aligned(person, shaken(rng, ARCFACE_128 * (SIZE / 128), 0.04))
    else:
        view = _boxed(rng, person)
    image = backdrop(int(rng.integers(1 << 31)), int(rng.integers(4)), SIZE, SIZE, "film")
    sky, floor = (half.mean((0, 1)) / 255.0 for half in (image[: SIZE // 2], image[SIZE // 2 :]))
    person = person.set(light_from(sky, floor))
    seen, classes = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    draw(person, view, image, seen, classes=classes)
    points = labels(person, view, 68).points_px.astype(np.float32)
    return Part(random_camera(rng, 4.0).shoot(image), classes, seen, points)


def _boxed(rng: np.random.Generator, person: Person) -> Doubles:
    """A view whose face box lies in the middle of the crop, as a detector of some error gives it."""
    _, box = geometry(person)
    side = float(max(box[2] - box[0], box[3] - box[1]))
    scale = BOX_SIDE / side * float(np.exp(rng.normal(0.0, 0.06)))
    turn = float(rng.normal(0.0, 6.0))
    view = place((0.0, 0.0), scale, turn)
    middle = apply(view, np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]]))[0]
    at = SIZE / 2 - 0.5 + rng.normal(0.0, 0.03 * SIZE, 2)
    return place((float(at[0] - middle[0]), float(at[1] - middle[1])), scale, turn)


def part(rng: np.random.Generator) -> Part:
    """A face aligned to ArcFace's template at 256 px: what parser and occlusion mask see."""
    return _drawn(rng, "template")


def boxed_part(rng: np.random.Generator) -> Part:
    """A face cut by its box: what the network of 68 points sees."""
    return _drawn(rng, "box")
