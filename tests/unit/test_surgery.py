"""What happens to a model's file before its types: held against the untouched file in FP32, and built by TensorRT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines.flavour import BuildError, find_flavour
from build_engines.surgery import Rewritten, constants, prepare, rewrite, static_shapes, why_single
from models.contract import load_contract
from models.model_files import ModelFile, find, open_file
from models.onnx_file import sha256_of
from models.spec import Spec
from models.twins import layers as nn
from models.twins.builder import Graph
from models.twins.swappers import inswapper
from tests.unit.small_files import contract_of, error_by_row, file_of, layer_of, run, twin_of

COUNT = 3
# twins with the published topology and fewer channels
SMALL: dict[str, dict[str, Any]] = {
    "inswapper_128": {"narrow": 16},
    "inswapper_128_fp16": {"narrow": 16},
    "hyperswap_1a_256": {"narrow": 32},
    "gfpgan_1.4": {"narrow": 16},
    "dinet_3_3_256": {"narrow": 16, "volumetric": True, "batch": 1},
    "dinet_mini_2": {},
}
FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for written twins that is emptied at once: pytest keeps temporary folders, and twins are large."""
    path = tmp_path_factory.mktemp("twins")
    yield path
    for file in path.iterdir():
        file.unlink()


@cache
def rewritten(name: str, folder: Path, count: int) -> tuple[ModelFile, Rewritten]:
    """A small twin and what becomes of it, once for all tests."""
    file = twin_of(name, folder, **SMALL[name])
    return file, rewrite(file, static_shapes(file, {"n": count}))


def kinds_of(model: Any) -> set[int]:
    """The types of everything in a graph."""
    tensors = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return {item.type.tensor_type.elem_type for item in tensors} | {item.data_type for item in model.graph.initializer}


@pytest.mark.parametrize("name", [name for name in SMALL if not name.endswith(("fp16", "1a_256"))])
def test_a_published_topology_takes_a_batch(name: str, folder: Path) -> None:
    """Different rows against single runs of the untouched file, which takes one."""
    file, done = rewritten(name, folder, COUNT)
    assert run(file.path, {item.name: np.zeros(_shape(item), np.float32) for item in onnx.load(file.path).graph.input})
    assert why_single(file) == ""
    assert (done.batch, done.measured_batch) == (COUNT, COUNT)
    assert done.max_error is not None
    assert done.max_error <= 1e-4
    assert error_by_row(file, done.model, COUNT) <= 1e-4


