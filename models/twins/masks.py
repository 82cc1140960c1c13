"""Twins of the networks that say which pixels are face. Random weights: for cost and tests only."""

from __future__ import annotations

import math

import numpy as np

from models.twins import layers as nn
from models.twins.builder import Graph, Tensor

__all__ = ["bisenet", "xseg"]

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_CLASSES = 19


def bisenet(g: Graph, *, depth: int = 18, auxiliary: bool = True) -> None:
    """BiSeNet for face parsing on ResNet 18 or 34 (parameters without the classifier of the backbone).

    `input` [n, 3, 512, 512]; `output` [n, 19, 512, 512] logits, and with `auxiliary` the two heads of training as
    `output_16` and `output_32`, as the published export has them. Widths that the facts leave open: feature fusion
    256 with a bottleneck of 64, auxiliary heads of 64.
    """
    x = nn.relu(g, nn.conv(g, g.input("input", (g.batch, 3, 512, 512)), 64, 7, 2))
    x = nn.pool(g, x, "MaxPool", 3, 2, 1)
    levels = []
    for width, blocks, stride in zip((64, 128, 256, 512), _STAGES[depth], (1, 2, 2, 2), strict=True):
        for block in range(blocks):
            x = _basic(g, x, width, stride if block == 0 else 1)
        levels.append(x)
    _, fine, middle, coarse = levels
    overall = nn.relu(g, nn.conv(g, nn.global_average(g, coarse), 128, 1))
    low = nn.add(g, _refined(g, coarse), overall)
    low = nn.relu(g, nn.conv(g, nn.resize(g, low, 2), 128))
    mid = nn.add(g, _refined(g, middle), low)
    mid = nn.relu(g, nn.conv(g, nn.resize(g, mid, 2), 128))
    fused = nn.relu(g, nn.conv(g, nn.concat(g, fine, mid), 256, 1))
    gate = nn.relu(g, nn.conv(g, nn.global_average(g, fused), 64, 1, bias=False))
    gate = nn.sigmoid(g, nn.conv(g, gate, 256, 1, bias=False, gain=1.0))
    g.output("output", _classes(g, nn.add(g, fused, nn.mul(g, fused, gate)), 256, 8))
    if auxiliary:
        g.output("output_16", _classes(g, mid, 64, 8))
        g.output("output_32", _classes(g, low, 64, 16))


def _basic(g: Graph, x: Tensor, width: int, stride: int) -> Tensor:
    y = nn.relu(g, nn.conv(g, x, width, stride=stride))
    y = nn.conv(g, y, width, gain=0.6)
    if stride > 1:
        x = nn.conv(g, x, width, 1, stride, pad=0, gain=1.0)
    return nn.relu(g, nn.add(g, x, y))


def _refined(g: Graph, x: Tensor) -> Tensor:
    """Attention refinement to 128 channels."""
    x = nn.relu(g, nn.conv(g, x, 128))
    return nn.mul(g, x, nn.sigmoid(g, nn.conv(g, nn.global_average(g, x), 128, 1, gain=1.0)))


def _classes(g: Graph, x: Tensor, width: int, up: int) -> Tensor:
    """Logits at the size of the input."""
    x = nn.conv(g, nn.relu(g, nn.conv(g, x, width)), _CLASSES, 1, bias=False, gain=2.0)
    return nn.resize(g, x, up, "linear", corners=True)


def xseg(g: Graph) -> None:
    """XSeg: U-Net of convolution, filter response norm and thresholded ReLU, dense bottleneck.

    `input` [n, 256, 256, 3] BGR 0..1, NHWC; `output` [n, 256, 256, 1], 0..1. BlurPool is a fixed depthwise
    convolution: work, but no parameters.
    """
    x = nn.transpose(g, g.input("input", (g.batch, 256, 256, 3)), (0, 3, 1, 2))
    levels = []
    for width, blocks, blur in ((32, 2, 4), (64, 2, 3), (128, 2, 2), (256, 3, 2), (256, 3, 2), (256, 3, 2)):
        for _ in range(blocks):
            x = _activated(g, nn.conv(g, x, width, gain=1.0))
        levels.append(x)
        x = _blur_pool(g, x, blur)
    x = nn.linear(g, nn.flatten(g, x), 512)
    x = nn.linear(g, x, 4096)
    x = nn.reshape(g, x, (-1, 256, 4, 4), (levels[0].shape[0], 256, 4, 4))
    ups = ((128, 256, 3), (128, 256, 3), (128, 256, 3), (128, 128, 2), (64, 64, 2), (32, 32, 2))
    for (up, width, blocks), level in zip(ups, reversed(levels), strict=True):
        x = _activated(g, nn.conv_transposed(g, x, up, 3, 2, pad=1, output_pad=1))
        x = nn.concat(g, level, x)
        for _ in range(blocks):
            x = _activated(g, nn.conv(g, x, width, gain=1.0))
    x = nn.sigmoid(g, nn.conv(g, x, 1, gain=1.0))
    g.output("output", nn.transpose(g, x, (0, 2, 3, 1)))


def _activated(g: Graph, x: Tensor) -> Tensor:
    """Filter response norm (x over the root of its mean square, learned eps) and max(x, learned threshold)."""
    c = x.channels
    power = nn.mean(g, nn.mul(g, x, x), (2, 3))
    eps = nn.unary(g, "Abs", g.weight((1,), 0.0, 1e-6))
    unit = nn.binary(g, "Div", x, nn.unary(g, "Sqrt", nn.add(g, power, eps)))
    scaled = nn.mul(g, unit, g.weight((1, c, 1, 1), 0.1, 1.0))
    shifted = nn.add(g, scaled, g.weight((1, c, 1, 1), 0.05))
    return g.op("Max", shifted, g.weight((1, c, 1, 1), 0.1), shape=shifted.shape)


def _blur_pool(g: Graph, x: Tensor, taps: int) -> Tensor:
    """Binomial blur of taps x taps and every second pixel."""
    row = np.array([math.comb(taps - 1, i) for i in range(taps)], np.float32)
    kernel = np.tile(np.outer(row, row) / row.sum() ** 2, (x.channels, 1, 1, 1)).astype(np.float32)
    before, after = (taps - 1) // 2, (taps - 2) - (taps - 1) // 2
    n, c, h, w = x.shape
    out = (n, c, h // 2, w // 2)
    g.macs += math.prod(out) * taps * taps
    return g.op(
        "Conv",
        x,
        g.constant(kernel),
        shape=out,
        kernel_shape=[taps, taps],
        strides=[2, 2],
        pads=[before, before, after, after],
        group=c,
    )
