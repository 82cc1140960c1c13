"""Twins of the DINet family: mouths from reference pictures. Random weights: for cost and tests only.

`part` cuts a network where its users cache: "ref" runs once for a person, "frame" for every picture, "full" is both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.twins import layers as nn
from models.twins.builder import Graph, Tensor, TwinError

__all__ = ["adaat", "dinet", "dinet_five_ref", "dinet_mini"]

Part = Literal["full", "frame", "ref"]
_STYLE = 64


def dinet_mini(g: Graph, *, part: str = "full") -> None:
    """DINet_mini 2.0, the inner network on the mouth crop.

    `source` [n, 3, 80, 112], `reference` [n, 12, 80, 112]; `output` [n, 3, 80, 112] 0..1. "ref" gives `style` [n, 64],
    "frame" takes it.
    """
    _check(g, part)
    source = g.input("source", (g.batch, 3, 80, 112)) if part != "ref" else None
    if part == "frame":
        style = g.input("style", (g.batch, _STYLE))
    else:
        x = g.input("reference", (g.batch, 12, 80, 112))
        for width in (64, 128, 256):
            x = nn.leaky(g, nn.conv(g, x, width, stride=2), 0.1)
        style = nn.flatten(g, nn.conv(g, nn.global_average(g, x), _STYLE, 1))
    if source is None:
        g.output("style", style)
        return
    x = source
    for width in (32, 64, _STYLE):
        x = nn.leaky(g, _separable(g, x, width, 2), 0.1)
    x = nn.relu(g, _stylised(g, nn.conv(g, x, 96), style))
    for width, window in ((48, 4), (24, 2)):
        x = nn.relu(g, _stylised(g, _separable(g, nn.resize(g, x, 2), width), style))
        background = nn.pool(g, source, "AveragePool", window, window)
        x = nn.add(g, x, nn.conv(g, background, width, 1, gain=1.0))
    x = nn.relu(g, _stylised(g, nn.conv(g, nn.resize(g, x, 2), 16), style))
    g.output("output", nn.sigmoid(g, nn.conv(g, x, 3, gain=1.0)))


def _separable(g: Graph, x: Tensor, width: int, stride: int = 1) -> Tensor:
    x = nn.conv(g, x, x.channels, stride=stride, groups=x.channels, bias=False, gain=1.0)
    return nn.conv(g, x, width, 1, bias=False)


def _stylised(g: Graph, x: Tensor, style: Tensor) -> Tensor:
    """Instance norm, scaled and shifted by the style where a gate of style x activation opens."""
    c = x.channels
    unit = nn.instance_norm(g, x)
    hidden = nn.relu(g, nn.linear(g, style, c, gain=nn.RELU_GAIN))
    parts = nn.split(g, nn.linear(g, hidden, 3 * c, gain=0.5), (c, c, c))
    scale, offset, slope = (nn.as_map(g, part) for part in parts)
    gate = nn.sigmoid(g, nn.mul(g, slope, x))
    changed = nn.add(g, nn.mul(g, unit, nn.shifted(g, scale, 1.0)), offset)
    rest = nn.mul(g, nn.binary(g, "Sub", g.constant([1.0]), gate), unit)
    return nn.add(g, nn.mul(g, gate, changed), rest)


def dinet_five_ref(g: Graph, *, part: str = "full", volumetric: bool = False, narrow: int = 1) -> None:
    """DH_live's DINet with five references at 256 x 256.

    `source` [n, 6, 256, 256] BGR 0..1 (picture and drawn prompt), `reference` [n, 30, 256, 256]; `output`
    [n, 3, 256, 256] 0..1. "ref" gives `ref_feature` and `ref_appearance` [n, 256, 64, 64] (before and after the first
    two residual blocks), "frame" takes them. `volumetric`: see adaat; `narrow` divides the channels between the
    borders, for tests.
    """
    _check(g, part)
    source = g.input("source", (g.batch, 6, 256, 256)) if part != "ref" else None
    if part == "frame":
        feature, appearance = (
            g.input(name, (g.batch, 256 // narrow, 64, 64)) for name in ("ref_feature", "ref_appearance")
        )
    else:
        feature = _encoded(g, g.input("reference", (g.batch, 30, 256, 256)), (64, 128, 256), narrow)
        appearance = _appearance(g, feature, 2)
    if source is None:
        g.output("ref_feature", feature)
        g.output("ref_appearance", appearance)
        return
    x = _encoded(g, source, (32, 64, 128), narrow)
    pose = _same(g, nn.concat(g, x, feature), 128 // narrow)
    for kernel in (7, 7, 3, 3):
        pose = _same(g, _same(g, pose, pose.channels, kernel), pose.channels, stride=2)
    pose = nn.flatten(g, nn.global_average(g, pose))
    moved = _appearance(g, adaat(g, appearance, pose, volumetric=volumetric), 2)
    _painted(g, x, moved, 3, 128 // narrow)


def dinet(
    g: Graph,
    *,
    height_px: int = 256,
    width_px: int = 256,
    ref_channels: int = 3,
    audio_channels: int = 256,
    audio_steps: int = 20,
    volumetric: bool = False,
    narrow: int = 1,
) -> None:
    """DINet driven by audio features; the (3, 3, 256) at 256 x 256 is a contract twin.

    `source` [n, 3, h, w], `reference` [n, ref_channels, h, w], `audio` [n, audio_channels, audio_steps]; `output`
    [n, 3, h, w] 0..1. `volumetric`: see adaat; `narrow` divides the channels between the borders, for tests.
    """
    if height_px % 4 or width_px % 4:
        raise TwinError(f"{g.name}: wanted sides in multiples of 4, got {height_px} x {width_px}; correct them")
    source = g.input("source", (g.batch, 3, height_px, width_px))
    ref = g.input("reference", (g.batch, ref_channels, height_px, width_px))
    audio = g.input("audio", (g.batch, audio_channels, audio_steps))
    x = _encoded(g, source, (64, 128, 256), narrow)
    feature = _encoded(g, ref, (64, 128, 256), narrow)
    pose = _same(g, nn.concat(g, x, feature), 128 // narrow)
    for kernels in ((11, 11), (7, 7), (3,), (3,)):
        for kernel in kernels:
            pose = _same(g, pose, pose.channels, kernel)
        pose = _same(g, pose, pose.channels, stride=2)
    pose = nn.flatten(g, nn.global_average(g, pose))
    heard = nn.concat(g, pose, _heard(g, audio, 128 // narrow))
    moved = _appearance(g, adaat(g, _appearance(g, feature, 4), heard, volumetric=volumetric), 4)
    _painted(g, x, moved, 7, 128 // narrow)


def adaat(g: Graph, x: Tensor, pose: Tensor, *, volumetric: bool = False) -> Tensor:
    """Every channel rotated, scaled and shifted by a vector; x [n, c, h, w], pose [n, p].

    The published form samples a volume whose grid was made for aligned corners without aligning them, which also
    mixes neighbouring channels. `volumetric` writes just that (GridSample of 5 axes, opset 20); the default is its
    equal: a constant mix of two channels, then a GridSample of 4 axes.
    """
    n, c, h, w = x.shape
    p = nn.relu(g, nn.linear(g, pose, pose.shape[1], gain=nn.RELU_GAIN))
    size = nn.scaled(g, nn.sigmoid(g, nn.linear(g, p, c)), 2.0)
    angle = nn.scaled(g, nn.unary(g, "Tanh", nn.linear(g, p, c, gain=0.3)), 3.14159)
    shift = nn.reshape(g, nn.unary(g, "Tanh", nn.linear(g, p, 2 * c, gain=0.3)), (0, c, 2))
    by_x, by_y = (nn.reshape(g, part, (0, c, 1, 1)) for part in nn.split(g, shift, (1, 1), 2))
    cosine = nn.as_map(g, nn.mul(g, size, nn.unary(g, "Cos", angle)))
    sine = nn.as_map(g, nn.mul(g, size, nn.unary(g, "Sin", angle)))
    column = g.constant(np.linspace(-1, 1, w, dtype=np.float32).reshape(1, 1, 1, w))
    row = g.constant(np.linspace(-1, 1, h, dtype=np.float32).reshape(1, 1, h, 1))
    grid_x = nn.add(g, nn.binary(g, "Sub", nn.mul(g, cosine, column), nn.mul(g, sine, row)), by_x)
    grid_y = nn.add(g, nn.add(g, nn.mul(g, sine, column), nn.mul(g, cosine, row)), by_y)
    axes = [grid_x, grid_y]
    if volumetric:
        depth = g.constant(np.linspace(-1, 1, c, dtype=np.float32).reshape(1, c, 1, 1))
        # as the exporter writes a repeat over the batch: the other grid's shape is asked for at run time
        axes.append(g.op("Expand", depth, g.op("Shape", grid_x, shape=(4,)), shape=grid_x.shape))
    parts = [nn.reshape(g, axis, (0, c, h, w, 1)) for axis in axes]
    grid = nn.concat(g, *parts, axis=4)
    if volumetric:
        volume = nn.reshape(g, x, (0, 1, c, h, w))
        sampled = g.op("GridSample", volume, grid, shape=volume.shape, mode="linear", align_corners=0)
    else:
        flat = nn.reshape(g, _mixed(g, x), (-1, 1, h, w), (n * c, 1, h, w))
        grid = nn.reshape(g, grid, (-1, h, w, 2), (n * c, h, w, 2))
        mode = "linear" if g.opset >= 20 else "bilinear"
        sampled = g.op("GridSample", flat, grid, shape=flat.shape, mode=mode, align_corners=0)
    return nn.reshape(g, sampled, (-1, c, h, w), x.shape)


def _mixed(g: Graph, x: Tensor) -> Tensor:
    """Channels at depth c * C / (C - 1) - 1/2: two taps each, 0 beyond the ends."""
    c = x.channels
    place = np.arange(c) * c / (c - 1) - 0.5
    below = np.floor(place).astype(np.int64)
    share = (place - below).astype(np.float32)
    taps = []
    for index, weight in ((below, 1 - share), (below + 1, share)):
        inside = (index >= 0) & (index < c)
        taken = g.op("Gather", x, g.constant(np.clip(index, 0, c - 1)), shape=x.shape, axis=1)
        taps.append(nn.mul(g, taken, g.constant((weight * inside).astype(np.float32).reshape(1, c, 1, 1))))
    return nn.add(g, *taps)


def _same(g: Graph, x: Tensor, width: int, kernel: int = 3, stride: int = 1) -> Tensor:
    return nn.relu(g, nn.conv(g, x, width, kernel, stride))


def _encoded(g: Graph, x: Tensor, widths: tuple[int, int, int], narrow: int) -> Tensor:
    """To a quarter of the size."""
    x = _same(g, x, widths[0] // narrow, 7)
    for width in widths[1:]:
        x = _same(g, x, width // narrow, stride=2)
    return x


def _residual(g: Graph, x: Tensor) -> Tensor:
    """Norm and ReLU before each of two convolutions; the second norm is folded into the first convolution."""
    y = nn.conv(g, nn.relu(g, nn.batch_norm(g, x)), x.channels)
    return nn.add(g, x, nn.conv(g, nn.relu(g, y), x.channels, gain=0.5))


def _appearance(g: Graph, x: Tensor, blocks: int) -> Tensor:
    for _ in range(blocks):
        x = _residual(g, x)
    return x


def _heard(g: Graph, audio: Tensor, width: int) -> Tensor:
    """Audio features as a vector of this width."""
    x = nn.relu(g, nn.conv1d(g, audio, width, 5))
    for _ in range(2):
        x = _residual_1d(g, x)
        x = nn.relu(g, nn.conv1d(g, x, width, 3, 2))
    x = nn.relu(g, nn.conv1d(g, x, width, 3))
    return nn.flatten(g, nn.mean(g, x, (2,)))


def _residual_1d(g: Graph, x: Tensor) -> Tensor:
    y = nn.relu(g, nn.conv1d(g, nn.relu(g, nn.batch_norm(g, x)), x.channels, 3))
    return nn.add(g, x, nn.conv1d(g, y, x.channels, 3, gain=0.5))


def _painted(g: Graph, source: Tensor, moved: Tensor, kernel: int, width: int) -> None:
    """The picture from the source's and the references' features."""
    x = _same(g, nn.concat(g, source, moved), width)
    x = _same(g, nn.resize(g, x, 2), width)
    x = _residual(g, x)
    x = _same(g, nn.resize(g, x, 2), width)
    g.output("output", nn.sigmoid(g, nn.conv(g, x, 3, kernel, gain=1.0)))


def _check(g: Graph, part: str) -> None:
    if part not in ("full", "frame", "ref"):
        raise TwinError(f"{g.name}: wanted part full, frame or ref, got {part!r}; correct it")
