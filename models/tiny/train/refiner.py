"""Trains tiny_refiner.onnx: five points to a fraction of a pixel on a crop that a detector placed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.train import crops, onnx_out, session
from models.tiny.train.layers import ConvBlock, Residual

_CELL = 4  # pixels of the crop per heat map cell


class Refiner(nn.Module):  # type: ignore[misc]
    """[n,3,96,96] of (x - 127.5) / 128 -> five points [n,5,2] in the crop's pixels: soft argmax of 24x24 maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(3, 24, 2), ConvBlock(24, 48, 2), Residual(48))
        self.deep = nn.Sequential(ConvBlock(48, 96, 2), Residual(96), Residual(96), Residual(96))
        self.back = ConvBlock(96, 48, 1, 1)
        self.head = nn.Sequential(Residual(48), nn.Conv2d(48, 5, 3, 1, 1))
        side = crops.REFINER_SIZE // _CELL
        centres = torch.arange(side) * float(_CELL) + (_CELL - 1) / 2
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("cells", torch.stack([x.reshape(-1), y.reshape(-1)], 1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        near = self.stem(x)
        far = nn.functional.interpolate(self.back(self.deep(near)), scale_factor=2.0, mode="nearest")
        heat = self.head(near + far).float().flatten(2)
        points: Tensor = torch.softmax(heat, dim=2) @ self.cells
        return points


def export(network: nn.Module, path: Path) -> None:
    """input [n,3,96,96] -> points [n,5,2]."""
    axes = {"input": {0: "n"}, "points": {0: "n"}}
    onnx_out.write(
        network, (torch.zeros(2, 3, crops.REFINER_SIZE, crops.REFINER_SIZE),), ["input"], ["points"], axes, path
    )


def main() -> None:
    """python -m models.tiny.train.refiner"""
    given = session.arguments("refiner")
    data = session.samples(given, "refine")
    goal = np.asarray(data["points"], np.float32)
    shelf = session.Shelf({"image": np.asarray(data["image"])}, given.device)
    order = session.batches(len(goal), given.batch, given.seed)
    rng = np.random.default_rng(given.seed + 7)
    eye = float(np.hypot(*(crops.REFINER_TEMPLATE[1] - crops.REFINER_TEMPLATE[0])))

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        pick = next(order)
        images, points = shelf.take("image", pick), goal[pick]
        if rng.random() < 0.5:
            images, points = images.flip(2), points[:, [1, 0, 2, 4, 3]] * [-1, 1] + [crops.REFINER_SIZE - 1, 0]
        x = (session.pixels(images) * 255.0 - 127.5) / 128.0
        with session.mixed(given.device):
            out = network(x)
        off = (out - torch.from_numpy(np.asarray(points, np.float32)).to(given.device)) / eye
        return {
            "loss": nn.functional.smooth_l1_loss(off, torch.zeros_like(off), beta=0.02),
            "error": off.norm(dim=2).mean(),
        }

    session.run("refiner", given, Refiner(), step, export)


if __name__ == "__main__":
    main()
