"""Trains tiny_detector.onnx: an anchor-based face detector with five points, in the SCRFD contract."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.tiny.train import onnx_out, session
from models.tiny.train.layers import ConvBlock, Residual

STRIDES = (8, 16, 32)
ANCHORS = 2  # per cell; sizes are the published ones and only decide which face an anchor learns
SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES)
_MIRRORED = [1, 0, 2, 4, 3]

Floats = npt.NDArray[np.float32]


class Detector(nn.Module):  # type: ignore[misc]
    """[n,3,H,W] -> per stride: scores [n,A] (logits), boxes [n,A,4] and points [n,A,10] in stride units."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(3, 16, 2), ConvBlock(16, 24, 2))
        self.c8 = nn.Sequential(ConvBlock(24, 48, 2), Residual(48))
        self.c16 = nn.Sequential(ConvBlock(48, 72, 2), Residual(72), Residual(72))
        self.c32 = nn.Sequential(ConvBlock(72, 96, 2), Residual(96), Residual(96))
        self.side = nn.ModuleList([nn.Conv2d(c, width, 1) for c in (48, 72, 96)])
        self.merge = nn.ModuleList([ConvBlock(width, width) for _ in STRIDES])
        self.down = nn.ModuleList([ConvBlock(width, width, 2) for _ in STRIDES[1:]])
        self.tower = nn.ModuleList([ConvBlock(width, width) for _ in STRIDES])
        self.score = nn.ModuleList([nn.Conv2d(width, ANCHORS, 3, 1, 1) for _ in STRIDES])
        self.box = nn.ModuleList([nn.Conv2d(width, ANCHORS * 4, 3, 1, 1) for _ in STRIDES])
        self.points = nn.ModuleList([nn.Conv2d(width, ANCHORS * 10, 3, 1, 1) for _ in STRIDES])
        # An anchor's size over its stride: the network predicts multiples of it.
        self.units = [[size / stride for size in sizes] for sizes, stride in zip(SIZES, STRIDES, strict=True)]
        for layer in self.score:
            nn.init.constant_(layer.bias, -4.6)
        for layer in [*self.box, *self.points]:
            nn.init.normal_(layer.weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """See the class."""
        c8 = self.c8(self.stem(x))
        c16 = self.c16(c8)
        sides = [layer(c) for layer, c in zip(self.side, (c8, c16, self.c32(c16)), strict=True)]
        up16 = sides[1] + nn.functional.interpolate(sides[2], scale_factor=2.0, mode="nearest")
        up8 = sides[0] + nn.functional.interpolate(up16, scale_factor=2.0, mode="nearest")
        levels = [self.merge[0](up8)]
        levels.append(self.merge[1](up16 + self.down[0](levels[0])))
        levels.append(self.merge[2](sides[2] + self.down[1](levels[1])))
        out = []
        for i, level in enumerate(levels):
            feature, n = self.tower[i](level), x.shape[0]
            unit = torch.tensor(self.units[i], device=x.device).view(1, 1, ANCHORS, 1)
            score = self.score[i](feature).permute(0, 2, 3, 1).reshape(n, -1)
            box = self.box[i](feature).permute(0, 2, 3, 1).reshape(n, -1, ANCHORS, 4).float()
            points = self.points[i](feature).permute(0, 2, 3, 1).reshape(n, -1, ANCHORS, 10).float()
            box = (nn.functional.softplus(box + 0.5) * 0.5 * unit).reshape(n, -1, 4)
            out.append((score, box, (points * 0.5 * unit).reshape(n, -1, 10)))
        return out


class Published(nn.Module):  # type: ignore[misc]
    """The published nine outputs for one picture: no batch axis, sigmoid done."""

    def __init__(self, network: Detector) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [1,3,H,W] -> scores, boxes, points of strides 8, 16, 32."""
        levels = self.network(x)
        scores = tuple(torch.sigmoid(s).reshape(-1, 1) for s, _, _ in levels)
        return scores + tuple(b.reshape(-1, 4) for _, b, _ in levels) + tuple(p.reshape(-1, 10) for _, _, p in levels)


def export(network: nn.Module, path: Path) -> None:
    """Writes the SCRFD contract: input.1 [1,3,H,W], (x - 127.5) / 128 RGB -> nine outputs."""
    assert isinstance(network, Detector)
    axes = {"input.1": {2: "H", 3: "W"}, **{name: {0: f"n_{name.split('_')[1]}"} for name in OUTPUTS}}
    onnx_out.write(Published(network), (torch.zeros(1, 3, 320, 256),), ["input.1"], OUTPUTS, axes, path)


def _grid(size: int) -> tuple[Floats, Floats, Floats]:
    """Centres [A,2], strides [A] and anchor sizes [A] of all anchors in output order."""
    centres, strides, sizes = [], [], []
    for stride, pair in zip(STRIDES, SIZES, strict=True):
        n = size // stride
        y, x = np.mgrid[:n, :n] * stride
        centres.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), ANCHORS, 0))
        strides.append(np.full(n * n * ANCHORS, stride))
        sizes.append(np.tile(np.array(pair), n * n))
    return tuple(np.concatenate(part).astype(np.float32) for part in (centres, strides, sizes))  # type: ignore[return-value]


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and distance-IoU of boxes [k,4] given as left, top, right, bottom distances from one common centre."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    inter = (low[:, 0] + low[:, 2]).clamp(0) * (low[:, 1] + low[:, 3]).clamp(0)
    area = (a[:, 0] + a[:, 2]) * (a[:, 1] + a[:, 3]) + (b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3])
    iou = inter / (area - inter + 1e-6)
    hull = (high[:, 0] + high[:, 2]) ** 2 + (high[:, 1] + high[:, 3]) ** 2
    shift = ((a[:, 2] - a[:, 0] - b[:, 2] + b[:, 0]) ** 2 + (a[:, 3] - a[:, 1] - b[:, 3] + b[:, 1]) ** 2) / 4.0
    return iou, iou - shift / (hull + 1e-6)


class Goals:
    """Which anchors of a batch learn which face, found on the device.

    A face belongs to anchors of about its own size whose centres lie in its middle, and the smaller face wins a shared
    anchor. Anchors on a face that is cut off or hidden, and those that nearly fit, are neither right nor wrong.
    """

    def __init__(self, size: int, device: str) -> None:
        centres, strides, sizes = (torch.from_numpy(part).to(device) for part in _grid(size))
        self.centres, self.strides, self.sizes = centres, strides, sizes

    def owners(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """faces [n,6,15] -> owner [n,A] (index of the face, -1 for none) and left_out [n,A]."""
        span = (faces[:, :, 2:4] - faces[:, :, :2]).clamp(min=0)
        area = span.prod(2)
        side = area.clamp(min=1.0).sqrt()[:, :, None]
        middle = (faces[:, :, :2] + faces[:, :, 2:4]) / 2
        off = (self.centres[None, None] - middle[:, :, None]).abs()
        octaves = (side / self.sizes).log2().abs()
        small, large = (side < 16.0) & (self.sizes == 16.0), (side > 512.0 * 0.6) & (self.sizes == 512.0)
        fits = (octaves < 0.75) | small | large
        reach = torch.maximum(0.20 * side, 0.6 * self.strides)
        near = (off <= reach[..., None]).all(3)
        kind = faces[:, :, 14, None]
        takes = near & fits & (kind > 0)
        smallest = torch.where(takes, area[:, :, None], torch.inf).min(1)  # small faces win a shared anchor
        owner = torch.where(takes.any(1), smallest.indices, -1)
        ignored = (off <= span[:, :, None] / 2).all(3) & (kind < 0)
        almost = (off <= 1.5 * reach[..., None]).all(3) & (octaves < 1.25) & (kind > 0)
        return owner, (ignored | almost).any(1) & (owner < 0)


def losses(levels: list[tuple[Tensor, Tensor, Tensor]], faces: Tensor, goals: Goals) -> dict[str, Tensor]:
    """Quality-focal score loss, distance-IoU box loss and smooth-L1 point loss of a batch; faces [n,6,15]."""
    logits, boxes, points = (torch.cat([level[i] for level in levels], dim=1) for i in range(3))
    logits = logits.float()
    owner, left_out = goals.owners(faces)
    at = torch.nonzero(owner >= 0, as_tuple=True)
    quality = torch.zeros_like(logits)
    face = owner[at]
    f, c, s = faces[at[0], face], goals.centres[at[1]], goals.strides[at[1]][:, None]
    counts = torch.zeros(faces.shape[:2], device=faces.device).index_put(
        (at[0], face), face * 0.0 + 1.0, accumulate=True
    )
    each = counts[at[0], face] ** -0.5  # a large face has ten times the anchors of a small one
    each = each / each.sum().clamp(min=1e-6)
    iou, diou = _overlap(boxes[at], torch.cat([c - f[:, :2], f[:, 2:4] - c], 1) / s)
    quality[at] = iou.detach().clamp(0.05, 1.0)
    box_loss = ((1.0 - diou) * each).sum()
    size = (f[:, 2:4] - f[:, :2]).prod(1).clamp(min=1e-6).sqrt()[:, None] / s
    off = (points[at] - (f[:, 4:14] - c.repeat(1, 5)) / s) / size
    each_point = nn.functional.smooth_l1_loss(off, torch.zeros_like(off), beta=0.02, reduction="none").mean(1)
    point_loss = (each_point * each).sum()
    p = torch.sigmoid(logits)
    focal = nn.functional.binary_cross_entropy_with_logits(logits, quality, reduction="none") * (quality - p).abs() ** 2
    score_loss = (focal * ~left_out).sum() / max(len(face), 1)
    return {
        "loss": score_loss + 2.0 * box_loss + 12.0 * point_loss,
        "score": score_loss,
        "box": box_loss,
        "points": point_loss,
    }


def _twice(images: Tensor) -> Tensor:
    return images.repeat_interleave(2, 1).repeat_interleave(2, 2)


def mirrored(images: Tensor, faces: Floats) -> tuple[Tensor, Floats]:
    """Left and right exchanged, the points' order too."""
    width = images.shape[2]
    out = faces.copy()
    real = faces[:, :, 14] != 0.0
    out[:, :, 0], out[:, :, 2] = width - faces[:, :, 2], width - faces[:, :, 0]
    points = faces[:, :, 4:14].reshape(*faces.shape[:2], 5, 2)[:, :, _MIRRORED]
    points = np.stack([width - points[..., 0], points[..., 1]], -1)
    out[:, :, 4:14] = points.reshape(*faces.shape[:2], 10)
    out[~real] = 0.0
    return images.flip(2), out


def zoomed(rng: np.random.Generator, images: Tensor, faces: Floats) -> tuple[Tensor, Floats]:
    """A random part of every picture at twice its size: faces larger than any scene holds."""
    size = images.shape[1]
    half = size // 2
    out_images, out_faces = torch.empty_like(images), np.zeros_like(faces)
    for n in range(len(images)):
        real = np.nonzero(faces[n, :, 14] != 0.0)[0]
        corner = rng.integers(0, half + 1, 2)
        if len(real):  # mostly look at somebody
            box = faces[n, real[-1], :4]
            corner = np.clip((box[:2] + box[2:]) / 2 - half / 2 + rng.uniform(-20, 20, 2), 0, half).astype(np.int64)
        x, y = int(corner[0]), int(corner[1])
        out_images[n] = _twice(images[n : n + 1, y : y + half, x : x + half])[0]
        shift = np.array([x, y], np.float32)
        for k in real:
            face = faces[n, k]
            whole = (np.tile(-shift, 2) + face[:4]) * 2
            cut = np.clip(whole, 0, size)
            shown = (
                max(cut[2] - cut[0], 0)
                * max(cut[3] - cut[1], 0)
                / max((whole[2] - whole[0]) * (whole[3] - whole[1]), 1e-6)
            )
            if shown > 0.1:
                out_faces[n, k, :4], out_faces[n, k, 4:14] = cut, (face[4:14] - np.tile(shift, 5)) * 2
                out_faces[n, k, 14] = face[14] if shown > 0.55 else -1.0
    return out_images, out_faces


def enlarged(images: Tensor, faces: Floats, count: int = 4) -> tuple[Tensor, Floats]:
    """The pictures with the largest faces, whole, at twice their size: what a 640-pixel input sees of a webcam."""
    heights = np.where(faces[:, :, 14] > 0, faces[:, :, 3] - faces[:, :, 1], 0.0).max(1)
    pick = np.argsort(-heights)[:count]
    twice = faces[pick].copy()
    twice[:, :, :14] *= 2.0
    return _twice(images[torch.from_numpy(pick)]), twice


class Scenes:
    """Random batches of scenes and rooms, mirrored, zoomed or enlarged: images [n,s,s,3] and faces [n,6,15]."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._batch, self._rng = given.batch, np.random.default_rng(given.seed + 99)
        self._parts = []
        for kind in ("scene", "room"):
            data = session.samples(given, kind)
            shelf = session.Shelf({"image": np.asarray(data["image"])}, given.device)
            faces = np.asarray(data["faces"], np.float32)
            self._parts.append((shelf, faces, session.batches(len(faces), self._batch, given.seed)))
        self.size = int(data["image"].shape[1])

    def next(self) -> tuple[Tensor, Floats]:
        """The next batch; enlarged ones hold a quarter of the pictures at twice the size."""
        rng = self._rng
        shelf, all_faces, order = self._parts[1 if rng.random() < 0.35 else 0]
        pick = next(order)
        images, faces = shelf.take("image", pick), all_faces[pick]
        if rng.random() < 0.5:
            images, faces = mirrored(images, faces)
        kind = rng.random()
        if kind < 0.2:
            images, faces = zoomed(rng, images, faces)
        elif kind < 0.4:
            images, faces = enlarged(images, faces, max(1, self._batch // 4))
        if rng.random() < 0.15:
            images = images.flip(3)  # red and blue exchanged: any skin, any light
        return images, faces


def main() -> None:
    """python -m models.tiny.train.detector"""
    given = session.arguments("detector")
    scenes = Scenes(given)
    goals = {size: Goals(size, given.device) for size in (scenes.size, 2 * scenes.size)}

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        images, faces = scenes.next()
        x = (session.pixels(images) * 255.0 - 127.5) / 128.0
        with session.mixed(given.device):
            levels = network(x.contiguous(memory_format=torch.channels_last))
        return losses(levels, torch.from_numpy(faces).to(given.device), goals[images.shape[1]])

    session.run("detector", given, Detector(), step, export)


if __name__ == "__main__":
    main()
