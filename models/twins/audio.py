"""Twins of the networks that listen. Random weights: for cost and tests only."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.twins import layers as nn
from models.twins.builder import Axis, Graph, Tensor, TwinError

__all__ = ["audio2bs", "wenet_tiny3"]

_WIDTH = 512
_HEADS = 8
_HEAD = _WIDTH // _HEADS
_LAYERS = 3
_CHUNK = 16
_CACHE = 16
_KERNEL = 15
_POSITIONS = 5000
_MELS = 80
_HIDDEN = 192


def wenet_tiny3(g: Graph) -> None:
    """WeNet's streaming encoder, unified_conformer_tiny3: three conformer layers of 512.

    `chunk` [1, 1, 67, 80] log-mel, `offset` [1] int64 (100 as published), `att_cache` [3, 8, 16, 128] (keys and
    values of 16 steps), `cnn_cache` [3, 1, 512, 14]; `output` [1, 16, 512], `r_att_cache`, `r_cnn_cache`. The table
    of 5000 positions is a constant, not a parameter, and is most of what the file weighs over its parameters.
    """
    if g.batch != 1:
        raise TwinError(f"{g.name}: wanted batch 1 (its caches have no batch axis), got {g.batch}; leave it out")
    chunk = g.input("chunk", (1, 1, 67, _MELS))
    offset = g.input("offset", (1,), "int64")
    att_cache = g.input("att_cache", (_LAYERS, _HEADS, _CACHE, 2 * _HEAD))
    cnn_cache = g.input("cnn_cache", (_LAYERS, 1, _WIDTH, _KERNEL - 1))
    # global mean and deviation of log-mel values of int16 audio, about 10 and 4
    x = nn.shifted(g, nn.scaled(g, chunk, 0.25), -2.5)
    x = nn.relu(g, nn.conv(g, x, _WIDTH, 3, 2, pad=0))
    x = nn.relu(g, nn.conv(g, x, _WIDTH, 3, 2, pad=0))
    x = nn.reshape(g, nn.transpose(g, x, (0, 2, 1, 3)), (1, _CHUNK, -1))
    x = nn.scaled(g, nn.linear(g, x, _WIDTH, gain=1.0 / math.sqrt(_WIDTH)), math.sqrt(_WIDTH))
    positions = _positions(g, offset)
    keys = nn.split(g, att_cache, (1,) * _LAYERS, 0)
    pasts = nn.split(g, cnn_cache, (1,) * _LAYERS, 0)
    next_keys, next_pasts = [], []
    for layer in range(_LAYERS):
        x = nn.add(g, x, _feed_forward(g, x))
        y, seen = _attention(g, x, positions, keys[layer])
        x = nn.add(g, x, y)
        y, past = _convolution(g, x, nn.reshape(g, pasts[layer], (1, _WIDTH, -1)))
        x = nn.add(g, x, y)
        x = nn.layer_norm_written_out(g, nn.add(g, x, _feed_forward(g, x)))
        next_keys.append(seen)
        next_pasts.append(nn.reshape(g, past, (1, 1, _WIDTH, -1)))
    g.output("output", nn.layer_norm_written_out(g, x))
    g.output("r_att_cache", nn.concat(g, *next_keys, axis=0), (_LAYERS, _HEADS, _CACHE, 2 * _HEAD))
    g.output("r_cnn_cache", nn.concat(g, *next_pasts, axis=0), (_LAYERS, 1, _WIDTH, _KERNEL - 1))


def _positions(g: Graph, offset: Tensor) -> Tensor:
    """Sines and cosines of the 32 steps from offset - 16 on, [1, 32, 512]."""
    first = g.op("Sub", offset, g.constant(np.array([_CACHE], np.int64)), shape=(1,))
    last = g.op("Add", offset, g.constant(np.array([_CHUNK], np.int64)), shape=(1,))
    axis = g.constant(np.array([1], np.int64))
    table = g.constant(_position_table())
    return g.op("Slice", table, first, last, axis, shape=(1, _CACHE + _CHUNK, _WIDTH))


def _position_table() -> npt.NDArray[np.float32]:
    steps = np.arange(_POSITIONS, dtype=np.float64)[:, None]
    rates = np.exp(np.arange(0, _WIDTH, 2) * -(math.log(10000.0) / _WIDTH))
    table = np.empty((1, _POSITIONS, _WIDTH), np.float32)
    table[0, :, 0::2], table[0, :, 1::2] = np.sin(steps * rates), np.cos(steps * rates)
    return table


def _swish(g: Graph, x: Tensor) -> Tensor:
    return nn.mul(g, x, nn.sigmoid(g, x))


def _feed_forward(g: Graph, x: Tensor) -> Tensor:
    """Half of a dense pair 512 -> 2048 -> 512."""
    y = _swish(g, nn.linear(g, nn.layer_norm_written_out(g, x), 2048))
    return nn.scaled(g, nn.linear(g, y, _WIDTH), 0.5)


def _heads(g: Graph, x: Tensor) -> Tensor:
    return nn.transpose(g, nn.reshape(g, x, (1, -1, _HEADS, _HEAD)), (0, 2, 1, 3))


def _attention(g: Graph, x: Tensor, positions: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
    """Eight heads over 16 cached and 16 new steps with relative positions; also the keys and values to keep."""
    y = nn.layer_norm_written_out(g, x)
    query, key, value = (_heads(g, nn.linear(g, y, _WIDTH)) for _ in range(3))
    past_key, past_value = nn.split(g, cache, (_HEAD, _HEAD), 3)
    key, value = nn.concat(g, past_key, key, axis=2), nn.concat(g, past_value, value, axis=2)
    seen = nn.split(g, nn.concat(g, key, value, axis=3), (_CHUNK, _CACHE), 2)[1]
    place = _heads(g, nn.linear(g, positions, _WIDTH, bias=False))
    by_content = nn.add(g, query, g.weight((1, _HEADS, 1, _HEAD), 0.05))
    by_place = nn.add(g, query, g.weight((1, _HEADS, 1, _HEAD), 0.05))
    scores = nn.add(
        g,
        nn.matmul(g, by_content, nn.transpose(g, key, (0, 1, 3, 2))),
        nn.matmul(g, by_place, nn.transpose(g, place, (0, 1, 3, 2))),
    )
    mixed = nn.matmul(g, nn.softmax(g, nn.scaled(g, scores, 1.0 / math.sqrt(_HEAD))), value)
    joined = nn.reshape(g, nn.transpose(g, mixed, (0, 2, 1, 3)), (1, -1, _WIDTH))
    return nn.linear(g, joined, _WIDTH), seen


def _convolution(g: Graph, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution of 15 steps, 14 of them cached, between gated and plain 1 x 1; and the past."""
    y = nn.transpose(g, nn.layer_norm_written_out(g, x), (0, 2, 1))
    y = nn.concat(g, past, y, axis=2)
    kept = nn.split(g, y, (_CHUNK, _KERNEL - 1), 2)[1]
    value, gate = nn.split(g, nn.conv1d(g, y, 2 * _WIDTH, 1, gain=1.0), (_WIDTH, _WIDTH), 1)
    y = nn.mul(g, value, nn.sigmoid(g, gate))
    weight = g.weight((_WIDTH, 1, _KERNEL), 1.0 / math.sqrt(_KERNEL))
    g.macs += _WIDTH * _KERNEL * _CHUNK
    y = g.op(
        "Conv",
        y,
        weight,
        g.weight((_WIDTH,), 0.05),
        shape=(1, _WIDTH, _CHUNK),
        kernel_shape=[_KERNEL],
        strides=[1],
        pads=[0, 0],
        group=_WIDTH,
    )
    y = _swish(g, nn.layer_norm_written_out(g, nn.transpose(g, y, (0, 2, 1))))
    y = nn.conv1d(g, nn.transpose(g, y, (0, 2, 1)), _WIDTH, 1, gain=1.0)
    return nn.transpose(g, y, (0, 2, 1)), kept


