"""The similarity that takes five points to a template, for many frames at once, in double precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["inverse", "similarity"]

F64 = npt.NDArray[np.float64]


def similarity(points_px: F64, template_px: F64) -> tuple[F64, F64]:
    """(crop_from_frame, frame_from_crop), each [m, 2, 3], for points [m, 5, 2] and a template [5, 2].

    Rotation, one scale and shift by least squares over all five, without reflection: what the kernel computes.
    """
    middle, target = points_px.mean(axis=1, keepdims=True), template_px.mean(axis=0)
    away, wanted = points_px - middle, template_px - target
    spread = np.maximum((away**2).sum(axis=(1, 2)), 1e-12)
    along = (away * wanted).sum(axis=(1, 2)) / spread
    across = (away[..., 0] * wanted[:, 1] - away[..., 1] * wanted[:, 0]).sum(axis=1) / spread
    turned = np.stack([np.stack([along, -across], -1), np.stack([across, along], -1)], -2)
    shift = target - np.einsum("mij,mj->mi", turned, middle[:, 0])
    crop_from_frame = np.concatenate([turned, shift[..., None]], axis=-1)
    return crop_from_frame, inverse(crop_from_frame)


def inverse(matrices: F64) -> F64:
    """The inverse of affine matrices [m, 2, 3]."""
    turned = np.linalg.inv(matrices[..., :2])
    return np.concatenate([turned, -turned @ matrices[..., 2:]], axis=-1)
