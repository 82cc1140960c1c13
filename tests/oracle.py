"""The reference flow of the open face-swap systems, written out plainly with NumPy and OpenCV.

From the facts known of insightface 0.7.3 as roop runs it: one call a face, full-frame warps, an eroded and
blurred mask, 8-bit BGR throughout. It is what our own path is measured and compared against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Network = Callable[..., Any]


@dataclass(frozen=True)
class Found:
    """Boxes [n, 4], points [n, 5, 2] in pixels of the picture, and scores [n], best first."""

    boxes: F32
    points: F32
    scores: F32


def letterbox(bgr: U8, size: tuple[int, int]) -> tuple[F32, float]:
    """(blob [1, 3, H, W], scale) of a picture pasted at the top left of an input of (width, height)."""
    width, height = size
    ratio = bgr.shape[0] / bgr.shape[1]
    if ratio > height / width:
        new_height, new_width = height, int(height / ratio)
    else:
        new_width, new_height = width, int(width * ratio)
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(bgr, (new_width, new_height))
    blob = cv2.dnn.blobFromImage(canvas, 1 / 128.0, (width, height), (127.5, 127.5, 127.5), swapRB=True)
    return blob, new_height / bgr.shape[0]


def decode_scrfd(outputs: dict[str, F32], size: tuple[int, int], scale: float, threshold: float) -> Found:
    """Rows at or above the threshold as boxes and points of the picture, before suppression."""
    boxes, points, scores = [], [], []
    for stride in (8, 16, 32):
        score = outputs[f"score_{stride}"].reshape(-1)
        columns, rows = size[0] // stride, size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        centre = np.stack([x, y], axis=-1).reshape(-1, 2).repeat(2, axis=0).astype(np.float32) * stride
        keep = score >= threshold
        distance = outputs[f"bbox_{stride}"].reshape(-1, 4)[keep] * stride
        offset = outputs[f"kps_{stride}"].reshape(-1, 5, 2)[keep] * stride
        centre = centre[keep]
        boxes.append(np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1))
        points.append(centre[:, None] + offset)
        scores.append(score[keep])
    order = np.concatenate(scores).argsort(kind="stable")[::-1]
    return Found(
        (np.concatenate(boxes)[order] / scale).astype(np.float32),
        (np.concatenate(points)[order] / scale).astype(np.float32),
        np.concatenate(scores)[order],
    )


def suppress(found: Found, iou_threshold: float) -> Found:
    """Greedy non-maximum suppression with the +1 pixel convention."""
    x1, y1, x2, y2 = found.boxes.T
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    order, keep = np.arange(len(found.scores)), []
    while order.size:
        first, rest = order[0], order[1:]
        keep.append(first)
        width = np.maximum(0, np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest]) + 1)
        height = np.maximum(0, np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest]) + 1)
        overlap = width * height
        order = rest[overlap / (area[first] + area[rest] - overlap) <= iou_threshold]
    return Found(found.boxes[keep], found.points[keep], found.scores[keep])


def similarity(points: F32, template: F32) -> F32:
    """crop_from_frame [2, 3]: the least-squares similarity over all five points, without reflection."""
    points, template = points.astype(np.float64), template.astype(np.float64)
    mean_from, mean_to = points.mean(axis=0), template.mean(axis=0)
    centred_from, centred_to = points - mean_from, template - mean_to
    u, s, vt = np.linalg.svd(centred_to.T @ centred_from / len(points))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / (centred_from**2).sum(axis=1).mean()
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = mean_to - matrix[:, :2] @ mean_from
    return matrix.astype(np.float32)


def aligned(bgr: U8, matrix: F32, size: int) -> U8:
    """The crop of `size` pixels, bilinear, black outside the picture."""
    crop: U8 = cv2.warpAffine(bgr, matrix, (size, size), borderValue=0.0)
    return crop


def blob(crop: U8, mean: float, std: float) -> F32:
    """[1, 3, S, S] RGB of one BGR crop."""
    made: F32 = cv2.dnn.blobFromImage(crop, 1 / std, crop.shape[1::-1], (mean, mean, mean), swapRB=True)
    return made


def erode_blur_mask(size: int, matrix: F32, frame_shape: tuple[int, ...]) -> F32:
    """The full-frame mask 0..1 of one face: warped white, hardened, eroded by 10 %, blurred by 5 %."""
    height, width = frame_shape[:2]
    white = np.full((size, size), 255, dtype=np.float32)
    frame_from_crop = cv2.invertAffineTransform(matrix)
    mask = cv2.warpAffine(white, frame_from_crop, (width, height), borderValue=0.0)
    mask[mask > 20] = 255
    rows, columns = np.where(mask == 255)
    if not rows.size:
        return np.zeros((height, width), dtype=np.float32)
    mask_size = int(np.sqrt((rows.max() - rows.min()) * (columns.max() - columns.min())))
    erosion = max(mask_size // 10, 10)
    mask = cv2.erode(mask, np.ones((erosion, erosion), np.uint8), iterations=1)
    blur = 2 * max(mask_size // 20, 5) + 1
    mask = cv2.GaussianBlur(mask, (blur, blur), 0)
    softened: F32 = mask / 255
    return softened


def paste(bgr: U8, swapped_rgb: F32, matrix: F32, *, with_dead_work: bool = True) -> U8:
    """The frame with a swapped crop [3, S, S] RGB 0..1 put back; the difference map's dead work is kept."""
    size = swapped_rgb.shape[-1]
    fake = np.clip(255 * swapped_rgb.transpose(1, 2, 0), 0, 255).astype(np.uint8)[:, :, ::-1]
    height, width = bgr.shape[:2]
    frame_from_crop = cv2.invertAffineTransform(matrix)
    warped = cv2.warpAffine(fake, frame_from_crop, (width, height), borderValue=0.0)
    if with_dead_work:
        difference = np.abs(fake.astype(np.float32) - aligned(bgr, matrix, size).astype(np.float32)).mean(axis=2)
        difference[:2] = difference[-2:] = 0
        difference[:, :2] = difference[:, -2:] = 0
        difference = cv2.warpAffine(difference, frame_from_crop, (width, height), borderValue=0.0)
        difference = np.where(difference < 10, 0, 255).astype(np.float32)
        difference = cv2.GaussianBlur(cv2.dilate(difference, np.ones((2, 2), np.uint8)), (11, 11), 0)
    mask = erode_blur_mask(size, matrix, bgr.shape)[:, :, None]
    merged = mask * warped + (1 - mask) * bgr.astype(np.float32)
    pasted: U8 = merged.astype(np.uint8)
    return pasted


def latent(embedding: F32, emap: F32) -> F32:
    """[1, 512] unit latent of one identity: normalise(normalise(embedding) x emap)."""
    vector = (embedding / np.linalg.norm(embedding)).reshape(1, -1) @ emap
    unit: F32 = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit
