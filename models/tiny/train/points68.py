"""Trains tiny_points68.onnx: iBUG's 68 points on a crop by the face's box, in the form of 2dfan4's contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.train import onnx_out, parts, session
from models.tiny.train.layers import Pyramid

_CELL = 4  # px of the crop per cell of a map
_CELLS = parts.SIZE // _CELL


class Points68(nn.Module):  # type: ignore[misc]
    """BGR [n,3,256,256] of 0..1 -> logits of maps [n,68,64,64]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Pyramid(16)
        self.head = nn.Conv2d(16, 68, 1)
        self.register_buffer("along", torch.arange(_CELLS).float())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(self.body(x))
        return logits

    def points(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Where the mass of each map lies, in cells [n,68,2], and the maps as shares [n,68,4096]."""
        shares = torch.softmax(logits.float().flatten(2), dim=2)
        maps = shares.view(-1, 68, _CELLS, _CELLS)
        return torch.stack([maps.sum(2) @ self.along, maps.sum(3) @ self.along], 2), shares


class Published(nn.Module):  # type: ignore[misc]
    """The contract's outputs: x and y on the grid of 64 with a score, and the maps, whose peaks are the scores."""

    def __init__(self, network: Points68) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class. A sharp map has most of its mass within a cell or two: a peak of 0.25 counts as certain."""
        points, shares = self.network.points(self.network(x))
        maps = (shares * 4.0).clamp(max=1.0)
        # the published network's x and y are those of a cell's border: half a cell more than its middle
        scored = torch.cat([points + 0.5, maps.amax(dim=2, keepdim=True)], dim=2)
        return scored, maps.reshape(-1, 68, _CELLS, _CELLS)


def export(network: nn.Module, path: Path) -> None:
    """input [n,3,256,256] -> landmarks_xyscore [n,68,3], heatmaps [n,68,64,64]."""
    assert isinstance(network, Points68)
    names = ["landmarks_xyscore", "heatmaps"]
    axes = {name: {0: "n"} for name in ("input", *names)}
    example = (torch.zeros(2, 3, parts.SIZE, parts.SIZE),)
    onnx_out.write(Published(network), example, ["input"], names, axes, path)


def main() -> None:
    """python -m models.tiny.train.points68"""
    given = session.arguments("points68")
    data = session.samples(given, "boxed_part")
    goal = np.asarray(data["points"], np.float32)
    shelf = session.Shelf({"image": np.asarray(data["image"])}, given.device)
    order = session.batches(len(goal), given.batch, given.seed)
    rng = np.random.default_rng(given.seed + 7)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        assert isinstance(network, Points68)
        pick = next(order)
        images, points = shelf.take("image", pick), goal[pick]
        if rng.random() < 0.5:
            images = images.flip(2)
            points = points[:, parts.POINTS_MIRRORED] * [-1, 1] + [parts.SIZE - 1, 0]
        with session.mixed(given.device):
            logits = network(session.pixels(images).flip(1))
        found, _ = network.points(logits)
        eye = np.linalg.norm(points[:, 36:42].mean(1) - points[:, 42:48].mean(1), axis=1).clip(20.0)
        wanted = torch.from_numpy(np.asarray((points - (_CELL - 1) / 2) / _CELL, np.float32)).to(given.device)
        off = (found - wanted) * _CELL / torch.from_numpy(eye.astype(np.float32)).to(given.device)[:, None, None]
        return {
            "loss": nn.functional.smooth_l1_loss(off, torch.zeros_like(off), beta=0.02),
            "error": off.norm(dim=2).mean(),
        }

    session.run("points68", given, Points68(), step, export, edges=("head",))


if __name__ == "__main__":
    main()
