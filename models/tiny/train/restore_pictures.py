"""Pictures for the restorer: a sharp aligned face of 256 px, and what lenses, codecs and swaps leave of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import (
    ARCFACE_128,
    Range,
    aligned,
    backdrop,
    compress,
    draw,
    light_from,
    random_inner,
    random_person,
    sensor_noise,
    smear,
)
from models.tiny.train.crops import embed_crop, shaken

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SIZE = 256
_SWAP = 128  # side of the swapper's crop, which shows the same part of the head
_FEATHER = 0.1  # soft rim of a pasted swap, of the side


class Swaps(Protocol):
    """What a pack does for a swap; see models.tiny.pack.Pack."""

    def embed(self, crops: Bytes) -> Floats:
        """Unit embeddings [n,512] of crops [n,112,112,3]."""
        ...

    def latent(self, embedding: Floats) -> Floats:
        """Unit latents [n,512]."""
        ...

    def swap(self, targets: Bytes, latents: Floats) -> Bytes:
        """Swapped crops [n,128,128,3]."""
        ...


@dataclass(frozen=True)
class RestoreSample:
    """truth [256,256,3]: the target with the source's identity, sharp; target: the same moment with its own.

    source [112,112,3] shows the source's identity; mask [256,256] is the visible face of both.
    """

    truth: Bytes
    target: Bytes
    source: Bytes
    mask: Bytes


def restore_sample(rng: np.random.Generator, look: str = "classic", shake: float = 0.03) -> RestoreSample:
    """One sharp face before and after an exact swap, without lens or sensor; placed as by a good refiner."""
    person = random_person(rng, Range(yaw=42.0, pitch=20.0, roll=10.0, occluder=0.10), look)
    inner = random_inner(rng, look)
    view = aligned(person, shaken(rng, ARCFACE_128 * (SIZE / _SWAP), shake))
    film = look == "film"
    style = int(rng.integers(4 if film else 3))
    target = backdrop(int(rng.integers(1 << 31)), style, SIZE, SIZE, look)
    if film:
        sky, floor = (part.mean((0, 1)) / 255.0 for part in (target[: SIZE // 2], target[SIZE // 2 :]))
        person = person.set(light_from(sky, floor))
    truth = target.copy()
    masks = np.zeros((2, SIZE, SIZE), np.uint8)
    draw(person, view, target, masks[0])
    draw(replace(person, inner=inner), view, truth, masks[1])
    within = Range(yaw=25.0, pitch=12.0, roll=8.0, glasses=0.08, occluder=0.0, light=0.8)
    return RestoreSample(truth, target, embed_crop(rng, inner, 0.03, within, look), masks.max(0))


@functools.lru_cache(maxsize=512)
def _resize(start: int, end: int, cubic: bool) -> Floats:
    """Rows that take a line of `start` pixels to `end`: a triangle (or cubic) kernel, wider where it shrinks."""
    stretch = max(1.0, start / end)
    centre = (np.arange(end) + 0.5) * start / end - 0.5
    away = np.abs(centre[:, None] - np.arange(-2, start + 2)[None]) / stretch  # two pixels of border, see below
    if cubic:
        near, far = 1.5 * away**3 - 2.5 * away**2 + 1.0, -0.5 * away**3 + 2.5 * away**2 - 4.0 * away + 2.0
        weight = np.where(away < 1.0, near, np.where(away < 2.0, far, 0.0))
    else:
        weight = np.clip(1.0 - away, 0.0, None)
    weight[:, 2] += weight[:, :2].sum(1)  # the border repeats the edge
    weight[:, -3] += weight[:, -2:].sum(1)
    weight = weight[:, 2:-2]
    return np.asarray(weight / weight.sum(1, keepdims=True), np.float32)


def _blur(sigma: float) -> Floats:
    away = np.arange(SIZE)[:, None] - np.arange(SIZE)[None]
    weight = np.exp(-0.5 * (away / max(sigma, 1e-3)) ** 2)
    return np.asarray(weight / weight.sum(1, keepdims=True), np.float32)


def _both_ways(rows: Floats, image: Bytes | Floats) -> Floats:
    """The same map along both sides of a square picture [n,n,3]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    return np.asarray((rows @ planes @ rows.T).transpose(1, 2, 0), np.float32)


def _as_bytes(image: Floats) -> Bytes:
    return np.ascontiguousarray(np.clip(image + 0.5, 0.0, 255.0).astype(np.uint8))


def resized(image: Bytes, side: int, cubic: bool = False) -> Bytes:
    """A square picture [n,n,3] at another side, every source pixel counted."""
    return image if len(image) == side else _as_bytes(_both_ways(_resize(len(image), side, cubic), image))


def _sensed(rng: np.random.Generator, image: Bytes, most_loss: float) -> Bytes:
    """Sensor and codec of a frame, in place on a copy."""
    out = image.copy()
    if rng.random() < 0.6:
        sensor_noise(int(rng.integers(1 << 31)), rng.uniform(0.2, 2.0), rng.uniform(0.3, 3.5), out)
    if rng.random() < 0.5:
        compress(float(rng.uniform(0.05, most_loss)) ** 1.3, out)
    return out


def spoil(rng: np.random.Generator, image: Bytes, always: bool = False) -> Bytes:
    """A sharp picture [256,256,3] as a small, soft, noisy, compressed frame shows it, enlarged to its size again."""
    if rng.random() < 0.04 and not always:
        return image.copy()  # what is sharp already has to stay as it is
    if rng.random() < 0.2:
        length, way = rng.uniform(1.0, 6.0), rng.uniform(0.0, np.pi)
        image = smear(image, float(length * np.cos(way)), float(length * np.sin(way)))
    side = round(SIZE / rng.uniform(2.0, 4.0)) if rng.random() < 0.75 else SIZE
    rows = _resize(SIZE, side, False)
    if rng.random() < (0.5 if side < SIZE else 0.9):
        rows = rows @ _blur(rng.uniform(0.6, 2.4))
    small = _sensed(rng, _as_bytes(_both_ways(rows, image)), 0.55)
    return resized(small, SIZE, cubic=bool(rng.random() < 0.4))


@functools.lru_cache(maxsize=256)
def _feather(side: int) -> Floats:
    rim = np.clip(np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / (_FEATHER * side), 0.0, 1.0)
    return np.asarray(np.minimum(rim[:, None], rim[None])[..., None], np.float32)


def own_source(sample_target: Bytes) -> Bytes:
    """The embedder's crop [112,112,3] of an aligned face [256,256,3]."""
    return np.ascontiguousarray(resized(sample_target, _SWAP)[:112, 8:120])


def pasted_swap(rng: np.random.Generator, pack: Swaps, sample_target: Bytes, source: Bytes) -> Bytes:
    """What the restorer meets: a frame's face swapped at 128 px and pasted back, cropped again at 256 px."""
    side = round(float(np.exp(rng.uniform(np.log(100.0), np.log(SIZE)))))
    frame = _sensed(rng, resized(sample_target, side), 0.4)
    latent = pack.latent(pack.embed(source[None]))
    swapped = resized(pack.swap(resized(frame, _SWAP)[None], latent)[0], side)
    pasted = frame + _feather(side) * (swapped.astype(np.float32) - frame)
    return resized(_as_bytes(np.asarray(pasted, np.float32)), SIZE)
