"""DINet and DH_live's network with five references: published names as of their `models/DINet.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes

__all__ = ["AdaAT", "Block", "DINet", "FiveRef", "Residual", "build", "build_five_ref"]


def build(shapes: Shapes) -> DINet:
    """DINet as published: 3 channels of source, 15 of references, 29 of audio."""
    return DINet()


def build_five_ref(shapes: Shapes) -> FiveRef:
    """DH_live's DINet_five_Ref: 6 channels of source, 30 of references."""
    return FiveRef()


class Block(nn.Module):  # type: ignore[misc]
    """Convolution, batch norm, ReLU; `up` doubles the size first, a stride of 2 halves it; in 1-D with `flat`."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, stride: int = 1, *, up: bool = False, flat: bool = False
    ) -> None:
        super().__init__()
        self.up = up
        self.conv = (nn.Conv1d if flat else nn.Conv2d)(inputs, outputs, size, stride, size // 2)
        self.norm = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2)
        return torch.relu(self.norm(self.conv(x)))


class Residual(nn.Module):  # type: ignore[misc]
    """Norm and ReLU before each of two convolutions, and a shortcut."""

    def __init__(self, width: int, *, flat: bool = False) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if flat else (nn.Conv2d, nn.BatchNorm2d)
        self.conv1, self.conv2 = conv(width, width, 3, 1, 1), conv(width, width, 3, 1, 1)
        self.norm1, self.norm2 = norm(width), norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return x + self.conv2(torch.relu(self.norm2(y)))


class AdaAT(nn.Module):  # type: ignore[misc]
    """Every channel rotated, scaled and shifted by a vector, as the published volume sampling does it.

    The published form samples a volume of channels with a grid made for aligned corners, without aligning them: it
    reads channel c at depth c * C / (C - 1) - 1/2, so mixes two neighbours. Since that hangs on the channel alone, it
    is written as a constant mix of two channels and an ordinary sampling in 2-D, which ONNX has from opset 16 on.
    """

    def __init__(self, vector: int, channels: int, height_px: int, width_px: int) -> None:
        super().__init__()
        self.commn_linear = nn.Sequential(nn.Linear(vector, vector), nn.ReLU())
        self.scale = nn.Sequential(nn.Linear(vector, channels), nn.Sigmoid())
        self.rotation = nn.Sequential(nn.Linear(vector, channels), nn.Tanh())
        self.translation = nn.Sequential(nn.Linear(vector, 2 * channels), nn.Tanh())
        self.shape = (channels, height_px, width_px)
        place = torch.arange(channels, dtype=torch.float64) * channels / (channels - 1) - 0.5
        below = torch.floor(place)
        for name, index, share in (("low", below, 1 - (place - below)), ("high", below + 1, place - below)):
            inside = (index >= 0) & (index < channels)
            self.register_buffer(name, index.clamp(0, channels - 1).long(), persistent=False)
            self.register_buffer(f"{name}_share", (share * inside).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("column", torch.linspace(-1, 1, width_px).view(1, 1, 1, -1), persistent=False)
        self.register_buffer("row", torch.linspace(-1, 1, height_px).view(1, 1, -1, 1), persistent=False)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        channels, height_px, width_px = self.shape
        vector = self.commn_linear(vector)
        size = 2 * self.scale(vector).view(-1, channels, 1, 1)
        angle = 3.14159 * self.rotation(vector).view(-1, channels, 1, 1)
        shift = self.translation(vector).view(-1, channels, 1, 1, 2)
        cosine, sine = size * torch.cos(angle), size * torch.sin(angle)
        across = cosine * self.column - sine * self.row + shift[..., 0]
        down = sine * self.column + cosine * self.row + shift[..., 1]
        grid = torch.stack([across, down], -1).view(-1, height_px, width_px, 2)
        mixed = x[:, self.low] * self.low_share + x[:, self.high] * self.high_share
        sampled = F.grid_sample(mixed.view(-1, 1, height_px, width_px), grid, align_corners=False)
        return sampled.view(-1, channels, height_px, width_px)


def _encoder(inputs: int, widths: tuple[int, int, int]) -> nn.Sequential:
    """To a quarter of the size."""
    return nn.Sequential(
        Block(inputs, widths[0], 7), Block(widths[0], widths[1], stride=2), Block(widths[1], widths[2], stride=2)
    )


def _alignment(inputs: int, kernels: tuple[tuple[int, ...], ...]) -> nn.Sequential:
    """A vector from source and references, before it is averaged over the map."""
    blocks = [Block(inputs, 128)]
    for level in kernels:
        blocks += [*(Block(128, 128, kernel) for kernel in level), Block(128, 128, stride=2)]
    return nn.Sequential(*blocks)


def _appearance(blocks: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Sequential(*(Residual(256) for _ in range(blocks))) for _ in range(2))


def _painter(inputs: int, size: int) -> nn.Sequential:
    blocks = [Block(inputs, 128), Block(128, 128, up=True), Residual(128), Block(128, 128, up=True)]
    return nn.Sequential(*blocks, nn.Conv2d(128, 3, size, 1, size // 2), nn.Sigmoid())


class _Warped(nn.Module):  # type: ignore[misc]
    """What both share: references are encoded once (`ref`), warped and merged for every frame (`frame`)."""

    def ref(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """References -> their features, and those after the first residual blocks: what a template keeps."""
        feature = self.ref_in_conv(reference)
        return feature, self.appearance_conv_list[0](feature)

    def _aligned(self, source: Tensor, feature: Tensor) -> Tensor:
        return self.trans_conv(torch.cat([source, feature], 1)).mean((2, 3))

    def _painted(self, source: Tensor, appearance: Tensor, vector: Tensor) -> Tensor:
        moved = self.appearance_conv_list[1](self.adaAT(appearance, vector))
        return self.out_conv(torch.cat([source, moved], 1))


class DINet(_Warped):
    """source [n, 3, 416, 320] RGB 0..1, reference [n, 15, 416, 320], audio [n, 29, 5] -> [n, 3, 416, 320]."""

    def __init__(self) -> None:
        super().__init__()
        self.source_in_conv = _encoder(3, (64, 128, 256))
        self.ref_in_conv = _encoder(15, (64, 128, 256))
        self.trans_conv = _alignment(512, ((11, 11), (7, 7), (3,), (3,)))
        self.audio_encoder = nn.Sequential(
            Block(29, 128, 5, flat=True),
            Residual(128, flat=True),
            Block(128, 128, stride=2, flat=True),
            Residual(128, flat=True),
            Block(128, 128, stride=2, flat=True),
            Block(128, 128, flat=True),
        )
        self.appearance_conv_list = _appearance(4)
        self.adaAT = AdaAT(256, 256, 416 // 4, 320 // 4)
        self.out_conv = _painter(512, 7)

    def forward(self, source: Tensor, reference: Tensor, audio: Tensor) -> Tensor:
        """The face with its mouth drawn."""
        return self.frame(source, audio, *self.ref(reference))

    def frame(self, source: Tensor, audio: Tensor, feature: Tensor, appearance: Tensor) -> Tensor:
        """The same from kept references."""
        x = self.source_in_conv(source)
        vector = torch.cat([self._aligned(x, feature), self.audio_encoder(audio).mean(2)], 1)
        return self._painted(x, appearance, vector)


class FiveRef(_Warped):
    """source [n, 6, 256, 256] BGR 0..1, reference [n, 30, 256, 256] -> [n, 3, 256, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.source_in_conv = _encoder(6, (32, 64, 128))
        self.ref_in_conv = _encoder(30, (64, 128, 256))
        self.trans_conv = _alignment(384, ((7,), (7,), (3,), (3,)))
        self.appearance_conv_list = _appearance(2)
        self.adaAT = AdaAT(128, 256, 64, 64)
        self.out_conv = _painter(384, 3)

    def forward(self, source: Tensor, reference: Tensor) -> Tensor:
        """The face with its mouth drawn."""
        return self.frame(source, *self.ref(reference))

    def frame(self, source: Tensor, feature: Tensor, appearance: Tensor) -> Tensor:
        """The same from kept references."""
        x = self.source_in_conv(source)
        return self._painted(x, appearance, self._aligned(x, feature))
