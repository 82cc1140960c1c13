"""Convolutions whose weights are data, as StyleGAN2 publishes them, become convolutions with constant weights.

A layer multiplies a constant kernel W[o, i, y, x] by a style s[i] of each sample, divides by the root of the sum of
squares over i, y, x, and convolves with the product. Since s belongs to an input channel and the divisor to an output
channel, the same numbers come from scaling the input by s, convolving with W and scaling the output; and the sum is
the product of s squared with the taps of W squared, added up once. Then a batch has one kernel, and it is constant.

Found by what is computed, not by names: a product of factors, each of which varies along one axis of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.rewrites.graph import (
    attribute,
    constant,
    cut_inputs,
    describe,
    emit,
    fed,
    is_constant,
    producer,
    sizes,
    take_over,
)

__all__ = ["scale_around_convolutions", "sum_squares_apart"]

Array = npt.NDArray[Any]
Labels = tuple[int | None, ...]
# axes of a kernel, as labels: output channel, input channel; the taps follow
_OUT, _IN = 0, 1


@dataclass
class _Product:
    """A kernel as factors: `kernel` is what is constant, `along` the data by the one axis along which it varies.

    `inverse` holds the names of factors by which is divided. A factor without an axis is one number a sample.
    """

    kernel: Array
    along: list[tuple[Any, int | None]]
    inverse: set[str]


def sum_squares_apart(graph: Any) -> int:
    """Sums over squares of (constant kernel x data along one summed axis): data squared times a constant matrix."""
    describe(graph)
    done = 0
    for node in list(graph.nodes):
        if node.op in ("ReduceSum", "ReduceSumSquare", "ReduceL2"):
            done += _sum_apart(graph, node)
    return done


def _sum_apart(graph: Any, node: Any) -> bool:
    squared = node.inputs[0] if node.op != "ReduceSum" else _square_of(node.inputs[0])
    shape, total = sizes(squared) if squared is not None else None, sizes(node.outputs[0])
    if squared is None or is_constant(squared) or shape is None or total is None:
        return False
    try:
        axes = attribute(node, "axes", 1)
    except LookupError:
        return False
    summed = {axis % len(shape) for axis in axes} if axes else set(range(len(shape)))
    product = _factors(squared, tuple(range(len(shape))), shape)
    if product is None or not product.along or product.inverse:
        return False
    axis = product.along[0][1]
    if axis not in summed or any(other != axis for _, other in product.along):
        return False
    powers = np.square(product.kernel.astype(np.float64)).sum(tuple(sorted(summed - {axis})), keepdims=True)
    matrix = np.moveaxis(powers, axis, 0).reshape(shape[axis], -1).astype(np.float32)
    style = _style(graph, node.name, product.along, (1, shape[axis]))
    square = emit(graph, "Mul", f"{node.name}__square", [style, style], (1, shape[axis]))
    width = (1, matrix.shape[1])
    out = emit(graph, "MatMul", f"{node.name}__sums", [square, constant(f"{node.name}__powers", matrix)], width)
    if node.op == "ReduceL2":
        out = emit(graph, "Sqrt", f"{node.name}__root", [out], width)
    take_over(graph, node.outputs[0], _placed(graph, f"{node.name}__placed", out, total))
    return True


def _square_of(tensor: Any) -> Any:
    """What a tensor is the square of; None where it is no square."""
    node = producer(tensor)
    if node is None:
        return None
    if node.op == "Mul" and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    if node.op == "Pow" and is_constant(node.inputs[1]) and np.all(np.asarray(node.inputs[1].values) == 2):
        return node.inputs[0]
    return None


def scale_around_convolutions(graph: Any) -> int:
    """Convolutions with computed weights: scales of input and output channels around a constant kernel."""
    describe(graph)
    return sum(
        _scale_around(graph, node)
        for node in list(graph.nodes)
        if node.op in ("Conv", "ConvTranspose") and not is_constant(node.inputs[1])
    )


def _scale_around(graph: Any, conv: Any) -> bool:
    weight, image, out = conv.inputs[1], conv.inputs[0], conv.outputs[0]
    shape, image_sizes, out_sizes = sizes(weight), sizes(image), sizes(out)
    # a group for every sample is how several samples are convolved with a kernel each; one sample has one group
    if shape is None or image_sizes is None or out_sizes is None or conv.attrs.get("group", 1) != 1:
        return False
    taps = tuple(range(2, len(shape)))
    labels: Labels = (_OUT, _IN, *taps) if conv.op == "Conv" else (_IN, _OUT, *taps)
    product = _factors(weight, labels, shape)
    if product is None or not product.along or any(axis in taps for _, axis in product.along):
        return False
    ones = (1,) * len(taps)
    styles = [item for item in product.along if item[1] == _IN]
    others = [item for item in product.along if item[1] != _IN]
    if any(item.name in product.inverse for item, _ in styles):
        return False
    if styles:
        scale = _style(graph, f"{conv.name}__style", styles, (1, image_sizes[1], *ones))
        conv.inputs[0] = emit(graph, "Mul", f"{conv.name}__modulated", [image, scale], image_sizes)
    kernel = product.kernel.astype(np.float32)
    conv.inputs[1] = constant(f"{conv.name}__kernel", kernel)
    bias = fed(conv, 2)
    cut_inputs(conv, 2)
    result = _fresh_output(conv, out_sizes)
    for index, (item, axis) in enumerate(others):
        width = out_sizes[1] if axis == _OUT else 1
        factor = _placed(graph, f"{conv.name}__factor_{index}", item, (1, width, *ones))
        how = "Div" if item.name in product.inverse else "Mul"
        result = emit(graph, how, f"{conv.name}__demodulated_{index}", [result, factor], out_sizes)
    if bias is not None:
        offset = _placed(graph, f"{conv.name}__bias", bias, (1, out_sizes[1], *ones))
        result = emit(graph, "Add", f"{conv.name}__shifted", [result, offset], out_sizes)
    take_over(graph, out, result)
    return True


def _fresh_output(conv: Any, shape: Sequence[int]) -> Any:
    """A new output for a convolution, so that who read the old one can be given the scaled one."""
    fresh = type(conv.outputs[0])(f"{conv.name}__plain", np.float32, list(shape))
    conv.outputs.clear()
    conv.outputs.append(fresh)
    return fresh


def _style(graph: Any, name: str, factors: Sequence[tuple[Any, int | None]], shape: tuple[int, ...]) -> Any:
    """The product of factors that vary along one axis, in this shape."""
    result = None
    for index, (tensor, _) in enumerate(factors):
        placed = _placed(graph, f"{name}__factor_{index}", tensor, shape)
        if result is not None:
            placed = emit(graph, "Mul", f"{name}__product_{index}", [result, placed], shape)
        result = placed
    return result


def _placed(graph: Any, name: str, tensor: Any, shape: tuple[int, ...]) -> Any:
    """A tensor with its elements in this shape; as it is where it has it."""
    if sizes(tensor) == shape:
        return tensor
    return emit(graph, "Reshape", name, [tensor, constant(f"{name}__shape", np.array(shape, np.int64))], shape)


def _factors(tensor: Any, labels: Labels, shape: tuple[int, ...]) -> _Product | None:
    """A tensor as a constant kernel times data; None where some factor varies along several axes.

    `labels` says which axis of the kernel each axis of the tensor is, in `shape` the kernel's sizes are by label.
    """
    kernel_sizes = [1] * (max(label for label in labels if label is not None) + 1)
    for label, size in zip(labels, shape, strict=True):
        if label is not None:
            kernel_sizes[label] = size
    product = _Product(np.ones([1] * len(kernel_sizes), np.float32), [], set())
    if not _collect(tensor, labels, product):
        return None
    product.kernel = np.broadcast_to(product.kernel, kernel_sizes)
    order = [label for label in labels if label is not None]
    # as the tensor has it: the caller's axes in the caller's order
    product.kernel = np.transpose(product.kernel, order)
    return product


def _collect(tensor: Any, labels: Labels, product: _Product, *, inverse: bool = False) -> bool:
    """Add a tensor's factors to the product; False where it is none."""
    found = sizes(tensor)
    if found is None or len(found) > len(labels):
        return False
    labels = labels[len(labels) - len(found) :]
    varies = [(label, size) for label, size in zip(labels, found, strict=True) if size != 1]
    if any(label is None for label, _ in varies):
        return False
    if is_constant(tensor):
        values = np.asarray(tensor.values)
        if values.dtype != np.float32:
            return False
        values = _laid_out(values, labels, product.kernel.ndim)
        product.kernel = product.kernel / values if inverse else _times(product.kernel, values)
        return True
    if len(varies) <= 1:
        product.along.append((tensor, varies[0][0] if varies else None))
        if inverse:
            product.inverse.add(tensor.name)
        return True
    return not inverse and _descend(tensor, found, labels, product)


