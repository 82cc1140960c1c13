"""Training pictures on disk: drawn once per look, seed and count by several processes, then memory-mapped."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import LOOKS, random_inner
from models.tiny.train import crops, mouths, parts, restore_pictures, voices

Arrays = dict[str, npt.NDArray[np.generic]]
MOST_FACES = 6  # a scene's labels are padded to this
_CHUNK = 200  # samples that a process draws at a time


def _one_embed(rng: np.random.Generator, look: str) -> Arrays:
    inner = random_inner(rng, look)
    return {"image": crops.embed_crop(rng, inner, look=look), "inner": inner}


def _one_refine(rng: np.random.Generator, look: str) -> Arrays:
    image, points = crops.refine_crop(rng, look)
    return {"image": image, "points": points}


def _one_swap(rng: np.random.Generator, look: str) -> Arrays:
    s = crops.swap_sample(rng, look=look)
    return {"target": s.target, "truth": s.truth, "source": s.source, "mask": s.mask, "inner": s.inner}


def _one_scene(rng: np.random.Generator, look: str, indoors: bool = False) -> Arrays:
    s = crops.scene(rng, indoors=indoors, look=look)
    n = len(s.boxes_xyxy)
    faces = np.zeros((MOST_FACES, 15), np.float32)  # x0 y0 x1 y1, ten point coordinates, 1 = counts / -1 = ignore
    faces[:n, :4], faces[:n, 4:14] = s.boxes_xyxy, s.points.reshape(n, 10)
    faces[:n, 14] = np.where(s.counts, 1.0, -1.0)
    return {"image": s.image, "faces": faces}


def _one_room(rng: np.random.Generator, look: str) -> Arrays:
    return _one_scene(rng, look, indoors=True)


def _one_restore(rng: np.random.Generator, look: str) -> Arrays:
    s = restore_pictures.restore_sample(rng, look)
    return {"truth": s.truth, "target": s.target, "source": s.source, "mask": s.mask}


def _one_mouth(rng: np.random.Generator, look: str) -> Arrays:
    s = mouths.mouth_sample(rng)  # of the film look whatever the others are of: classic lips do not round
    return {"images": s.images, "shapes": s.shapes}


def _one_voice(rng: np.random.Generator, look: str) -> Arrays:
    mel, shapes = voices.sample(rng)
    return {"mel": mel, "shapes": shapes}


def _one_part(rng: np.random.Generator, look: str) -> Arrays:
    return dict(vars(parts.part(rng)))


def _one_boxed_part(rng: np.random.Generator, look: str) -> Arrays:
    s = parts.boxed_part(rng)
    return {"image": s.image, "points": s.points}


_KINDS: dict[str, Callable[[np.random.Generator, str], Arrays]] = {
    "embed": _one_embed,
    "refine": _one_refine,
    "swap": _one_swap,
    "scene": _one_scene,
    "room": _one_room,
    "part": _one_part,
    "boxed_part": _one_boxed_part,
    "mouth": _one_mouth,
    "voice": _one_voice,
    "restore": _one_restore,
}


def cache_folder() -> Path:
    """Where generated training data lives; never in the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "face-engine" / "tiny-data"


def _draw_chunk(work: tuple[str, str, int, int, int, Path]) -> int:
    """Draws samples first..last into the maps that lie in the folder; returns how many."""
    kind, look, seed, first, last, folder = work
    maps = {path.stem: np.load(path, mmap_mode="r+") for path in folder.glob("*.npy")}
    for i in range(first, last):
        for name, value in _KINDS[kind](np.random.default_rng([seed, i]), look).items():
            maps[name][i] = value
    for each in maps.values():
        each.flush()
    return last - first


def _draw_all(kind: str, count: int, seed: int, look: str, folder: Path, workers: int) -> None:
    sample = _KINDS[kind](np.random.default_rng([seed, 0]), look)  # compiles the renderer before processes start
    for name, value in sample.items():
        shape = (count, *value.shape)
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=value.dtype, shape=shape).flush()
    chunks = [(kind, look, seed, i, min(i + _CHUNK, count), folder) for i in range(0, count, _CHUNK)]
    if workers <= 1:
        for n, chunk in enumerate(chunks):
            _draw_chunk(chunk)
            if n % 10 == 0:
                print(f"{kind}: {chunk[4]} of {count} drawn", flush=True)
        return
    done = 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for n, part in enumerate(pool.imap_unordered(_draw_chunk, chunks)):
            done += part
            if n % 50 == 0:
                print(f"{kind}: {done} of {count} drawn", flush=True)


def pictures(kind: str, count: int, seed: int, look: str = "classic", workers: int = 1) -> Arrays:
    """`count` samples of a kind (see _KINDS) as read-only memory maps; drawn now if not there yet.

    A sample depends on (look, seed, its index) alone, not on how many processes drew.
    """
    folder = cache_folder() / (f"{kind}-{count}-{seed}" if look == "classic" else f"{look}-{kind}-{count}-{seed}")
    if not (folder / "complete").exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        part.mkdir(parents=True, exist_ok=True)
        try:
            _draw_all(kind, count, seed, look, part, workers)
            (part / "complete").touch()
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted drawing left
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def main() -> None:
    """python -m models.tiny.train.store KIND:COUNT[:SEED] ... draws ahead of training."""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.store")
    parser.add_argument("wanted", nargs="+", help="KIND:COUNT or KIND:COUNT:SEED")
    parser.add_argument("--look", choices=LOOKS, default="classic")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    for text in given.wanted:
        kind, count, *seed = text.split(":")
        if kind not in _KINDS:
            parser.error(f"store: wanted a kind of {', '.join(_KINDS)}, got {kind!r}; name one of them")
        pictures(kind, int(count), int(seed[0]) if seed else 1, given.look, given.workers)


if __name__ == "__main__":
    main()
