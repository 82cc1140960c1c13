"""Trains tiny_lipsync.onnx: mel bands and a template's picture in, the same picture with the mouth of the sound out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.renderer.speech import SHAPES
from models.tiny.train import mouths, onnx_out, session, store, texture, voices
from models.tiny.train.layers import ConvBlock, Styled

_STYLE = 64
_UTTERANCES, _PAIRS = 8, 8  # windows of sound in a step: two neighbours each
_CARE = (2.5, 1.0, 1.0, 1.5, 0.7, 0.6)  # of each shape: how far the lips are apart shows most
_SILENT = 0.04  # share of windows that begin before the sound, where the runtime gives zeros
_APART = 3  # columns between two frames' windows at 25 frames a second, nearly
_LEAST, _MOST = (0.0, -1.0, 0.0, 0.0, 0.0, 0.0), (1.0,) * 6


class Ear(nn.Module):  # type: ignore[misc]
    """mel [n,1,80,16] -> mouth shapes [n,6] in the order of SHAPES, not clipped.

    This bottleneck is all that the picture learns of the sound: a voice cannot tint a face, and the mouth of a sound
    can be checked against the truth before there is any picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bands = nn.Sequential(ConvBlock(1, 24), ConvBlock(24, 32, 2), ConvBlock(32, 48), ConvBlock(48, 64, 2))
        self.gather = nn.Sequential(nn.Conv2d(64, 16, 1), nn.ReLU())
        self.tell = nn.Sequential(nn.Linear(16 * 20 * 4, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU())
        self.shapes = nn.Linear(64, len(SHAPES))

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.shapes(self.tell(self.gather(self.bands(mel)).flatten(1)))
        return out


def made() -> np.ndarray:
    """1 where the network makes the picture, 0 where it is known [96,96]."""
    x, y, width, height = mouths.blank_xywh_px()
    out = np.zeros((mouths.SIZE, mouths.SIZE), np.float32)
    out[y : y + height, x : x + width] = 1.0
    return out


class Face(nn.Module):  # type: ignore[misc]
    """image [n,6,96,96] 0..1 (masked, reference) and mouth shapes [n,6] -> [n,3,96,96].

    Inside the blank rectangle every pixel is a mixture of the reference's and of a new one; outside it is the masked
    picture's own: what is known is copied, not drawn again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Sequential(nn.Linear(len(SHAPES), _STYLE), nn.ReLU(), nn.Linear(_STYLE, _STYLE), nn.ReLU())
        self.enter = nn.Sequential(nn.Conv2d(26, 40, 3, 1, 1), nn.ReLU())
        self.down24 = nn.Sequential(nn.Conv2d(40, 64, 3, 2, 1), nn.ReLU())
        self.down12 = nn.Sequential(nn.Conv2d(64, 80, 3, 2, 1), nn.ReLU())
        self.at12 = nn.ModuleList([Styled(80, _STYLE) for _ in range(2)])
        self.up24 = nn.Sequential(nn.Conv2d(80, 256, 1), nn.PixelShuffle(2))
        self.join24 = nn.Sequential(nn.Conv2d(128, 64, 1), nn.ReLU())
        self.at24 = nn.ModuleList([Styled(64, _STYLE) for _ in range(2)])
        self.up48 = nn.Sequential(nn.Conv2d(64, 160, 1), nn.PixelShuffle(2))
        self.join48 = nn.Sequential(nn.Conv2d(80, 40, 1), nn.ReLU())
        self.at48 = nn.ModuleList([Styled(40, _STYLE) for _ in range(2)])
        self.leave = nn.Conv2d(40, 16, 3, 1, 1)
        nn.init.normal_(self.leave.weight, 0.0, 0.02)
        nn.init.zeros_(self.leave.bias)
        y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
        self.register_buffer("place", torch.stack([x, y])[None])
        self.register_buffer("made", torch.from_numpy(made())[None, None])

    def forward(self, image: Tensor, shapes: Tensor) -> Tensor:
        """See the class; not clipped."""
        style = self.style(shapes)
        place = self.place.expand(image.shape[0], -1, -1, -1)
        e48 = self.enter(torch.cat([nn.functional.pixel_unshuffle(image - 0.5, 2), place], 1))
        e24 = self.down24(e48)
        x = self.down12(e24)
        for block in self.at12:
            x = block(x, style)
        x = self.join24(torch.cat([self.up24(x), e24], 1))
        for block in self.at24:
            x = block(x, style)
        x = self.join48(torch.cat([self.up48(x), e48], 1))
        for block in self.at48:
            x = block(x, style)
        out = nn.functional.pixel_shuffle(self.leave(x).float(), 2)
        masked, reference = image[:, :3], image[:, 3:]
        share = torch.sigmoid(out[:, 3:] * 4.0)
        drawn = reference + share * (out[:, :3] + 0.5 - reference)
        return masked + self.made * (drawn - masked)


class LipSync(nn.Module):  # type: ignore[misc]
    """Ear and face; each learns from exact mouth shapes, and they meet in them."""

    def __init__(self) -> None:
        super().__init__()
        self.ear, self.face = Ear(), Face()
        self.register_buffer("least", torch.tensor([_LEAST]))
        self.register_buffer("most", torch.tensor([_MOST]))

    def forward(self, mel: Tensor, image: Tensor) -> Tensor:
        """mel [n,1,80,16], image [n,6,96,96] -> [n,3,96,96] in 0..1."""
        shapes = torch.minimum(torch.maximum(self.ear(mel), self.least), self.most)
        out: Tensor = self.face(image, shapes)
        return out.clamp(0.0, 1.0)


def export(network: nn.Module, path: Path) -> None:
    """Writes the contract tiny_lipsync: mel, image -> output."""
    axes = {name: {0: "n"} for name in ("mel", "image", "output")}
    example = (torch.zeros(2, 1, 80, 16), torch.zeros(2, 6, mouths.SIZE, mouths.SIZE))
    onnx_out.write(network, example, ["mel", "image"], ["output"], axes, path)


class _Sounds:
    """Random windows of the drawn utterances, two neighbours at a time, each heard in another way."""

    def __init__(self, data: store.Arrays, seed: int, device: str) -> None:
        self._mel, self._shapes = data["mel"], data["shapes"]
        self._rng, self._device = np.random.default_rng(seed), device
        self._before = mouths.facts().before

    def take(self) -> tuple[Tensor, Tensor]:
        """mel [2k,1,80,16] and shapes [2k,6]; window k + i is the next frame of window i."""
        rng = self._rng
        windows, shapes = [], []
        for row in rng.integers(0, len(self._mel), _UTTERANCES):
            mel = np.asarray(self._mel[row], np.float32)
            bins = np.clip(np.arange(80) + rng.uniform(-2.5, 2.5) + np.arange(80) * rng.uniform(-0.03, 0.03), 0, 79)
            low = np.minimum(bins.astype(np.int64), 78)
            mel = mel[:, low] + (mel[:, low + 1] - mel[:, low]) * (bins - low).astype(np.float32)
            mel = np.clip(mel + rng.normal(0.0, 0.15), -4.0, 4.0)
            first = rng.integers(self._before, voices.COLUMNS - _APART, _PAIRS)
            for at in (first, first + _APART):
                window = mel[at[:, None] - self._before + np.arange(voices.WINDOW)]
                if rng.random() < _SILENT:
                    window[:, : rng.integers(0, self._before + 1)] = 0.0
                windows.append(window.transpose(0, 2, 1))
                shapes.append(self._shapes[row][at])
        order = [*range(0, len(windows), 2), *range(1, len(windows), 2)]
        mel = np.concatenate([windows[i] for i in order])[:, None].astype(np.float32)
        truth = np.concatenate([shapes[i] for i in order]).astype(np.float32)
        return torch.from_numpy(mel).to(self._device), torch.from_numpy(truth).to(self._device)


def _heard(ear: nn.Module, mel: Tensor, truth: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Losses of the shapes, and of how they change from frame to frame: what flickers is wrong twice.

    Squares, so that an unclear sound gets the mean of what it may be: that follows the truth best.
    """
    with session.mixed(device):
        told = ear(mel)
    told = told.float()
    half = len(told) // 2
    steps = (told[half:] - told[:half]) - (truth[half:] - truth[:half])
    weight = torch.tensor([_CARE], device=told.device)
    return 5.0 * (weight * (told - truth).square()).mean(), 5.0 * (weight * steps.square()).mean()


class _Moments:
    """Batches of drawn moments: one mouth as the template's picture, another one as the truth."""

    def __init__(self, data: store.Arrays, batch: int, seed: int, device: str) -> None:
        self._data, self._device = data, device
        self._order, self._rng = session.batches(len(data["images"]), batch, seed), np.random.default_rng(seed + 7)
        self._known = torch.from_numpy(1.0 - made()).to(device)[None, None]

    def take(self) -> tuple[Tensor, Tensor, Tensor]:
        """image [n,6,96,96] and truth [n,3,96,96] in BGR 0..1, shapes [n,6] of the truth."""
        pick, rng = next(self._order), self._rng
        before = rng.integers(0, mouths.MOUTHS, len(pick)) * (rng.random(len(pick)) < 0.6)  # the first often is shut
        after = rng.integers(0, mouths.MOUTHS, len(pick))
        images, shapes = self._data["images"], self._data["shapes"]
        both = [np.stack([images[p, m] for p, m in zip(pick, which, strict=True)]) for which in (before, after)]
        truth_shapes = np.stack([shapes[p, m] for p, m in zip(pick, after, strict=True)]).astype(np.float32)
        gain = np.exp(rng.normal(0.0, 0.08, (len(pick), 3, 1, 1)) + rng.normal(0.0, 0.08, (len(pick), 1, 1, 1)))
        scale = torch.from_numpy(gain.astype(np.float32)).to(self._device)
        reference, truth = (
            (session.pixels(torch.from_numpy(np.ascontiguousarray(part[..., ::-1])).to(self._device)) * scale).clamp(
                0, 1
            )
            for part in both
        )
        if rng.random() < 0.5:
            reference, truth = reference.flip(3), truth.flip(3)
        image = torch.cat([reference * self._known, reference], 1).contiguous(memory_format=torch.channels_last)
        return image, truth, torch.from_numpy(truth_shapes).to(self._device)


def _soft() -> np.ndarray:
    """How much of each made pixel reaches the frame: the contract's ramp inside the blank rectangle [96,96]."""
    x, y, w, h = mouths.blank_xywh_px()
    width = mouths.facts().feather_px
    at = np.arange(mouths.SIZE) + 0.5
    across = np.clip(np.minimum(at - x, x + w - at) / width, 0.0, 1.0)
    down = np.clip(np.minimum(at - y, y + h - at) / width, 0.0, 1.0)
    return np.asarray(np.minimum(across[None, :], down[:, None]), np.float32)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=("both", "ear", "face"), default="both", help="what learns; the rest stays")


