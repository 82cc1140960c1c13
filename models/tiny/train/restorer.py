"""Trains tiny_restorer.onnx: sharp faces of 256 px from soft ones, above all from swaps enlarged from 128 px."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.tiny.pack import Pack
from models.tiny.train import onnx_out, restore_pictures, session, store, texture
from models.tiny.train.folders import PACKAGED, cache_folder, packaged_look
from models.tiny.train.recipe import Drawn

_WIDE, _DEEP = 48, 80  # channels at a quarter and at an eighth of the side
_SWAPS = 0.5  # share of swaps among the pictures of a look that has a pack
_CUT_PX = 160  # of the 256 that a training picture has: more pictures in the same time


class _Block(nn.Module):  # type: ignore[misc]
    """Two convolutions with a shortcut; no norm, whose statistics would mix faces of a batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        nn.init.normal_(self.second.weight, 0.0, 0.1 / (9 * channels) ** 0.5)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [n,c,h,w] -> the same shape."""
        return x + self.second(torch.relu(self.first(x)))


class Restorer(nn.Module):  # type: ignore[misc]
    """[n,3,256,256] of (x - 127.5) / 127.5 -> the same: the input plus a correction found at a quarter of the side.

    Any size that 8 divides, in training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(48, _WIDE, 3, 1, 1)
        self.near = nn.Sequential(_Block(_WIDE), _Block(_WIDE))
        self.down = nn.Conv2d(_WIDE, _DEEP, 3, 2, 1)
        self.far = nn.Sequential(_Block(_DEEP), _Block(_DEEP), _Block(_DEEP))
        self.up = nn.Conv2d(_DEEP, 4 * _WIDE, 1)
        self.back = nn.Sequential(_Block(_WIDE), _Block(_WIDE))
        self.leave = nn.Conv2d(_WIDE, 48, 3, 1, 1)
        nn.init.normal_(self.leave.weight, 0.0, 0.01)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        """See the class; not clipped."""
        near = self.near(torch.relu(self.enter(nn.functional.pixel_unshuffle(x, 4))))
        far = self.far(torch.relu(self.down(near)))
        whole = self.back(near + nn.functional.pixel_shuffle(self.up(far), 2))
        return x + nn.functional.pixel_shuffle(self.leave(whole).float(), 4)


class Published(nn.Module):  # type: ignore[misc]
    """The restorer with its output clipped to -1..1, as the contract says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """See Restorer."""
        out: Tensor = self.network(x)
        return out.clamp(-1.0, 1.0)


def export(network: nn.Module, path: Path) -> None:
    """input [n,3,256,256] -> output [n,3,256,256], GFPGAN's names and ranges."""
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    example = (torch.zeros(2, 3, restore_pictures.SIZE, restore_pictures.SIZE),)
    onnx_out.write(Published(network), example, ["input"], ["output"], axes, path)


@dataclass(frozen=True)
class Part:
    """Pictures of one look: sharp ones, and swaps of some pack where that look has one."""

    look: str
    data: store.Arrays
    swapped: npt.NDArray[np.uint8] | None


def _is_own(index: int) -> bool:
    """Whether a sample is swapped with its own identity: then the target itself is the sharp picture of the result.

    A swap with another's is not quite the truth's face, and all that can be learnt of that is to hold back.
    """
    return index % 4 != 0


def _swapped(folder: Path, data: store.Arrays, name: str) -> npt.NDArray[np.uint8]:
    """Every sample swapped by the pack in a folder and pasted; kept in the cache for the next run."""
    weights = (folder / "tiny_swapper.onnx").read_bytes() + (folder / "tiny_embedder.onnx").read_bytes()
    kept = cache_folder() / f"restored-swaps-{name}-{hashlib.sha256(weights).hexdigest()[:12]}.npy"
    if not kept.exists():
        pack, part = Pack(folder, threads=1), kept.with_suffix(".part.npy")
        maps = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=data["target"].shape)
        for i in range(len(maps)):
            target = np.array(data["target"][i])
            source = restore_pictures.own_source(target) if _is_own(i) else np.array(data["source"][i])
            maps[i] = restore_pictures.pasted_swap(np.random.default_rng([11, i]), pack, target, source)
        maps.flush()
        part.replace(kept)
    return np.asarray(np.load(kept, mmap_mode="r"))


