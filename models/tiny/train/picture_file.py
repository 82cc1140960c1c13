"""Training artefacts as pictures: loss curves, and grids of what the networks do on held-out drawings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace

from models.tiny.measure import HELD_OUT
from models.tiny.pack import FOLDER, Pack
from models.tiny.renderer import (
    ARCFACE_112,
    LOOKS,
    Range,
    aligned,
    backdrop,
    draw,
    light_from,
    random_person,
)
from models.tiny.renderer.png import write_png
from models.tiny.train import crops, parts, restore_pictures
from models.tiny.train.card import write_whole

Bytes = npt.NDArray[np.uint8]
_GREEN, _WHITE, _INK, _UNSEEN = (60, 220, 90), (255, 255, 255), (40, 40, 40), (30, 90, 110)
_PAPER = 250
_GAP_PX, _TITLE_PX = 4, 20
_QUANTISER = 4  # of the JPEG encoder, 2 (best) to 31: about the quality 85 of other programs
_PORTRAIT_SEED, _RESTORED_SEED = HELD_OUT + 8, HELD_OUT + 5
# One colour a class of the parser, in the order of CLASSES.
_COLOURS = np.array(
    [
        (24, 24, 28), (235, 190, 160), (150, 90, 40), (120, 70, 30), (70, 150, 230), (50, 110, 200), (250, 220, 60),
        (240, 140, 120), (220, 110, 100), (255, 255, 255), (250, 160, 60), (160, 30, 60), (230, 70, 110),
        (200, 50, 150), (180, 140, 110), (200, 250, 250), (60, 130, 90), (110, 70, 160), (40, 190, 180),
    ],
    np.uint8,
)  # fmt: skip


def jpeg(image: Bytes, quantiser: int = _QUANTISER) -> bytes:
    """An RGB picture [h,w,3] as a baseline JPEG with colour at half size."""
    context = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = image.shape[:2]
    context.pix_fmt, context.time_base, context.thread_count = "yuvj420p", Fraction(1, 25), 1
    context.color_range = ColorRange.JPEG
    context.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
        format="yuvj420p", src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU601,
    )  # fmt: skip
    frame.pts = 0
    packets = context.encode(frame) + context.encode(None)
    return b"".join(bytes(cast(Any, packet)) for packet in packets)


def _write(image: Bytes, words: str, at: tuple[int, int], size: float = 0.42) -> None:
    """Words in place, `at` the left end of their base line."""
    cv2.putText(image, words, at, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


def _grid(pictures: Sequence[Bytes], columns: int) -> Bytes:
    """Pictures of one size, row by row, with paper between them."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    out = np.full((rows * (height + _GAP_PX) - _GAP_PX, columns * (width + _GAP_PX) - _GAP_PX, 3), _PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (height + _GAP_PX), (i % columns) * (width + _GAP_PX)
        out[y : y + height, x : x + width] = picture
    return out


def _titled(image: Bytes, titles: Sequence[tuple[int, str]]) -> Bytes:
    """The picture under a strip of titles, each at its distance from the left."""
    strip = np.full((_TITLE_PX, image.shape[1], 3), _PAPER, np.uint8)
    for x, words in titles:
        _write(strip, words, (x + 4, _TITLE_PX - 6))
    return np.concatenate([strip, image])


def curve_panel(curve: list[dict[str, float]], width: int = 360, height: int = 240) -> Bytes:
    """The loss over minutes, its logarithm upwards; a grey line marks each halving of the range's top."""
    image = np.full((height, width, 3), _PAPER, np.uint8)
    losses = np.array([entry["loss"] for entry in curve if entry["loss"] > 0.0], np.float64)
    minutes = np.array([entry["minutes"] for entry in curve if entry["loss"] > 0.0], np.float64)
    if len(losses) < 2:
        return image
    top, low = np.log2(losses.max()), np.log2(losses.min())
    span = max(top - low, 0.5)

    def row(value: float) -> int:
        return int(np.clip(8 + (height - 16) * (top - value) / span, 0, height - 1))

    for step in range(int(span) + 1):
        image[row(top - step), :] = 215
    x = 8 + (width - 16) * minutes / max(minutes.max(), 1e-6)
    for i in range(len(losses) - 1):
        steps = max(int(x[i + 1] - x[i]) * 2, abs(row(np.log2(losses[i + 1])) - row(np.log2(losses[i]))), 2)
        for k in np.linspace(0.0, 1.0, steps):
            at = row(float(np.log2(losses[i]) * (1 - k) + np.log2(losses[i + 1]) * k))
            image[max(at - 1, 0) : at + 1, int(x[i] * (1 - k) + x[i + 1] * k)] = (30, 70, 160)
    return image