def _shape(info: Any) -> list[int]:
    return [axis.dim_value for axis in info.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("count", [1, COUNT])
def test_tensorrt_builds_what_was_rewritten(name: str, count: int, folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    _, done = rewritten(name, folder, count)
    assert kinds_of(done.model) <= {FLOAT, int(TensorProto.INT64)}
    onnx.checker.check_model(done.model, full_check=True)
    plan = find_flavour("tensorrt_rtx").build(done.model.SerializeToString(), "sm_89", where=name).plan
    assert len(plan) > 100_000


def test_names_of_nodes_are_those_of_one_sample(folder: Path) -> None:
    """Types are chosen by name on one sample and hold for every batch."""
    for name in ("gfpgan_1.4", "dinet_3_3_256"):
        names = [{node.name for node in rewritten(name, folder, count)[1].model.graph.node} for count in (1, COUNT)]
        assert names[0] == names[1]


def test_gfpgan_keeps_no_data_as_weights(folder: Path) -> None:
    _, done = rewritten("gfpgan_1.4", folder, 1)
    assert done.places["convolutions given constant weights"] == 23
    assert done.places["sums of squares apart"] == 15
    assert done.nodes_after < done.nodes_before
    weights = {item.name for item in done.model.graph.initializer}
    assert all(node.input[1] in weights for node in done.model.graph.node if node.op_type == "Conv")
    assert not [node for node in done.model.graph.node if node.op_type in ("ReduceSum", "Pow")]


def test_what_was_done_is_said_in_a_line(folder: Path) -> None:
    said: list[str] = []
    file = twin_of("dinet_3_3_256", folder, **SMALL["dinet_3_3_256"])
    prepare(file, static_shapes(file, {"n": 2}), say=said.append)
    assert said[0].startswith("heygem_dinet_v1: batch 2: ")
    assert ", 1 volumes flattened, " in said[0]
    assert " nodes became " in said[0]
    assert said[0].endswith(" at batch 2")


def test_a_half_precision_file_becomes_fp32_with_the_numbers_it_stores(tmp_path: Path) -> None:
    """Against the same network in FP32 whose weights were rounded through FP16 by hand."""
    half, full = (Graph("inswapper_128", half=is_half) for is_half in (True, False))
    for g in (half, full):
        inswapper(g, narrow=16)
    exact = full.model()
    for weight in exact.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim != 1:
            weight.raw_data = values.astype(np.float16).astype(np.float32).tobytes()
    for one, other in zip(half.model().graph.initializer, exact.graph.initializer, strict=True):
        if one.data_type == HALF:
            other.raw_data = numpy_helper.to_array(one).astype(np.float32).tobytes()
    contract = load_contract("inswapper_128_fp16")
    file = replace(
        file_of(half, tmp_path / "half.onnx", contract), tensors={n: n for n in ("target", "source", "output")}
    )
    done = rewrite(file, static_shapes(file, {"n": 2}))
    assert kinds_of(done.model) <= {FLOAT, int(TensorProto.INT64)}
    assert "Cast" not in {node.op_type for node in done.model.graph.node}
    assert error_by_row(file, done.model, 2, exact) <= 1e-5


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_borders_of_other_types_become_fp32(kind: int, tmp_path: Path) -> None:
    """Inputs, outputs, weights, weights as Constant nodes, fills and casts."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    one = numpy_helper.from_array(np.array([0.5], dtype), "value")
    nodes = [
        helper.make_node("Constant", [], ["half"], value=one),
        helper.make_node("ConstantOfShape", ["size"], ["filled"], value=one),
        helper.make_node("Cast", ["number"], ["as_float"], to=kind),
        helper.make_node("Mul", ["x", "half"], ["a"]),
        helper.make_node("Add", ["a", "filled"], ["b"]),
        helper.make_node("Mul", ["b", "weight"], ["c"]),
        helper.make_node("Mul", ["c", "as_float"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(name, kind, [1, 4]) for name in ("x", "y")]
    weights = [
        numpy_helper.from_array(np.array([1.5, 2, 3, 4], dtype), "weight"),
        numpy_helper.from_array(np.array([1, 4], np.int64), "size"),
        numpy_helper.from_array(np.array([3], np.int32), "number"),
    ]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    path = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    contract = contract_of({"x": (1, 4)}, {"y": (1, 4)})
    done = rewrite(ModelFile(contract, path, sha256_of(path), {"x": "x", "y": "y"}), {"x": (2, 4)})
    assert kinds_of(done.model) == {FLOAT}
    x = np.array([[1, 2, 3, 4], [0, -1, 5, 0.25]], np.float32)
    wanted = (x * 0.5 + 0.5) * [1.5, 2, 3, 4] * 3
    np.testing.assert_allclose(run(done.model, {"x": x})["y"], wanted, rtol=1e-6)


def test_heads_that_the_contract_does_not_name_go_with_what_only_they_need(tmp_path: Path) -> None:
    g = Graph("small", opset=17)
    x = g.input("x", (1, 4, 6, 6))
    shared = nn.relu(g, nn.conv(g, x, 8))
    g.output("auxiliary", nn.conv(g, shared, 19), (1, 19, 6, 6))
    g.output("y", nn.conv(g, shared, 3), (1, 3, 6, 6))
    file = file_of(g, tmp_path / "a.onnx", contract_of({"x": (1, 4, 6, 6)}, {"y": (1, 3, 6, 6)}))
    done = rewrite(file, {"x": (1, 4, 6, 6)})
    assert done.places["outputs cut off"] == 1
    assert [node.op_type for node in done.model.graph.node] == ["Conv", "Relu", "Conv"]
    assert len(done.model.graph.initializer) == 4
    assert error_by_row(file, done.model, 1) == 0.0


def test_weights_that_stand_as_inputs_and_functions_are_read(tmp_path: Path) -> None:
    """Old exporters list weights among the inputs; new ones write layers as functions of the model."""
    body = [helper.make_node("Mul", ["a", "b"], ["m"]), helper.make_node("Relu", ["m"], ["c"])]
    own = helper.make_function("own", "Scaled", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    info = {name: helper.make_tensor_value_info(name, FLOAT, [1, 4]) for name in ("x", "w", "y")}
    graph = helper.make_graph(
        [helper.make_node("Scaled", ["x", "w"], ["y"], domain="own")],
        "g",
        [info["x"], info["w"]],
        [info["y"]],
        [numpy_helper.from_array(np.array([[1, -2, 3, 4]], np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    path = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[own], ir_version=8), path)
    file = ModelFile(contract_of({"x": (1, 4)}, {"y": (1, 4)}), path, sha256_of(path), {"x": "x", "y": "y"})
    done = rewrite(file, {"x": (2, 4)})
    assert [item.name for item in done.model.graph.input] == ["x"]
    assert {node.op_type for node in done.model.graph.node} == {"Mul", "Relu"}
    x = np.array([[1, 1, 1, 1], [-1, -1, -1, -1]], np.float32)
    np.testing.assert_array_equal(run(done.model, {"x": x})["y"], [[1, 0, 3, 4], [0, 2, 0, 0]])


def test_an_input_that_no_contract_knows_is_refused(tmp_path: Path) -> None:
    g = Graph("small", opset=17)
    g.output("y", nn.add(g, g.input("x", (1, 4)), g.input("other", (1, 4))), (1, 4))
    file = file_of(g, tmp_path / "a.onnx", contract_of({"x": (1, 4)}, {"y": (1, 4)}))
    with pytest.raises(BuildError, match=r"a\.onnx: wanted only the inputs x, got other; fix the file$"):
        prepare(file, {"x": (1, 4)})


def test_a_graph_whose_operators_do_not_fit_is_refused(tmp_path: Path) -> None:
    file = layer_of(lambda g, x: nn.add(g, x, g.weight((1, 4, 1, 1), 1.0)), tmp_path / "a.onnx")
    with pytest.raises(
        BuildError, match=r"^small \(a\.onnx\): wanted a graph whose operators fit together at batch 1, "
    ):
        prepare(file, {"x": (1, 5, 6, 6)})


def swapper_of(path: Path, *names: str, read: str = "") -> ModelFile:
    """A file with inswapper's interface and 512 x 512 weights of these names, filled with 1, 2, ...; `read` is used."""
    g = Graph("inswapper_128")
    target, source = g.input("target", (1, 3, 128, 128)), g.input("source", (1, 512))
    for index, name in enumerate(names, 1):
        weight = g.weight((512, 512), 0.0, index, name=name)
        if name == read:
            source = nn.matmul(g, source, weight)
    mean = nn.reshape(g, nn.mean(g, source, (1,)), (1, 1, 1, 1))
    g.output("output", nn.add(g, nn.mul(g, target, g.weight((1, 3, 1, 1), 1.0)), mean))
    g.weight((7,), 1.0, name="trailing")
    g.save(path)
    return open_file(load_contract("inswapper_128"), path)


@pytest.mark.parametrize(
    ("names", "read", "wanted"),
    [
        (("buff2fs",), "", 1),
        (("emap", "other"), "", 1),
        (("some",), "", 1),
        (("some", "other"), "", 2),
        (("some", "other"), "other", 1),
    ],
)
def test_the_emap_is_found_by_name_or_as_the_last_of_its_shape_that_no_node_reads(
    names: tuple[str, ...], read: str, wanted: int, tmp_path: Path
) -> None:
    file = swapper_of(tmp_path / "a.onnx", *names, read=read)
    found = constants(file)
    assert list(found) == ["emap"]
    assert found["emap"].shape == (512, 512)
    assert found["emap"].dtype == np.float32
    assert np.all(found["emap"] == wanted)
    kept = {item.name for item in prepare(file, static_shapes(file, {"n": 1})).graph.initializer}
    assert not kept & (set(names) - {read})


def test_models_without_an_emap_have_no_constants_beside_the_plan() -> None:
    assert constants(find("tiny_detector")) == {}
    assert constants(find("tiny_swapper"))["emap"].shape == (512, 512)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("inswapper_128", ""),
        ("gfpgan_1.4", ""),
        ("hyperswap_1a_256", ""),
        ("xseg_1", ""),
        ("w600k_r50", ""),
        ("scrfd_500m_bnkps", ""),
        ("dh_live_audio2bs", ""),
        ("codeformer", ""),
        ("wenet_encoder", "input att_cache float32 [3, 8, 16, 128] has no axis for it"),
        ("det_10g", "output score_8 float32 [rows_8, 1] has no axis for it"),
    ],
)
def test_the_contract_says_why_a_file_takes_one_sample(name: str, reason: str) -> None:
    contract = load_contract(name)
    file = ModelFile(contract, Path(contract.file), "", {})
    assert why_single(file) == reason
    axes = {"n": 7, "h": 320, "w": 320, "frames": 2}
    counts = {7 in shape for key, shape in static_shapes(file, axes).items() if key not in contract.constants}
    assert counts == {not reason}


