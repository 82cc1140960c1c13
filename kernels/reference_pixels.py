"""Kernels on pixels, in plain NumPy and float64: colour, letterbox, crop, masks, paste."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.launch_types import Colour

Float = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]
Triple = Sequence[float]
_KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


@dataclass
class Picture:
    """An NV12 frame as arrays: y [H,W] and uv [ceil(H/2),ceil(W/2),2], uint8."""

    y: Bytes
    uv: Bytes
    colour: Colour

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return self.y.shape[1], self.y.shape[0]


def ycc_from_rgb(colour: Colour) -> tuple[Float, Float]:
    """Matrix [3,3] and offset [3] from R'G'B' of 0..255 to codes, written from the definition of Y', Cb, Cr."""
    kr, kb = _KR_KB[colour.matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - kb))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - kr))
    scale = np.array([1.0, 1.0, 1.0]) if colour.full_range else np.array([219.0, 224.0, 224.0]) / 255
    offset = np.array([0.0 if colour.full_range else 16.0, 128.0, 128.0])
    return np.stack([luma, cb, cr]) * scale[:, None], offset


def rgb_of(ycc: Float, colour: Colour) -> Float:
    """Codes [...,3] to R'G'B' [...,3], clamped to 0..255."""
    matrix, offset = ycc_from_rgb(colour)
    rgb: Float = np.clip((ycc - offset) @ np.linalg.inv(matrix).T, 0, 255)
    return rgb


def to_codes(values: Float) -> Bytes:
    """Round half up, clamped to 0..255."""
    codes: Bytes = np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return codes


def bilinear(plane: npt.NDArray[np.generic], x: Float, y: Float) -> Float:
    """Sample plane [H,W] at coordinates of pixel centres, edges repeated."""
    height, width = plane.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = x - x0, y - y0
    values = plane.astype(np.float64)
    top = values[y0, x0] * (1 - fx) + values[y0, x1] * fx
    bottom = values[y1, x0] * (1 - fx) + values[y1, x1] * fx
    out: Float = top * (1 - fy) + bottom * fy
    return out


def cover(at: Float, n: int) -> Float:
    """Weight of the taps inside 0..n-1: 1 inside, fading over one px beyond."""
    weight: Float = np.clip(np.minimum(at + 1, n - at), 0, 1)
    return weight


def sample_rgb(frame: Picture, x: Float, y: Float) -> Float:
    """R'G'B' [...,3] at luma coordinates: luma and chroma each interpolated on its own plane."""
    shift = 0.0 if frame.colour.siting == "left" else -0.25
    cx, cy = x / 2 + shift, y / 2 - 0.25
    u, v = bilinear(frame.uv[..., 0], cx, cy), bilinear(frame.uv[..., 1], cx, cy)
    return rgb_of(np.stack([bilinear(frame.y, x, y), u, v], axis=-1), frame.colour)


def normalise(rgb: Float, mean: Triple, std: Triple, order: str) -> Float:
    """[H,W,3] RGB of 0..255 to [3,H,W] network values."""
    channels = rgb[..., ::-1] if order == "bgr" else rgb
    return np.moveaxis((channels - np.asarray(mean)) / np.asarray(std), -1, 0)


def denormalise(nchw: Float, mean: Triple, std: Triple, order: str) -> Float:
    """[3,H,W] network values to [H,W,3] RGB, not clamped."""
    channels = np.moveaxis(np.asarray(nchw, np.float64), 0, -1) * np.asarray(std) + np.asarray(mean)
    rgb: Float = channels[..., ::-1] if order == "bgr" else channels
    return rgb


def copy_planar(y: Bytes, u: Bytes, v: Bytes, colour: Colour) -> Picture:
    """Three planes to NV12."""
    return Picture(y.copy(), np.stack([u, v], axis=-1), colour)


def nv12_to_planar(frame: Picture) -> tuple[Bytes, Bytes, Bytes]:
    """NV12 to three planes."""
    return frame.y.copy(), frame.uv[..., 0].copy(), frame.uv[..., 1].copy()


def nv12_to_rgb(frame: Picture) -> Float:
    """Whole frame to R'G'B' [H,W,3], not rounded."""
    width, height = frame.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return sample_rgb(frame, x, y)


