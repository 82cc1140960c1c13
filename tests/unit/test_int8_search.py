"""The search for INT8: what is left out, within which budget, and what is said where it fails."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from build_engines import ranges
from build_engines.flavour import BuildError, find_flavour
from build_engines.int8 import Calibrated, Quantised, calibrate, find_int8
from build_engines.judge import Candidate
from build_engines.precision import float_nodes, to_fp16
from build_engines.quantise import layers_of, quantise
from build_engines.ranges import scales_of
from build_engines.samples import Samples, sample_clip
from build_engines.sensitivity import Budget
from build_engines.simulate import Feeds, Simulation, run_model, worst_db
from build_engines.surgery import prepare, static_shapes
from models.contract import Drift
from models.model_files import find
from tests.unit.small_graphs import conv, feeds_of, network, overflowing, residual, weight


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
