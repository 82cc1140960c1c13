"""Drawn lower faces: one moment of one person with several mouths, cut as the lip-sync contract says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.contract import load_contract, load_template
from models.facts import LipsyncFacts
from models.tiny.renderer import (
    Person,
    Range,
    backdrop,
    draw,
    geometry,
    light_from,
    random_camera,
    random_person,
    similarity,
    soften,
)
from models.tiny.renderer.speech import SHAPES, phrase, track
from models.tiny.train.crops import shaken

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SIZE = 96
MOUTHS = 5  # pictures of one moment
# Presenters look at the camera; mouth corners and chin of a face that turns further leave the crop.
PRESENTERS = Range(yaw=26.0, pitch=12.0, roll=8.0, glasses=0.1, occluder=0.0, light=0.8)


@dataclass(frozen=True)
class MouthSample:
    """images [MOUTHS, 96, 96, 3] RGB that differ in the mouth alone; shapes [MOUTHS, 6] in the order of SHAPES."""

    images: Bytes
    shapes: Floats


def template_px() -> Doubles:
    """Where the five points lie in the crop."""
    return np.array(load_template(load_contract("tiny_lipsync").template).points_px)


def facts() -> LipsyncFacts:
    """What the contract says of the crop, the rectangle that the network makes, and how it is pasted."""
    lipsync = load_contract("tiny_lipsync").lipsync
    if lipsync is None:
        raise ValueError("tiny_lipsync: wanted the table lipsync in its contract, got none; restore it")
    return lipsync


def blank_xywh_px() -> tuple[int, int, int, int]:
    """The rectangle of the crop that the network makes."""
    return facts().blank_xywh_px


def with_mouth(person: Person, shape: npt.NDArray[np.floating]) -> Person:
    """The same moment with this mouth (in the order of SHAPES)."""
    return person.set({name: float(value) for name, value in zip(SHAPES, shape, strict=True)})


def random_shapes(rng: np.random.Generator, count: int) -> Floats:
    """Mouths from speech, a third of them from anywhere among the shapes; the first often is shut."""
    tracks = track(phrase(rng, 6.0), 150, 25.0)
    spoken = np.stack([tracks[name] for name in SHAPES], 1)
    out = spoken[rng.integers(0, len(spoken), count)]
    for row in out:
        if rng.random() < 0.35:
            row[:] = rng.uniform(0, 1) ** 1.3, rng.uniform(-1, 1), max(0.0, rng.uniform(-0.7, 1)), 0.0, 0.0, 0.0
            row[3:] = np.maximum(0.0, rng.uniform(-1.5, 1.0, 3))
            row[0] *= np.clip(1.0 - 1.15 * row[3], 0.0, 1.0)
    if rng.random() < 0.6:
        out[0] = 0.0
        out[0, 3] = rng.uniform(0.0, 0.5) if rng.random() < 0.3 else 0.0
    return out.astype(np.float32)


def mouth_sample(rng: np.random.Generator, look: str = "film", within: Range = PRESENTERS) -> MouthSample:
    """One moment: a presenter before a background, cut by points as a tracker would place them, by one camera."""
    if look != "film":
        raise ValueError(
            f"mouth_sample: wanted the film look, got {look}, whose mouth does not round; give --look film"
        )
    person = random_person(rng, within, look).set({"smile": float(rng.uniform(-0.3, 0.8)), "hat": 0.0})
    side = int(rng.integers(3 * SIZE, 5 * SIZE))
    ground = backdrop(int(rng.integers(1 << 31)), int(rng.integers(4)), side, side, look)
    half = side // 2
    person = person.set(light_from(ground[:half].mean((0, 1)) / 255.0, ground[half:].mean((0, 1)) / 255.0))
    at = rng.integers(0, side - SIZE, 2)
    ground = np.ascontiguousarray(ground[at[0] : at[0] + SIZE, at[1] : at[1] + SIZE])
    shapes = random_shapes(rng, MOUTHS)
    # The crop is that of the template's own frame, whose mouth is the first one.
    points, _ = geometry(with_mouth(person, shapes[0]))
    view = similarity(points, shaken(rng, template_px(), rng.uniform(0.0, 0.035)))
    camera = replace(random_camera(rng, 2.0), move_px=(0.0, 0.0))
    if rng.random() < 0.5:
        camera = replace(camera, read=0.4 * camera.read, shot=0.4 * camera.shot, loss=0.3 * camera.loss)
    soft = rng.uniform(0.0, 0.8) if rng.random() < 0.4 else 0.0
    images = []
    for shape in shapes:
        image = ground.copy()
        draw(with_mouth(person, shape), view, image)
        images.append(camera.shoot(soften(image, soft) if soft > 0.05 else image))
    return MouthSample(np.stack(images), shapes)
