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
from build_engines.sensitivity import effects, fewest, find_sensitive, worst_first
from build_engines.simulate import Simulation, run_model

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
    simulated = simulate_fp16(model, ())
    simulated.graph.output.append(helper.make_tensor_value_info("scale__rounded", TensorProto.FLOAT, []))
    stored = {item.name: numpy_helper.to_array(item) for item in to_fp16(model, ()).graph.initializer}
    [row] = run_model(simulated, [{"x": x}])
    assert row["scale__rounded"] == np.float32(np.float16(1 / 3)) == stored["scale__half"].astype(np.float32)


def test_keeping_everything_changes_nothing(x: F32) -> None:
    model = norm()
    assert float_nodes(model) == ["enlarge", *CHAIN]
    assert np.array_equal(run(simulate_fp16(model, float_nodes(model)), x), run(model, x))


def test_what_overflows_and_what_reads_it_stay_fp32(x: F32) -> None:
    found = find_sensitive(Simulation(norm(scale=400.0), [{"x": x}]), 45.0)
    # the root reads what overflowed: in FP16 its input would be inf before it is computed
    assert found.keep_fp32 == {"square", "variance", "add_eps", "root"}
    assert found.worst_db >= 60.0
    assert (found.by_range, found.by_effect, found.worst) == (4, 0, "")


def test_an_input_that_fp16_cannot_hold_keeps_its_reader_fp32(x: F32) -> None:
    found = find_sensitive(Simulation(norm(scale=1e-5), [{"x": x * 1e5}]), 45.0)
    assert found.keep_fp32 == {"enlarge"}
    assert (found.by_range, found.by_effect) == (1, 0)
    assert found.worst_db >= 60.0


def test_blocks_are_added_by_effect_until_the_target_is_met(x: F32) -> None:
    simulation = Simulation(norm(), [{"x": x}])
    assert find_sensitive(simulation, 50.0).by_effect == 0
    found = find_sensitive(simulation, 150.0)
    assert found.by_effect == 8
    assert found.worst == "enlarge"  # without a heavy operator the graph is one block


def parts(*costs: dict[str, float]) -> Any:
    def noise(chosen: Any) -> dict[str, float]:
        asked.append(list(chosen))
        return {name: sum(costs[index][name] for index in chosen) for name in costs[0]}

    asked: list[list[int]] = []
    return noise, asked


def test_only_groups_that_cost_something_are_looked_into() -> None:
    noise, asked = parts(*[{"y": 1e-9}] * 40, {"y": 1e-3}, *[{"y": 1e-9}] * 23)
    costs = effects(64, noise, 40.0, deadline=float("inf"))
    assert costs[40] == {"y": 1e-3}
    assert len(asked) == 13  # the whole, and two halves at each of log2(64) levels
    order, guess = worst_first(costs, 40.0)
    assert (order[0], guess) == (40, 1)


def test_after_the_deadline_costs_are_spread_and_nothing_is_measured() -> None:
    noise, asked = parts(*[{"y": 1.0}] * 8)
    assert effects(8, noise, 40.0, deadline=0.0) == [{"y": 1.0}] * 8
    assert asked == [list(range(8))]


def test_each_next_part_is_the_worst_of_the_output_that_is_then_the_worst() -> None:
    order, guess = worst_first([{"a": 5.0, "b": 0.0}, {"a": 4.0, "b": 0.0}, {"a": 0.0, "b": 4.5}], -6.8)
    assert order == [0, 2, 1]  # after the first, output b is worse than a
    assert guess == 1  # 4.5 is below 10^0.68 = 4.8


@pytest.mark.parametrize("guess", [0, 3, 7, 10])
def test_the_fewest_is_found_whatever_the_guess(guess: int) -> None:
    asked: list[int] = []

    def reached(count: int) -> float:
        asked.append(count)
        return 10.0 * count

    assert fewest(reached, 65.0, 10, guess) == 7
    assert len(asked) <= 5
    assert fewest(reached, 1000.0, 10, guess) == 10
