"""The rooms of the sample clip: soft studio walls, a window, shelves with books, a desk. Drawn once a shot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import soften

Bytes = npt.NDArray[np.uint8]
Image = npt.NDArray[np.float64]
WIDTH, HEIGHT = 1280, 720


def _wall(top: tuple[float, ...], bottom: tuple[float, ...], glow_x: float) -> Image:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    k = (y / HEIGHT)[..., None]
    wall = np.array(top) * (1 - k) + np.array(bottom) * k
    glow = np.exp(-(((x - glow_x) / 520) ** 2 + ((y - 260) / 380) ** 2))[..., None]
    return np.asarray(wall * (0.82 + 0.30 * glow))


def _slab(
    image: Image, x0: float, y0: float, x1: float, y1: float, colour: tuple[float, ...], lean: float = 0.0
) -> None:
    """A rectangle, shaded from left to right by lean."""
    a, b, c, d = (round(v) for v in (max(x0, 0), max(y0, 0), min(x1, WIDTH), min(y1, HEIGHT)))
    if c > a and d > b:
        image[b:d, a:c] = np.array(colour) * (1 + lean * np.linspace(-1, 1, c - a))[None, :, None]


def _window(image: Image, x: float, y: float, w: float, h: float) -> None:
    _slab(image, x - 14, y - 14, x + w + 14, y + h + 14, (0.88, 0.86, 0.82))
    rows = np.linspace(0, 1, round(h))[:, None, None]
    sky = np.array([0.62, 0.78, 0.93]) * (1 - rows) + np.array([0.93, 0.92, 0.86]) * rows
    image[round(y) : round(y) + round(h), round(x) : round(x) + round(w)] = sky
    _slab(image, x + w / 2 - 6, y, x + w / 2 + 6, y + h, (0.88, 0.86, 0.82))
    _slab(image, x, y + h * 0.45 - 5, x + w, y + h * 0.45 + 5, (0.86, 0.84, 0.80))


def _shelves(image: Image, rng: np.random.Generator, x: float, y: float, w: float, rows: int, gap: float) -> None:
    wood = (0.42, 0.29, 0.20)
    _slab(image, x - 12, y - 12, x + w + 12, y + rows * gap + 12, (0.30, 0.21, 0.15))
    for r in range(rows):
        base, at = y + (r + 1) * gap - 8, x + 6.0
        while at < x + w - 16:
            wide, high = rng.uniform(12, 30), rng.uniform(0.55, 0.88) * gap
            if rng.random() < 0.82:
                tone = np.array(
                    [
                        (0.62, 0.25, 0.22),
                        (0.23, 0.36, 0.46),
                        (0.74, 0.64, 0.45),
                        (0.28, 0.42, 0.32),
                        (0.45, 0.40, 0.52),
                    ]
                )
                colour = tuple(float(v) for v in tone[rng.integers(5)] * rng.uniform(0.7, 1.15))
                _slab(image, at, base - high, min(at + wide, x + w), base, colour, 0.18)
                _slab(image, at, base - high * 0.8, min(at + wide, x + w), base - high * 0.74, (0.85, 0.80, 0.68))
            at += wide + 1.5
        _slab(image, x, base, x + w, base + 8, wood)


def _disc(
    image: Image, x: float, y: float, r: float, colour: tuple[float, ...], soft: float, amount: float = 1.0
) -> None:
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    k = np.clip((r - np.hypot(xx - x, yy - y)) / soft + 0.5, 0, 1)[..., None] * amount
    image += (np.array(colour) - image) * k


def _finish(image: Image, blur: float) -> Bytes:
    return soften(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8), blur)


def talk_show() -> Bytes:
    """The first shot's background [720,1280,3]: window on the left, shelves on the right, a lamp between."""
    image, rng = _wall((0.60, 0.58, 0.55), (0.44, 0.42, 0.41), 640.0), np.random.default_rng(4)
    _window(image, 60, 70, 230, 300)
    _shelves(image, rng, 1000, 60, 240, 4, 96)
    _disc(image, 640, 130, 230, (0.98, 0.88, 0.70), 260, 0.35)
    _slab(image, 600, 110, 680, 165, (0.95, 0.86, 0.68), -0.08)
    _slab(image, 636, 165, 644, 420, (0.30, 0.26, 0.23))
    return _finish(image, 14.0)


def close_up() -> Bytes:
    """The second shot's background: the other side of the room, further out of focus."""
    image, rng = _wall((0.33, 0.42, 0.46), (0.22, 0.29, 0.33), 420.0), np.random.default_rng(9)
    _shelves(image, rng, 470, 40, 330, 3, 130)
    for _ in range(14):
        warm = rng.uniform(0.6, 1.0)
        _disc(
            image,
            rng.uniform(0, WIDTH),
            rng.uniform(20, 420),
            rng.uniform(14, 42),
            (0.95, 0.75 * warm, 0.45 * warm),
            10,
            0.35,
        )
    return _finish(image, 26.0)


def add_desk(image: Bytes) -> None:
    """The desk in front of the first shot's people, in place."""
    top, front = np.array([0.50, 0.36, 0.26]), np.array([0.33, 0.23, 0.17])
    for y in range(540, HEIGHT):
        k = (y - 540) / (HEIGHT - 540)
        colour = top * (1.1 - 0.3 * k * 4) if y < 578 else front * (1.1 - 0.5 * k)
        sheen = 1 + 0.10 * np.cos((np.arange(WIDTH) - 640) / 420)
        image[y] = np.clip(colour * sheen[:, None] * 255, 0, 255).astype(np.uint8)
