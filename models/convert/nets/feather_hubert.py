"""FeatherHuBERT, FeatherTalk's student of HuBERT: published names as of its `feather_hubert.py`."""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes, axis_size

__all__ = ["FeatherHubert", "build"]

_KERNELS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
_DILATIONS = (1, 2, 4, 8)
_BLOCK = re.compile(r"(?:^|\.)encoder\.(\d+)\.")


def build(shapes: Shapes) -> FeatherHubert:
    """The network of as many channels and blocks as the file has; the student that is published has 256 and 8."""
    channels = axis_size(shapes, "final_norm.weight", 0) or 256
    wide = axis_size(shapes, "encoder.0.pw_expand.weight", 0) or 2 * channels
    blocks = [int(found[1]) for key in shapes if (found := _BLOCK.search(key))]
    return FeatherHubert(channels, wide, max(blocks, default=7) + 1)


def _norm(channels: int) -> nn.GroupNorm:
    """In as many groups as divide the channels, up to 32."""
    return nn.GroupNorm(next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0), channels)


class _Heard(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int, size: int, stride: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(inputs, outputs, size, stride, bias=False), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x)))


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, wide: int, dilation: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.pw_expand = nn.Conv1d(channels, wide, 1, bias=False)
        self.dw_conv = nn.Conv1d(wide, wide, 5, padding=2 * dilation, dilation=dilation, groups=wide, bias=False)
        self.pw_project = nn.Conv1d(wide, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pw_project(F.gelu(self.dw_conv(self.pw_expand(self.norm(x)))))


class FeatherHubert(nn.Module):  # type: ignore[misc]
    """input_values [1, samples] of mean 0 and variance 1 at 16 kHz -> [1, vectors, 1024], one every 20 ms."""

    def __init__(self, channels: int, wide: int, blocks: int) -> None:
        super().__init__()
        widths = (1, 64, 128, 256, 384, channels, channels, channels)
        front = zip(widths, widths[1:], _KERNELS, strict=False)
        self.frontend = nn.Module()
        self.frontend.layers = nn.Sequential(*(_Heard(i, o, size, stride) for i, o, (size, stride) in front))
        self.encoder = nn.Sequential(
            *(_Block(channels, wide, _DILATIONS[number % len(_DILATIONS)]) for number in range(blocks))
        )
        self.final_norm = _norm(channels)
        self.proj = nn.Conv1d(channels, 1024, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """One vector for every 320 samples, the first from 400 on."""
        x = self.encoder(self.frontend.layers(samples.unsqueeze(1)))
        return self.proj(F.gelu(self.final_norm(x))).transpose(1, 2)
