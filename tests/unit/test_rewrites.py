"""Modulated convolutions and sampled volumes, in the forms that exporters give them, against the untouched graph."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from build_engines.surgery import rewrite
from models.twins import layers as nn
from models.twins.builder import Graph, Tensor
from models.twins.dinet import adaat
from models.twins.layers import RELU_GAIN
from models.twins.swappers import hyperswap
from tests.unit.small_files import error_by_row, file_of, layer_of, run

COUNT = 3
WIDE, NARROW = 8, 6
Options = dict[str, Any]


def ints(g: Graph, *values: int) -> Tensor:
    return g.constant(np.array(values, np.int64))


def style_of(g: Graph, x: Tensor) -> Tensor:
    """A positive vector of a sample, [1, 8]."""
    return nn.linear(g, nn.flatten(g, nn.mean(g, x, (2, 3))), WIDE, bias_mean=1.0)


def modulated(
    g: Graph,
    x: Tensor,
    *,
    square: str = "Pow",
    root: str = "Reciprocal",
    keep: bool = False,
    grouped: bool = False,
    biased: bool = False,
    up: bool = False,
    demodulate: bool = True,
) -> Tensor:
    """A StyleGAN2 layer from WIDE to NARROW channels as one or another exporter writes it."""
    weight = g.weight((1, NARROW, WIDE, 3, 3), 0.2)
    weight = nn.mul(g, nn.scaled(g, weight, 0.5), nn.reshape(g, style_of(g, x), (1, 1, WIDE, 1, 1)))
    full = weight.shape
    if demodulate:
        sums = summed(g, weight, square, keep)
        if square == "ReduceL2":
            inverse = nn.unary(g, "Reciprocal", sums)
        else:
            below = nn.unary(g, "Sqrt", nn.shifted(g, sums, 1e-8))
            inverse = nn.binary(g, "Div", g.constant([1.0]), below) if root == "Div" else below
            inverse = nn.unary(g, "Reciprocal", below) if root == "Reciprocal" else inverse
        inverse = nn.reshape(g, inverse, (1, NARROW, 1, 1, 1))
        kind = "Div" if root == "Quotient" else "Mul"
        weight = g.op(kind, weight, inverse, shape=full)
    if grouped:
        x = nn.reshape(g, x, (1, WIDE, *x.shape[2:]))
    bias = g.weight((NARROW,), 1.0) if biased else None
    if up:
        weight = nn.reshape(g, nn.transpose(g, weight, (0, 2, 1, 3, 4)), (WIDE, NARROW, 3, 3))
        shape = (1, NARROW, 2 * x.shape[2] + 1, 2 * x.shape[3] + 1)
        return g.op("ConvTranspose", x, weight, bias, shape=shape, kernel_shape=[3, 3], strides=[2, 2], group=1)
    weight = nn.reshape(g, weight, (NARROW, WIDE, 3, 3))
    y = g.op("Conv", x, weight, bias, shape=(1, NARROW, *x.shape[2:]), kernel_shape=[3, 3], pads=[1] * 4, group=1)
    return nn.reshape(g, y, (1, NARROW, *x.shape[2:])) if grouped else y


def summed(g: Graph, weight: Tensor, square: str, keep: bool) -> Tensor:
    """The sum of squares over input channels and taps; axes as an attribute below operator set 13."""
    shape = (1, NARROW, 1, 1, 1) if keep else (1, NARROW)
    kind = square if square.startswith("Reduce") else "ReduceSum"
    operand = weight
    if square == "Pow":
        operand = g.op("Pow", weight, g.constant([2.0]), shape=weight.shape)
    elif square == "Mul":
        operand = nn.mul(g, weight, weight)
    if g.opset >= 18 or (g.opset >= 13 and kind == "ReduceSum"):
        return g.op(kind, operand, ints(g, 2, 3, 4), shape=shape, keepdims=int(keep))
    return g.op(kind, operand, shape=shape, axes=[2, 3, 4], keepdims=int(keep))


VARIANTS: list[Options] = [
    *({"square": square, "root": root} for square, root in product(("Pow", "Mul"), ("Reciprocal", "Div", "Quotient"))),
    {"square": "ReduceSumSquare"}, {"square": "ReduceL2"}, {"keep": True}, {"grouped": True}, {"biased": True},
    {"up": True}, {"up": True, "biased": True}, {"demodulate": False}, {"demodulate": False, "up": True},
]  # fmt: skip


@pytest.mark.parametrize("opset", [11, 20])
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()))
def test_modulated_weights_become_constant(options: Options, opset: int, tmp_path: Path) -> None:
    file = layer_of(lambda g, x: modulated(g, x, **options), tmp_path / "a.onnx", (1, WIDE, 7, 5), opset=opset)
    done = rewrite(file, {"x": (COUNT, WIDE, 7, 5)})
    assert done.places["convolutions given constant weights"] == 1
    assert done.places["sums of squares apart"] == options.get("demodulate", True)
    weights = {item.name for item in done.model.graph.initializer}
    convolutions = [node for node in done.model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert [node.input[1] in weights for node in convolutions] == [True]
    # five axes are gone with the kernels, but for the sums of one number a channel that keep theirs
    assert max(len(info.type.tensor_type.shape.dim) for info in done.model.graph.value_info) == 4 + ("keep" in options)
    assert error_by_row(file, done.model, COUNT) <= 1e-5


def test_a_kernel_that_data_changes_along_two_axes_is_left_alone(tmp_path: Path) -> None:
    def layer(g: Graph, x: Tensor) -> Tensor:
        each = nn.linear(g, nn.flatten(g, nn.mean(g, x, (2, 3))), NARROW * WIDE)
        weight = nn.mul(g, g.weight((NARROW, WIDE, 1, 1), 0.5), nn.reshape(g, each, (NARROW, WIDE, 1, 1)))
        total = nn.linear(g, nn.reshape(g, summed_flat(g, weight), (1, NARROW)), NARROW)
        return nn.add(g, g.op("Conv", x, weight, shape=(1, NARROW, 7, 5)), nn.as_map(g, total))

    file = layer_of(layer, tmp_path / "a.onnx", (1, WIDE, 7, 5))
    done = rewrite(file, {"x": (1, WIDE, 7, 5)})
    assert done.places["convolutions given constant weights"] == done.places["sums of squares apart"] == 0
    assert error_by_row(file, done.model, 1) == 0.0


def summed_flat(g: Graph, weight: Tensor) -> Tensor:
    return g.op("ReduceSum", nn.mul(g, weight, weight), ints(g, 1, 2, 3), shape=(NARROW,), keepdims=0)


@pytest.mark.parametrize("axes", [(2, 3, 4), (2, 4), (1, 2, 3), (2,)])
def test_a_sum_may_keep_any_axes_but_the_styles(axes: tuple[int, ...], tmp_path: Path) -> None:
    def layer(g: Graph, x: Tensor) -> Tensor:
        weight = nn.mul(g, g.weight((1, NARROW, WIDE, 3, 3), 0.1), nn.reshape(g, style_of(g, x), (1, 1, WIDE, 1, 1)))
        shape = [size for axis, size in enumerate(weight.shape) if axis not in axes]
        return g.op("ReduceSum", nn.mul(g, weight, weight), ints(g, *axes), shape=shape, keepdims=0)

    file = layer_of(layer, tmp_path / "a.onnx", (1, WIDE, 7, 5))
    done = rewrite(file, {"x": (COUNT, WIDE, 7, 5)})
    assert done.places["sums of squares apart"] == 1
    assert error_by_row(file, done.model, COUNT) <= 1e-5


def test_gates_of_a_normalised_tensor_are_no_modulated_weights(tmp_path: Path) -> None:
    """HyperSwap modulates activations, not weights: its graph needs no rewrite to take a batch."""
    g = Graph("hyperswap", opset=15)
    hyperswap(g, narrow=32)
    file = file_of(g, tmp_path / "a.onnx")
    done = rewrite(file, {"target": (2, 3, 256, 256), "source": (2, 512)})
    assert done.places["convolutions given constant weights"] == 0
    assert error_by_row(file, done.model, 2) <= 1e-4


@pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "RandomNormal"])
def test_noise_that_is_drawn_anew_is_stored_once(kind: str, tmp_path: Path) -> None:
    """As StyleGAN2 draws it, [1, 1, h, w] times a learned strength; the batch shares it."""
    shape = (1, 1, 7, 5)

    def layer(g: Graph, x: Tensor) -> Tensor:
        if kind == "RandomNormal":
            noise = g.op(kind, shape=shape, mean=1.0, scale=3.0, sizes=list(shape))
            # the operator's own name for it is that of an argument of op
            next(item for item in g.model().graph.node[-1].attribute if item.name == "sizes").name = "shape"
        else:
            side = g.op("Slice", g.op("Shape", x, shape=(4,)), ints(g, 2), ints(g, 4), shape=(2,))
            empty = g.op("ConstantOfShape", g.op("Concat", ints(g, 1, 1), side, shape=(4,), axis=0), shape=shape)
            options = {"low": -2.0, "high": 6.0} if kind == "RandomUniformLike" else {"mean": 1.0, "scale": 3.0}
            noise = g.op(kind, empty, shape=shape, **options)
        return nn.add(g, x, nn.mul(g, noise, g.weight((1,), 0.0, 0.5)))

    file = layer_of(layer, tmp_path / "a.onnx", (1, WIDE, 7, 5))
    done = rewrite(file, {"x": (COUNT, WIDE, 7, 5)})
    assert done.places["draws of noise stored"] == 1
    assert [node.op_type for node in done.model.graph.node] == ["Add"]
    assert done.max_error is not None
    assert done.max_error <= 1e-4
    noise = run(done.model, {"x": np.zeros((COUNT, WIDE, 7, 5), np.float32)})["y"]
    assert np.all(noise == noise[:1, :1])
    mean, spread = (1.0, 1.15) if kind == "RandomUniformLike" else (0.5, 1.5)
    assert abs(noise[0, 0].mean() - mean) < 0.6
    assert 0.6 * spread < noise[0, 0].std() < 1.4 * spread
    again = rewrite(file, {"x": (1, WIDE, 7, 5)})
    np.testing.assert_array_equal(run(again.model, {"x": np.zeros((1, WIDE, 7, 5), np.float32)})["y"], noise[:1])


CHANNELS, HEIGHT, WIDTH = 10, 9, 7


def published(g: Graph, x: Tensor, pose: Tensor, *, aligned: bool = False, padding: str = "zeros") -> Tensor:
    """AdaAT as its authors compute it: 2 x 2 matrices repeated for every point, the depth beside what they give."""
    c, h, w = CHANNELS, HEIGHT, WIDTH
    p = nn.relu(g, nn.linear(g, pose, pose.shape[1], gain=RELU_GAIN))
    scale = nn.reshape(g, nn.scaled(g, nn.sigmoid(g, nn.linear(g, p, c)), 2.0), (1, c, 1, 1, 1))
    angle = nn.reshape(g, nn.scaled(g, nn.unary(g, "Tanh", nn.linear(g, p, c, gain=0.3)), 3.14159), (1, c, 1))
    cosine, sine = nn.unary(g, "Cos", angle), nn.unary(g, "Sin", angle)
    turn = nn.concat(g, cosine, nn.unary(g, "Neg", sine), sine, cosine, axis=2)
    turn = nn.reshape(g, turn, (1, c, 1, 1, 2, 2))
    turn = g.op("Tile", turn, ints(g, 1, 1, h, w, 1, 1), shape=(1, c, h, w, 2, 2))
    shift = nn.reshape(g, nn.unary(g, "Tanh", nn.linear(g, p, 2 * c, gain=0.3)), (1, c, 1, 1, 2))
    rows, columns = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    points = np.broadcast_to(np.stack([columns, rows], -1)[..., None], (1, c, h, w, 2, 1))
    moved = nn.reshape(g, nn.matmul(g, turn, g.constant(np.ascontiguousarray(points))), (1, c, h, w, 2))
    moved = nn.add(g, nn.mul(g, moved, scale), shift)
    depth = np.broadcast_to(np.linspace(-1, 1, c).reshape(1, c, 1, 1, 1), (1, c, h, w, 1))
    grid = nn.concat(g, moved, g.constant(np.ascontiguousarray(depth)), axis=4)
    volume = nn.reshape(g, x, (1, 1, c, h, w))
    sampled = g.op(
        "GridSample", volume, grid, shape=volume.shape, mode="linear", align_corners=int(aligned), padding_mode=padding
    )
    return nn.reshape(g, sampled, (1, c, h, w))


def twins_own(g: Graph, x: Tensor, pose: Tensor) -> Tensor:
    return adaat(g, x, pose, volumetric=True)


FORMS: list[tuple[Any, Options]] = [
    (twins_own, {}),
    (published, {}),
    (published, {"aligned": True}),
    (published, {"padding": "border"}),
]


@pytest.mark.parametrize(("form", "options"), FORMS, ids=["twin", "published", "aligned", "border"])
@pytest.mark.parametrize("count", [1, COUNT])
def test_a_sampled_volume_becomes_pictures(form: Any, options: Options, count: int, tmp_path: Path) -> None:
    g = Graph("adaat", opset=20)
    x, pose = g.input("x", (1, CHANNELS, HEIGHT, WIDTH)), g.input("pose", (1, 16))
    g.output("y", form(g, x, pose, **options))
    file = file_of(g, tmp_path / "a.onnx")
    done = rewrite(file, {"x": (count, CHANNELS, HEIGHT, WIDTH), "pose": (count, 16)})
    assert done.places["volumes flattened"] == 1
    sizes = {item.name: len(item.type.tensor_type.shape.dim) for item in done.model.graph.value_info}
    samplers = [node for node in done.model.graph.node if node.op_type == "GridSample"]
    assert [sizes[name] for node in samplers for name in node.input] == [4, 4]
    assert error_by_row(file, done.model, count) <= 1e-5


def test_a_volume_at_depths_that_are_data_is_left_alone(tmp_path: Path) -> None:
    g = Graph("volume", opset=20)
    x, grid = g.input("x", (1, 1, 4, 5, 6)), g.input("grid", (1, 4, 5, 6, 3))
    g.output("y", g.op("GridSample", x, grid, shape=x.shape, mode="linear"), x.shape)
    file = file_of(g, tmp_path / "a.onnx")
    done = rewrite(file, {"x": (1, 1, 4, 5, 6), "grid": (1, 4, 5, 6, 3)})
    assert done.places["volumes flattened"] == 0
    assert error_by_row(file, done.model, 1) == 0.0


def test_a_depth_that_changes_inside_a_channel_is_left_alone(tmp_path: Path) -> None:
    g = Graph("volume", opset=20)
    x, plane = g.input("x", (1, 1, 4, 5, 6)), g.input("plane", (1, 4, 5, 6, 2))
    grid = nn.concat(g, plane, g.weight((1, 4, 5, 6, 1), 0.4), axis=4)
    g.output("y", g.op("GridSample", x, grid, shape=x.shape, mode="linear"), x.shape)
    file = file_of(g, tmp_path / "a.onnx")
    done = rewrite(file, {"x": (1, 1, 4, 5, 6), "plane": (1, 4, 5, 6, 2)})
    assert done.places["volumes flattened"] == 0
    assert error_by_row(file, done.model, 1) == 0.0


def test_idle_nodes_go_and_names_at_the_border_stay(tmp_path: Path) -> None:
    """Identities, casts to the type at hand, moves to the shape at hand, reshapes in a row; also before an output."""

    def layer(g: Graph, x: Tensor) -> Tensor:
        y = g.op("Cast", g.op("Identity", x, shape=x.shape), shape=x.shape, to=onnx.TensorProto.FLOAT)
        y = nn.transpose(g, nn.reshape(g, nn.relu(g, y), (1, 4, 6, 6)), (0, 1, 2, 3))
        y = g.op("Slice", y, ints(g, 0), ints(g, 6), ints(g, 2), shape=y.shape)
        y = nn.reshape(g, nn.reshape(g, y, (2, 72)), (1, 144))
        dropped = g.op("Dropout", nn.sigmoid(g, y), shape=y.shape)
        return g.op("Expand", dropped, ints(g, 1, 1), shape=y.shape)

    file = layer_of(layer, tmp_path / "a.onnx")
    done = rewrite(file, {"x": (1, 4, 6, 6)})
    assert Counter(node.op_type for node in done.model.graph.node) == {"Relu": 1, "Reshape": 1, "Sigmoid": 1}
    assert [item.name for item in (*done.model.graph.input, *done.model.graph.output)] == ["x", "y"]
    assert error_by_row(file, done.model, 1) == 0.0
    assert done.places["idle nodes taken out"] == 7
    assert done.places["reshapes joined"] == 1
    assert (done.nodes_before, done.nodes_after) == (11, 3)


def test_a_reversed_axis_is_no_idle_slice(tmp_path: Path) -> None:
    bounds = (-1, -7, 2, -1)
    file = layer_of(
        lambda g, x: g.op("Slice", nn.relu(g, x), *(ints(g, value) for value in bounds), shape=x.shape),
        tmp_path / "a.onnx",
    )
    done = rewrite(file, {"x": (1, 4, 6, 6)})
    values = np.arange(144, dtype=np.float32).reshape(1, 4, 6, 6)
    np.testing.assert_array_equal(run(done.model, {"x": values})["y"], values[:, :, ::-1])
