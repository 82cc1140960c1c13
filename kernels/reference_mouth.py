"""Kernels on a mouth's way to a network and back, in plain NumPy and float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.launch_mouth import Values
from kernels.reference_pixels import (
    Bytes,
    Picture,
    apply,
    bilinear,
    cover,
    denormalise,
    normalise,
    sample_rgb,
    to_codes,
    ycc_from_rgb,
)

Float = npt.NDArray[np.floating[Any]]
Ints4 = tuple[int, int, int, int]
_PLAIN = Values()


def mouth_crop(
    frame: Picture, frame_from_crop: Float, size: tuple[int, int], offset: tuple[int, int], values: Values,
    bounds: Ints4 | None = None,
) -> Float:  # fmt: skip
    """The crop's picture [3,H,W] of (w, h) from `offset` on; `bounds`: x0, y0, x1, y1 of the frame's box, or none."""
    m = np.asarray(frame_from_crop, np.float64)
    shrinks = math.sqrt(abs(np.linalg.det(m[:, :2])))
    n = 1 if bounds else math.ceil(min(max(0.5 * shrinks - 0.01, 1.0), 4.0))
    v, u = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float64)
    total = np.zeros((size[1], size[0], 3))
    low_x, low_y, end_x, end_y = bounds or (0, 0, *frame.size)
    for j in range(n):
        for i in range(n):
            x, y = apply(m, u + offset[0] + (i + 0.5) / n - 0.5, v + offset[1] + (j + 0.5) / n - 0.5)
            total += sample_rgb(frame, np.clip(x, low_x, end_x - 1), np.clip(y, low_y, end_y - 1))
    return normalise(total / (n * n), values.mean, values.std, values.order)


def hide(picture: Float, blank_xywh: Ints4, values: Values) -> Float:
    """The picture with a black rectangle."""
    x, y, w, h = blank_xywh
    out = np.array(picture, np.float64)
    out[:, y : y + h, x : x + w] = normalise(np.zeros((1, 1, 3)), values.mean, values.std, values.order)
    return out


def mouth_join(
    generated: Float, whole: Float, offset: tuple[int, int], generated_values: Values, values: Values
) -> Float:
    """A generated picture [3,h,w] put into a larger one [3,H,W]."""
    x, y = offset
    rgb = np.clip(denormalise(generated, generated_values.mean, generated_values.std, generated_values.order), 0, 255)
    out = np.array(whole, np.float64)
    out[:, y : y + rgb.shape[0], x : x + rgb.shape[1]] = normalise(rgb, values.mean, values.std, values.order)
    return out


def mouth_paste(
    frame: Picture, generated: Float, crop_from_frame: Float, opacity: float, rectangle: Ints4, *,
    mask: Float | None = None, whole: Float | None = None, offset: tuple[int, int] = (0, 0), hard: bool = False,
    generated_values: Values = _PLAIN, whole_values: Values = _PLAIN, texture: float = 1.0, alike: float = 24.0,
    unlike: float = 96.0, reach: int | None = None,
) -> Picture:  # fmt: skip
    """The frame with a generated picture [3,H,W] in it, with its own texture where the picture did not change."""
    matrix, shift = ycc_from_rgb(frame.colour)
    height, width = generated.shape[1:]
    x0, y0, x1, y1 = rectangle

    def colours(picture: Float, values: Values) -> Float:
        return np.clip(denormalise(picture, values.mean, values.std, values.order), 0, 255)

    made, kept = colours(generated, generated_values), np.zeros((height, width))
    codes = made @ matrix.T + shift
    if whole is not None:
        crop = colours(whole, whole_values)
        kept = texture * np.clip((unlike - np.abs(made - crop).max(-1)) / (unlike - alike), 0, 1)
        r = width // 48 if reach is None else reach
        padded = np.pad(kept, r, constant_values=np.inf)
        kept = np.lib.stride_tricks.sliding_window_view(padded, (2 * r + 1, 2 * r + 1)).min((-2, -1))
        codes = codes - kept[..., None] * (crop @ matrix.T + shift)

    def painted(old: Bytes, x: Float, y: Float, rows: slice) -> Bytes:
        u, v = apply(crop_from_frame, x, y)
        u, v = u - offset[0], v - offset[1]
        part = np.full(u.shape, opacity)
        if mask is not None:
            part = part * bilinear(mask, u, v)
        if not hard:
            part = part * cover(u, width) * cover(v, height)
        part = np.where((x >= x0) & (np.floor(y) >= y0) & (x < x1) & (y < y1), np.clip(part, 0, 1), 0.0)
        new = np.stack([bilinear(plane, u, v) for plane in np.moveaxis(codes, -1, 0)[rows]], axis=-1)
        mixed = old + part[..., None] * (new + bilinear(kept, u, v)[..., None] * old - old)
        return np.where((part > 0)[..., None], to_codes(mixed), old)

    y, x = np.mgrid[0 : frame.y.shape[0], 0 : frame.y.shape[1]].astype(np.float64)
    luma = painted(frame.y[..., None], x, y, slice(0, 1))[..., 0]
    cy, cx = np.mgrid[0 : frame.uv.shape[0], 0 : frame.uv.shape[1]].astype(np.float64)
    sited = 0.0 if frame.colour.siting == "left" else 0.5
    # a chroma sample belongs to the rectangle where its even column does
    inside = (2 * cx >= x0) & (2 * cx < x1)
    chroma = painted(frame.uv, np.where(inside, 2 * cx + sited, -1e6), 2 * cy + 0.5, slice(1, 3))
    return Picture(luma, chroma, frame.colour)


def fade(frame: Picture, other: Picture, part: float) -> Picture:
    """One frame faded into another."""

    def mixed(ours: Bytes, theirs: Bytes) -> Bytes:
        return to_codes(ours + part * (theirs.astype(np.float64) - ours))

    return Picture(mixed(frame.y, other.y), mixed(frame.uv, other.uv), frame.colour)
