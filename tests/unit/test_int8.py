"""INT8 in the graph: where Q/DQ stands, which types stand between, and the search for what must stay out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines import ranges
from build_engines.flavour import BuildError, find_flavour
from build_engines.int8 import Calibrated, Quantised, calibrate, find_int8
from build_engines.judge import Candidate
from build_engines.precision import at_opset, float_nodes, simulate_fp16, to_fp16
from build_engines.quantise import arrays_of, layers_of, macs_of, quantise, store, tensors_of
from build_engines.ranges import METHODS, Histogram, collect, half_scale, scales_of
from build_engines.samples import Samples, sample_clip
from build_engines.sensitivity import Budget
from build_engines.simulate import Feeds, Simulation, drift_of, run_model, worst_db
from build_engines.surgery import prepare, static_shapes
from models.contract import Drift
from models.model_files import find

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


# ---- the search


def spoiled() -> Any:
    """Two convolutions; the second reads a channel a thousand times as large as the others, and weighs it less."""
    nodes = [
        conv("good", "x", "a"),
        helper.make_node("Mul", ["a", "gain"], ["b"], "gain_up"),
        conv("bad", "b", "c"),
        helper.make_node("Add", ["a", "c"], ["y"], "add"),
    ]
    gain = np.array([1000, 1, 1, 1], np.float32).reshape(1, 4, 1, 1)
    uneven = numpy_helper.to_array(weight("w_bad", 4, 4, 1, 1)).copy()
    uneven[:, 0] /= 1000
    weights = [weight("w_good", 4, 4, 1, 1), numpy_helper.from_array(gain, "gain")]
    return network(nodes, [*weights, numpy_helper.from_array(uneven, "w_bad")])


def gated() -> Any:
    """A convolution, and beside it a gate of one pixel, which holds 16 of 9232 multiply-adds and spoils most."""
    nodes = [
        conv("large", "x", "a", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool"),
        helper.make_node("Mul", ["p", "gain"], ["q"], "gain_up"),
        conv("gate", "q", "g"),
        helper.make_node("Mul", ["a", "g"], ["y"], "gated"),
    ]
    [gain, uneven] = spoiled().graph.initializer[1:]
    uneven.name = "w_gate"
    return network(nodes, [weight("w_large", 4, 4, 3, 3), gain, uneven])


def searched(model: Any, target_db: float, feeds: Feeds | None = None, **more: Any) -> Quantised:
    given = feeds or feeds_of(16)
    simulation = Simulation(model, given)
    return find_int8(simulation, calibrate(simulation, given), target_db, **more)


def test_the_layer_that_drifts_most_is_left_out_and_named() -> None:
    blind = searched(spoiled(), 0.0)
    assert (blind.left_out, blind.worst, blind.macs_share) == ((), "", 1.0)
    assert blind.worst_db < 30
    found = searched(spoiled(), 35.0)
    assert found.left_out == ("bad",)
    assert found.worst == "bad"
    assert found.worst_db >= 35.0
    assert found.layers == frozenset({"good"})
    assert found.macs_share == 0.5


def test_a_search_measures_int8_and_fp16_together() -> None:
    assert searched(overflowing(), 30.0).worst_db == float("-inf")
    assert searched(overflowing(), 30.0, keep_fp32=frozenset({"square", "root"})).worst_db > 30.0


def test_a_layer_that_costs_nothing_and_spoils_most_is_left_out_even_where_the_target_is_met() -> None:
    found = searched(gated(), 0.0)
    assert (found.left_out, found.worst) == (("gate",), "gate")
    assert found.macs_share > 0.99
    kept = searched(gated(), 0.0, budget=Budget(most_macs=0.0))
    assert kept.left_out == ()
    assert kept.worst_db < found.worst_db - 3.0


@pytest.mark.parametrize("budget", [Budget(most_macs=0.4), Budget(most_macs=0.0)])
def test_the_budget_is_kept_and_the_worst_layer_named_all_the_same(budget: Budget) -> None:
    found = searched(spoiled(), 35.0, budget=budget)
    assert found.left_out == ()
    assert found.worst == "bad"
    assert found.worst_db < 35.0


def test_a_number_of_layers_is_a_budget_too() -> None:
    assert len(searched(residual(), 150.0, budget=Budget(most_layers=2, most_macs=1.0)).left_out) <= 2
    assert searched(residual(), 60.0, budget=Budget(most_macs=1.0)).worst_db > 60.0


def test_a_search_whose_time_is_up_returns_what_it_has() -> None:
    found = searched(residual(), 150.0, budget=Budget(most_macs=1.0, wall_s=0.0))
    assert len(found.by_method) == 1
    assert found.worst_db > 20


def test_ranges_are_collected_once_however_many_trials_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def counting(*arguments: Any, **options: Any) -> Any:
        runs.append(1)
        return run_model(*arguments, **options)

    monkeypatch.setattr(ranges, "run_model", counting)
    searched(residual(), 150.0, budget=Budget(most_macs=1.0))
    assert len(runs) == 16  # one for each input


# ---- a model of the pack


@pytest.fixture(scope="module")
def refiner() -> tuple[Any, Simulation, Calibrated]:
    """The tiny refiner's graph, simulated and calibrated on different frames."""
    file = find("tiny_refiner")
    samples = Samples(sample_clip(), {"detector": find("tiny_detector"), "refiner": file}, count=6)
    graph = prepare(file, static_shapes(file, {"n": 1}))
    verify, ranges_on = (
        [{file.tensors["image"]: feed["image"]} for feed in inputs]
        for inputs in (samples.inputs("refiner"), samples.calibration("refiner"))
    )
    simulation = Simulation(graph, verify)
    return graph, simulation, calibrate(simulation, ranges_on)


