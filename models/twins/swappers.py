"""Twins of the networks that put an identity on a face. Random weights: for cost and tests only."""

from __future__ import annotations

import math

from models.twins import layers as nn
from models.twins.builder import Graph, Tensor

__all__ = ["hyperswap", "inswapper"]

_BLOCKS = 6
_STYLE_CHANNELS = 1024


def inswapper(g: Graph, *, activation_scale: float = 1.0, narrow: int = 1) -> None:
    """inswapper_128: encoder, six style blocks at 32 x 32 with instance norm written out, decoder.

    `target` [n, 3, 128, 128] RGB 0..1, `source` [n, 512] unit length; published with n = 1. The identity map
    `buff2fs`, 512 x 512, is the last initializer, and no node uses it.
    `activation_scale` multiplies what enters each instance norm: the FP32 output stays (the norm divides it out), but
    squares pass FP16's 65504 in the last block from about 40 on and in all twelve norms from about 120 on. At 256,
    rounding every tensor to FP16 leaves 25 dB of the FP32 picture, at 1 it leaves 72 dB (simulated, noise as input).
    `narrow` divides the channels between the borders, for tests.
    """
    target = g.input("target", (g.batch, 3, 128, 128))
    latent = g.input("source", (g.batch, 512))
    wide, half, quarter, least = (_STYLE_CHANNELS // (by * narrow) for by in (1, 2, 4, 8))
    x = nn.leaky(g, nn.conv(g, nn.pad_reflect(g, target, 3), least, 7, pad=0), 0.2)
    x = nn.leaky(g, nn.conv(g, x, quarter), 0.2)
    x = nn.leaky(g, nn.conv(g, x, half, stride=2), 0.2)
    x = nn.leaky(g, nn.conv(g, x, wide, stride=2), 0.2)
    for _ in range(_BLOCKS):
        inner = nn.relu(g, _styled(g, x, latent, activation_scale))
        x = nn.add(g, x, _styled(g, inner, latent, activation_scale))
    # six residuals of unit size have been added: the next gain brings the sum back
    x = nn.resize(g, x, 2, "linear")
    x = nn.leaky(g, nn.conv(g, x, half, gain=1.0 / math.sqrt(_BLOCKS / 2)), 0.2)
    x = nn.leaky(g, nn.conv(g, nn.resize(g, x, 2, "linear"), quarter), 0.2)
    x = nn.leaky(g, nn.conv(g, x, least), 0.2)
    x = nn.unary(g, "Tanh", nn.conv(g, nn.pad_reflect(g, x, 3), 3, 7, pad=0, gain=0.7))
    g.output("output", nn.binary(g, "Div", nn.shifted(g, x, 1.0), g.constant([2.0])))
    g.weight((512, 512), 1.0 / math.sqrt(512), name="buff2fs", counted=False)


def _styled(g: Graph, x: Tensor, latent: Tensor, scale: float) -> Tensor:
    """Reflect pad, convolution, instance norm, gamma and beta from the latent."""
    c = x.channels
    x = nn.conv(g, nn.pad_reflect(g, x, 1), c, pad=0, gain=scale)
    x = nn.instance_norm_written_out(g, x, 1e-8)
    style = nn.as_map(g, nn.linear(g, latent, 2 * c, std=0.3, bias_mean=0.5))
    gamma, beta = nn.split(g, style, (c, c))
    return nn.add(g, nn.mul(g, x, gamma), beta)


def hyperswap(g: Graph, *, narrow: int = 1) -> None:
    """HyperSwap 256: U-Net of attributes, eight stages of gated modulation, mask network.

    `source` [n, 512] unit length, `target` [n, 3, 256, 256] RGB -1..1; `output` -1..1, `mask` [n, 1, 256, 256].
    The bottleneck of the mask network is taken as one residual block of two 3 x 3 convolutions, the erosion of the
    mask as one max pool of 5 x 5 (0.01 of 256, both sides). `narrow` divides the channels between the borders, for
    tests.
    """
    latent = g.input("source", (g.batch, 512))
    target = g.input("target", (g.batch, 3, 256, 256))
    maps = _attributes(g, target, narrow)
    x = nn.conv(g, nn.as_map(g, latent), 4096 // narrow, gain=math.sqrt(512.0))
    x = nn.pixel_shuffle(g, x, 2)
    for stage, full in enumerate((1024, 1024, 1024, 512, 256, 128, 64, 3)):
        width, after = x.channels, full // narrow if stage < 7 else full
        y = nn.conv(g, nn.relu(g, _modulated(g, x, maps[stage], latent)), width, bias=False)
        y = nn.conv(g, nn.relu(g, _modulated(g, y, maps[stage], latent)), after, bias=False)
        if after != width:
            x = nn.conv(g, nn.relu(g, _modulated(g, x, maps[stage], latent)), after, bias=False)
        x = nn.add(g, x, y)
        if stage < 7:
            x = nn.resize(g, x, 2, "linear")
    face = nn.unary(g, "Tanh", x)
    mask = _mask(g, target, maps[7])
    rest = nn.binary(g, "Sub", g.constant([1.0]), mask)
    out = nn.add(g, nn.mul(g, face, mask), nn.mul(g, target, rest))
    eroded = nn.binary(g, "Sub", g.constant([1.0]), nn.pool(g, rest, "MaxPool", 5, 1, 2))
    g.output("output", out)
    g.output("mask", eroded)


def _attributes(g: Graph, target: Tensor, narrow: int) -> list[Tensor]:
    """Eight maps from 2 x 2 to 256 x 256: the deepest features, five decoder steps with skips, the last one twice."""
    x, levels = target, []
    for width in (32, 64, 128, 256, 512, 1024, 1024):
        x = nn.leaky(g, nn.conv(g, x, width // narrow, 4, 2, pad=1), 0.1)
        levels.append(x)
    maps = [x]
    for width, skip in zip((1024, 512, 256, 128, 64, 32), reversed(levels[:-1]), strict=True):
        x = nn.leaky(g, nn.conv_transposed(g, x, width // narrow, 4, 2, pad=1), 0.1)
        x = nn.concat(g, x, skip)
        maps.append(x)
    return [*maps, nn.resize(g, x, 2, "linear")]


def _modulated(g: Graph, x: Tensor, attribute: Tensor, latent: Tensor) -> Tensor:
    """Instance norm, then identity and attribute mixed by a gate that the normalised tensor opens."""
    unit = nn.instance_norm(g, x)
    width = x.channels
    by_identity = nn.add(
        g,
        nn.mul(g, unit, nn.as_map(g, nn.linear(g, latent, width, std=0.3, bias_mean=1.0))),
        nn.as_map(g, nn.linear(g, latent, width, std=0.3)),
    )
    by_attribute = nn.add(
        g,
        nn.mul(g, unit, nn.conv(g, attribute, width, 1, gain=0.5, bias_mean=1.0)),
        nn.conv(g, attribute, width, 1, gain=0.5),
    )
    gate = nn.sigmoid(g, nn.conv(g, unit, 1, 1, gain=1.0))
    rest = nn.binary(g, "Sub", g.constant([1.0]), gate)
    return nn.add(g, nn.mul(g, rest, by_attribute), nn.mul(g, gate, by_identity))


def _mask(g: Graph, target: Tensor, feature: Tensor) -> Tensor:
    """Where the face lies, 0..1 at full size, from the target and the finest attribute map."""
    x = nn.concat(g, target, feature)
    for width in (16, 32, 64):
        x = nn.pool(g, nn.relu(g, nn.conv(g, x, width)), "MaxPool", 2, 2)
    x = nn.relu(g, nn.add(g, x, nn.conv(g, nn.relu(g, nn.conv(g, x, 64)), 64, gain=0.5)))
    for width in (32, 16, 16):
        x = nn.relu(g, nn.conv_transposed(g, x, width, 2, 2))
    return nn.sigmoid(g, nn.conv(g, x, 1, 1, gain=1.0))
