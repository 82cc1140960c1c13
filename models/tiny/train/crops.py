"""Drawn training pictures: aligned crops for embedder, refiner and swapper, scenes for the detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import (
    ARCFACE_112,
    ARCFACE_128,
    Person,
    Range,
    aligned,
    backdrop,
    draw,
    geometry,
    grain,
    labels,
    light_from,
    place,
    random_camera,
    random_inner,
    random_moment,
    random_outer,
    random_person,
    soften,
)
from models.tiny.train import rooms

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# The refiner sees the ArcFace template at 0.7 of its size, its point (56, 66) in the middle of 96 pixels: the whole
# face from hairline to a dropped chin, with room for a detector that is off by a quarter of the eye distance.
REFINER_SIZE = 96
REFINER_TEMPLATE: Doubles = 0.7 * (ARCFACE_112 - np.array([56.0, 66.0])) + REFINER_SIZE / 2


_ANY = Range()


def shaken(rng: np.random.Generator, template: Doubles, spread: float) -> Doubles:
    """A template as an imperfect detector would place it: each point off by spread * eye distance (one sigma)."""
    eye = float(np.hypot(*(template[1] - template[0])))
    return template + rng.normal(0.0, spread * eye, template.shape)


def _finish(rng: np.random.Generator, images: list[Bytes], look: str) -> list[Bytes]:
    """The same lens and sensor for all pictures of one sample: softness and grain, or a camera of the film look."""
    if look == "film":
        soft = rng.uniform(0.0, 1.6) if rng.random() < 0.25 else 0.0
        camera = random_camera(rng, 4.0)
        return [camera.shoot(soften(image, soft) if soft > 0.1 else image) for image in images]
    blur = rng.uniform(0.0, 1.6) if rng.random() < 0.35 else 0.0
    seed, sigma = int(rng.integers(1 << 31)), (rng.uniform(0.5, 5.0) if rng.random() < 0.6 else 0.0)
    out = [soften(image, blur) if blur > 0.1 else image for image in images]
    for image in out:
        grain(seed, sigma, 1.0, image)
    return out


def _ground(rng: np.random.Generator, size: int, look: str) -> Bytes:
    if look == "film" and rng.random() < 0.7:
        return backdrop(int(rng.integers(1 << 31)), int(rng.integers(4)), size, size, look)
    return backdrop(int(rng.integers(1 << 31)), int(rng.integers(3)), size, size)


def _lit(person: Person, ground: Bytes) -> Person:
    """A person of the film look takes the colours of the surroundings; the classic look has lights of its own."""
    if person.look != "film":
        return person
    half = len(ground) // 2
    return person.set(light_from(ground[:half].mean((0, 1)) / 255.0, ground[half:].mean((0, 1)) / 255.0))


def embed_crop(
    rng: np.random.Generator, inner: Floats, shake: float = 0.05, within: Range = _ANY, look: str = "classic"
) -> Bytes:
    """A 112-pixel crop of an identity at a random moment with random hair, light and background."""
    own = inner if rng.random() < 0.75 else random_inner(rng, look)  # a swapped face keeps its neck
    person = Person(inner, random_outer(rng, own, look), random_moment(rng, within, look), look=look)
    image = _ground(rng, 112, look)
    draw(_lit(person, image), aligned(person, shaken(rng, ARCFACE_112, shake)), image)
    return _finish(rng, [image], look)[0]


def refine_crop(rng: np.random.Generator, look: str = "classic") -> tuple[Bytes, Floats]:
    """A 96-pixel crop placed as by a rough detector, and the true points [5,2] in its pixels."""
    person = random_person(rng, Range(yaw=55.0, pitch=28.0, roll=40.0, occluder=0.2), look)
    template = shaken(rng, REFINER_TEMPLATE, rng.uniform(0.0, 0.10))
    turn, grow = np.radians(rng.normal(0.0, 4.0)), float(np.exp(rng.normal(0.0, 0.06)))
    c, s = np.cos(turn) * grow, np.sin(turn) * grow
    middle = np.array([48.0, 46.0])
    template = (template - middle) @ np.array([[c, s], [-s, c]]) + middle + rng.normal(0.0, 1.4, 2)
    view = aligned(person, template)
    image = _ground(rng, REFINER_SIZE, look)
    draw(_lit(person, image), view, image)
    if rng.random() < 0.4:  # a small face, enlarged
        image = soften(image, rng.uniform(0.5, 4.0))
    return _finish(rng, [image], look)[0], labels(person, view).points_px.astype(np.float32)


@dataclass(frozen=True)
class SwapSample:
    """target and truth [128,128,3] of one moment, source [112,112,3] of the truth's identity, mask [128,128] of both.

    person is the target, inner the source's identity, view pixels_from_head of the crop, ground the bare background.
    """

    target: Bytes
    truth: Bytes
    source: Bytes
    mask: Bytes
    inner: Floats
    person: Person
    view: Doubles
    ground: Bytes


def swap_sample(rng: np.random.Generator, shake: float = 0.035, look: str = "classic") -> SwapSample:
    """One swap with its exact truth; one in ten has the target's own identity as source."""
    person = random_person(rng, Range(yaw=42.0, pitch=20.0, roll=10.0, occluder=0.12), look)
    inner = person.inner if rng.random() < 0.1 else random_inner(rng, look)
    view = aligned(person, shaken(rng, ARCFACE_128, shake))
    ground, target_mask, truth_mask = (
        _ground(rng, 128, look),
        np.zeros((128, 128), np.uint8),
        np.zeros((128, 128), np.uint8),
    )
    target, truth, person = ground.copy(), ground.copy(), _lit(person, ground)
    draw(person, view, target, target_mask)
    draw(replace(person, inner=inner), view, truth, truth_mask)
    target, truth = _finish(rng, [target, truth], look)
    within = Range(yaw=25.0, pitch=12.0, roll=8.0, glasses=0.08, occluder=0.0, light=0.8)
    source = embed_crop(rng, inner, 0.03, within, look)
    return SwapSample(target, truth, source, np.maximum(target_mask, truth_mask), inner, person, view, ground)