def comparable(curve: list[dict[str, float]]) -> list[dict[str, float]]:
    """The longest stretch of reports on the same losses: a sum is no measure of one with other parts.

    Where losses joined in the middle of a report, it is left out.
    """
    begins = [i for i, entry in enumerate(curve) if not i or entry.keys() != curve[i - 1].keys()]
    first, last = max(pairwise([*begins, len(curve)]), key=lambda pair: pair[1] - pair[0], default=(0, 0))
    return curve[first + (first > 0 and last > first + 1) : last]


def _named_panel(path: Path) -> Bytes:
    curve = comparable(json.loads(path.read_text()))
    name = path.name.removesuffix(".curve.json").removeprefix("tiny_")
    losses = [entry["loss"] for entry in curve]
    told = f"{name}: {losses[0]:.3g} to {losses[-1]:.3g} in {curve[-1]['minutes']:.0f} min" if losses else name
    return _titled(curve_panel(curve), [(0, told)])


def curves(folder: Path, columns: int = 4) -> Bytes:
    """Panels of all curves in a folder in the order of their names, each under its network's name."""
    paths = sorted(folder.glob("*.curve.json"))
    if not paths:
        raise FileNotFoundError(f"curves: wanted *.curve.json in {folder}, got none; train there first")
    return _grid([_named_panel(path) for path in paths], min(columns, len(paths)))