def rgb_to_nv12(rgb: Bytes, colour: Colour) -> Picture:
    """R'G'B' [H,W,3] to NV12; chroma from the pixels around its siting, edges repeated."""
    matrix, offset = ycc_from_rgb(colour)
    values = rgb.astype(np.float64)
    luma = values @ matrix[0] + offset[0]
    height, width = rgb.shape[:2]
    padded = np.pad(values, ((0, height % 2), (1, 1 + width % 2), (0, 0)), mode="edge")
    rows = (padded[0::2] + padded[1::2]) / 2
    left, middle, right = rows[:, 0:-2:2], rows[:, 1:-1:2], rows[:, 2::2]
    mixed = (left + 2 * middle + right) / 4 if colour.siting == "left" else (middle + right) / 2
    return Picture(to_codes(luma), to_codes(mixed @ matrix[1:].T + offset[1:]), colour)


def axis_weights(n: int, out: int, ratio: float, shift: float) -> Float:
    """[out,n] weights of one axis: the area of a px when it shrinks by more than 2, else bilinear."""
    weights = np.zeros((out, n))
    for i in range(out):
        if ratio > 2:
            low, high = (min(max((i + k) * ratio + shift, 0.0), n) for k in (0, 1))
            for j in range(int(low), min(math.ceil(high), n)):
                weights[i, j] = (min(j + 1, high) - max(j, low)) / (high - low)
        else:
            at = min(max((i + 0.5) * ratio + shift - 0.5, 0.0), n - 1)
            weights[i, int(at)] += 1 - (at - int(at))
            weights[i, min(int(at) + 1, n - 1)] += at - int(at)
    return weights


def letterbox(
    frame: Picture, in_size: tuple[int, int], fit: tuple[int, int], mean: Triple, std: Triple, order: str, pad: Triple
) -> Float:
    """The frame resampled into the top left of [3,H,W], normalised; pad is in the tensor's channel order."""
    (width, height), (new_w, new_h) = frame.size, fit
    rx, ry = width / new_w, height / new_h
    shift = 0.25 if frame.colour.siting == "left" else 0.0
    luma = axis_weights(height, new_h, ry, 0) @ frame.y @ axis_weights(width, new_w, rx, 0).T
    down = axis_weights(frame.uv.shape[0], new_h, ry / 2, 0)
    across = axis_weights(frame.uv.shape[1], new_w, rx / 2, shift)
    chroma = [down @ frame.uv[..., i] @ across.T for i in (0, 1)]
    rgb = rgb_of(np.stack([luma, *chroma], axis=-1), frame.colour)
    out = np.broadcast_to(((np.asarray(pad) - mean) / std)[:, None, None], (3, in_size[1], in_size[0])).copy()
    out[:, :new_h, :new_w] = normalise(rgb, mean, std, order)
    return out


def apply(matrix: Float, x: Float, y: Float) -> tuple[Float, Float]:
    """A [2,3] matrix on coordinates."""
    m = np.asarray(matrix, np.float64)
    return m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]


def crop(
    frame: Picture, frame_from_crop: Float, size: tuple[int, int], mean: Triple, std: Triple, order: str,
    border: str | Triple,
) -> Float:  # fmt: skip
    """One face as [3,H,W]."""
    v, u = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float64)
    x, y = apply(frame_from_crop, u, v)
    rgb = sample_rgb(frame, x, y)
    if border != "replicate":
        inside = (cover(x, frame.size[0]) * cover(y, frame.size[1]))[..., None]
        rgb = rgb * inside + np.asarray((0, 0, 0) if isinstance(border, str) else border) * (1 - inside)
    return normalise(rgb, mean, std, order)


def gaussian_blur(mask: Float, sigma: float, half: int) -> Float:
    """Separable blur with a window of 2 * half + 1, mirrored at the first and last sample."""
    if half == 0:
        return mask
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    weights /= weights.sum()
    out = mask
    for axis in (0, 1):
        pads = [(half, half) if i == axis else (0, 0) for i in (0, 1)]
        padded = np.pad(out, pads, mode="reflect")
        moved = [np.take(padded, range(i, i + mask.shape[axis]), axis) * w for i, w in enumerate(weights)]
        out = np.sum(moved, axis=0)
    return out


def ellipse_mask(size: int, axis_fraction: float, sigma: float, half: int) -> Float:
    """A filled disc around (size//2, size//2), blurred; half a px wider than its radius, as OpenCV fills."""
    radius = int(axis_fraction * size)
    y, x = np.mgrid[0:size, 0:size] - size // 2
    return gaussian_blur((x * x + y * y <= radius * (radius + 1)).astype(np.float64), sigma, half)


