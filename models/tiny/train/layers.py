"""Building blocks that all four networks share: plain convolutions that fold into few, cheap ONNX nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvBlock(nn.Sequential):  # type: ignore[misc]
    """Convolution, batch norm (folded at export), ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):  # type: ignore[misc]
    """Two convolutions with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x [n,c,h,w] -> the same shape."""
        return torch.relu(x + self.second(self.first(x)))


class Styled(nn.Module):  # type: ignore[misc]
    """Two convolutions with a shortcut; the style scales and shifts every channel after each of them."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
                for _ in range(2)
            ]
        )
        self.style = nn.ModuleList([nn.Linear(style, 2 * channels) for _ in range(2)])
        for layer in self.style:
            # Strong from the first step: a style that whispers is ignored for thousands of steps.
            nn.init.normal_(layer.weight, 0.0, 0.4 / style**0.5)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [n,c,h,w], style [n,s] -> the shape of x."""
        y = x
        for i, (conv, layer) in enumerate(zip(self.convs, self.style, strict=True)):
            scale, shift = layer(style)[:, :, None, None].chunk(2, dim=1)
            y = conv(y) * (1.0 + scale) + shift
            y = torch.relu(y) if i == 0 else y
        return torch.relu(x + y)


class Pyramid(nn.Module):  # type: ignore[misc]
    """[n,3,256,256] -> features [n,width,64,64], or [n,width,128,128] where `fine`, that know the whole face."""

    def __init__(self, width: int = 48, *, fine: bool = False) -> None:
        super().__init__()
        half = width // 2
        self.stem = ConvBlock(3, half, 2)
        self.near = nn.Sequential(ConvBlock(half, width, 2), Residual(width))
        self.mid = nn.Sequential(ConvBlock(width, 2 * width, 2), Residual(2 * width))
        self.far = nn.Sequential(ConvBlock(2 * width, 3 * width, 2), Residual(3 * width), Residual(3 * width))
        self.to_mid, self.to_near = ConvBlock(3 * width, 2 * width, 1, 1), ConvBlock(2 * width, width, 1, 1)
        self.join_mid, self.join_near = Residual(2 * width), Residual(width)
        self.to_stem = ConvBlock(width, half, 1, 1) if fine else None
        self.join_stem = nn.Sequential(Residual(half), ConvBlock(half, width)) if fine else None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        stem = self.stem(x)
        near = self.near(stem)
        mid = self.mid(near)
        mid = self.join_mid(mid + _twice(self.to_mid(self.far(mid))))
        out: Tensor = self.join_near(near + _twice(self.to_near(mid)))
        if self.to_stem is not None and self.join_stem is not None:
            out = self.join_stem(stem + _twice(self.to_stem(out)))
        return out


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def fold_norms(module: nn.Module) -> None:
    """Folds every batch norm that follows a convolution into it, in place; for export only."""
    for sequence in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(sequence) - 1):
            conv, norm = sequence[i], sequence[i + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[i] = torch.nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm.eval())
                sequence[i + 1] = nn.Identity()
