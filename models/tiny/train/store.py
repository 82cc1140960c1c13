"""Training pictures on disk: drawn once per seed and count, then memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import random_inner
from models.tiny.train import crops

Arrays = dict[str, npt.NDArray[np.generic]]
MOST_FACES = 6  # a scene's labels are padded to this


def _one_embed(rng: np.random.Generator) -> Arrays:
    inner = random_inner(rng)
    return {"image": crops.embed_crop(rng, inner), "inner": inner}


def _one_refine(rng: np.random.Generator) -> Arrays:
    image, points = crops.refine_crop(rng)
    return {"image": image, "points": points}


def _one_swap(rng: np.random.Generator) -> Arrays:
    s = crops.swap_sample(rng)
    return {"target": s.target, "truth": s.truth, "source": s.source, "mask": s.mask, "inner": s.inner}


def _one_scene(rng: np.random.Generator, indoors: bool = False) -> Arrays:
    s = crops.scene(rng, indoors=indoors)
    n = len(s.boxes_xyxy)
    faces = np.zeros((MOST_FACES, 15), np.float32)  # x0 y0 x1 y1, ten point coordinates, 1 = counts / -1 = ignore
    faces[:n, :4], faces[:n, 4:14] = s.boxes_xyxy, s.points.reshape(n, 10)
    faces[:n, 14] = np.where(s.counts, 1.0, -1.0)
    return {"image": s.image, "faces": faces}


def _one_room(rng: np.random.Generator) -> Arrays:
    return _one_scene(rng, indoors=True)


_KINDS: dict[str, Callable[[np.random.Generator], Arrays]] = {
    "embed": _one_embed,
    "refine": _one_refine,
    "swap": _one_swap,
    "scene": _one_scene,
    "room": _one_room,
}


def cache_folder() -> Path:
    """Where generated training data lives; never in the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "face-engine" / "tiny-data"


def _samples(kind: str, count: int, seed: int) -> Iterator[Arrays]:
    for i in range(count):
        yield _KINDS[kind](np.random.default_rng([seed, i]))


def pictures(kind: str, count: int, seed: int) -> Arrays:
    """`count` samples of a kind (see _KINDS) as read-only memory maps; drawn now if not there yet."""
    folder = cache_folder() / f"{kind}-{count}-{seed}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        maps: dict[str, np.memmap[tuple[int, ...], np.dtype[np.generic]]] = {}
        for i, sample in enumerate(_samples(kind, count, seed)):
            for name, value in sample.items():
                if i == 0:
                    maps[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", mode="w+", dtype=value.dtype, shape=(count, *value.shape)
                    )
                maps[name][i] = value
            if i % 2000 == 0:
                print(f"{kind}: {i} of {count} drawn", flush=True)
        for each in maps.values():
            each.flush()
        (folder / "complete").touch()
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