def _descend(tensor: Any, found: tuple[int, ...], labels: Labels, product: _Product) -> bool:
    node = producer(tensor)
    if node is None:
        return False
    if node.op == "Mul":
        return all(_collect(item, labels, product) for item in node.inputs)
    if node.op == "Div":
        return _collect(node.inputs[0], labels, product) and _collect(node.inputs[1], labels, product, inverse=True)
    before = sizes(node.inputs[0])
    if before is None:
        return False
    if node.op == "Transpose":
        order = node.attrs.get("perm", range(len(found))[::-1])
        inner: list[int | None] = [None] * len(found)
        for after, source in enumerate(order):
            inner[source] = labels[after]
        return _collect(node.inputs[0], tuple(inner), product)
    if node.op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"):
        named = [label for label, size in zip(labels, found, strict=True) if size != 1]
        if [size for size in before if size != 1] != [size for size in found if size != 1]:
            return False
        left = iter(named)
        return _collect(node.inputs[0], tuple(next(left) if size != 1 else None for size in before), product)
    return False


def _times(kernel: Array, values: Array) -> Array:
    """A product that leaves a kernel's own memory alone where the other side is all ones."""
    if kernel.size == 1 and kernel.flat[0] == 1:
        return values
    product: Array = kernel * values
    return product


def _laid_out(values: Array, labels: Labels, rank: int) -> Array:
    """A constant with its axes at their labels' places; axes without a label have one element."""
    placed = [label for label in labels if label is not None]
    squeezed = values.reshape([size for label, size in zip(labels, values.shape, strict=True) if label is not None])
    moved = np.transpose(squeezed, np.argsort(placed))
    wanted = [1] * rank
    for label, size in zip(sorted(placed), moved.shape, strict=True):
        wanted[label] = size
    return moved.reshape(wanted)
