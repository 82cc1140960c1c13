"""Trains tiny_embedder.onnx: regress what is visible of the identity, then a fixed feature map to 512 numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.renderer import names
from models.tiny.train import identity, onnx_out, session
from models.tiny.train.layers import ConvBlock, Residual
from models.tiny.train.recipe import Drawn

TURNED = ("mole_place",)  # parameters that a mirror turns round


class Reader(nn.Module):  # type: ignore[misc]
    """Pixels [n,3,112,112] of (x - 127.5) / 127.5 -> visible identity parameters [n,k] of a look."""

    def __init__(self, look: str = "classic") -> None:
        super().__init__()
        self.look = look
        self.body = nn.Sequential(
            ConvBlock(3, 24, 2), ConvBlock(24, 48, 2), Residual(48), ConvBlock(48, 96, 2), Residual(96),
            ConvBlock(96, 104, 2), Residual(104), ConvBlock(104, 32, 1, 1),
        )  # fmt: skip
        # Flattened, not pooled: where a brow is belongs to who it is.
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 49, 256), nn.ReLU(), nn.Linear(256, identity.parameters(look))
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        parameters: Tensor = self.head(self.body(x))
        return parameters


class Embedder(nn.Module):  # type: ignore[misc]
    """[n,3,112,112] -> [n,512], not normalised: the mean of what a Reader reads of a face and of its mirror picture,
    through the fixed feature map."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader
        parts = identity.feature_map(look=reader.look)
        linear, frequencies, phases, mean = (torch.tensor(a, dtype=torch.float32) for a in parts)
        signs = [-1.0 if name in TURNED else 1.0 for name in names(0, reader.look)]
        self.register_buffer("signs", torch.tensor(signs))
        self.register_buffer("linear", linear)
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", phases)
        self.register_buffer("mean", mean)

    def features(self, parameters: Tensor) -> Tensor:
        """Visible identity parameters [n,k] -> embedding [n,512]."""
        waves = torch.cos(parameters @ self.frequencies + self.phases) * (2.0 / self.phases.shape[0]) ** 0.5
        return torch.cat([parameters @ self.linear, waves], dim=1) - self.mean

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.features(0.5 * (self.reader(x) + self.signs * self.reader(x.flip(3))))


def export(reader: nn.Module, path: Path) -> None:
    """Writes the ArcFace contract: input.1 [n,3,112,112] -> 683 [n,512]."""
    assert isinstance(reader, Reader)
    axes = {"input.1": {0: "n"}, "683": {0: "n"}}
    onnx_out.write(Embedder(reader), (torch.zeros(2, 3, 112, 112),), ["input.1"], ["683"], axes, path)


def _pictures(given: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Crops [n,112,112,3] and the identity parameters [n,k] of whom they show.

    Where the recipe has the swapper's samples too, each gives two crops of one person more.
    """
    data = session.samples(given, "embed")
    images, inner = np.asarray(data["image"]), np.asarray(data["inner"], np.float32)
    for each in given.drawn:
        if each.kind == "swap":
            pairs = session.drawn(given, each)
            who = np.asarray(pairs["inner"], np.float32)
            images = np.concatenate([images, pairs["source"], np.asarray(pairs["truth"])[:, :112, 8:120]])
            inner = np.concatenate([inner, who, who])
    return images, inner


def _arguments() -> argparse.Namespace:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--swaps", type=int, help="the swapper's samples to learn from too; 0 = none")

    given = session.arguments("embedder", more)
    if given.swaps is not None:
        own = [each for each in given.drawn if each.kind != "swap"]
        swaps = [Drawn("swap", given.look, given.swaps, given.seed)] if given.swaps else []
        given.drawn = (*own, *swaps)
    return given


def main() -> None:
    """python -m models.tiny.train.embedder [--as judge]"""
    given = _arguments()
    images, inner = _pictures(given)
    goal = torch.from_numpy(identity.visible(inner, given.look)).to(given.device)
    shelf = session.Shelf({"image": images}, given.device)
    order = session.batches(len(goal), given.batch, given.seed)
    noise = torch.Generator().manual_seed(given.seed)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        pick = next(order)
        x = session.pixels(shelf.take("image", pick)) * 2.0 - 1.0
        gain = (1.0 + 0.06 * torch.randn(len(pick), 1, 1, 1, generator=noise)).to(given.device)
        shift = tuple(int(v) for v in torch.randint(-2, 3, (2,), generator=noise))
        x = torch.roll(x * gain, shift, (2, 3)).contiguous(memory_format=torch.channels_last)
        with session.mixed(given.device):
            out = network(x)
        loss = nn.functional.smooth_l1_loss(out.float(), goal[torch.from_numpy(pick)], beta=0.15)
        return {"loss": loss}

    session.run(given.network, given, Reader(given.look), step, export, edges=("head.3",))


if __name__ == "__main__":
    main()