@dataclass(frozen=True)
class Scene:
    """image [n,n,3]; boxes_xyxy [k,4] clipped to the picture; points [k,5,2]; counts [k] False = do not judge."""

    image: Bytes
    boxes_xyxy: Floats
    points: Floats
    counts: npt.NDArray[np.bool_]


def _overlap(box: Doubles, others: list[Doubles]) -> float:
    worst = 0.0
    for other in others:
        sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
        if (sides > 0).all():
            worst = max(worst, float(sides.prod() / min((box[2:] - box[:2]).prod(), (other[2:] - other[:2]).prod())))
    return worst


def _scene_heights(rng: np.random.Generator, size: int) -> list[float]:
    kind = rng.random()
    if kind < 0.08:
        return []
    if kind < 0.38:  # one large face, up to filling the picture, and perhaps small ones behind it
        first = size * float(np.exp(rng.uniform(np.log(0.35), np.log(1.0))))
        return [*np.exp(rng.uniform(np.log(14.0), np.log(60.0), rng.integers(0, 3))).tolist(), first]
    most = 160.0 if kind < 0.8 else 48.0
    return sorted(np.exp(rng.uniform(np.log(12.0), np.log(most), rng.integers(1, 6))).tolist())


def scene(
    rng: np.random.Generator,
    size: int = 320,
    shape: tuple[int, int] | None = None,
    indoors: bool = False,
    look: str = "classic",
) -> Scene:
    """A cluttered picture with zero to five people: shape (width, height), or a square, sometimes letterboxed."""
    wide, high = shape or (size, size)
    if shape is None and rng.random() < 0.35:
        wide, high = (
            (size, int(size * rng.uniform(0.5, 0.8)))
            if rng.random() < 0.7
            else (int(size * rng.uniform(0.5, 0.8)), size)
        )
    style = 2 if rng.random() < 0.65 else int(rng.integers(2))
    seed = int(rng.integers(1 << 31))
    if look == "film" and not indoors and rng.random() < 0.5:
        image = backdrop(seed, int(rng.integers(4)), wide, high, look)
    else:
        image = rooms.room(rng, wide, high) if indoors else backdrop(seed, style, wide, high)
    ground = image.copy()
    placed: list[Doubles] = []
    boxes: list[Doubles] = []
    points: list[Doubles] = []
    fair: list[bool] = []
    seen: list[Bytes] = []
    drawn: list[int] = []
    for height in _scene_heights(rng, high):
        person = random_person(rng, Range(yaw=55.0, pitch=25.0, roll=32.0, occluder=0.15), look)
        _, box = geometry(person)
        scale, middle = height / (box[3] - box[1]), np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        for _ in range(8):
            margin = 0.3 * height
            at = rng.uniform(
                [min(margin, wide / 2), min(margin, high / 2)],
                [max(wide - margin, wide / 2 + 1), max(high - margin, high / 2 + 1)],
            )
            view = place((float(at[0] - middle[0] * scale), float(at[1] - middle[1] * scale)), scale)
            truth = labels(person, view)
            if _overlap(truth.box_xyxy_px, placed) < 0.12:
                break
        else:
            continue
        placed.append(truth.box_xyxy_px)
        before, mask = image.copy(), np.zeros((high, wide), np.uint8)
        draw(_lit(person, ground), view, image, mask)
        for earlier in seen:  # whoever stands in front hides those behind
            earlier[(image != before).any(2)] = 0
        seen.append(mask)
        drawn.append(int(mask.sum()))
        clipped = np.clip(truth.box_xyxy_px, 0.0, [wide, high, wide, high])
        boxes.append(clipped)
        points.append(truth.points_px)
        whole = (truth.box_xyxy_px[2:] - truth.box_xyxy_px[:2]).prod()
        fair.append(bool((clipped[2:] - clipped[:2]).clip(0).prod() > 0.55 * whole))
    image = _finish(rng, [image], look)[0]
    canvas = np.zeros((high, wide, 3) if shape else (size, size, 3), np.uint8)
    canvas[:high, :wide] = image
    shown = [float(mask.sum()) / max(total, 1) for mask, total in zip(seen, drawn, strict=True)]
    keep = [i for i, share in enumerate(shown) if share > 0.15]
    counts = [fair[i] and shown[i] > 0.55 for i in keep]
    n = len(keep)
    return Scene(
        canvas,
        np.array([boxes[i] for i in keep], np.float32).reshape(n, 4),
        np.array([points[i] for i in keep], np.float32).reshape(n, 5, 2),
        np.array(counts, np.bool_),
    )