def frame_box(image: Bytes, box: npt.NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    """Draws the outline of a box [4] into a picture, cut at its borders."""
    height, width = image.shape[:2]
    x0, x1 = np.clip(np.round(box[[0, 2]]).astype(int), 0, width - 1)
    y0, y1 = np.clip(np.round(box[[1, 3]]).astype(int), 0, height - 1)
    image[y0 : y1 + 1, [x0, x1]] = colour
    image[[y0, y1], x0 : x1 + 1] = colour


def dots(image: Bytes, points: npt.NDArray[np.floating], colour: tuple[int, int, int], side: int = 2) -> None:
    """Draws squares of `side` px round points [n,2] into a picture."""
    for x, y in np.round(points).astype(int) - side // 2:
        image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = colour


def found_scene(pack: Pack, look: str, index: int, *, refined: bool) -> Bytes:
    """A held-out scene [320,320,3]: truth in white; in green what the detector found, its points perhaps refined."""
    scene = crops.scene(np.random.default_rng([HELD_OUT, index]), 320, look=look)
    image = scene.image.copy()
    found = pack.detect(scene.image, (320,))
    for box in scene.boxes_xyxy:
        frame_box(image, box, _WHITE)
    for box, points in zip(found.boxes_xyxy, found.points, strict=True):
        frame_box(image, box, _GREEN)
        dots(image, pack.refine(scene.image, points) if refined else points, _GREEN)
    return image


def scene_grid(pack: Pack, look: str, rows: int = 2, columns: int = 4) -> Bytes:
    """The first held-out scenes: truth in white, what the detector found and its refined points in green."""
    return _grid([found_scene(pack, look, i, refined=True) for i in range(rows * columns)], columns)


def swap_grid(pack: Pack, look: str, pairs: int = 12, columns: int = 2) -> Bytes:
    """The first held-out pairs, not picked: source, target, output, truth."""
    shown = []
    for i in range(pairs):
        s = crops.swap_sample(np.random.default_rng([HELD_OUT + 3, i]), look=look)
        out = pack.swap(s.target[None], pack.latent(pack.embed(s.source[None])))[0]
        shown.append(_grid([restore_pictures.resized(s.source, 128), s.target, out, s.truth], 4))
    width, words = shown[0].shape[1] + _GAP_PX, ("source", "target", "output", "truth")
    titles = [(c * width + k * (128 + _GAP_PX), word) for c in range(columns) for k, word in enumerate(words)]
    return _titled(_grid(shown, columns), titles)


def portrait(rng: np.random.Generator, look: str, side: int) -> Bytes:
    """A random person [side,side,3] with hair and shoulders, without lens or sensor."""
    person = random_person(rng, Range(yaw=35.0, pitch=14.0, roll=8.0, occluder=0.12), look)
    image = backdrop(int(rng.integers(1 << 31)), int(rng.integers(4 if look == "film" else 3)), side, side, look)
    if look == "film":
        sky, floor = (half.mean((0, 1)) / 255.0 for half in (image[: side // 2], image[side // 2 :]))
        person = person.set(light_from(sky, floor))
    scale = 0.55 * side / 112
    template = scale * (ARCFACE_112 - np.array([56.0, 72.0])) + np.array([side / 2, 0.5 * side])
    draw(person, aligned(person, template), image)
    return image


def face_grid(look: str, faces: int = 32, columns: int = 8, side: int = 160) -> Bytes:
    """A contact sheet of people as the renderer draws them."""
    return _grid([portrait(np.random.default_rng([_PORTRAIT_SEED, i]), look, side) for i in range(faces)], columns)


def label_grid(pack: Pack, faces: int = 8, side: int = 144) -> Bytes:
    """Held-out faces of the film look: true classes, found ones, the mask, 68 points (true ones white).

    Rows of networks that the pack lacks are left out.
    """
    rows: dict[str, list[Bytes]] = {}
    for i in range(faces):
        part = parts.part(np.random.default_rng([HELD_OUT + 6, i]))
        shown = {"face": part.image, "true classes": _COLOURS[part.classes]}
        if pack.parser is not None:
            shown["found classes"] = _COLOURS[pack.classes(part.image[None])[0]]
        if pack.occluder is not None:
            seen = pack.seen(part.image[None])[0][..., None]
            shown["seen face"] = (part.image * seen + np.array(_UNSEEN) * (1.0 - seen)).astype(np.uint8)
        if pack.landmarks is not None:
            boxed = parts.boxed_part(np.random.default_rng([HELD_OUT + 7, i]))
            image = boxed.image.copy()
            dots(image, boxed.points, _WHITE, 3)
            dots(image, pack.points68(boxed.image[None])[0], _GREEN, 4)
            shown["68 points"] = image
        for name, image in shown.items():
            rows.setdefault(name, []).append(restore_pictures.resized(image, side))
    strips = [_titled(_grid(images, faces), [(0, name)]) for name, images in rows.items()]
    return np.concatenate(strips)


def restored_grid(pack: Pack, look: str, faces: int = 6, side: int = 192) -> Bytes:
    """Held-out faces, the first of those that the figures are measured on: soft, restored, true."""
    rows: dict[str, list[Bytes]] = {"soft": [], "restored": [], "truth": []}
    for i in range(faces):
        rng = np.random.default_rng([_RESTORED_SEED, i])
        truth = restore_pictures.restore_sample(rng, look).truth
        soft = restore_pictures.spoil(rng, truth, always=True)
        for name, image in (("soft", soft), ("restored", pack.restore(soft[None])[0]), ("truth", truth)):
            rows[name].append(restore_pictures.resized(image, side))
    return np.concatenate([_titled(_grid(images, faces), [(0, name)]) for name, images in rows.items()])


def written(folder: Path, out: Path, look: str) -> dict[str, int]:
    """Writes all pictures that a folder's networks and curves allow; returns their sizes in bytes by name."""
    pack, sizes = Pack(folder), {}

    def has(*names: str) -> bool:
        return all((folder / f"tiny_{name}.onnx").exists() for name in names)

    pictures: dict[str, tuple[bool, Callable[[], Bytes]]] = {
        "sheet.jpg": (True, lambda: face_grid(look)),
        "pairs.jpg": (has("embedder", "swapper"), lambda: swap_grid(pack, look)),
        "labels.jpg": (has("parser") or has("occluder") or has("points68"), lambda: label_grid(pack)),
        "restored.jpg": (has("restorer"), lambda: restored_grid(pack, look)),
        "scenes.jpg": (has("detector", "refiner"), lambda: scene_grid(pack, look)),
        "curves.png": (any(folder.glob("*.curve.json")), lambda: curves(folder)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, (possible, make) in pictures.items():
        if not possible:
            print(f"pictures: {name} left out: {folder} lacks what it shows", flush=True)
            continue
        if name.endswith(".png"):
            write_png(out / name, make())
        else:
            write_whole(out / name, jpeg(make()))
        sizes[name] = (out / name).stat().st_size
    return sizes


def main() -> None:
    """python -m models.tiny.train.picture_file --folder F writes contact sheet, grids and curves there, or to --out."""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.picture_file")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the tiny_*.onnx and their curves are")
    parser.add_argument("--out", type=Path, help="where the pictures go; the folder by default")
    parser.add_argument("--look", choices=LOOKS, default="film")
    given = parser.parse_args()
    sizes = written(given.folder, given.out or given.folder, given.look)
    for name, size in sizes.items():
        print(f"pictures: {name}: {size / 1e3:.0f} kB", flush=True)
    print(f"pictures: {sum(sizes.values()) / 1e3:.0f} kB in all", flush=True)


if __name__ == "__main__":
    main()