def _part(given: argparse.Namespace, each: Drawn, folder: Path | None) -> Part:
    data = session.drawn(given, each)
    if folder is None or not (folder / "tiny_swapper.onnx").exists():
        print(f"restorer: no swapper of the {each.look} look at hand; its faces are only blurred", flush=True)
        return Part(each.look, data, None)
    return Part(each.look, data, _swapped(folder, data, f"{each.look}-{each.count}-{each.seed}"))


def _parts(given: argparse.Namespace) -> list[Part]:
    """The pack's look, and perhaps the other one beside it, as the recipe says."""
    packs: dict[str, Path] = {packaged_look(): PACKAGED, given.look: Path(given.out).parent}
    packs |= {look: Path(folder) for look, folder in (text.split("=", 1) for text in given.pack)}
    return [_part(given, each, packs.get(each.look)) for each in given.drawn]


class _Batches:
    """Draws training pairs: soft input and sharp truth, 0..255, and where the face is."""

    def __init__(self, parts: list[Part], seed: int) -> None:
        self._parts, self._rng = parts, np.random.default_rng([seed, 17])

    def _one(self, part: Part) -> tuple[npt.NDArray[np.uint8], ...]:
        i, rng = int(self._rng.integers(len(part.data["truth"]))), self._rng
        mask = np.array(part.data["mask"][i])
        if part.swapped is not None and rng.random() < _SWAPS:
            soft, sharp = np.array(part.swapped[i]), np.array(part.data["target" if _is_own(i) else "truth"][i])
        else:
            sharp = np.array(part.data["truth" if rng.random() < 0.5 else "target"][i])
            soft = restore_pictures.spoil(rng, sharp)
        if rng.random() < 0.5:
            soft, sharp, mask = soft[:, ::-1], sharp[:, ::-1], mask[:, ::-1]
        return soft, sharp, mask

    def _cut(self, pictures: tuple[npt.NDArray[np.uint8], ...]) -> list[npt.NDArray[np.uint8]]:
        x, y = (int(v) for v in self._rng.integers(0, restore_pictures.SIZE - _CUT_PX, 2))
        return [picture[y : y + _CUT_PX, x : x + _CUT_PX] for picture in pictures]

    def take(self, size: int, part: Part, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """soft and sharp [n,3,160,160] in -1..1 and mask [n,1,160,160] 0..1 of one look."""
        pairs = [self._cut(self._one(part)) for _ in range(size)]
        soft, sharp, mask = (np.stack(each) for each in zip(*pairs, strict=True))
        two = (session.pixels(torch.from_numpy(each).to(device)) * 2.0 - 1.0 for each in (soft, sharp))
        return (*two, torch.from_numpy(mask).to(device).float()[:, None] / 255.0)


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _arguments() -> argparse.Namespace:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--pack", action="append", default=[], metavar="LOOK=FOLDER",
            help="whose swaps of a look to learn from; default: the folder of --out, and the committed pack",
        )  # fmt: skip

    return session.arguments("restorer", more)


def main() -> None:
    """python -m models.tiny.train.restorer; swaps need a pack of a look (see --pack)."""
    given = _arguments()
    parts = _parts(given)
    batches = _Batches(parts, given.seed)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        part = parts[-1 if at.done % 3 == 2 else 0]  # the pack's own look two steps in three, or always
        soft, sharp, mask = batches.take(given.batch, part, given.device)
        with session.mixed(given.device):
            out = network(soft.contiguous(memory_format=torch.channels_last))
        weight = 1.0 + 2.0 * mask
        pixel = (weight * (out - sharp).abs()).mean()
        fine = [(weight * (texture.detail(out, n) - texture.detail(sharp, n)).abs()).mean() for n in (3, 7)]
        detail = torch.stack(fine).sum()
        edge = torch.stack([(a - b).abs().mean() for a, b in zip(_slopes(out), _slopes(sharp), strict=True)]).sum()
        return {"loss": pixel + 2.0 * detail + 0.5 * edge, "pixel": pixel, "detail": detail, "edge": edge}

    session.run("restorer", given, Restorer(), step, export, edges=("leave",))


if __name__ == "__main__":
    main()
