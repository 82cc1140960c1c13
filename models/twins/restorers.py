"""Twin of GFPGAN v1.4. Random weights: for cost and tests only."""

from __future__ import annotations

import math

import numpy as np

from models.twins import layers as nn
from models.twins.builder import Graph, Tensor, TwinError, noise

__all__ = ["gfpgan"]

_LATENTS = 16
_LATENT = 512
_WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
_ENCODER = {512: 32, 256: 64, 128: 128, 64: 256, 32: 256, 16: 256, 8: 256, 4: 256}


def gfpgan(g: Graph, *, activation_scale: float = 1.0, narrow: int = 1) -> None:
    """GFPGAN v1.4, clean architecture at 512 with channel multiplier 2.

    `input` [1, 3, 512, 512] RGB -1..1; `output` the same. The 2.1 M parameters of the mapping network, which the
    published configuration never uses, are not in the file. Noise is stored, not drawn. Modulated convolutions
    are written as published: the style times the weights, the sum of their squares, + 1e-8, root, quotient, then a
    convolution whose weights are data; therefore batch 1 only.
    `activation_scale` multiplies the styles of the demodulated convolutions: the FP32 output stays (demodulation
    divides it out), but the sums of squares pass FP16's 65504 in every one of them from about 250 on, most channels
    come out as 0, and the picture goes flat. At 256, rounding every tensor to FP16 leaves 14 dB of the FP32 picture,
    at 1 it leaves 66 dB (simulated, noise as input).
    `narrow` divides the channels between the borders, for tests.
    """
    if g.batch != 1:
        raise TwinError(
            f"{g.name}: wanted batch 1 (its convolutions take data as weights), got {g.batch}; leave it out"
        )
    x = nn.leaky(g, nn.conv(g, g.input("input", (1, 3, 512, 512)), 32 // narrow, 1), 0.2)
    features: list[Tensor] = []
    for size in (256, 128, 64, 32, 16, 8, 4):
        x = _residual(g, x, _ENCODER[size] // narrow, 0.5)
        features.append(x)
    x = nn.leaky(g, nn.conv(g, x, 256 // narrow), 0.2)
    latent = _LATENT // narrow
    latents = nn.split(g, nn.linear(g, nn.flatten(g, x), _LATENTS * latent), (latent,) * _LATENTS)
    conditions: list[tuple[Tensor, Tensor]] = []
    for size, feature in zip((8, 16, 32, 64, 128, 256, 512), reversed(features), strict=True):
        x = _residual(g, nn.add(g, x, feature), _ENCODER[size] // narrow, 2)
        half = _WIDTHS[size] // (2 * narrow)
        conditions.append((_condition(g, x, half, 1.0), _condition(g, x, half, 0.0)))
    g.output("output", _Painter(g, latents, activation_scale, narrow).paint(conditions))


def _residual(g: Graph, x: Tensor, width: int, factor: float) -> Tensor:
    """Two convolutions with a resize between them, beside a resized 1 x 1 shortcut without bias.

    Both sides are drawn smaller, so that their sum keeps the size of the input.
    """
    y = nn.leaky(g, nn.conv(g, x, x.channels), 0.2)
    y = nn.resize(g, y, factor, "linear")
    y = nn.leaky(g, nn.conv(g, y, width, gain=1.0), 0.2)
    skip = nn.conv(g, nn.resize(g, x, factor, "linear"), width, 1, bias=False, gain=0.7)
    return nn.add(g, y, skip)


def _condition(g: Graph, x: Tensor, width: int, centre: float) -> Tensor:
    """A spatial scale or shift for half of the painter's channels."""
    y = nn.leaky(g, nn.conv(g, x, x.channels), 0.2)
    return nn.conv(g, y, width, gain=0.3, bias_mean=centre)


class _Painter:
    """The StyleGAN2 decoder: a learned 4 x 4, then two modulated convolutions and a colour layer a level."""

    def __init__(self, g: Graph, latents: tuple[Tensor, ...], scale: float, narrow: int) -> None:
        self.g = g
        self.widths = {size: width // narrow for size, width in _WIDTHS.items()}
        self.latents = latents
        self.scale = scale

    def paint(self, conditions: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The picture, [1, 3, 512, 512]."""
        g = self.g
        width = self.widths[4]
        x = self._styled(g.weight((1, width, 4, 4), 1.0), width, self.latents[0], up=False)
        colour = self._colour(x, self.latents[1], None)
        for level, (size, (scale, shift)) in enumerate(zip(list(self.widths)[1:], conditions, strict=True)):
            width = self.widths[size]
            x = self._styled(x, width, self.latents[2 * level + 1], up=True)
            same, changed = nn.split(g, x, (width // 2, width // 2))
            x = nn.concat(g, same, nn.add(g, nn.mul(g, changed, scale), shift))
            x = self._styled(x, width, self.latents[2 * level + 2], up=False)
            colour = self._colour(x, self.latents[min(2 * level + 3, _LATENTS - 1)], colour)
        return colour

    def _styled(self, x: Tensor, width: int, latent: Tensor, *, up: bool) -> Tensor:
        """Modulated 3 x 3 times sqrt(2), stored noise, bias, leaky ReLU."""
        g = self.g
        y = self._modulated(x, width, 3, latent, up=up, demodulate=True)
        y = nn.scaled(g, y, math.sqrt(2.0))
        side = y.shape[2]
        grain = g.constant(noise(g.seed, 1_000_000 + side * 2 + up, (1, 1, side, side)))
        y = nn.add(g, y, nn.mul(g, grain, g.weight((1,), 0.0, 0.1)))
        return nn.leaky(g, nn.add(g, y, g.weight((1, width, 1, 1), 0.05)), 0.2)

    def _colour(self, x: Tensor, latent: Tensor, below: Tensor | None) -> Tensor:
        """1 x 1 to RGB without demodulation, added to the picture of the level below at twice its size."""
        g = self.g
        y = self._modulated(x, 3, 1, latent, up=False, demodulate=False)
        y = nn.add(g, y, g.weight((1, 3, 1, 1), 0.05))
        return y if below is None else nn.add(g, y, nn.resize(g, below, 2, "linear"))

    def _modulated(self, x: Tensor, width: int, kernel: int, latent: Tensor, *, up: bool, demodulate: bool) -> Tensor:
        g, c = self.g, x.channels
        # the colour layers of eight levels add up: each gives a share
        share, scale = (1.0, self.scale) if demodulate else (0.3, 1.0)
        spread = 0.3 * scale / math.sqrt(latent.channels)
        style = nn.linear(g, latent, c, std=spread, bias_mean=scale, bias_std=0.05 * scale)
        style = nn.reshape(g, style, (1, 1, c, 1, 1))
        weight = g.weight((1, width, c, kernel, kernel), share / math.sqrt(c * kernel * kernel))
        weight = nn.mul(g, weight, style)
        if demodulate:
            squares = g.op("Pow", weight, g.constant([2.0]), shape=weight.shape)
            total = g.op(
                "ReduceSum",
                squares,
                g.constant(np.array([2, 3, 4], np.int64)),
                shape=(1, width),
                keepdims=0,
            )
            root = nn.unary(g, "Sqrt", nn.shifted(g, total, 1e-8))
            inverse = nn.unary(g, "Reciprocal", root)
            weight = nn.mul(g, weight, nn.reshape(g, inverse, (1, width, 1, 1, 1)))
        if up:
            x = nn.resize(g, x, 2, "linear")
        weight = nn.reshape(g, weight, (width, c, kernel, kernel))
        shape = (1, width, *x.shape[2:])
        g.macs += math.prod(shape) * c * kernel * kernel
        return g.op(
            "Conv",
            x,
            weight,
            shape=shape,
            kernel_shape=[kernel, kernel],
            strides=[1, 1],
            pads=[kernel // 2] * 4,
            group=1,
        )
