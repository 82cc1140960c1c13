"""Training artefacts as PNG files: loss curves, and grids of what the networks do on held-out drawings."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.tiny.measure import HELD_OUT
from models.tiny.pack import Pack
from models.tiny.renderer import LOOKS, random_inner
from models.tiny.renderer.png import write_png
from models.tiny.train import crops

Bytes = npt.NDArray[np.uint8]
_GREEN, _WHITE = (60, 220, 90), (255, 255, 255)


def curve_panel(curve: list[dict[str, float]], width: int = 360, height: int = 240) -> Bytes:
    """The loss over minutes, its logarithm upwards; a grey line marks each halving of the range's top."""
    image = np.full((height, width, 3), 250, np.uint8)
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


def curves(folder: Path) -> Bytes:
    """Panels of all curves in a folder, side by side in the order of their names."""
    paths = sorted(folder.glob("*.curve.json"))
    if not paths:
        raise FileNotFoundError(f"curves: wanted *.curve.json in {folder}, got none; train there first")
    return np.concatenate([curve_panel(json.loads(path.read_text())) for path in paths], axis=1)


def _frame(image: Bytes, box: npt.NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    height, width = image.shape[:2]
    x0, x1 = np.clip(np.round(box[[0, 2]]).astype(int), 0, width - 1)
    y0, y1 = np.clip(np.round(box[[1, 3]]).astype(int), 0, height - 1)
    image[y0 : y1 + 1, [x0, x1]] = colour
    image[[y0, y1], x0 : x1 + 1] = colour


def scene_grid(pack: Pack, look: str, rows: int = 2, columns: int = 4) -> Bytes:
    """The first held-out scenes: truth in white, what the detector found and its refined points in green."""
    shown = []
    for i in range(rows * columns):
        scene = crops.scene(np.random.default_rng([HELD_OUT, i]), 320, look=look)
        image = scene.image.copy()
        found = pack.detect(scene.image, (320,))
        for box in scene.boxes_xyxy:
            _frame(image, box, _WHITE)
        for box, points in zip(found.boxes_xyxy, found.points, strict=True):
            _frame(image, box, _GREEN)
            for x, y in np.round(pack.refine(scene.image, points)).astype(int):
                image[max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1] = _GREEN
        shown.append(image)
    return np.concatenate([np.concatenate(shown[r * columns : (r + 1) * columns], axis=1) for r in range(rows)])


def swap_grid(pack: Pack, look: str, rows: int = 4, columns: int = 3) -> Bytes:
    """The first held-out pairs, not picked: source, target, output, truth."""
    shown = []
    for i in range(rows * columns):
        s = crops.swap_sample(np.random.default_rng([HELD_OUT + 3, i]), look=look)
        out = pack.swap(s.target[None], pack.latent(pack.embed(s.source[None])))[0]
        source = np.zeros((128, 128, 3), np.uint8)
        source[8:120, 8:120] = s.source
        shown.append(np.concatenate([source, s.target, out, s.truth], axis=1))
    return np.concatenate([np.concatenate(shown[r * columns : (r + 1) * columns], axis=1) for r in range(rows)])


def face_grid(look: str, rows: int = 5, columns: int = 10) -> Bytes:
    """Training crops of fifty people."""
    shown = []
    for i in range(rows * columns):
        rng = np.random.default_rng([HELD_OUT + 2, i])
        shown.append(crops.embed_crop(rng, random_inner(rng, look), look=look))
    return np.concatenate([np.concatenate(shown[r * columns : (r + 1) * columns], axis=1) for r in range(rows)])


def main() -> None:
    """python -m models.tiny.train.picture_file --folder F writes curves, faces, scenes and swaps there."""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.picture_file")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--look", choices=LOOKS, default="classic")
    given = parser.parse_args()
    pack = Pack(given.folder)
    write_png(given.folder / "curves.png", curves(given.folder))
    write_png(given.folder / "faces.png", face_grid(given.look))
    write_png(given.folder / "scenes.png", scene_grid(pack, given.look))
    write_png(given.folder / "swaps.png", swap_grid(pack, given.look))


if __name__ == "__main__":
    main()
