"""Twin of the 68-point landmark network. Random weights: for cost and tests only."""

from __future__ import annotations

import numpy as np

from models.twins import layers as nn
from models.twins.builder import Graph, Tensor

__all__ = ["fan4"]

_POINTS = 68
_STACKS = 4
_DEPTH = 4
_MAP = 64


def fan4(g: Graph) -> None:
    """2dfan4: four stacked hourglasses of depth 4 at 64 x 64, 256 channels.

    `input` [n, 3, 256, 256] 0..1; `landmarks_xyscore` [n, 68, 3] on the 64 grid, `heatmaps` [n, 68, 64, 64]. How the
    published export makes x and y is not in the facts: here they are the mean position under the softmax of the map,
    and the score is its maximum.
    """
    x = nn.relu(g, nn.conv(g, g.input("input", (g.batch, 3, 256, 256)), 64, 7, 2))
    x = nn.pool(g, _block(g, x, 128), "AveragePool", 2, 2)
    x = _block(g, _block(g, x, 128), 256)
    heat = x
    for stack in range(_STACKS):
        y = _block(g, _hourglass(g, x, _DEPTH), 256)
        # an hourglass adds up five levels: the convolution behind it brings them back to unit size
        y = nn.relu(g, nn.conv(g, y, 256, 1, gain=0.25))
        heat = nn.conv(g, y, _POINTS, 1, gain=2.0)
        if stack < _STACKS - 1:
            # three parts of unit size: each is drawn smaller
            merged = nn.add(g, nn.conv(g, y, 256, 1, gain=0.5), nn.conv(g, heat, 256, 1, gain=0.5))
            x = nn.add(g, x, merged)
    g.output("landmarks_xyscore", _points(g, heat))
    g.output("heatmaps", heat)


def _hourglass(g: Graph, x: Tensor, depth: int) -> Tensor:
    """A branch at full size beside one at half size that holds the next hourglass."""
    upper = _block(g, x, 256)
    lower = _block(g, nn.pool(g, x, "AveragePool", 2, 2), 256)
    lower = _hourglass(g, lower, depth - 1) if depth > 1 else _block(g, lower, 256)
    lower = _block(g, lower, 256)
    return nn.add(g, upper, nn.resize(g, lower, 2))


def _block(g: Graph, x: Tensor, width: int) -> Tensor:
    """Norm, ReLU and convolution three times, to 1/2, 1/4 and 1/4 of the width, side by side, plus a shortcut."""
    parts, y = [], x
    for share in (2, 4, 4):
        y = nn.conv(g, nn.relu(g, nn.batch_norm(g, y)), width // share, bias=False, gain=0.6)
        parts.append(y)
    if x.channels != width:
        x = nn.conv(g, nn.relu(g, nn.batch_norm(g, x)), width, 1, bias=False, gain=1.0)
    return nn.add(g, nn.concat(g, *parts), x)


def _points(g: Graph, heat: Tensor) -> Tensor:
    flat = nn.reshape(g, heat, (0, _POINTS, -1))
    share = nn.softmax(g, flat)
    rows, columns = np.mgrid[0:_MAP, 0:_MAP].astype(np.float32)
    grid = g.constant(np.stack([columns.ravel(), rows.ravel()], axis=1))
    xy = g.op("MatMul", share, grid, shape=(*flat.shape[:2], 2))
    score = g.op("ReduceMax", flat, shape=(*flat.shape[:2], 1), axes=[2], keepdims=1)
    return nn.concat(g, xy, score, axis=2)
