"""The rounding simulation shows what FP16 does, which ONNX Runtime on a CPU alone does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines.precision import float_nodes, simulate_fp16, to_fp16

F32 = npt.NDArray[np.float32]


def norm(scale: float = 1.0, eps: float = 1e-5) -> Any:
    """scale * x, then (x - mean) / sqrt(mean((x - mean)^2) + eps): an instance norm as exported."""
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["large"], "enlarge"),
        helper.make_node("ReduceMean", ["large"], ["mean"], "mean", axes=[2, 3], keepdims=1),
        helper.make_node("Sub", ["large", "mean"], ["centred"], "centre"),
        helper.make_node("Mul", ["centred", "centred"], ["squares"], "square"),
        helper.make_node("ReduceMean", ["squares"], ["variance"], "variance", axes=[2, 3], keepdims=1),
        helper.make_node("Add", ["variance", "eps"], ["safe"], "add_eps"),
        helper.make_node("Sqrt", ["safe"], ["deviation"], "root"),
        helper.make_node("Div", ["centred", "deviation"], ["y"], "divide"),
    ]
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 8, 8])],
        [
            numpy_helper.from_array(np.array(scale, np.float32), "scale"),
            numpy_helper.from_array(np.array(eps, np.float32), "eps"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def run(model: Any, x: F32) -> F32:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: F32 = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


@pytest.fixture
def x() -> F32:
    return np.random.default_rng(1).normal(size=(1, 2, 8, 8)).astype(np.float32)


CHAIN = ("mean", "centre", "square", "variance", "add_eps", "root", "divide")


def test_a_known_overflow_becomes_inf_in_the_simulation(x: F32) -> None:
    model = norm(scale=400.0)
    exact = run(model, x)
    assert np.isfinite(exact).all()
    # 400^2 = 160,000 is past FP16's 65,504: the mean of squares overflows, and x / inf is 0
    blind = run(simulate_fp16(model, ()), x)
    assert not np.allclose(blind, exact, atol=0.1)
    kept = run(simulate_fp16(model, CHAIN), x)
    assert np.allclose(kept, exact, atol=5e-3)


def test_an_intermediate_that_overflows_is_inf() -> None:
    model = norm(scale=400.0)
    model.graph.output.append(helper.make_tensor_value_info("squares", TensorProto.FLOAT, [1, 2, 8, 8]))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(simulate_fp16(model, ()).SerializeToString(), options)
    squares = session.run(["squares"], {"x": np.linspace(-3, 3, 128, dtype=np.float32).reshape(1, 2, 8, 8)})[0]
    assert np.isinf(squares).any()


def test_an_epsilon_that_fp16_cannot_hold_vanishes_in_the_simulation() -> None:
    flat = np.zeros((1, 2, 8, 8), dtype=np.float32)
    model = norm(eps=1e-8)
    assert np.array_equal(run(model, flat), flat)
    assert np.isnan(run(simulate_fp16(model, ()), flat)).all()  # 0 / sqrt(0 + 0)
    assert np.array_equal(run(simulate_fp16(model, CHAIN), flat), flat)


def test_the_typed_graph_is_valid_has_casts_at_the_seams_and_keeps_its_border(x: F32) -> None:
    model = norm()
    typed = to_fp16(model, CHAIN)
    onnx.checker.check_model(typed, full_check=True)
    assert [item.type.tensor_type.elem_type for item in (*typed.graph.input, *typed.graph.output)] == [1, 1]
    assert [node.op_type for node in typed.graph.node].count("Cast") == 2  # into and out of the one FP16 node
    everything = to_fp16(model, ())
    onnx.checker.check_model(everything, full_check=True)
    assert np.allclose(run(everything, x), run(model, x), atol=2e-2)


def test_the_simulation_rounds_what_the_typed_graph_stores_as_fp16(x: F32) -> None:
    model = norm(scale=1 / 3)
    rounded = {item.name: numpy_helper.to_array(item) for item in simulate_fp16(model, ()).graph.initializer}
    stored = {item.name: numpy_helper.to_array(item) for item in to_fp16(model, ()).graph.initializer}
    assert rounded["scale__rounded"] == np.float32(np.float16(1 / 3)) == stored["scale__half"].astype(np.float32)


def test_keeping_everything_changes_nothing(x: F32) -> None:
    model = norm()
    assert float_nodes(model) == ["enlarge", *CHAIN]
    assert np.array_equal(run(simulate_fp16(model, float_nodes(model)), x), run(model, x))
