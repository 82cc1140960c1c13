"""The rooms of the sample clip, out of focus behind the people, and the desk before them. Drawn once a shot.

Rooms are painted sharp in linear light (display squared), lamps brighter than white; a round aperture and a little
bloom make of it what a lens would.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import backdrop, light_from, soften

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Rgb = tuple[float, float, float]
WIDTH, HEIGHT = 1280, 720
_MARGIN = 48  # px round the picture that blur may take light from
_DESK_TOP, _DESK_EDGE = 604, 646  # rows of the desk's far and near edge


def _fade(low: float, high: float, x: Doubles) -> Doubles:
    k = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(k * k * (3 - 2 * k))


class _Canvas:
    """A picture in linear light with a margin; places are in px of the picture without it."""

    def __init__(self, top: Rgb, bottom: Rgb) -> None:
        y, x = np.mgrid[-_MARGIN : HEIGHT + _MARGIN, -_MARGIN : WIDTH + _MARGIN].astype(np.float64)
        self.x, self.y = x, y
        k = _fade(0.0, HEIGHT, y)[..., None]
        self.light: Doubles = np.square(np.array(top)) * (1 - k) + np.square(np.array(bottom)) * k

    def slab(self, box: tuple[float, float, float, float], colour: Rgb, lean: float = 0.0, gain: float = 1.0) -> None:
        """A rectangle x0 y0 x1 y1, darker on one side by lean; gain above 1 is a light."""
        x0, y0, x1, y1 = (round(v) + _MARGIN for v in box)
        x0, y0 = max(x0, 0), max(y0, 0)
        here = self.light[y0:y1, x0:x1]
        here[...] = np.square(np.array(colour)) * gain * (1 + lean * np.linspace(-1, 1, here.shape[1]))[:, None]

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Rgb, gain: float = 1.0, turn: float = 0.0) -> None:
        """An ellipse, turned by radians."""
        c, s = np.cos(turn), np.sin(turn)
        dx, dy = self.x - x, self.y - y
        inside = ((dx * c + dy * s) / rx) ** 2 + ((dy * c - dx * s) / ry) ** 2 < 1.0
        self.light[inside] = np.square(np.array(colour)) * gain

    def glow(self, x: float, y: float, rx: float, ry: float, colour: Rgb, gain: float) -> None:
        """Light that falls on what is there already."""
        bell = gain * np.exp(-(((self.x - x) / rx) ** 2) - ((self.y - y) / ry) ** 2)
        self.light *= 1.0 + bell[..., None] * np.square(np.array(colour))

    def picture(self, box: tuple[int, int, int, int], image: Bytes, gain: float) -> None:
        """A picture x0 y0 x1 y1, as a view out of a window; its lights outshine it by gain."""
        x0, y0, x1, y1 = (v + _MARGIN for v in box)
        light = np.square(image.astype(np.float64) / 255.0)
        self.light[y0:y1, x0:x1] = light * (1.0 + gain * light.max(axis=2, keepdims=True))

    def seen(self, aperture_px: float, seed: int) -> Bytes:
        """What a lens makes of it [720, 1280, 3]: out of focus by a disc of this radius, with bloom and a dim rim."""
        blurred = _convolved(self.light, _disc_kernel(aperture_px))
        blurred += 0.35 * _convolved(np.maximum(blurred - 0.75, 0.0), _disc_kernel(40.0))
        inner = blurred[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        x, y = self.x[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN], self.y[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        rim = 1.0 - 0.30 * (((x - WIDTH / 2) / WIDTH) ** 2 + ((y - 300) / WIDTH) ** 2)[..., None] * 2.2
        shown = 255 * np.sqrt(1.0 - np.exp(-1.25 * np.maximum(inner, 0.0) * rim))
        shade = np.random.default_rng(seed).uniform(0.0, 1.0, (HEIGHT, WIDTH, 1))  # no bands in soft gradients
        return np.asarray(np.floor(np.clip(shown + shade, 0, 255))).astype(np.uint8)


def _disc_kernel(radius: float) -> Doubles:
    side = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-side : side + 1, -side : side + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0)
    return np.asarray(disc / disc.sum())


def _convolved(light: Doubles, kernel: Doubles) -> Doubles:
    half = kernel.shape[0] // 2
    padded = np.pad(light, ((half, half), (half, half), (0, 0)), mode="edge")
    shape = padded.shape[:2]
    told = np.fft.rfft2(kernel, shape)[..., None] * np.fft.rfft2(padded, axes=(0, 1))
    return np.asarray(np.fft.irfft2(told, shape, axes=(0, 1))[2 * half :, 2 * half :])


_BINDINGS: tuple[Rgb, ...] = (
    (0.62, 0.24, 0.20), (0.20, 0.36, 0.48), (0.78, 0.66, 0.44), (0.26, 0.44, 0.34), (0.46, 0.40, 0.55),
    (0.84, 0.80, 0.72), (0.30, 0.30, 0.34),
)  # fmt: skip


def _shelves(room: _Canvas, rng: np.random.Generator, x: float, y: float, wide: float, rows: int, gap: float) -> None:
    """Boards with books, each row lit from above by a hidden strip of light."""
    room.slab((x - 14, y - 14, x + wide + 14, y + rows * gap + 14), (0.20, 0.15, 0.12))
    for row in range(rows):
        top, base, at = y + row * gap, y + (row + 1) * gap - 9, x + 8.0
        room.slab((x, top, x + wide, base), (0.34, 0.25, 0.19))
        while at < x + wide - 26:
            across, high = rng.uniform(11, 27), rng.uniform(0.52, 0.84) * gap
            if rng.random() < 0.80:
                colour = _BINDINGS[int(rng.integers(len(_BINDINGS)))]
                room.slab((at, base - high, min(at + across, x + wide - 4), base), colour, 0.18)
                room.slab((at, base - high * 0.82, min(at + across, x + wide - 4), base - high * 0.76), (0.8, 0.7, 0.5))
            at += across + 2.0
        room.slab((x, base, x + wide, base + 9), (0.46, 0.32, 0.22))
        room.slab((x + 6, top, x + wide - 6, top + 4), (1.0, 0.80, 0.52), gain=1.25)
        room.glow(x + wide / 2, top + 12, wide * 0.55, gap * 0.42, (1.0, 0.80, 0.55), 0.85)


def _window(room: _Canvas, box: tuple[int, int, int, int], seed: int, gain: float) -> None:
    """An evening street behind glass."""
    x0, y0, x1, y1 = box
    frame = (0.17, 0.15, 0.15)
    room.slab((x0 - 16, y0 - 16, x1 + 16, y1 + 16), frame)
    room.picture(box, backdrop(seed, 3, x1 - x0, y1 - y0, "film"), gain)
    room.slab(((x0 + x1) / 2 - 6, y0, (x0 + x1) / 2 + 6, y1), frame)
    room.slab((x0, y0 + 0.36 * (y1 - y0) - 5, x1, y0 + 0.36 * (y1 - y0) + 5), frame)
    room.slab((x0 - 26, y1 + 16, x1 + 26, y1 + 34), (0.42, 0.36, 0.32))


def _lamp(room: _Canvas, x: float, y: float, size: float) -> None:
    """A floor lamp with a bright shade and the light it throws on the wall."""
    room.glow(x, y, 3.2 * size, 3.6 * size, (1.0, 0.76, 0.46), 2.6)
    room.slab((x - 4, y, x + 4, HEIGHT + _MARGIN), (0.16, 0.13, 0.12))
    for step in range(round(size)):  # wider at its foot
        k = step / size
        half = size * (0.52 + 0.26 * k)
        room.slab((x - half, y - size / 2 + step, x + half, y - size / 2 + step + 1), (1.0, 0.83, 0.58), gain=1.9)


def _plant(room: _Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    for k in range(26):
        way = -np.pi / 2 + rng.normal(0.0, 0.75)
        far = size * rng.uniform(0.35, 1.0)
        shade = rng.uniform(0.7, 1.35)
        colour = (0.17 * shade, 0.30 * shade, 0.20 * shade)
        room.disc(x + far * np.cos(way), y + far * np.sin(way), 0.34 * size, 0.075 * size, colour, turn=way + 0.02 * k)
    room.slab((x - 0.26 * size, y, x + 0.26 * size, y + 0.45 * size), (0.62, 0.52, 0.44), -0.35)


@functools.cache
def talk_show() -> Bytes:
    """The first shot's background [720, 1280, 3]: an evening window, a panelled wall with a ring of light, shelves."""
    room, rng = _Canvas((0.25, 0.30, 0.35), (0.16, 0.18, 0.22)), np.random.default_rng(4)
    for k in range(19):
        room.slab((424 + 23 * k, -_MARGIN, 424 + 23 * k + 16, HEIGHT), (0.40, 0.27, 0.18), 0.25)
    room.slab((416, -_MARGIN, 424, HEIGHT), (0.12, 0.09, 0.07))
    room.slab((861, -_MARGIN, 869, HEIGHT), (0.12, 0.09, 0.07))
    ring = np.abs(np.hypot(room.x - 642, room.y - 196) - 112) < 6.0
    room.glow(642, 196, 250, 240, (1.0, 0.84, 0.62), 1.9)
    room.light[ring] = np.square(np.array((1.0, 0.86, 0.64))) * 2.6
    _window(room, (46, 36, 330, 420), 22, 5.0)
    _shelves(room, rng, 930, 44, 236, 4, 104)
    _lamp(room, 1222, 262, 68)
    _plant(room, rng, 372, 520, 130)
    return room.seen(9.0, 1)


