"""Twins of the SCRFD face detectors. Random weights: for cost and tests only.

Random scores would drive nothing, so the score heads are set from one run over seeded noise: every level and anchor
gets its share of a stated number of candidates at or above 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.twins import layers as nn
from models.twins.builder import Axis, Graph, Tensor, TwinError, noise

__all__ = ["COUNTED_AT_PX", "noise_picture", "scrfd_10g", "scrfd_500m", "sizes_of"]

COUNTED_AT_PX = 640
_STRIDES = (8, 16, 32)
_ANCHORS = 2
_LOGIT_STD = 1.5
_NUMBERED = {
    "score": ("448", "471", "494"),
    "bbox": ("451", "474", "497"),
    "kps": ("454", "477", "500"),
}


@dataclass(frozen=True)
class _Head:
    """The score convolution of one stride: its output, weight and bias."""

    logits: Tensor
    weight: Tensor
    bias: Tensor


def sizes_of(size_px: int) -> dict[str, int]:
    """The sizes at which a detector's free axes are counted, for a square input."""
    rows = {f"rows_{stride}": _ANCHORS * (size_px // stride) ** 2 for stride in _STRIDES}
    return {"h": size_px, "w": size_px, **rows}


def noise_picture(seed: int, size_px: int) -> npt.NDArray[np.float32]:
    """The picture at which candidates are counted: uniform noise 0..255 as the network's input, [1, 3, s, s]."""
    return noise(seed, 0, (1, 3, size_px, size_px)) * np.float32(127.5 / 128.0)


def scrfd_10g(
    g: Graph, *, size_px: int = 0, candidates: int = 200, names: Literal["numbers", "words"] = "numbers"
) -> None:
    """SCRFD 10g with key points: ResNetV1e (3, 4, 2, 3), PAFPN of 56, one tower of 3 x 80 a stride.

    `size_px` fixes the square input, 0 leaves it free in multiples of 32. `names`: "numbers" is det_10g (rows without
    a batch axis), "words" the batched export of the model zoo.
    """
    image = _image(g, size_px)
    x = nn.relu(g, nn.conv(g, image, 28, stride=2))
    x = nn.relu(g, nn.conv(g, x, 28))
    x = nn.relu(g, nn.conv(g, x, 56))
    x = nn.pool(g, x, "MaxPool", 3, 2, 1)
    levels = []
    for width, blocks, stride in ((56, 3, 1), (88, 4, 2), (88, 2, 2), (224, 3, 2)):
        for block in range(blocks):
            x = _basic(g, x, width, stride if block == 0 else 1)
        levels.append(x)
    heads = [_wide_tower(g, level) for level in _pafpn(g, levels[1:], 56)]
    _finish(g, size_px, candidates, heads, names, batched=names == "words", box_scale=True)


def scrfd_500m(g: Graph, *, size_px: int = 0, candidates: int = 200, batched: bool = False) -> None:
    """SCRFD 500m with key points: depthwise-separable backbone and towers, PAFPN of 16.

    `size_px` fixes the square input, 0 leaves it free in multiples of 32 (640 is the file that HeyGem ships). Rows
    have a batch axis when `batched`, as in the export of the model zoo.
    """
    image = _image(g, size_px)
    x = nn.relu(g, nn.conv(g, image, 16, stride=2))
    x = _separable(g, x, 16)
    levels = []
    for width, blocks in ((40, 2), (72, 3), (152, 2), (288, 6)):
        for block in range(blocks):
            x = _separable(g, x, width, 2 if block == 0 else 1)
        levels.append(x)
    heads = [_separable_tower(g, level) for level in _pafpn(g, levels[1:], 16)]
    _finish(g, size_px, candidates, heads, "words", batched=batched, box_scale=False)


def _image(g: Graph, size_px: int) -> Tensor:
    if size_px % 32 or size_px < 0:
        raise TwinError(f"{g.name}: wanted size_px as a multiple of 32 or 0, got {size_px}; correct it")
    sides: tuple[Axis, Axis] = (size_px, size_px) if size_px else ("h", "w")
    return g.input("input.1", (g.batch, 3, *sides))


def _basic(g: Graph, x: Tensor, width: int, stride: int) -> Tensor:
    """Two 3 x 3 convolutions beside a shortcut that averages before its 1 x 1."""
    y = nn.relu(g, nn.conv(g, x, width, stride=stride))
    y = nn.conv(g, y, width, gain=0.6)
    if stride > 1:
        x = nn.pool(g, x, "AveragePool", 2, 2)
        x = nn.conv(g, x, width, 1, gain=1.0)
    return nn.relu(g, nn.add(g, x, y))


def _separable(g: Graph, x: Tensor, width: int, stride: int = 1) -> Tensor:
    """Depthwise 3 x 3 and 1 x 1, each with ReLU."""
    x = nn.relu(g, nn.conv(g, x, x.channels, stride=stride, groups=x.channels))
    return nn.relu(g, nn.conv(g, x, width, 1))


def _pafpn(g: Graph, levels: list[Tensor], width: int) -> list[Tensor]:
    """Pyramid down and up again; plain convolutions, no norm and no activation."""
    laterals = [nn.conv(g, level, width, 1, gain=1.0) for level in levels]
    for i in (1, 0):
        laterals[i] = nn.add(g, laterals[i], nn.resize(g, laterals[i + 1], 2))
    outs = [nn.conv(g, lateral, width, gain=1.0) for lateral in laterals]
    for i in (1, 2):
        outs[i] = nn.add(g, outs[i], nn.conv(g, outs[i - 1], width, stride=2, gain=1.0))
    return [outs[0], *(nn.conv(g, out, width, gain=0.7) for out in outs[1:])]


def _wide_tower(g: Graph, x: Tensor) -> Tensor:
    for _ in range(3):
        x = nn.relu(g, nn.conv(g, x, 80))
    return x


def _separable_tower(g: Graph, x: Tensor) -> Tensor:
    for _ in range(2):
        x = _separable(g, x, 64)
    return x


def _finish(
    g: Graph,
    size_px: int,
    candidates: int,
    towers: list[Tensor],
    names: Literal["numbers", "words"],
    *,
    batched: bool,
    box_scale: bool,
) -> None:
    """Heads, outputs in the published order (scores, boxes, key points), score biases."""
    if not batched and g.batch != 1:
        raise TwinError(f"{g.name}: wanted batch 1 (its rows have no batch axis), got {g.batch}; take a *_bnkps twin")
    heads = [_score_head(g, tower) for tower in towers]
    rows: dict[str, list[Tensor]] = {"score": [nn.sigmoid(g, _rows(g, head.logits, 1, batched)) for head in heads]}
    boxes = [nn.conv(g, tower, 4 * _ANCHORS, gain=0.3, bias_mean=2.0) for tower in towers]
    if box_scale:
        boxes = [nn.mul(g, box, g.weight((1,), 0.0, 1.0)) for box in boxes]
    rows["bbox"] = [_rows(g, box, 4, batched) for box in boxes]
    rows["kps"] = [_rows(g, nn.conv(g, tower, 10 * _ANCHORS, gain=0.3), 10, batched) for tower in towers]
    for kind, tensors in rows.items():
        for level, (stride, tensor) in enumerate(zip(_STRIDES, tensors, strict=True)):
            name = _NUMBERED[kind][level] if names == "numbers" else f"{kind}_{stride}"
            free: Axis = tensor.shape[-2] if size_px else f"rows_{stride}"
            g.output(name, tensor, (g.batch, free, tensor.shape[-1]) if batched else (free, tensor.shape[-1]))
    if g.has_weights:
        _set_scores(g, heads, size_px or COUNTED_AT_PX, candidates)


def _score_head(g: Graph, tower: Tensor) -> _Head:
    weight = g.weight((_ANCHORS, tower.channels, 3, 3), 1.0 / (9 * tower.channels) ** 0.5)
    bias = g.weight((_ANCHORS,), 0.0)
    shape = (tower.shape[0], _ANCHORS, *tower.shape[2:])
    g.macs += 9 * tower.channels * _ANCHORS * tower.shape[0] * tower.shape[2] * tower.shape[3]
    logits = g.op("Conv", tower, weight, bias, shape=shape, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, group=1)
    return _Head(logits, weight, bias)


def _rows(g: Graph, x: Tensor, columns: int, batched: bool) -> Tensor:
    """NCHW as rows: cells in reading order, the anchors of a cell beside each other."""
    last = nn.transpose(g, x, (0, 2, 3, 1))
    cells = _ANCHORS * x.shape[2] * x.shape[3]
    if batched:
        return nn.reshape(g, last, (0, -1, columns), (x.shape[0], cells, columns))
    return nn.reshape(g, last, (-1, columns), (x.shape[0] * cells, columns))


def _set_scores(g: Graph, heads: list[_Head], size_px: int, candidates: int) -> None:
    """Spread every anchor's logits to a standard deviation of 1.5 and put its share of candidates above 0."""
    import onnxruntime

    cells = [(size_px // stride) ** 2 for stride in _STRIDES]
    if not 0 < candidates < _ANCHORS * sum(cells):
        raise TwinError(
            f"{g.name}: wanted candidates within 1..{_ANCHORS * sum(cells) - 1} at {size_px} px, got {candidates}; "
            "correct it"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = g.model(extra_outputs=[head.logits for head in heads])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    picture = noise_picture(g.seed, size_px)
    if isinstance(g.batch, int):
        picture = np.repeat(picture, g.batch, axis=0)
    found = session.run([head.logits.name for head in heads], {"input.1": picture})
    shares = _shares(candidates, [count for count in cells for _ in range(_ANCHORS)])
    for level, (head, logits) in enumerate(zip(heads, found, strict=True)):
        weight, bias = g.stored(head.weight), np.zeros(_ANCHORS, np.float32)
        for anchor in range(_ANCHORS):
            values = np.sort(logits[0, anchor].ravel().astype(np.float64))[::-1]
            factor = float(f"{_LOGIT_STD / values.std():.3g}")
            share = shares[level * _ANCHORS + anchor]
            above = values[0] + 1.0 if share == 0 else values[share - 1]
            weight[anchor] *= factor
            bias[anchor] = round(-factor * (above + values[share]) / 2, 4)
        g.replace(head.weight, weight)
        g.replace(head.bias, bias)


def _shares(total: int, sizes: list[int]) -> list[int]:
    """`total` in whole parts proportional to sizes, the largest remainders rounded up."""
    exact = [total * size / sum(sizes) for size in sizes]
    parts = [int(value) for value in exact]
    order = sorted(range(len(sizes)), key=lambda i: exact[i] - parts[i], reverse=True)
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts
