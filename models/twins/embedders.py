"""Twin of the ArcFace recogniser. Random weights: for cost and tests only."""

from __future__ import annotations

from models.twins import layers as nn
from models.twins.builder import Graph

__all__ = ["iresnet50"]


def iresnet50(g: Graph) -> None:
    """iresnet50 (w600k_r50): 24 residual blocks, dense tail.

    `input.1` [n, 3, 112, 112]; `683` [n, 512], not normalised. Batch norms behind a convolution are folded into it as
    the exporter does; the one that opens each block stays a node.
    """
    x = nn.prelu(g, nn.conv(g, g.input("input.1", (g.batch, 3, 112, 112)), 64, gain=1.37))
    for width, blocks in ((64, 3), (128, 4), (256, 14), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            y = nn.batch_norm(g, x)
            y = nn.prelu(g, nn.conv(g, y, width, gain=1.37))
            y = nn.conv(g, y, width, stride=stride, gain=0.3)
            x = nn.add(g, y, nn.conv(g, x, width, 1, 2, pad=0, gain=1.0) if stride == 2 else x)
    x = nn.flatten(g, nn.batch_norm(g, x))
    g.output("683", nn.linear(g, x, 512))
