"""GFPGANv1Clean of channel multiplier 2 at 512 px, as v1.2 to v1.4 are published: names as of `gfpganv1_clean_arch.py`.

Noise is what the checkpoint stores, not drawn anew: the same face gives the same picture twice. Of the published
weights, the mapping network and the small RGB heads are left out: no output depends on them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes

__all__ = ["GFPGAN", "build"]

_STYLE = 512
# channels of StyleGAN2 by side of the map; the U-Net beside it has half of them
WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
SIDES = (8, 16, 32, 64, 128, 256, 512)
_LATENTS = 2 * len(SIDES) + 2


def build(shapes: Shapes) -> GFPGAN:
    """The network at 512 px."""
    return GFPGAN()


def _scaled(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class _Residual(nn.Module):  # type: ignore[misc]
    """Two convolutions, the size changed between them, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 1, 1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv1(x), 0.2)
        y = F.leaky_relu(self.conv2(_scaled(y, self.factor)), 0.2)
        return y + self.skip(_scaled(x, self.factor))


class _Modulated(nn.Module):  # type: ignore[misc]
    """A convolution whose kernel is scaled by a style over its inputs, and to unit length over its outputs."""

    def __init__(self, inputs: int, outputs: int, size: int, *, unit: bool) -> None:
        super().__init__()
        self.modulation = nn.Linear(_STYLE, inputs)
        self.weight = nn.Parameter(torch.zeros(1, outputs, inputs, size, size))
        self.unit = unit

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [1, inputs, h, w], style [1, 512]."""
        kernel = self.weight * self.modulation(style).view(1, 1, -1, 1, 1)
        if self.unit:
            kernel = kernel * torch.rsqrt(kernel.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        return F.conv2d(x, kernel.squeeze(0), padding=self.weight.shape[-1] // 2)


class _Styled(nn.Module):  # type: ignore[misc]
    """Modulated convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.modulated_conv = _Modulated(inputs, outputs, 3, unit=True)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        y = self.modulated_conv(_scaled(x, 2) if self.up else x, style) * 2**0.5
        return F.leaky_relu(y + self.weight * noise + self.bias, 0.2)


class _Colours(nn.Module):  # type: ignore[misc]
    """Features as RGB."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.modulated_conv = _Modulated(inputs, 3, 1, unit=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.modulated_conv(x, style) + self.bias


class _Decoder(nn.Module):  # type: ignore[misc]
    """StyleGAN2 whose second half of channels is scaled and shifted by the U-Net on every level."""

    def __init__(self) -> None:
        super().__init__()
        self.constant_input = nn.Module()
        self.constant_input.weight = nn.Parameter(torch.zeros(1, WIDTHS[4], 4, 4))
        self.style_conv1 = _Styled(WIDTHS[4], WIDTHS[4], up=False)
        self.to_rgb1 = _Colours(WIDTHS[4])
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise0", torch.zeros(1, 1, 4, 4))
        inputs = WIDTHS[4]
        for level, side in enumerate(SIDES):
            self.style_convs.extend(
                [_Styled(inputs, WIDTHS[side], up=True), _Styled(WIDTHS[side], WIDTHS[side], up=False)]
            )
            self.to_rgbs.append(_Colours(WIDTHS[side]))
            inputs = WIDTHS[side]
            for number in (2 * level + 1, 2 * level + 2):
                self.noises.register_buffer(f"noise{number}", torch.zeros(1, 1, side, side))

    def forward(self, latents: Tensor, scales: list[Tensor], shifts: list[Tensor]) -> Tensor:
        noise = [getattr(self.noises, f"noise{number}") for number in range(2 * len(SIDES) + 1)]
        x = self.style_conv1(self.constant_input.weight, latents[:, 0], noise[0])
        picture = self.to_rgb1(x, latents[:, 1])
        for level in range(len(SIDES)):
            first = 2 * level + 1
            x = self.style_convs[first - 1](x, latents[:, first], noise[first])
            kept, changed = x.chunk(2, 1)
            x = torch.cat([kept, changed * scales[level] + shifts[level]], 1)
            x = self.style_convs[first](x, latents[:, first + 1], noise[first + 1])
            picture = _scaled(picture, 2) + self.to_rgbs[level](x, latents[:, first + 2])
        return picture


def _condition(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, 1, 1))


class GFPGAN(nn.Module):  # type: ignore[misc]
    """image [1, 3, 512, 512] RGB -1..1 -> the same, restored."""

    def __init__(self) -> None:
        super().__init__()
        half = {side: width // 2 for side, width in WIDTHS.items()}
        self.conv_body_first = nn.Conv2d(3, half[512], 1)
        self.conv_body_down = nn.ModuleList(_Residual(half[side], half[side // 2], 0.5) for side in reversed(SIDES))
        self.final_conv = nn.Conv2d(half[4], half[4], 3, 1, 1)
        self.conv_body_up = nn.ModuleList(_Residual(half[side // 2], half[side], 2) for side in SIDES)
        self.final_linear = nn.Linear(half[4] * 16, _LATENTS * _STYLE)
        self.stylegan_decoder = _Decoder()
        self.condition_scale = nn.ModuleList(_condition(half[side]) for side in SIDES)
        self.condition_shift = nn.ModuleList(_condition(half[side]) for side in SIDES)

    def forward(self, image: Tensor) -> Tensor:
        """The restored face."""
        x = F.leaky_relu(self.conv_body_first(image), 0.2)
        skips = []
        for down in self.conv_body_down:
            x = down(x)
            skips.append(x)
        x = F.leaky_relu(self.final_conv(x), 0.2)
        latents = self.final_linear(x.flatten(1)).view(-1, _LATENTS, _STYLE)
        scales, shifts = [], []
        for up, scale, shift in zip(self.conv_body_up, self.condition_scale, self.condition_shift, strict=True):
            x = up(x + skips.pop())
            scales.append(scale(x))
            shifts.append(shift(x))
        return self.stylegan_decoder(latents, scales, shifts)