FULL = [
    ("inswapper_128", 4, {}),
    ("inswapper_128_fp16", 2, {}),
    ("hyperswap_1a_256", 2, {}),
    ("gfpgan_1.4", 2, {}),
    ("gfpgan_1.4", 4, {}),
    ("dinet_3_3_256", 2, {"volumetric": True}),
    ("dinet_five_ref", 2, {"volumetric": True}),
]


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "count", "options"), FULL, ids=[f"{name}-{count}" for name, count, _ in FULL])
def test_a_full_twin_is_rewritten_within_memory(name: str, count: int, options: dict[str, Any], tmp_path: Path) -> None:
    """In a process of its own, whose peak is the build's: the whole of surgery and its measurement, below 4 GB."""
    file = twin_of(name, tmp_path, **options)
    code = (
        "import json, sys; from pathlib import Path\n"
        "from build_engines.peak_memory import peak_memory_mb, reset_peak_memory\n"
        "from build_engines.surgery import rewrite, static_shapes; from models.contract import load_contract\n"
        "from models.model_files import open_file\n"
        "reset_peak_memory()  # a new process begins with its parent's\n"
        "file = open_file(load_contract(sys.argv[1]), Path(sys.argv[2]))\n"
        "done = rewrite(file, static_shapes(file, {'n': int(sys.argv[3])}))\n"
        "nodes = [done.nodes_before, done.nodes_after]\n"
        "print(json.dumps([done.max_error, done.measured_batch, peak_memory_mb(), *nodes]))\n"
    )
    arguments = [sys.executable, "-c", code, file.contract.name, str(file.path), str(count)]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True, env={**os.environ})
    file.path.unlink()
    print(f"{name} at batch {count}: {found.stdout.strip()}")
    error, measured, peak_mb, _, _ = json.loads(found.stdout)
    assert error <= 1e-4
    assert measured == count
    assert peak_mb < 4000


