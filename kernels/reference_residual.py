"""What a restorer changed, kept and added again, in plain NumPy and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.reference_pixels import (
    Picture,
    Triple,
    apply,
    bilinear,
    cover,
    denormalise,
    rectangle,
    to_codes,
    ycc_from_rgb,
)

Float = npt.NDArray[np.floating[Any]]


def residual_keep(
    before: Float, after: Float, mask: Float, frame: Picture, mean: Triple, std: Triple, order: str
) -> Float:
    """[S,S,4] of one face: the change of its codes under the mask, and its luma as it was."""
    size = before.shape[-1]
    matrix, offset = ycc_from_rgb(frame.colour)
    ratio = after.shape[-1] // size
    old = np.clip(denormalise(before, mean, std, order), 0, 255)
    large = np.clip(denormalise(after, mean, std, order), 0, 255)
    new = large.reshape(size, ratio, size, ratio, 3).mean((1, 3))
    change = (new - old) @ matrix.T * np.asarray(mask, np.float64)[..., None]
    change[~np.isfinite(change).all(-1)] = 0.0
    return np.concatenate([change, (old @ matrix[0] + offset[0])[..., None]], axis=-1)


def residual_fade(away: Float | float, limits: tuple[float, float]) -> Float:
    """1 up to the first limit, 0 from the second on."""
    near, far = limits
    part: Float = np.clip((far - np.asarray(away, np.float64)) / (far - near), 0, 1)
    return part


def residual_distance(now: Float, then: Float, zoom: float, eye_px: float) -> float:
    """How far five aligned points [5,2] and the scale are from what they were, in eye distances."""
    shape = np.sqrt(np.mean(np.sum((np.asarray(now) - then) ** 2, axis=1)))
    return float(shape / eye_px + abs(np.log(zoom)))


def residual_light(frame: Picture, kept: Float, frame_from_crop: Float, samples: int = 16) -> float:
    """Difference of the mean luma over the middle half of a crop, now and then."""
    size = kept.shape[0]
    at = size * (0.25 + 0.5 * (np.arange(samples) + 0.5) / samples)
    u, v = np.meshgrid(at, at)
    now = bilinear(frame.y, *apply(frame_from_crop, u, v))
    return float(abs((now - bilinear(kept[..., 3], u, v)).mean()))


def residual_add(
    frame: Picture, kept: Float, crop_from_frame: Float, frame_from_crop: Float, weight: float,
    limits: tuple[float, float],
) -> Picture:  # fmt: skip
    """The frame with one face's change added."""
    width, height = frame.size
    size = kept.shape[0]
    x0, y0, x1, y1 = rectangle(frame_from_crop, (size, size), frame.size)
    luma, chroma = frame.y.astype(np.float64), frame.uv.astype(np.float64)

    def change(x: Float, y: Float, value: int) -> Float:
        u, v = apply(crop_from_frame, x, y)
        out: Float = bilinear(kept[..., value], u, v) * cover(u, size) * cover(v, size)
        return out

    cy, cx = np.mgrid[y0 // 2 : (y1 + 1) // 2, x0 // 2 : (x1 + 1) // 2]
    right, low = np.minimum(2 * cx + 1, width - 1), np.minimum(2 * cy + 1, height - 1)
    now = (luma[2 * cy, 2 * cx] + luma[2 * cy, right] + luma[low, 2 * cx] + luma[low, right]) / 4
    then = bilinear(kept[..., 3], *apply(crop_from_frame, 2 * cx + 0.5, 2 * cy + 0.5))
    part = weight * residual_fade(np.abs(now - then), limits)
    shift = 0.0 if frame.colour.siting == "left" else 0.5
    for value in (1, 2):
        chroma[cy, cx, value - 1] += part * change(2 * cx + shift, 2 * cy + 0.5, value)
    y, x = np.mgrid[y0:y1, x0:x1]
    luma[y0:y1, x0:x1] += part[y // 2 - y0 // 2, x // 2 - x0 // 2] * change(x, y, 0)
    return Picture(to_codes(luma), to_codes(chroma), frame.colour)
