"""What a plan is made of, as the builder lists it without a GPU."""

from __future__ import annotations

import pytest

from build_engines.flavour import BuildError, find_flavour
from build_engines.judge import Candidate
from build_engines.plan_layers import PlanLayer, parse_layers, plan_layers, products_by_type
from build_engines.samples import Samples, sample_clip
from models.model_files import find

LIST = """Layers:
Name: first_0, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [1,4], Datatype: Int8, Format: (NHWC) }], \
Constants: [ { Name: w, Datatype: Int8 }, { Name: s, Datatype: Float }], Outputs: [ { Name: b, Datatype: Float }], \
TacticName: stub, StreamId: 0, Metadata: [ONNX Layer: Conv_1][ONNX Layer: DequantizeLinear_2]
Name: after it, LayerType: kgen, Inputs: [ { Name: b, Datatype: Float }, { Name: c, Datatype: Int8 }], \
Outputs: [ { Name: d, Datatype: Half }], TacticName: made, StreamId: 0, Metadata:
Name: wait_1, LayerType: wait, Inputs: [], Outputs: [], StreamId: 1, Metadata:
"""


def test_the_builders_list_is_read_line_by_line() -> None:
    first, after, wait = parse_layers(LIST)
    assert first == PlanLayer("first_0", "correlation", ("int8",), ("float",), ("Conv_1", "DequantizeLinear_2"))
    assert (after.name, after.inputs, after.outputs) == ("after it", ("float", "int8"), ("half",))
    assert (wait.inputs, wait.is_product) == ((), False)
    assert products_by_type([first, after, wait, first]) == {"int8": 2}
    assert list(parse_layers("Name: first_0, LayerType: kgen, Inputs: []")) == []


def test_int8_layers_stand_in_the_plan_and_fp16_has_none() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    file = find("tiny_refiner")
    samples = Samples(sample_clip(), {"detector": find("tiny_detector"), "refiner": file}, count=4)
    flavour, shapes = find_flavour("tensorrt_rtx"), {"image": (1, 3, 96, 96)}
    found = {}
    for precision in ("fp16", "int8"):
        typed = Candidate("refiner", file, precision, samples, lambda line: None).typed(shapes)
        graph = typed.graph.SerializeToString()
        found[precision] = products_by_type(plan_layers(flavour, graph, "sm_89", where="tiny_refiner"))
        if precision == "int8":
            assert found["int8"]["int8"] == typed.layers["int8"]
    assert "int8" not in found["fp16"]
    assert found["fp16"]["half"] >= 10
    with pytest.raises(BuildError, match=r"^tiny_refiner: wanted an architecture of tensorrt_rtx .*, got sm_90; name"):
        plan_layers(flavour, graph, "sm_90", where="tiny_refiner")
    with pytest.raises(BuildError, match=r"^here: wanted a graph that tensorrt_rtx reads, got .*; rewrite it"):
        plan_layers(flavour, b"no graph", "sm_89", where="here")
