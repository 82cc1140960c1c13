"""The layers that the twins are made of: each appends nodes to a Graph and adds to its counts.

Multiply-adds are those of convolutions, transposed convolutions and matrix products; norms, activations and
resizing count as none, as in the facts that the twins are held against. Weights are drawn with the standard
deviation gain / sqrt(fan in): sqrt(2) keeps the size of activations through a ReLU, 1 through no activation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from models.twins.builder import Graph, Tensor

RELU_GAIN = math.sqrt(2.0)
_BIAS_STD = 0.05
Pair = tuple[int, int]


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def conv(
    g: Graph,
    x: Tensor,
    channels: int,
    kernel: int | Pair = 3,
    stride: int | Pair = 1,
    *,
    pad: int | Pair | None = None,
    bias: bool = True,
    groups: int = 1,
    gain: float = RELU_GAIN,
    bias_mean: float = 0.0,
) -> Tensor:
    """2-D convolution, NCHW; pads by half the kernel unless told. A batch norm behind it counts as its bias."""
    (kh, kw), (sh, sw) = _pair(kernel), _pair(stride)
    ph, pw = (kh // 2, kw // 2) if pad is None else _pair(pad)
    n, c, h, w = x.shape
    fan_in = c // groups * kh * kw
    out = (n, channels, (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1)
    weight = g.weight((channels, c // groups, kh, kw), gain / math.sqrt(fan_in))
    offset = g.weight((channels,), _BIAS_STD, bias_mean) if bias else None
    g.macs += math.prod(out) * fan_in
    operands = (x, weight) if offset is None else (x, weight, offset)
    return g.op(
        "Conv",
        *operands,
        shape=out,
        kernel_shape=[kh, kw],
        strides=[sh, sw],
        pads=[ph, pw, ph, pw],
        group=groups,
    )


def conv1d(g: Graph, x: Tensor, channels: int, kernel: int, stride: int = 1, *, gain: float = RELU_GAIN) -> Tensor:
    """1-D convolution with bias, NCL, padded by half the kernel."""
    n, c, length = x.shape
    pad = kernel // 2
    out = (n, channels, (length + 2 * pad - kernel) // stride + 1)
    weight = g.weight((channels, c, kernel), gain / math.sqrt(c * kernel))
    offset = g.weight((channels,), _BIAS_STD)
    g.macs += math.prod(out) * c * kernel
    return g.op("Conv", x, weight, offset, shape=out, kernel_shape=[kernel], strides=[stride], pads=[pad, pad], group=1)


def conv_transposed(
    g: Graph,
    x: Tensor,
    channels: int,
    kernel: int,
    stride: int | Pair = 2,
    *,
    pad: int = 0,
    output_pad: int = 0,
    bias: bool = True,
) -> Tensor:
    """2-D transposed convolution; multiply-adds are those of its input pixels."""
    sh, sw = _pair(stride)
    n, c, h, w = x.shape
    out = (
        n,
        channels,
        (h - 1) * sh - 2 * pad + kernel + output_pad,
        (w - 1) * sw - 2 * pad + kernel + output_pad,
    )
    weight = g.weight((c, channels, kernel, kernel), RELU_GAIN / math.sqrt(c * kernel * kernel / (sh * sw)))
    offset = g.weight((channels,), _BIAS_STD) if bias else None
    g.macs += math.prod(x.shape) * channels * kernel * kernel
    operands = (x, weight) if offset is None else (x, weight, offset)
    return g.op(
        "ConvTranspose",
        *operands,
        shape=out,
        kernel_shape=[kernel, kernel],
        strides=[sh, sw],
        pads=[pad] * 4,
        output_padding=[output_pad, output_pad],
        group=1,
    )


def linear(
    g: Graph,
    x: Tensor,
    features: int,
    *,
    bias: bool = True,
    gain: float = 1.0,
    bias_mean: float = 0.0,
    bias_std: float = _BIAS_STD,
    std: float | None = None,
) -> Tensor:
    """Dense layer over the last axis; Gemm for two axes, MatMul and Add for more. `std` overrides the gain."""
    spread = gain / math.sqrt(x.shape[-1]) if std is None else std
    out = (*x.shape[:-1], features)
    g.macs += math.prod(out) * x.shape[-1]
    if len(x.shape) == 2:
        weight = g.weight((features, x.shape[-1]), spread)
        operands = (x, weight, g.weight((features,), bias_std, bias_mean)) if bias else (x, weight)
        return g.op("Gemm", *operands, shape=out, transB=1)
    product = g.op("MatMul", x, g.weight((x.shape[-1], features), spread), shape=out)
    return add(g, product, g.weight((features,), bias_std, bias_mean)) if bias else product


def matmul(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """Product of two activations over their last two axes."""
    out = (*a.shape[:-1], b.shape[-1])
    g.macs += math.prod(out) * a.shape[-1]
    return g.op("MatMul", a, b, shape=out)


def unary(g: Graph, kind: str, x: Tensor) -> Tensor:
    """An elementwise operator without attributes: Relu, Sigmoid, Tanh, Sqrt, ..."""
    return g.op(kind, x, shape=x.shape)


def relu(g: Graph, x: Tensor) -> Tensor:
    """max(x, 0)."""
    return unary(g, "Relu", x)


def sigmoid(g: Graph, x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return unary(g, "Sigmoid", x)


def leaky(g: Graph, x: Tensor, slope: float) -> Tensor:
    """Leaky ReLU."""
    return g.op("LeakyRelu", x, shape=x.shape, alpha=slope)


def prelu(g: Graph, x: Tensor) -> Tensor:
    """ReLU with a learned slope for each channel."""
    return g.op("PRelu", x, g.weight((x.channels, 1, 1), 0.05, 0.25), shape=x.shape)


def binary(g: Graph, kind: str, a: Tensor, b: Tensor) -> Tensor:
    """Add, Sub, Mul or Div with broadcasting."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    return g.op(kind, a, b, shape=shape)


