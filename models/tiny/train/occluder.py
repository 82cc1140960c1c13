"""Trains tiny_occluder.onnx: where the face is seen, in the form of XSeg's contract (channels last, BGR)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.train import onnx_out, parts, session
from models.tiny.train.layers import Pyramid


class Occluder(nn.Module):  # type: ignore[misc]
    """BGR [n,3,256,256] of 0..1 -> logits [n,1,128,128] of "the face is seen here"."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Pyramid(14, fine=True)
        self.head = nn.Conv2d(14, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(self.body(x))
        return logits


class Published(nn.Module):  # type: ignore[misc]
    """[n,256,256,3] BGR of 0..1 -> probability [n,256,256,1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits = self.network(x.permute(0, 3, 1, 2))
        large = nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.sigmoid(large).permute(0, 2, 3, 1)


def export(network: nn.Module, path: Path) -> None:
    """input [n,256,256,3] -> output [n,256,256,1]."""
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    example = (torch.zeros(2, parts.SIZE, parts.SIZE, 3),)
    onnx_out.write(Published(network), example, ["input"], ["output"], axes, path)


def main() -> None:
    """python -m models.tiny.train.occluder"""
    given = session.arguments("occluder")
    data = session.samples(given, "part")
    shelf = session.Shelf({name: np.asarray(data[name]) for name in ("image", "seen")}, given.device)
    order = session.batches(len(data["image"]), given.batch, given.seed)
    rng = np.random.default_rng(given.seed + 7)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        pick = next(order)
        images, seen = shelf.take("image", pick), shelf.take("seen", pick).float() / 255.0
        if rng.random() < 0.5:
            images, seen = images.flip(2), seen.flip(2)
        with session.mixed(given.device):
            logits = network(session.pixels(images).flip(1))
        logits = nn.functional.interpolate(logits.float(), scale_factor=2.0, mode="bilinear", align_corners=False)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, seen)
        here, there = logits > 0, seen > 0.5
        both = (here & there).float().sum() / (here | there).float().sum().clamp(min=1.0)
        return {"loss": loss, "iou": both}

    session.run("occluder", given, Occluder(), step, export, edges=("head",))


if __name__ == "__main__":
    main()