@functools.cache
def close_up() -> Bytes:
    """The second shot's background: the other side of the room, further out of focus, with a string of lights."""
    room, rng = _Canvas((0.24, 0.33, 0.36), (0.13, 0.17, 0.20)), np.random.default_rng(9)
    _shelves(room, rng, 486, -40, 300, 4, 150)
    _window(room, (1010, -30, 1310, 470), 31, 6.0)
    _plant(room, rng, 90, 640, 230)
    room.glow(160, 240, 330, 330, (1.0, 0.74, 0.46), 1.7)
    for k in range(22):
        x = -40 + 62 * k
        y = 66 + 34 * np.cos(np.pi * (k % 8 - 4) / 5.0) + rng.uniform(-8, 8)
        room.disc(x, y, 4.5, 4.5, (1.0, 0.78, 0.46), gain=rng.uniform(14, 34))
    return room.seen(17.0, 2)


def light_on(ground: Bytes, x_px: float, shot: int) -> dict[str, float]:
    """Moment values that light a person who sits at x_px: the studio's lamps, and the colours of the room behind."""
    left = int(np.clip(x_px - 300, 0, WIDTH - 600))
    part = ground[:, left : left + 600] / 255.0
    values = light_from(part[: HEIGHT // 2].mean((0, 1)), part[HEIGHT // 2 :].mean((0, 1)))
    lamps = (
        {"light_x": -0.42, "light_y": -0.48, "warmth": 0.20, "rim_x": 0.95, **_rim((1.0, 0.80, 0.55), 0.75)},
        {"light_x": 0.45, "light_y": -0.42, "warmth": 0.30, "rim_x": -0.95, **_rim((0.72, 0.84, 1.0), 0.65)},
    )
    return {**values, "light_gain": 1.02, "ambient": 0.46, **lamps[shot]}


def _rim(colour: Rgb, gain: float) -> dict[str, float]:
    return {"rim_r": colour[0], "rim_g": colour[1], "rim_b": colour[2], "rim_gain": gain}


@functools.cache
def _desk() -> tuple[Doubles, Doubles]:
    """The desk in linear light [rows, 1280, 3] from its far edge down, and how much each row mirrors [rows, 1, 1]."""
    rng, rows = np.random.default_rng(17), HEIGHT - _DESK_TOP
    grain = rng.normal(size=(rows, WIDTH + 400))
    grain = np.cumsum(grain, axis=1)
    grain = (grain[:, 400:] - grain[:, :-400]) / 20.0  # long streaks
    y, x = np.mgrid[_DESK_TOP:HEIGHT, :WIDTH].astype(np.float64)
    top = (y < _DESK_EDGE)[..., None]
    wood = np.array((0.46, 0.30, 0.19)) ** 2 * (1 + 0.10 * grain)[..., None]
    sheen = (0.75 + 0.75 * np.exp(-(((x - 600) / 430) ** 2)))[..., None]
    front = np.array((0.30, 0.19, 0.12)) ** 2 * (1 + 0.08 * grain)[..., None]
    front = front * (1.0 - 0.75 * _fade(_DESK_EDGE, HEIGHT + 60, y))[..., None] * (0.85 + 0.3 * (sheen - 0.75))
    lip = np.exp(-(((y - _DESK_EDGE) / 3.0) ** 2))[..., None]
    colour = np.where(top, wood * sheen, front) + lip * 0.16 * sheen * np.array((1.0, 0.82, 0.62))
    mirror = np.where(np.arange(_DESK_TOP, HEIGHT) < _DESK_EDGE - 2, 0.20, 0.0)[:, None, None]
    return np.maximum(colour, 0.0), mirror


def add_desk(image: Bytes) -> None:
    """The desk in front of the first shot's people, in place; its top mirrors what is behind it."""
    colour, mirror = _desk()
    depth = _DESK_EDGE - _DESK_TOP
    behind = soften(np.ascontiguousarray(image[_DESK_TOP - depth : _DESK_TOP][::-1]), 6.0)
    light = colour.copy()
    light[:depth] += mirror[:depth] * np.square(behind / 255.0)
    image[_DESK_TOP:] = np.clip(255 * np.sqrt(1.0 - np.exp(-1.4 * light)) + 0.5, 0, 255).astype(np.uint8)
    for x, base, paint in ((226.0, 640.0, (0.80, 0.78, 0.74)), (1052.0, 642.0, (0.62, 0.30, 0.22))):
        _mug(image, x, base, paint)


def _mug(image: Bytes, x: float, base: float, paint: Rgb) -> None:
    """A mug on the desk, in place, with its shadow; base is the row of its foot."""
    half, high, side = 27.0, 62.0, 150
    y0, x0 = round(base - high - 14), round(x - side)
    v, u = np.mgrid[y0 : y0 + 100, x0 : x0 + 2 * side].astype(np.float64)
    light = np.square(image[y0 : y0 + 100, x0 : x0 + 2 * side] / 255.0)
    dx = (u - x) / half

    def lay(cover: Doubles, colour: Doubles) -> None:
        nonlocal light
        light += (colour - light) * np.clip(cover, 0.0, 1.0)[..., None]

    shadow = np.exp(-(((u - x - 14) / 46) ** 2) - ((v - base + 1) / 9) ** 2)
    lay(0.75 * shadow, np.zeros(3))
    albedo = np.square(np.array(paint))
    ring = np.abs(np.hypot((u - x - half) / 15, (v - base + high * 0.52) / 19) - 1.0)
    lay(0.5 + 6.0 * (0.24 - ring), albedo * 0.55)
    bend = 7.0 * np.sqrt(np.clip(1.0 - dx * dx, 0.0, 1.0))
    inside = np.minimum(np.minimum(half - np.abs(u - x), v - (base - high)), base - 4 + bend - v)
    n = np.sqrt(np.clip(1.0 - dx * dx, 0.0, 1.0))
    lit = 0.30 + 0.75 * np.clip(0.80 * n - 0.55 * dx, 0.0, 1.0) + 0.5 * np.exp(-(((dx + 0.45) / 0.10) ** 2)) * 0.35
    lay(inside + 0.5, albedo * lit[..., None])
    mouth = 1.0 - np.hypot(dx, (v - base + high) / 7.0)
    lay(mouth * 14 + 0.5, albedo * 1.05)
    lay((mouth - 0.12) * 14 + 0.5, np.square(np.array((0.20, 0.12, 0.08))))
    image[y0 : y0 + 100, x0 : x0 + 2 * side] = np.clip(255 * np.sqrt(np.clip(light, 0, 1)) + 0.5, 0, 255)
