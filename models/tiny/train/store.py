"""Training pictures on disk: drawn once per look, seed and count by several processes, then memory-mapped."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import LOOKS, labels, random_inner
from models.tiny.train import crops, mouths, parts, restore_pictures, voices
from models.tiny.train.folders import cache_folder

Arrays = dict[str, npt.NDArray[np.generic]]
MOST_FACES = 6  # a scene's labels are padded to this
INTERRUPTED = 130  # the exit code of what Ctrl-C paused
_EDITIONS = {("swap", "film"): "3"}  # kinds that have got more than they had once
_CHUNK = 200  # samples that a process draws at a time
_TELL_EVERY_S = 20.0


def _one_embed(rng: np.random.Generator, look: str) -> Arrays:
    inner = random_inner(rng, look)
    return {"image": crops.embed_crop(rng, inner, look=look), "inner": inner}


def _one_refine(rng: np.random.Generator, look: str) -> Arrays:
    image, points = crops.refine_crop(rng, look)
    return {"image": image, "points": points}


def _one_swap(rng: np.random.Generator, look: str) -> Arrays:
    s = crops.swap_sample(rng, look=look)
    whole: Arrays = {"target": s.target, "truth": s.truth, "source": s.source, "mask": s.mask, "inner": s.inner}
    if look != "film":  # the only look whose 98 points are known
        return whole
    people = (s.person, replace(s.person, inner=s.inner))
    points = np.stack([labels(person, s.view, 98).points_px for person in people]).astype(np.float32)
    return {**whole, "points": points, "person": s.person.vector()}  # px of target and truth; the target's parameters


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


def folder_of(kind: str, count: int, seed: int, look: str) -> Path:
    """Where such samples lie once they are drawn; complete where a file of that name is in it."""
    return cache_folder() / (f"{kind}-{count}-{seed}" if look == "classic" else f"{look}-{kind}-{count}-{seed}")


def is_drawn(kind: str, count: int, seed: int, look: str) -> bool:
    """Whether all of them are there, with everything that a sample has by now."""
    mark = folder_of(kind, count, seed, look) / "complete"
    return mark.exists() and mark.read_text() == edition(kind, look)


def edition(kind: str, look: str) -> str:
    """What stands in the file "complete" of samples that have everything they have by now."""
    return _EDITIONS.get((kind, look), "")


_Chunk = tuple[str, str, int, int, int, Path]  # kind, look, seed, first, last (not included), folder


def _draw_chunk(work: _Chunk) -> tuple[int, int]:
    """Draws samples first..last into the maps that lie in the folder; returns which."""
    kind, look, seed, first, last, folder = work
    maps = {path.stem: np.load(path, mmap_mode="r+") for path in folder.glob("*.npy")}
    for i in range(first, last):
        for name, value in _KINDS[kind](np.random.default_rng([seed, i]), look).items():
            maps[name][i] = value
    for each in maps.values():
        each.flush()
    return first, last


def _begun(sample: Arrays, count: int, folder: Path) -> set[int]:
    """Which samples an interrupted drawing has left; none where the code draws something else by now."""
    maps = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    fits = set(maps) == set(sample) and all(
        maps[name].shape == (count, *value.shape) and maps[name].dtype == value.dtype for name, value in sample.items()
    )
    done: set[int] = set()
    if fits and (folder / "done").exists():
        for line in (folder / "done").read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # a kill may cut the last one
                first, last = line.split()
                done |= set(range(int(first), int(last)))
    if 0 in done and all(np.array_equal(maps[name][0], value) for name, value in sample.items()):
        return done
    return set()


def _draw_all(kind: str, count: int, seed: int, look: str, folder: Path, workers: int) -> None:
    sample = _KINDS[kind](np.random.default_rng([seed, 0]), look)  # compiles the renderer before processes start
    done = _begun(sample, count, folder)
    if done:
        print(f"{kind}: goes on with {len(done)} of {count} drawn", flush=True)
    else:
        (folder / "done").unlink(missing_ok=True)
        for name, value in sample.items():
            shape = (count, *value.shape)
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=value.dtype, shape=shape).flush()
    chunks = [(kind, look, seed, i, min(i + _CHUNK, count), folder) for i in range(0, count, _CHUNK)]
    chunks = [chunk for chunk in chunks if not done.issuperset(range(chunk[3], chunk[4]))]
    have, told = len(done), 0.0
    with (folder / "done").open("a") as record:
        for first, last in _each_drawn(chunks, workers):
            record.write(f"{first} {last}\n")
            record.flush()
            have += last - first
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                print(f"{kind}: {have} of {count} drawn", flush=True)


def _each_drawn(chunks: list[_Chunk], workers: int) -> Iterator[tuple[int, int]]:
    if workers <= 1:
        yield from map(_draw_chunk, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_draw_chunk, chunks)


def _left_over(folder: Path) -> list[Path]:
    """What drawings of these samples left whose processes are no more; NAME.PID.part."""
    return [path for path in folder.parent.glob(f"{folder.name}.*.part") if not _lives(path)]


def _lives(part: Path) -> bool:
    """Whether the process that draws in such a folder is still there."""
    try:
        os.kill(int(part.suffixes[-2][1:]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _own_part(folder: Path) -> Path:
    """A folder that this process alone draws in: one that an interrupted drawing left, or a new one."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    for old in _left_over(folder):
        try:
            old.rename(part)
        except OSError:  # another process was quicker
            continue
        return part
    part.mkdir(parents=True, exist_ok=True)
    return part


def pictures(kind: str, count: int, seed: int, look: str = "classic", workers: int = 1) -> Arrays:
    """`count` samples of a kind (see _KINDS) as read-only memory maps; drawn now if not there yet.

    A sample depends on (look, seed, its index) alone, not on how many processes drew. A drawing that is interrupted
    goes on where it was.
    """
    folder = folder_of(kind, count, seed, look)
    if not is_drawn(kind, count, seed, look):
        part = _own_part(folder)
        try:
            _draw_all(kind, count, seed, look, part, workers)
        except Exception:  # not an interrupt: that one goes on later
            shutil.rmtree(part, ignore_errors=True)
            raise
        (part / "done").unlink()
        (part / "complete").write_text(edition(kind, look))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
        for old in _left_over(folder):
            shutil.rmtree(old, ignore_errors=True)
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _wanted(text: str, look: str, parser: argparse.ArgumentParser) -> tuple[str, int, int, str]:
    kind, *rest = text.split(":")
    if kind not in _KINDS:
        parser.error(f"store: wanted a kind of {', '.join(_KINDS)}, got {kind!r}; name one of them")
    if not 1 <= len(rest) <= 3 or not all(number.isdigit() for number in rest[:2]):
        parser.error(f"store: wanted KIND:COUNT[:SEED[:LOOK]], got {text!r}; write it so")
    if len(rest) == 3 and rest[2] not in LOOKS:
        parser.error(f"store: wanted a look of {', '.join(LOOKS)}, got {rest[2]!r}; name one of them")
    return kind, int(rest[0]), int(rest[1]) if len(rest) > 1 else 1, rest[2] if len(rest) > 2 else look


def main() -> None:
    """python -m models.tiny.train.store KIND:COUNT[:SEED[:LOOK]] ... draws ahead of training."""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.store")
    parser.add_argument("wanted", nargs="+", help="KIND:COUNT[:SEED[:LOOK]]")
    parser.add_argument("--look", choices=LOOKS, default="film")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    for text in given.wanted:
        try:
            pictures(*_wanted(text, given.look, parser), given.workers)
        except KeyboardInterrupt:
            print("store: paused; the same command goes on", flush=True)
            raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