def box_mask(size: int, blur: float, padding_percent: Sequence[float]) -> Float:
    """Ones with a zero rim, blurred; padding is top, right, bottom, left."""
    amount = int(size * 0.5 * blur)
    top, right, bottom, left = (max(amount // 2, 1, int(size * p / 100)) for p in padding_percent)
    mask = np.zeros((size, size))
    mask[top : size - bottom, left : size - right] = 1
    sigma = amount * 0.25
    return gaussian_blur(mask, sigma, (round(sigma * 8 + 1) | 1) // 2) if amount else mask


def erode_blur_mask(frame_from_crop: Float, size: int, frame_size: tuple[int, int]) -> Float:
    """The insightface mask of a face in closed form: an inset square behind a truncated Gaussian."""
    m = np.asarray(frame_from_crop, np.float64)
    a, b = -0.92, size - 0.08
    corners = np.stack(apply(m, np.array([a, a, b, b]), np.array([a, b, a, b])), axis=1)
    inside = np.clip(corners, 0, np.array(frame_size) - 1)
    extents = np.floor(inside.max(0)) - np.ceil(inside.min(0))
    mask_size = int(math.sqrt(max(extents[0], 0) * max(extents[1], 0)))
    kernel, half = max(mask_size // 10, 10), max(mask_size // 20, 5)
    low, high = kernel // 2, kernel - 1 - kernel // 2
    scale = math.sqrt(max(abs(np.linalg.det(m[:, :2])), 1e-12))
    sigma, reach = (0.3 * (half - 1) + 0.8) / scale, (half + 0.5) / scale
    sums = []
    for axis in (0, 1):
        normal = m[:, axis] / scale
        start = a + sum(-n * (high if -n > 0 else -low) for n in normal) / scale
        end = b - sum(n * (high if n > 0 else -low) for n in normal) / scale
        at = np.arange(size)
        sums.append(np.maximum(_step(at - start, sigma, reach) - _step(at - end, sigma, reach), 0))
    product: Float = np.outer(sums[1], sums[0])
    return product


def _step(at: Float, sigma: float, reach: float) -> Float:
    unit = 1 / (sigma * math.sqrt(2))
    values = [math.erf(value * unit) / math.erf(reach * unit) for value in np.clip(at, -reach, reach)]
    return 0.5 + 0.5 * np.array(values)


def min_masks(masks: Sequence[Float]) -> Float:
    """Element-wise minimum."""
    lowest: Float = np.minimum.reduce([np.asarray(mask, np.float64) for mask in masks])
    return lowest


def rectangle(frame_from_crop: Float, size: tuple[int, int], frame_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0,y0,x1,y1 in frame px that a face of (w, h) may touch; zeros when it lies outside."""
    u, v = np.array([-1.0, size[0]]), np.array([-1.0, size[1]])
    corners = np.stack(apply(frame_from_crop, np.tile(u, 2), np.repeat(v, 2)), axis=1)
    low = np.clip(np.floor(corners.min(0)) - 1, 0, frame_size).astype(int) // 2 * 2
    high = (np.clip(np.ceil(corners.max(0)) + 2, 0, frame_size).astype(int) + 1) // 2 * 2
    high = np.minimum(high, frame_size)
    if (high <= low).any():
        return 0, 0, 0, 0
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def paste(
    frame: Picture, face: Float, mask: Float, crop_from_frame: Float, mean: Triple, std: Triple, order: str,
    opacity: float = 1.0,
) -> Picture:  # fmt: skip
    """The frame with one face [3,H,W] blended in; luma and chroma each at its own position."""
    width, height = frame.size
    matrix, offset = ycc_from_rgb(frame.colour)
    rgb = np.stack([np.asarray(plane, np.float64) for plane in face])

    def blended(old: Bytes, x: Float, y: Float, rows: Float, offsets: Float) -> Bytes:
        u, v = apply(crop_from_frame, x, y)
        part = bilinear(mask, u, v) * cover(u, mask.shape[1]) * cover(v, mask.shape[0]) * opacity
        sampled = np.stack([bilinear(plane, u, v) for plane in rgb])
        colours = np.clip(denormalise(sampled, mean, std, order), 0, 255)
        new = old + np.minimum(part, 1)[..., None] * (colours @ rows.T + offsets - old)
        return np.where((part > 0)[..., None], to_codes(new), old)

    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    luma = blended(frame.y[..., None], x, y, matrix[:1], offset[:1])[..., 0]
    cy, cx = np.mgrid[0 : frame.uv.shape[0], 0 : frame.uv.shape[1]].astype(np.float64)
    shift = 0.0 if frame.colour.siting == "left" else 0.5
    chroma = blended(frame.uv, 2 * cx + shift, 2 * cy + 0.5, matrix[1:], offset[1:])
    return Picture(luma, chroma, frame.colour)