def audio2bs(g: Graph, *, frames: int = 2) -> None:
    """DH_live's audio to blendshapes: dense, two LSTM layers of 192, dense.

    `x` [n, frames, 80] log-mel, an even number of frames (2 are one video frame at 25 fps; 0 leaves it free),
    `h0`, `c0` [2, n, 192]; `y` [n, frames / 2, 6], `hn`, `cn`. Batch norms are folded into the dense layers.
    """
    if frames % 2:
        raise TwinError(f"{g.name}: wanted an even number of frames, got {frames}; correct it")
    free: Axis = frames or "t"
    x = g.input("x", (g.batch, free, _MELS))
    h0, c0 = (g.input(name, (2, g.batch, _HIDDEN)) for name in ("h0", "c0"))
    # log-mel of audio in -1..1 lies about -8 with a deviation of 4
    x = nn.reshape(g, x, (0, -1, 2 * _MELS))
    x = nn.leaky(g, nn.linear(g, x, _MELS, gain=0.12), 0.2)
    x = nn.transpose(g, nn.linear(g, x, _MELS), (1, 0, 2))
    hidden, cells = nn.split(g, h0, (1, 1), 0), nn.split(g, c0, (1, 1), 0)
    states = []
    for layer in range(2):
        x, last_hidden, last_cell = _lstm(g, x, hidden[layer], cells[layer])
        states.append((last_hidden, last_cell))
    x = nn.transpose(g, x, (1, 0, 2))
    x = nn.leaky(g, nn.linear(g, x, 256, gain=1.4), 0.2)
    x = nn.leaky(g, nn.linear(g, x, 256, gain=1.4), 0.2)
    steps: Axis = frames // 2 if frames else "t_half"
    g.output("y", nn.linear(g, x, 6), (g.batch, steps, 6))
    for name, place in (("hn", 0), ("cn", 1)):
        g.output(name, nn.concat(g, *(state[place] for state in states), axis=0), (2, g.batch, _HIDDEN))


def _lstm(g: Graph, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One layer over [steps, n, features]."""
    steps, n, features = x.shape
    g.macs += steps * n * 4 * _HIDDEN * (features + _HIDDEN)
    y, last_hidden, last_cell = g.ops(
        "LSTM",
        x,
        g.weight((1, 4 * _HIDDEN, features), 1.0 / math.sqrt(features)),
        g.weight((1, 4 * _HIDDEN, _HIDDEN), 1.0 / math.sqrt(_HIDDEN)),
        g.weight((1, 8 * _HIDDEN), 0.05),
        None,
        hidden,
        cell,
        shapes=((steps, 1, n, _HIDDEN), (1, n, _HIDDEN), (1, n, _HIDDEN)),
        hidden_size=_HIDDEN,
    )
    squeezed = g.op("Squeeze", y, g.constant(np.array([1], np.int64)), shape=(steps, n, _HIDDEN))
    return squeezed, last_hidden, last_cell