def _ear_loss(network: nn.Module, sounds: _Sounds, device: str) -> dict[str, Tensor]:
    shape, steps = _heard(network.ear, *sounds.take(), device)
    return {"loss": 4.0 * shape + 4.0 * steps, "shape": shape, "steps": steps}


def _face_loss(network: nn.Module, moments: _Moments, soft: Tensor, device: str) -> dict[str, Tensor]:
    image, truth, shapes = moments.take()
    with session.mixed(device):
        out = network.face(image, shapes)
    # Where the mouth moved (lips, teeth, the chin's edge) is where a mistake shows most.
    changed = texture.detail(truth - image[:, 3:]).abs().mean(1, keepdim=True)
    weight = soft * (1.0 + (25.0 * changed).clamp(max=5.0))
    pixel = (weight * (out - truth).abs()).mean()
    detail = (weight * (texture.detail(out) - texture.detail(truth)).abs()).mean()
    coarse = torch.stack([nn.functional.avg_pool2d(soft * (out - truth), size).abs().mean() for size in (4, 8)]).sum()
    total = 4.0 * pixel + 6.0 * detail + 2.0 * coarse
    return {"loss": total, "pixel": pixel, "detail": detail}


def main() -> None:
    """python -m models.tiny.train.lipsync; its voices are espeak-ng's, see models/tiny/train/espeak.py."""
    given: argparse.Namespace = session.arguments("lipsync", _more)
    network = LipSync()
    shares: list[Callable[[nn.Module], dict[str, Tensor]]] = []
    if given.part != "face":
        sounds = _Sounds(session.samples(given, "voice"), given.seed + 3, given.device)
        shares.append(lambda network: _ear_loss(network, sounds, given.device))
    if given.part != "ear":
        moments = _Moments(session.samples(given, "mouth"), given.batch, given.seed, given.device)
        soft = torch.from_numpy(_soft()).to(given.device)[None, None]
        shares.append(lambda network: _face_loss(network, moments, soft, given.device))

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for share in shares:
            for name, value in share(network).items():
                losses[name] = losses[name] + value if name in losses else value
        return losses

    session.run("lipsync", given, network, step, export)


if __name__ == "__main__":
    main()
