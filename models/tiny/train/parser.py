"""Trains tiny_parser.onnx: the 19 classes of BiSeNet's contract on an aligned face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.renderer import CLASSES
from models.tiny.train import onnx_out, parts, session
from models.tiny.train.layers import Pyramid

# The published parsers' input: RGB of 0..255, less ImageNet's mean, over its deviation.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_SIDE = 512
_SOFT = 0.4  # share of steps on enlarged pictures: in a pipeline the parser looks at swapped crops of 128 px


class Parser(nn.Module):  # type: ignore[misc]
    """[n,3,256,256] normalised as above -> logits [n,19,128,128]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Pyramid(20, fine=True)
        self.head = nn.Conv2d(20, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(self.body(x))
        return logits


class Published(nn.Module):  # type: ignore[misc]
    """The contract's sizes around a Parser: 512 px in, logits of 512 px out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits = self.network(nn.functional.avg_pool2d(x, 2))
        return nn.functional.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)


def _at_phase(logits: Tensor, row: int, column: int) -> Tensor:
    """Every second pixel, from (row, column) of 0 and 1 on, of the logits enlarged to twice their size."""

    def mixed(x: Tensor, dim: int, phase: int) -> Tensor:
        count = x.shape[dim] - 1
        edge, inner = x.narrow(dim, count if phase else 0, 1), x.narrow(dim, 1 if phase else 0, count)
        return 0.75 * x + 0.25 * torch.cat([inner, edge] if phase else [edge, inner], dim)

    return mixed(mixed(logits, 2, row), 3, column)


def _overlap_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """One less the mean Dice overlap of the classes that a batch has: a few pixels of a brow count as much as a sky."""
    chance = logits.softmax(1).transpose(0, 1).flatten(1)
    wanted = nn.functional.one_hot(classes.flatten(), len(CLASSES)).T.to(chance.dtype)
    both, total = (chance * wanted).sum(1), chance.sum(1) + wanted.sum(1)
    there = wanted.sum(1) > 0
    return 1.0 - (2.0 * both[there] / total[there]).mean()


def _enlarged(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def export(network: nn.Module, path: Path) -> None:
    """input [n,3,512,512] -> output [n,19,512,512]."""
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    onnx_out.write(Published(network), (torch.zeros(1, 3, _SIDE, _SIDE),), ["input"], ["output"], axes, path)


def main() -> None:
    """python -m models.tiny.train.parser"""
    given = session.arguments("parser")
    data = session.samples(given, "part")
    shelf = session.Shelf({name: np.asarray(data[name]) for name in ("image", "classes")}, given.device)
    order = session.batches(len(data["image"]), given.batch, given.seed)
    rng = np.random.default_rng(given.seed + 7)
    mirrored = torch.from_numpy(parts.CLASSES_MIRRORED.astype(np.int64)).to(given.device)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1).to(given.device) for v in (MEAN, STD))
    # Small parts decide the mean over classes: rare ones weigh more, though not as much more as they are rarer.
    shares = np.bincount(np.asarray(data["classes"][:400]).ravel(), minlength=len(CLASSES)) + 1e3
    weights = torch.from_numpy(np.clip((shares.mean() / shares) ** 0.3, 0.5, 4.0).astype(np.float32)).to(given.device)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        pick = next(order)
        images, classes = shelf.take("image", pick), shelf.take("classes", pick).long()
        if rng.random() < 0.5:
            images, classes = images.flip(2), mirrored[classes.flip(2)]
        pixels = session.pixels(images)
        if rng.random() < _SOFT:
            pixels = _enlarged(nn.functional.avg_pool2d(pixels, 2))
        x = (pixels * 255.0 - mean) / std
        with session.mixed(given.device):
            logits = network(x)
        row, column = (int(v) for v in rng.integers(0, 2, 2))  # a quarter of the pixels, another one each step
        logits, classes = _at_phase(logits.float(), row, column), classes[:, row::2, column::2]
        cross, overlap = nn.functional.cross_entropy(logits, classes, weights), _overlap_loss(logits, classes)
        right = (logits.argmax(1) == classes).float().mean()
        return {"loss": cross + overlap, "cross": cross, "overlap": overlap, "right": right}

    session.run("parser", given, Parser(), step, export, edges=("head",))


if __name__ == "__main__":
    main()
