"""DH_live's small networks: published names as of its `audio2bs_lstm.py` and the two `DINet_mini.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes
from models.convert.nets.dinet import AdaAT, Block, Residual

__all__ = ["Audio2Shapes", "Mini1", "Mini2", "build_audio2bs", "build_mini_1", "build_mini_2"]

_STYLE = 64


def build_audio2bs(shapes: Shapes) -> Audio2Shapes:
    """Sound to six mouth shapes."""
    return Audio2Shapes()


def build_mini_1(shapes: Shapes) -> Mini1:
    """DINet_mini 1.0."""
    return Mini1()


def build_mini_2(shapes: Shapes) -> Mini2:
    """DINet_mini 2.0."""
    return Mini2()


class Audio2Shapes(nn.Module):  # type: ignore[misc]
    """x [n, frames, 80], h0 and c0 [2, n, 192] -> shapes [n, frames / 2, 6], hn, cn; frames are even in number."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Linear(160, 80), nn.BatchNorm1d(80), nn.LeakyReLU(0.2), nn.Linear(80, 80))
        self.LSTM = nn.LSTM(80, 192, 2, batch_first=True)
        self.fc = nn.Sequential(
            nn.Linear(192, 256),
            nn.BatchNorm1d(256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 256),
            nn.BatchNorm1d(256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 6),
        )

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two frames of sound make one row of shapes."""
        batch = x.shape[0]
        pairs = self.downsample(x.reshape(-1, 160)).reshape(batch, -1, 80)
        y, (hn, cn) = self.LSTM(pairs, (h0, c0))
        return self.fc(y.reshape(-1, 192)).reshape(batch, -1, 6), hn, cn


class Mini1(nn.Module):  # type: ignore[misc]
    """source [n, 3, 72, 72] RGB 0..1, reference [n, 12, 72, 72] -> [n, 3, 72, 72]."""

    def __init__(self) -> None:
        super().__init__()
        self.source_in_conv = nn.Sequential(Block(3, 12), Block(12, 12, stride=2), Block(12, 20, stride=2))
        self.ref_in_conv = nn.Sequential(Block(12, 16), Block(16, 16, stride=2), Block(16, 16), Block(16, 20, stride=2))
        self.trans_conv = nn.Sequential(Block(40, 20, stride=2), Block(20, 20, stride=2))
        self.appearance_conv = nn.Sequential(Residual(20))
        self.adaAT = AdaAT(20, 20, 18, 18)
        self.out_conv = nn.Sequential(
            Block(40, 20), Block(20, 20, up=True), Block(20, 16), Block(16, 16, up=True), nn.Conv2d(16, 3, 3, 1, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, source: Tensor, reference: Tensor) -> Tensor:
        """The mouth."""
        return self.frame(source, self.ref(reference))

    def ref(self, reference: Tensor) -> Tensor:
        """References -> what a template keeps of them."""
        return self.ref_in_conv(reference)

    def frame(self, source: Tensor, feature: Tensor) -> Tensor:
        """The mouth from a kept reference."""
        x = self.source_in_conv(source)
        vector = self.trans_conv(torch.cat([x, feature], 1)).mean((2, 3))
        moved = self.appearance_conv(self.adaAT(feature, vector))
        return self.out_conv(torch.cat([x, moved], 1))


class _Separable(nn.Module):  # type: ignore[misc]
    """3 x 3 on each channel, then 1 x 1 over them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class _Stylised(nn.Module):  # type: ignore[misc]
    """Instance norm, scaled and shifted by the style where a gate of style x activation opens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.InstanceNorm2d(channels)
        self.mlp = nn.Sequential(nn.Linear(_STYLE, channels), nn.ReLU(), nn.Linear(channels, 3 * channels))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        unit = self.norm(x)
        scale, offset, slope = self.mlp(style).view(-1, 3, self.channels, 1, 1).unbind(1)
        gate = torch.sigmoid(slope * x)
        return gate * (unit * (1 + scale) + offset) + (1 - gate) * unit


class _Decoded(nn.Module):  # type: ignore[misc]
    """Doubled in size where `up`, convolved, stylised."""

    def __init__(self, inputs: int, outputs: int, *, up: bool, separable: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = _Separable(inputs, outputs) if separable else nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.adain = _Stylised(outputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2)
        return torch.relu(self.adain(self.conv(x), style))


class Mini2(nn.Module):  # type: ignore[misc]
    """source [n, 3, 80, 112] RGB 0..1, reference [n, 12, 80, 112] -> [n, 3, 80, 112]."""

    def __init__(self) -> None:
        super().__init__()
        self.skip_fuse0, self.skip_fuse1 = nn.Conv2d(3, 48, 1), nn.Conv2d(3, 24, 1)
        moving: list[nn.Module] = []
        for inputs, outputs in ((3, 32), (32, 64), (64, _STYLE)):
            moving += [_Separable(inputs, outputs, 2), nn.LeakyReLU(0.1)]
        self.motion_encoder = nn.Sequential(*moving)
        looking: list[nn.Module] = []
        for inputs, outputs in ((12, 64), (64, 128), (128, 256)):
            looking += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.1)]
        self.appearance_encoder = nn.Sequential(*looking, nn.AdaptiveAvgPool2d(1), nn.Conv2d(256, _STYLE, 1))
        self.decoder_blocks = nn.ModuleList(
            _Decoded(inputs, outputs, up=up, separable=separable)
            for inputs, outputs, up, separable in (
                (_STYLE, 96, False, False), (96, 48, True, True), (48, 24, True, True), (24, 16, True, False)
            )
        )  # fmt: skip
        self.final_conv = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, source: Tensor, reference: Tensor) -> Tensor:
        """The mouth."""
        return self.frame(source, self.ref(reference))

    def ref(self, reference: Tensor) -> Tensor:
        """References -> the style [n, 64], which a template keeps."""
        return self.appearance_encoder(reference).flatten(1)

    def frame(self, source: Tensor, style: Tensor) -> Tensor:
        """The mouth from a kept style."""
        first, second, third, fourth = self.decoder_blocks
        x = second(first(self.motion_encoder(source), style), style)
        x = third(x + self.skip_fuse0(F.avg_pool2d(source, 4)), style)
        x = fourth(x + self.skip_fuse1(F.avg_pool2d(source, 2)), style)
        return torch.sigmoid(self.final_conv(x))