def test_a_whole_number_that_every_run_holds_is_no_input(tmp_path: Path) -> None:
    """It may size a tensor, as a streaming encoder's offset does, and TensorRT takes no size from a value."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    table = np.random.default_rng(3).standard_normal((64, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Add", ["offset", "rows"], ["end"]),
        helper.make_node("Slice", ["table", "offset", "end", "zero"], ["place"]),
        helper.make_node("Add", ["x", "place"], ["y"]),
    ]
    weights = [numpy_helper.from_array(table, "table")]
    weights += [
        numpy_helper.from_array(np.array([value], np.int64), name) for name, value in (("rows", 4), ("zero", 0))
    ]
    sides = [
        [helper.make_tensor_value_info("x", FLOAT, [1, 4, 8]), helper.make_tensor_value_info("offset", 7, [1])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 4, 8])],
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "small", *sides, weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    path = tmp_path / "small.onnx"
    onnx.save(model, str(path))
    inputs = {"x": Spec("float32", (1, 4, 8), names=("x",)), "offset": Spec("int64", (1,), names=("offset",))}
    contract = replace(contract_of({"x": (1, 4, 8)}, {"y": (1, 4, 8)}), inputs=inputs, constants={"offset": 5.0})
    file = ModelFile(contract, path, sha256_of(path), {"x": "x", "offset": "offset", "y": "y"})
    done = rewrite(file, static_shapes(file, {}))
    assert done.places["inputs held at one value"] == 1
    assert [item.name for item in done.model.graph.input] == ["x"]
    x = np.ones((1, 4, 8), np.float32)
    wanted = run(path, {"x": x, "offset": np.array([5], np.int64)})["y"]
    np.testing.assert_array_equal(run(done.model, {"x": x})["y"], wanted)
    assert find_flavour("tensorrt_rtx").build(done.model.SerializeToString(), "sm_89", where="small").plan
