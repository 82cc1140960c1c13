"""Ultralight-Digital-Human's U-Net: published names as of its `unet.py`, weights saved as a plain state dict."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes, axis_size
from models.convert.nets.blocks import Named, conv_norm

__all__ = ["Ultralight", "build"]

WIDTHS = (32, 64, 128, 256, 512)
AUDIO_CHANNELS = {"wenet": 128, "hubert": 16}


def build(shapes: Shapes, *, audio: str) -> Ultralight:
    """The network for features of one kind, as wide as the file's weights.

    The last convolution tells half the width. The first two of the audio branch were published in several widths.
    """
    widths = tuple(width // 2 for width in WIDTHS) if axis_size(shapes, "outc.conv.weight", 1) == 16 else WIDTHS
    first, second = (widths[3], widths[3]) if audio == "wenet" else (widths[1], widths[2])
    first = axis_size(shapes, "audio_model.conv1.conv.6.weight", 0) or first
    second = axis_size(shapes, "audio_model.conv2.conv.6.weight", 0) or second
    return Ultralight(audio, widths, (first, second))


class _Inverted(nn.Module):  # type: ignore[misc]
    """1 x 1 to twice the channels, depthwise 3 x 3, 1 x 1 back."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, residual: bool = False) -> None:
        super().__init__()
        wide = 2 * inputs
        self.residual = residual
        self.conv = nn.Sequential(
            *conv_norm(inputs, wide, 1),
            nn.ReLU(),
            *conv_norm(wide, wide, 3, stride, groups=wide),
            nn.ReLU(),
            *conv_norm(wide, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


def _double(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    pair = nn.Sequential(_Inverted(inputs, outputs, stride), _Inverted(outputs, outputs, residual=True))
    return Named("double_conv", pair)


class _Heard(nn.Module):  # type: ignore[misc]
    """Audio features as a map of 10 x 10."""

    def __init__(self, audio: str, widths: Sequence[int], first: tuple[int, int]) -> None:
        super().__init__()
        channels, wenet = AUDIO_CHANNELS[audio], audio == "wenet"
        self.conv1 = _Inverted(channels, first[0], residual=wenet and channels == first[0])
        self.conv2 = _Inverted(*first, residual=wenet and first[0] == first[1])
        self.conv3 = nn.Conv2d(first[1], widths[3], 3, (1, 2) if wenet else 2, 1)
        self.bn3 = nn.BatchNorm2d(widths[3])
        self.conv4 = _Inverted(widths[3], widths[3], residual=True)
        self.conv5 = nn.Conv2d(widths[3], widths[4], 3, 2, 3)
        self.bn5 = nn.BatchNorm2d(widths[4])
        self.conv6 = _Inverted(widths[4], widths[4], residual=True)
        self.conv7 = _Inverted(widths[4], widths[4], residual=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        x = self.conv4(torch.relu(self.bn3(self.conv3(x))))
        x = torch.relu(self.bn5(self.conv5(x)))
        return self.conv7(self.conv6(x))


class Ultralight(nn.Module):  # type: ignore[misc]
    """image [n, 6, 160, 160] BGR 0..1, audio [n, 128, 16, 32] or [n, 16, 32, 32] -> [n, 3, 160, 160] 0..1."""

    def __init__(self, audio: str, widths: Sequence[int], first: tuple[int, int]) -> None:
        super().__init__()
        self.audio_model = _Heard(audio, widths, first)
        self.fuse_conv = nn.Sequential(_double(2 * widths[4], widths[4]), _double(widths[4], widths[3]))
        self.inc = Named("inconv", nn.Sequential(_Inverted(6, widths[0])))
        for level in range(1, 5):
            down = nn.Sequential(_double(widths[level - 1], widths[level], 2))
            self.add_module(f"down{level}", Named("maxpool_conv", down))
        outputs = (widths[3] // 2, widths[2] // 2, widths[1] // 2, widths[0])
        for level in range(1, 5):
            # what comes from below has as many channels as the skip beside it
            self.add_module(f"up{level}", Named("conv", _double(2 * widths[4 - level], outputs[level - 1])))
        self.outc = Named("conv", nn.Conv2d(widths[0], 3, 1))

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        """The picture of the mouth."""
        x = self.inc(image)
        skips = [x]
        for down in (self.down1, self.down2, self.down3, self.down4):
            x = down(x)
            skips.append(x)
        x = self.fuse_conv(torch.cat([skips.pop(), self.audio_model(audio)], 1))
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = up(torch.cat([x, skips.pop()], 1))
        return torch.sigmoid(self.outc(x))