def test_int8_with_fp16_between_builds_without_a_gpu(refiner: tuple[Any, Simulation, Calibrated]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    graph, simulation, calibrated = refiner
    found = find_int8(simulation, calibrated, 30.0)
    assert found.worst_db >= 30.0
    assert found.macs_share >= 0.9
    assert found.residuals >= 4
    layers = {name: layer for name, layer in calibrated.layers.items() if name in found.layers}
    whole = quantise(graph, layers, found.scales, calibrated.weights)
    for half_scales in (True, False):
        typed = to_fp16(whole, found.keep_fp32, half_scales=half_scales)
        onnx.checker.check_model(typed, full_check=True)
        for arch in ("sm_89", "sm_120"):
            built = find_flavour("tensorrt_rtx").build(typed.SerializeToString(), arch, where="tiny_refiner")
            assert len(built.plan) > 100_000


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_past_the_contracts_drift_the_layer_that_drifts_most_is_named(
    precision: Any, refiner: tuple[Any, Simulation, Calibrated]
) -> None:
    file = find("tiny_refiner")
    strict = dataclasses.replace(file, contract=dataclasses.replace(file.contract, drift=Drift(250.0, 250.0)))
    samples = Samples(sample_clip(), {"detector": find("tiny_detector"), "refiner": file}, count=4)
    said: list[str] = []
    candidate = Candidate("refiner", strict, precision, samples, said.append, budget=Budget(most_layers=1, wall_s=20))
    with pytest.raises(BuildError) as raised:
        candidate.typed({"image": (1, 3, 96, 96)})
    words = str(raised.value)
    assert words.startswith(f"tiny_refiner: wanted 250 dB or more in {precision.upper()}, got ")
    worst = words.split("; ")[1].split(" drifts most")[0]
    names = set(layers_of(refiner[0])) if precision == "int8" else set(float_nodes(refiner[0]))
    assert worst in names
    if precision == "int8":
        alone = {name: _alone(refiner, name) for name in names}
        assert alone[worst] <= sorted(alone.values())[1]  # other frames may order two near ones the other way


def _alone(refiner: tuple[Any, Simulation, Calibrated], name: str) -> float:
    """PSNR with this layer alone in INT8."""
    _, simulation, calibrated = refiner
    layers = {name: calibrated.layers[name]}
    typed = quantise(simulation.model, layers, scales_of(calibrated.ranges, "mse"), calibrated.weights, embed=False)
    integers = {f"{key}__int8": one.values for key, one in calibrated.weights.items()}
    return worst_db(simulation.drift(typed, weights=integers))


def test_a_candidate_types_other_batches_with_the_scales_that_it_found() -> None:
    file = find("tiny_refiner")
    samples = Samples(sample_clip(), {"detector": find("tiny_detector"), "refiner": file}, count=4)
    candidate = Candidate("refiner", file, "int8", samples, lambda line: None)
    one, four = (candidate.typed({"image": (batch, 3, 96, 96)}) for batch in (1, 4))
    assert one.layers == four.layers
    assert one.layers["int8"] >= 14
    assert one.notes["calibrated_on"] == one.notes["verified_on"] == 8
    assert one.notes["int8_share_of_macs"] == pytest.approx(1.0, abs=0.1)
    [feed] = [{file.tensors["image"]: samples.inputs("refiner")[i]["image"]} for i in (0,)]
    [alone] = run_model(one.graph, [feed])
    [together] = run_model(four.graph, [{name: np.repeat(value, 4, axis=0) for name, value in feed.items()}])
    name = file.tensors["points"]
    assert np.allclose(together[name], alone[name], atol=0.5)  # px of the crop
