"""Random rooms as backgrounds: shelves of books, windows, lights. Things in rows can look like faces to a detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import soften

Bytes = npt.NDArray[np.uint8]
Image = npt.NDArray[np.float32]


def _slab(image: Image, x0: float, y0: float, x1: float, y1: float, colour: npt.NDArray[np.float64]) -> None:
    height, width = image.shape[:2]
    a, b, c, d = (round(v) for v in (max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)))
    if c > a and d > b:
        image[b:d, a:c] = colour


def _shelves(rng: np.random.Generator, image: Image) -> None:
    size = max(image.shape[:2])
    x, y = rng.uniform(-0.1, 0.8) * image.shape[1], rng.uniform(-0.1, 0.5) * image.shape[0]
    wide, gap = rng.uniform(0.1, 0.6) * size, rng.uniform(0.05, 0.25) * size
    wood = rng.uniform(0.1, 0.6) * np.array([1.0, rng.uniform(0.6, 0.95), rng.uniform(0.4, 0.9)])
    rows, paint = int(rng.integers(1, 6)), rng.uniform(0.2, 1.0)  # few shelves are as gaudy as random colours
    _slab(image, x - 0.01 * size, y - 0.01 * size, x + wide + 0.01 * size, y + rows * gap + 0.01 * size, wood * 0.7)
    for row in range(rows):
        floor, at = y + (row + 0.93) * gap, x
        while at < x + wide:
            thick = rng.uniform(0.06, 0.35) * gap
            if rng.random() < 0.85:
                high, colour = rng.uniform(0.5, 0.9) * gap, rng.uniform(0.05, 0.9, 3)
                colour = colour.mean() + (colour - colour.mean()) * paint
                end = min(at + thick, x + wide)
                _slab(image, at, floor - high, end, floor, colour)
                if rng.random() < 0.5:
                    _slab(image, at, floor - 0.8 * high, end, floor - 0.7 * high, rng.uniform(0.3, 0.95, 3))
            at += thick * 1.05
        _slab(image, x, floor, x + wide, floor + 0.07 * gap, wood)


def _window(rng: np.random.Generator, image: Image) -> None:
    height, width = image.shape[:2]
    x, y = rng.uniform(-0.1, 0.8) * width, rng.uniform(-0.1, 0.6) * height
    w, h, bar = rng.uniform(0.1, 0.4) * width, rng.uniform(0.1, 0.6) * height, rng.uniform(0.006, 0.02) * width
    frame, sky = rng.uniform(0.2, 0.95, 3), rng.uniform(0.3, 0.98, 3)
    _slab(image, x - bar, y - bar, x + w + bar, y + h + bar, frame)
    _slab(image, x, y, x + w, y + h, sky)
    for k in range(1, int(rng.integers(1, 4)) + 1):
        _slab(image, x + k * w / 3 - bar / 2, y, x + k * w / 3 + bar / 2, y + h, frame)
    if rng.random() < 0.6:
        at = y + rng.uniform(0.3, 0.7) * h
        _slab(image, x, at, x + w, at + bar, frame)


def _lights(rng: np.random.Generator, image: Image) -> None:
    height, width = image.shape[:2]
    v, u = np.mgrid[:height, :width].astype(np.float32)
    tint = rng.uniform(0.4, 1.0, 3)
    for _ in range(int(rng.integers(1, 9))):
        radius = rng.uniform(0.01, 0.08) * width
        away = np.hypot(u - rng.uniform(0, width), v - rng.uniform(0, height))
        share = np.clip((radius - away) / max(radius * 0.3, 1.0) + 0.5, 0, 1)[..., None] * rng.uniform(0.2, 0.9)
        image += (tint - image) * share


def room(rng: np.random.Generator, width: int, height: int) -> Bytes:
    """A random room [h,w,3] RGB, in or out of focus."""
    top, bottom = rng.uniform(0.1, 0.9, 3), rng.uniform(0.1, 0.9, 3)
    mixed = top + (bottom - top) * np.linspace(0, rng.uniform(0.1, 1.0), height)[:, None]
    image: Image = np.repeat(mixed[:, None], width, axis=1).astype(np.float32)
    for _ in range(int(rng.integers(2, 6))):
        (_shelves, _shelves, _window, _lights)[int(rng.integers(4))](rng, image)
    blur = rng.uniform(0.0, 1.0) ** 2 * 12.0
    return soften(np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8), blur)
