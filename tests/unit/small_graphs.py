"""Small ONNX graphs, made in a test: convolutions around residual adds, and what spoils FP16 and INT8."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from build_engines.quantise import arrays_of, layers_of, quantise, store, tensors_of
from build_engines.ranges import collect, scales_of
from build_engines.simulate import Feeds, Simulation

__all__ = ["RNG", "conv", "feeds_of", "network", "overflowing", "quantised", "residual", "weight"]

F32 = npt.NDArray[np.float32]
RNG = np.random.default_rng


def weight(name: str, *shape: int, seed: int = 1) -> Any:
    return numpy_helper.from_array(RNG(seed).normal(0, 0.3, shape).astype(np.float32), name)


def network(nodes: list[Any], weights: list[Any], channels: int = 4, opset: int = 17) -> Any:
    """x [1, channels, 8, 8] to y of the same shape."""
    shape = [1, channels, 8, 8]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def conv(name: str, source: str, target: str, **more: Any) -> Any:
    return helper.make_node("Conv", [source, f"w_{name}"], [target], name, **more)


def residual(opset: int = 17) -> Any:
    """Two convolutions around a ReLU, added to what went in; then a convolution and its shortcut, added."""
    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        conv("second", "b", "c"),
        helper.make_node("Add", ["x", "c"], ["d"], "identity_add"),
        helper.make_node("Relu", ["d"], ["e"], "relu_2"),
        conv("third", "e", "f"),
        conv("shortcut", "e", "g"),
        helper.make_node("Add", ["f", "g"], ["h"], "shortcut_add"),
        helper.make_node("Add", ["h", "bias"], ["y"], "bias_add"),
    ]
    weights = [weight(f"w_{name}", 4, 4, 1, 1, seed=i) for i, name in enumerate(("first", "second", "third"))]
    return network(nodes, [*weights, weight("w_shortcut", 4, 4, 1, 1, seed=9), weight("bias", 1, 4, 1, 1)], opset=opset)


def feeds_of(count: int = 8, scale: float = 1.0) -> Feeds:
    return [{"x": (RNG(i).normal(size=(1, 4, 8, 8)) * scale).astype(np.float32)} for i in range(count)]


def quantised(model: Any, feeds: Feeds, left_out: tuple[str, ...] = (), method: str = "min-max") -> Any:
    layers = {name: layer for name, layer in layers_of(model).items() if name not in left_out}
    found = collect(Simulation(model, feeds), feeds, tensors_of(layers))
    return quantise(model, layers, scales_of(found, method), store(layers, arrays_of(model, layers)))


def overflowing() -> Any:
    """A convolution, then a square past FP16's largest number, and its root."""
    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Mul", ["a", "large"], ["b"], "enlarge"),
        helper.make_node("Mul", ["b", "b"], ["c"], "square"),
        helper.make_node("Sqrt", ["c"], ["y"], "root"),
    ]
    large = numpy_helper.from_array(np.array(1000.0, np.float32), "large")
    return network(nodes, [weight("w_first", 4, 4, 1, 1), large])