def add(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """a + b."""
    return binary(g, "Add", a, b)


def mul(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """a x b."""
    return binary(g, "Mul", a, b)


def scaled(g: Graph, x: Tensor, factor: float) -> Tensor:
    """x times a constant."""
    return mul(g, x, g.constant([factor]))


def shifted(g: Graph, x: Tensor, offset: float) -> Tensor:
    """x plus a constant."""
    return add(g, x, g.constant([offset]))


def concat(g: Graph, *parts: Tensor, axis: int = 1) -> Tensor:
    """Parts one after the other along an axis."""
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return g.op("Concat", *parts, shape=shape, axis=axis)


def split(g: Graph, x: Tensor, sizes: Sequence[int], axis: int = 1) -> tuple[Tensor, ...]:
    """x in parts of these sizes along an axis."""
    shapes = [tuple(size if i == axis % len(x.shape) else n for i, n in enumerate(x.shape)) for size in sizes]
    return g.ops("Split", x, g.constant(np.array(sizes, np.int64)), shapes=shapes, axis=axis)


def reshape(g: Graph, x: Tensor, target: Sequence[int], shape: Sequence[int] | None = None) -> Tensor:
    """x in another shape; 0 keeps an axis and -1 takes the rest, which is how free axes pass through."""
    if shape is None:
        known = [x.shape[i] if size == 0 else size for i, size in enumerate(target)]
        rest = math.prod(x.shape) // math.prod(size for size in known if size != -1)
        shape = [rest if size == -1 else size for size in known]
    return g.op("Reshape", x, g.constant(np.array(target, np.int64)), shape=shape)


def transpose(g: Graph, x: Tensor, order: Sequence[int]) -> Tensor:
    """Axes in another order."""
    return g.op("Transpose", x, shape=[x.shape[i] for i in order], perm=list(order))


def as_map(g: Graph, x: Tensor) -> Tensor:
    """[n, c] as [n, c, 1, 1]."""
    return g.op("Unsqueeze", x, g.constant(np.array([2, 3], np.int64)), shape=(*x.shape, 1, 1))


def flatten(g: Graph, x: Tensor) -> Tensor:
    """[n, ...] as [n, all]."""
    return g.op("Flatten", x, shape=(x.shape[0], math.prod(x.shape[1:])), axis=1)


def resize(
    g: Graph, x: Tensor, factor: float, mode: Literal["nearest", "linear"] = "nearest", *, corners: bool = False
) -> Tensor:
    """Height and width times a factor; `corners` lines up the outermost pixel centres."""
    n, c, h, w = x.shape
    scales = g.constant(np.array([1, 1, factor, factor], np.float32), exact=True)
    how = {"coordinate_transformation_mode": "align_corners" if corners else "half_pixel", "mode": "linear"}
    if mode == "nearest":
        how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
    return g.op("Resize", x, None, scales, shape=(n, c, int(h * factor), int(w * factor)), **how)


def pad_reflect(g: Graph, x: Tensor, by: int) -> Tensor:
    """Mirrored rim of this many pixels."""
    n, c, h, w = x.shape
    pads = g.constant(np.array([0, 0, by, by, 0, 0, by, by], np.int64))
    return g.op("Pad", x, pads, shape=(n, c, h + 2 * by, w + 2 * by), mode="reflect")


def pool(
    g: Graph, x: Tensor, kind: Literal["MaxPool", "AveragePool"], kernel: int, stride: int, pad: int = 0
) -> Tensor:
    """Pooling over square windows."""
    n, c, h, w = x.shape
    out = (n, c, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
    return g.op(kind, x, shape=out, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)


def global_average(g: Graph, x: Tensor) -> Tensor:
    """Mean over height and width, kept as 1 x 1."""
    return g.op("GlobalAveragePool", x, shape=(*x.shape[:2], 1, 1))


def mean(g: Graph, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean over axes, kept as 1."""
    shape = [1 if i in {axis % len(x.shape) for axis in axes} else n for i, n in enumerate(x.shape)]
    if g.opset >= 18:
        return g.op("ReduceMean", x, g.constant(np.array(axes, np.int64)), shape=shape, keepdims=1)
    return g.op("ReduceMean", x, shape=shape, axes=list(axes), keepdims=1)


def pixel_shuffle(g: Graph, x: Tensor, factor: int) -> Tensor:
    """Channels into height and width."""
    n, c, h, w = x.shape
    out = (n, c // factor**2, h * factor, w * factor)
    return g.op("DepthToSpace", x, shape=out, blocksize=factor, mode="CRD")


def batch_norm(g: Graph, x: Tensor, *, gain: float = 1.0) -> Tensor:
    """A batch norm that stands before its convolution, where no exporter can fold it; statistics of unit size."""
    c = x.channels
    scale, offset = g.weight((c,), 0.1 * gain, gain), g.weight((c,), _BIAS_STD)
    centre, spread = g.weight((c,), 0.05, counted=False), g.weight((c,), 0.05, 1.0, counted=False)
    return g.op("BatchNormalization", x, scale, offset, centre, spread, shape=x.shape, epsilon=1e-5)


def instance_norm(g: Graph, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Instance norm without learned scale, as the one operator that the torch exporter writes for it."""
    ones, zeros = g.constant(np.ones(x.channels, np.float32)), g.constant(np.zeros(x.channels, np.float32))
    return g.op("InstanceNormalization", x, ones, zeros, shape=x.shape, epsilon=eps)


def instance_norm_written_out(g: Graph, x: Tensor, eps: float = 1e-8) -> Tensor:
    """Instance norm as single steps: mean, difference, square, mean, + eps, root, quotient.

    The square is what overflows in FP16 from 256 on, and 1e-8 is less than FP16's least number.
    """
    centred = binary(g, "Sub", x, mean(g, x, (2, 3)))
    power = mean(g, mul(g, centred, centred), (2, 3))
    return binary(g, "Div", centred, unary(g, "Sqrt", shifted(g, power, eps)))


def layer_norm_written_out(g: Graph, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer norm over the last axis with learned scale and offset, as the steps of opsets below 17."""
    centred = binary(g, "Sub", x, mean(g, x, (-1,)))
    power = mean(g, g.op("Pow", centred, g.constant([2.0]), shape=x.shape), (-1,))
    unit = binary(g, "Div", centred, unary(g, "Sqrt", shifted(g, power, eps)))
    return add(g, mul(g, unit, g.weight((x.shape[-1],), 0.1, 1.0)), g.weight((x.shape[-1],), _BIAS_STD))


def softmax(g: Graph, x: Tensor) -> Tensor:
    """Softmax over the last axis."""
    return g.op("Softmax", x, shape=x.shape, axis=-1)
