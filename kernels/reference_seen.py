"""Kernels between a crop and the networks that judge its pixels, in plain NumPy and float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.launch_types import Triple
from kernels.reference_pixels import Float, bilinear, denormalise, gaussian_blur, normalise

__all__ = ["rescale_face", "rescale_matrix", "resize", "seen_pixels", "soften"]


def resize(plane: Float, size: tuple[int, int]) -> Float:
    """[H,W] to (w, h), bilinear, borders of both meeting."""
    height, width = plane.shape
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float64)
    return bilinear(plane, (x + 0.5) * width / size[0] - 0.5, (y + 0.5) * height / size[1] - 0.5)


def rescale_matrix(frame_from_crop: Float, from_px: int, to_px: int) -> Float:
    """A [2,3] matrix of a square of from_px, for one of to_px over the same part of the frame."""
    ratio = from_px / to_px
    shift = 0.5 * ratio - 0.5
    whole = np.vstack([np.asarray(frame_from_crop, np.float64), [0, 0, 1]])
    out: Float = (whole @ np.array([[ratio, 0, shift], [0, ratio, shift], [0, 0, 1]]))[:2]
    return out


def rescale_face(
    face: Float,
    size: tuple[int, int],
    mean: Triple,
    std: Triple,
    order: str,
    out_mean: Triple,
    out_std: Triple,
    out_order: str,
) -> Float:
    """One face [3,H,W] as another network's input [3,h,w]."""
    large = np.stack([resize(np.asarray(plane, np.float64), size) for plane in face])
    return normalise(np.clip(denormalise(large, mean, std, order), 0, 255), out_mean, out_std, out_order)


def seen_pixels(scores: Float, kind: str, keep: Sequence[int] = (), zero_below: float = 0.0) -> Float:
    """Scores [C,H,W] (classes) or [H,W] to 0..1 [H,W]."""
    if kind == "classes":
        return np.isin(np.argmax(scores, axis=0), list(keep)).astype(np.float64)
    if kind == "face":
        value = np.clip(scores, 0, 1)
        return np.where(value < zero_below, 0.0, value)
    return (np.asarray(scores) > 0).astype(np.float64)


def soften(seen: Float, size: int, sigma: float, remap: tuple[float, float]) -> Float:
    """Pixels that count [H,W] to a soft mask [S,S]."""
    half = (round(sigma * 8 + 1) | 1) // 2
    blurred = gaussian_blur(resize(np.asarray(seen, np.float64), (size, size)), sigma, half)
    out: Float = (np.clip(blurred, *remap) - remap[0]) / (remap[1] - remap[0])
    return out
