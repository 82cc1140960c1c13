"""INT8 in the graph: where Q/DQ stands, which types stand between, and the search for what must stay out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines import ranges
from build_engines.flavour import BuildError
from build_engines.precision import at_opset, simulate_fp16, to_fp16
from build_engines.quantise import arrays_of, layers_of, macs_of, quantise, store, tensors_of
from build_engines.ranges import METHODS, Histogram, collect, half_scale
from build_engines.simulate import Simulation, drift_of, run_model, worst_db
from tests.unit.small_graphs import RNG, conv, feeds_of, network, overflowing, quantised, residual, weight


def nodes_of(model: Any) -> dict[str, Any]:
    return {node.name: node for node in model.graph.node}


def maker_of(model: Any, tensor: str) -> Any:
    return next((node for node in model.graph.node if tensor in node.output), None)


def kinds_of(model: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*inferred.value_info, *inferred.output)}
    return {**kinds, **{item.name: item.data_type for item in inferred.initializer}}


# ---- where Q/DQ stands


def test_the_other_side_of_a_residual_add_comes_through_qdq_and_the_layer_side_as_it_is() -> None:
    model = quantised(residual(), feeds_of())
    nodes = nodes_of(model)
    assert [maker_of(model, name).op_type for name in nodes["identity_add"].input] == ["DequantizeLinear", "Conv"]
    # both sides are convolutions: the later one computes the Add, the earlier one's result is quantised
    assert [maker_of(model, name).op_type for name in nodes["shortcut_add"].input] == ["DequantizeLinear", "Conv"]
    assert nodes["bias_add"].input == ["h", "bias"]
    onnx.checker.check_model(model, full_check=True)


def test_an_add_is_left_alone_without_its_layer_and_where_others_read_the_layer() -> None:
    model = quantised(residual(), feeds_of(), left_out=("second",))
    assert list(nodes_of(model)["identity_add"].input) == ["x", "c"]
    shared = residual()
    shared.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 4, 8, 8]))
    assert layers_of(shared)["second"].add == ""
    assert layers_of(residual())["second"].add == "identity_add"


def test_an_add_that_broadcasts_is_no_residual() -> None:
    pooled = [
        conv("first", "x", "a"),
        helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool"),
        helper.make_node("Add", ["a", "p"], ["y"], "add"),
    ]
    assert layers_of(network(pooled, [weight("w_first", 4, 4, 1, 1)]))["first"].add == ""


def test_qdq_is_symmetric_weights_are_integers_by_channel_and_one_q_serves_all_readers() -> None:
    model = quantised(residual(), feeds_of())
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    zeros = [stored[node.input[2]] for node in model.graph.node if node.op_type.endswith("quantizeLinear")]
    zeros += [stored[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert stored["w_first__int8"].dtype == np.int8
    assert stored["w_first__scale"].shape == (4,)
    assert np.abs(stored["w_first__int8"]).max(axis=(1, 2, 3)).tolist() == [127, 127, 127, 127]
    assert "w_first" not in stored
    q = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert sorted(q) == ["b", "e", "f", "x"]
    assert len(maker_of(model, nodes_of(model)["third"].input[0]).input[0]) > 0
    read = [node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert len([name for name in read if name.startswith("e__for__")]) == 2


@pytest.mark.parametrize(
    ("node", "shape", "axis"),
    [
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], "layer"), (4, 6, 1, 1), 1),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], "layer", group=2), (4, 2, 1, 1), None),
        (helper.make_node("Conv", ["x", "w"], ["y"], "layer", group=4), (4, 1, 1, 1), 0),
        (helper.make_node("MatMul", ["x", "w"], ["y"], "layer"), (8, 8), 1),
    ],
    ids=["transposed", "transposed-grouped", "depthwise", "matmul"],
)
def test_the_axis_of_output_channels_is_the_operators_own(node: Any, shape: tuple[int, ...], axis: int | None) -> None:
    made = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight("w", *shape)],
    )
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    assert layers_of(model)["layer"].axis == axis
    typed = quantised(model, feeds_of())
    onnx.checker.check_model(typed, full_check=True)
    exact, found = run_model(model, feeds_of()), run_model(typed, feeds_of())
    assert worst_db(drift_of(exact, found)) > 40


def test_leaving_everything_out_is_fp32_again() -> None:
    model = residual()
    same = quantised(model, feeds_of(), left_out=tuple(layers_of(model)))
    assert "QuantizeLinear" not in {node.op_type for node in same.graph.node}
    assert drift_of(run_model(model, feeds_of()), run_model(same, feeds_of()))["y"].max_abs == 0.0


def test_an_older_opset_is_raised_to_the_first_with_scales_by_channel() -> None:
    model = quantised(residual(opset=11), feeds_of())
    assert model.opset_import[0].version == 13
    onnx.checker.check_model(model, full_check=True)
    assert worst_db(drift_of(run_model(residual(opset=11), feeds_of()), run_model(model, feeds_of()))) > 30


def test_raising_the_opset_keeps_names_and_weights() -> None:
    model = residual()
    newer = at_opset(model, 19)
    assert [node.name for node in newer.graph.node] == [node.name for node in model.graph.node]
    assert {item.name for item in newer.graph.initializer} == {item.name for item in model.graph.initializer}
    assert drift_of(run_model(model, feeds_of()), run_model(newer, feeds_of()))["y"].max_abs == 0.0
    assert at_opset(newer, 17) is newer


def test_a_tensor_without_a_scale_is_an_error() -> None:
    model = residual()
    layers = layers_of(model)
    with pytest.raises(BuildError, match=r"^quantise: wanted a scale for the tensor x, got none; calibrate on the"):
        quantise(model, layers, {}, store(layers, arrays_of(model, layers)))


def test_multiply_adds_count_every_product_by_its_shapes() -> None:
    assert macs_of(residual()) == dict.fromkeys(("first", "second", "third", "shortcut"), 4 * 4 * 64)


# ---- types between


def test_strong_types_take_fp16_scales_and_nothing_but_the_border_is_cast() -> None:
    model = quantised(residual(), feeds_of())
    typed = to_fp16(model, (), half_scales=True)
    onnx.checker.check_model(typed, full_check=True)
    assert typed.opset_import[0].version == 19
    kinds = kinds_of(typed)
    scales = {node.input[1] for node in typed.graph.node if node.op_type == "DequantizeLinear"}
    assert {kinds[name] for name in scales} == {TensorProto.FLOAT16}
    assert {kinds[node.output[0]] for node in typed.graph.node if node.op_type in ("Conv", "Relu")} == {10}
    casts = [node.output[0] for node in typed.graph.node if node.op_type == "Cast"]
    assert casts == ["y"]  # x goes into its Q as it comes
    exact = run_model(residual(), feeds_of())
    simulated = simulate_fp16(model, (), half_scales=True)
    # rounding to eight bits tears apart what differs in the last digit: the two agree in how far they are off
    drifts = [worst_db(drift_of(exact, run_model(one, feeds_of()))) for one in (typed, simulated)]
    assert abs(drifts[0] - drifts[1]) < 1.0


def test_fp32_scales_leave_no_cast_between_an_int8_layer_and_the_q_and_dq_around_it() -> None:
    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        conv("second", "b", "c"),
        helper.make_node("Sin", ["c"], ["y"], "sine"),
    ]
    model = quantised(network(nodes, [weight("w_first", 4, 4, 1, 1), weight("w_second", 4, 4, 1, 1)]), feeds_of())
    typed = to_fp16(model, (), half_scales=False)
    onnx.checker.check_model(typed, full_check=True)
    assert typed.opset_import[0].version == 17
    kinds = kinds_of(typed)
    assert {kinds[node.input[1]] for node in typed.graph.node if node.op_type == "DequantizeLinear"} == {1}
    assert [node.op_type for node in typed.graph.node] == [
        "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Relu",
        "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Cast", "Sin", "Cast",
    ]  # fmt: skip


def test_a_layer_that_stays_fp32_keeps_fp32_scales_beside_fp16_ones() -> None:
    typed = to_fp16(quantised(residual(), feeds_of()), ("second",), half_scales=True)
    onnx.checker.check_model(typed, full_check=True)
    kinds, nodes = kinds_of(typed), nodes_of(typed)
    assert kinds[maker_of(typed, nodes["second"].input[0]).input[1]] == TensorProto.FLOAT
    assert kinds[maker_of(typed, nodes["first"].input[0]).input[1]] == TensorProto.FLOAT16


def test_the_simulation_shows_both_roundings_at_once() -> None:
    model = overflowing()
    integers = quantised(model, feeds_of())
    exact = run_model(model, feeds_of())

    def reached(trial: Any) -> float:
        return worst_db(drift_of(exact, run_model(trial, feeds_of())))

    assert 30 < reached(integers) < 60
    assert reached(simulate_fp16(integers, (), half_scales=True)) == float("-inf")  # 1000^2 is past FP16
    kept = reached(simulate_fp16(integers, ("square", "root"), half_scales=True))
    assert 30 < kept < 60


# ---- scales


def test_scales_are_fp16_numbers_that_cover_the_range() -> None:
    exact = np.array([1 / 3, 1e-9, 3e-5, 2.0, 1e7])
    found = half_scale(exact)
    assert (found[:4] >= exact[:4]).all()
    assert (found[:4] == found[:4].astype(np.float16)).all()
    assert found[1] == np.float32(2.0**-20)
    assert found[3] == 2.0
    assert found[4] == np.float32(1e7)


def test_a_histogram_widens_without_losing_count() -> None:
    one = Histogram(np.zeros(ranges._BINS))
    for values in ([0.5, 1.0, 0.0], [3.0], [100.0, 0.1]):
        magnitudes = np.array(values, np.float32)
        one.add(magnitudes, float(magnitudes.max()))
    assert one.counts.sum() == 5  # zeros cost nothing whatever the scale
    assert one.largest == 100.0
    assert one.threshold("min-max") == 100.0


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_a_threshold_within_the_range(method: str) -> None:
    values = np.abs(RNG(3).normal(size=100_000)).astype(np.float32)
    values[0] = 40.0  # one outlier among a hundred thousand
    one = Histogram(np.zeros(ranges._BINS))
    one.add(values, 40.0)
    found = one.threshold(method)
    assert found == 40.0 if method == "min-max" else 3.0 < found < 30.0
    empty = Histogram(np.zeros(ranges._BINS))
    empty.add(np.zeros(4, np.float32), 0.0)
    assert empty.threshold(method) == 0.0


def test_the_least_squared_error_keeps_all_of_an_even_distribution() -> None:
    values = RNG(4).random(100_000).astype(np.float32)
    one = Histogram(np.zeros(ranges._BINS))
    one.add(values, float(values.max()))
    assert one.threshold("mse") > 0.97


def test_tensors_are_collected_in_groups_that_fit_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(residual(), feeds_of())
    names = tensors_of(layers_of(simulation.model))
    together = collect(simulation, feeds_of(), names)
    monkeypatch.setattr(ranges, "_HELD_BYTES", 1)
    apart = collect(simulation, feeds_of(), names)
    assert list(together) == list(apart) == names
    assert all(np.array_equal(together[name].counts, apart[name].counts) for name in names)
