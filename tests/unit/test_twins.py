"""Twins cost what the published networks cost, hold sane numbers, and are the same file every time."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from models.contract import load_contract
from models.model_files import recognise
from models.onnx_file import sha256_of
from models.twins import NOTICE, TWINS, Count, TwinError, count_twin, dinet, layers, registry, twin_names, write_twin
from models.twins.__main__ import main
from models.twins.builder import Graph, noise
from models.twins.detectors import noise_picture
from models.twins.registry import graph_of

Array = npt.NDArray[Any]
EVERY_COUNT = [
    pytest.param(name, dict(options), count, id="-".join([name, *map(str, options.values())]))
    for name, twin in TWINS.items()
    for options, count in (({}, twin.expected), *twin.parts)
]
SMALL = {
    "scrfd_500m": {"size_px": 320},
    "ultralight_half": {},
    "dh_live_audio2bs": {},
    "dinet_mini_2": {},
}
LARGE = [name for name in TWINS if name not in SMALL]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for written twins that is emptied at once: pytest keeps temporary folders, and twins are large."""
    yield tmp_path / "twins"
    shutil.rmtree(tmp_path / "twins", ignore_errors=True)


def contract_of(name: str) -> str:
    return TWINS[name].contract or name


def session(model: Path | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def feeds_of(graph: Graph, batch: int = 1) -> dict[str, Array]:
    """Inputs of the size of real ones: noise in -1..1, unit identities, WeNet's constant offset."""
    feeds: dict[str, Array] = {}
    for index, (name, (dtype, shape)) in enumerate(graph.inputs.items()):
        sizes = [{"n": batch, "h": 320, "w": 320, "t": 2}.get(str(axis), axis) for axis in shape]
        values = noise(11, index, [int(size) for size in sizes])
        feeds[name] = np.array([100], np.int64) if dtype == "int64" else values
    if "source" in feeds and feeds["source"].ndim == 2:
        feeds["source"] /= np.linalg.norm(feeds["source"], axis=1, keepdims=True)
    return feeds


def run(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    opened = session(path)
    return dict(zip([output.name for output in opened.get_outputs()], opened.run(None, feeds), strict=True))


def write_check_and_run(name: str, folder: Path, options: dict[str, Any]) -> None:
    """The file is valid, announces itself, keeps its shapes, and its outputs are finite and neither flat nor huge."""
    path = write_twin(name, folder, **options)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    assert NOTICE in model.doc_string
    assert {entry.key: entry.value for entry in model.metadata_props}["weights"] == NOTICE
    del model
    graph = graph_of(name, options, weights=False)
    recognise(path, contract_of(name))
    found = run(path, feeds_of(graph))
    assert list(found) == list(graph.outputs)
    for output, values in found.items():
        declared = graph.outputs[output][1]
        assert len(values.shape) == len(declared)
        assert all(want == got for want, got in zip(declared, values.shape, strict=True) if isinstance(want, int))
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert values.std() > 1e-3, output
        assert np.abs(values).max() < 1e3, output


@pytest.mark.parametrize(("name", "options", "expected"), EVERY_COUNT)
def test_every_twin_costs_what_the_published_network_costs(name: str, options: dict[str, Any], expected: Count) -> None:
    counted = count_twin(name, **options)
    assert counted.parameters == pytest.approx(expected.parameters, rel=0.03)
    assert counted.macs == pytest.approx(expected.macs, rel=0.03)


@pytest.mark.parametrize("name", twin_names())
def test_a_twin_has_the_tensors_of_its_contract(name: str) -> None:
    """By the first of the contract's names, in its order; outputs that the contract leaves out come last."""
    contract, graph = load_contract(contract_of(name)), graph_of(name, {}, weights=False)
    for specs, tensors in ((contract.inputs, graph.inputs), (contract.outputs, graph.outputs)):
        assert [spec.names[0] for spec in specs.values()] == list(tensors)[: len(specs)]
        for spec, (dtype, shape) in zip(specs.values(), tensors.values(), strict=False):
            assert spec.misfit(dtype, shape) == ""
    assert len(graph.inputs) == len(contract.inputs)
    assert contract.weights in ("any", graph.dtype)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_twin_is_valid_and_runs(name: str, folder: Path) -> None:
    write_check_and_run(name, folder, SMALL[name])


def test_counting_and_building_agree() -> None:
    counted, built = (graph_of("dh_live_audio2bs", {}, weights=weights) for weights in (False, True))
    stored = sum(int(np.prod(item.dims)) for item in built.model().graph.initializer if item.data_type == 1)
    assert (counted.parameters, counted.macs, counted.nodes) == (built.parameters, built.macs, built.nodes)
    assert counted.parameters == stored
    with pytest.raises(TwinError, match="wanted a graph with weights, got one that only counts; build it with weights"):
        counted.model()


def test_the_same_seed_gives_the_same_file_and_another_seed_another(folder: Path) -> None:
    first = sha256_of(write_twin("dh_live_audio2bs", folder / "a", seed=3))
    again = sha256_of(write_twin("dh_live_audio2bs", folder / "b", seed=3))
    other = sha256_of(write_twin("dh_live_audio2bs", folder / "a", seed=4))
    assert first == again != other
    assert len(list((folder / "a").iterdir())) == 2
    weights = [graph_of("dh_live_audio2bs", {}, seed=seed).model().graph.initializer for seed in (3, 4)]
    assert all(a.raw_data != b.raw_data for a, b in zip(*weights, strict=True) if a.name.startswith("w"))


def test_weights_do_not_depend_on_numpys_distributions() -> None:
    values = noise(0, 1, (3,))
    assert values.tolist() == [0.04431414604187012, 0.7794774770736694, 0.9858964681625366]


def test_a_detector_gives_the_stated_number_of_candidates(folder: Path) -> None:
    path = write_twin("scrfd_500m", folder, size_px=320, candidates=60)
    found = run(path, {"input.1": noise_picture(0, 320)})
    above = {stride: int((found[f"score_{stride}"] >= 0.5).sum()) for stride in (8, 16, 32)}
    assert sum(above.values()) == pytest.approx(60, abs=1)
    assert above[8] > above[16] > above[32] > 0
    logits = np.log(found["score_8"] / (1 - found["score_8"])).reshape(-1, 2)
    np.testing.assert_allclose(logits.std(axis=0), 1.5, rtol=0.02)
    boxes = found["bbox_8"]
    assert (boxes[:, :2] + boxes[:, 2:] > 0).all()


def test_a_detector_of_free_size_takes_other_sizes_than_it_was_counted_at(folder: Path) -> None:
    found = run(write_twin("scrfd_500m", folder), {"input.1": noise(1, 0, (1, 3, 256, 384))})
    assert found["score_8"].shape == (2 * 32 * 48, 1)
    assert found["kps_32"].shape == (2 * 8 * 12, 10)


def test_a_free_batch_gives_what_single_runs_give(folder: Path) -> None:
    path = write_twin("dinet_mini_2", folder, batch="n")
    feeds = feeds_of(graph_of("dinet_mini_2", {"batch": "n"}, weights=False), batch=2)
    both = run(path, feeds)["output"]
    single = [run(path, {name: values[i : i + 1] for name, values in feeds.items()})["output"] for i in range(2)]
    np.testing.assert_allclose(both, np.concatenate(single), atol=1e-5)
    assert np.abs(single[0] - single[1]).max() > 1e-3


def test_the_audio_twin_carries_its_state(folder: Path) -> None:
    """Two video frames at once are one, its state, and the other."""
    long = write_twin("dh_live_audio2bs", folder, frames=0)
    x = noise(5, 0, (1, 4, 80))
    zeros = np.zeros((2, 1, 192), np.float32)
    whole = run(long, {"x": x, "h0": zeros, "c0": zeros})["y"]
    step = run(long, {"x": x[:, :2], "h0": zeros, "c0": zeros})
    then = run(long, {"x": x[:, 2:], "h0": step["hn"], "c0": step["cn"]})["y"]
    np.testing.assert_allclose(whole, np.concatenate([step["y"], then], axis=1), atol=1e-6)


def test_adaat_in_two_dimensions_is_adaat_in_three() -> None:
    """The channel mix and the flat sampling are the published sampling of a volume, half-pixel shift included."""
    results = []
    for volumetric in (False, True):
        g = Graph("adaat", opset=20, batch=2)
        x, pose = g.input("x", (2, 10, 9, 7)), g.input("pose", (2, 16))
        g.output("y", dinet.adaat(g, x, pose, volumetric=volumetric))
        results.append(session(g.model().SerializeToString()).run(None, feeds_of(g))[0])
    assert np.abs(results[0]).max() > 0.1
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_instance_norm_written_out_is_the_operator() -> None:
    g = Graph("norms")
    x = g.input("x", (1, 4, 6, 5))
    g.output("steps", layers.instance_norm_written_out(g, x, 1e-5))
    g.output("operator", layers.instance_norm(g, x, 1e-5))
    steps, operator = session(g.model().SerializeToString()).run(None, {"x": 3 + noise(1, 1, (1, 4, 6, 5))})
    np.testing.assert_allclose(steps, operator, atol=1e-5)


def test_a_twin_is_written_once_and_only_when_complete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Graph, path: Path, notes: object = None) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Graph, "save", fail)
        with pytest.raises(
            TwinError, match=r"wanted to write a twin there, got no space left .*; free space or give a"
        ):
            write_twin("dh_live_audio2bs", folder)
    assert list(folder.iterdir()) == []
    path = write_twin("dh_live_audio2bs", folder)
    monkeypatch.setattr(registry, "graph_of", None)
    assert write_twin("dh_live_audio2bs", folder) == path
    assert list(folder.iterdir()) == [path]


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert registry.cache_folder() == tmp_path / "face-engine" / "twins"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert registry.cache_folder() == Path("/home/somebody/.cache/face-engine/twins")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("none", {}, r"^twin none: wanted one of 2dfan4, .*, got 'none'; correct the name$"),
        ("xseg_1", {"size": 3}, r"^twin xseg_1: wanted one of the options batch, half, got size; correct it$"),
        ("xseg_1", {"batch": 0}, r'^twin xseg_1: wanted batch as a number from 1 on or "n" .*, got 0; correct it$'),
        ("xseg_1", {"half": "yes"}, r"^twin xseg_1: wanted half as bool like False, got 'yes'; correct it$"),
        ("xseg_1", {"batch": -1}, r"^twin xseg_1: wanted batch as a number .*, got -1; correct it$"),
        ("det_10g", {"candidates": "0"}, r"^twin det_10g: wanted candidates as int like 200, got '0'; correct it$"),
        ("inswapper_128", {"activation_scale": 0}, r"wanted activation_scale as float like 1.0, got 0; correct it$"),
        ("det_10g", {"size_px": 100}, r"^det_10g: wanted size_px as a multiple of 32 or 0, got 100; correct it$"),
        ("det_10g", {"batch": 2}, r"^det_10g: wanted batch 1 .*, got 2; take a \*_bnkps twin$"),
        ("gfpgan_1.4", {"batch": "n"}, r"^gfpgan_1.4: wanted batch 1 .*, got n; leave it out$"),
        ("dinet_mini_2", {"part": "half"}, r"^dinet_mini_2: wanted part full, frame or ref, got 'half'; correct it$"),
        ("dh_live_audio2bs", {"frames": 3}, r"^dh_live_audio2bs: wanted an even number of frames, got 3; correct it$"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TwinError, match=sentence):
        count_twin(name, **options)


def test_the_command_lists_writes_and_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert NOTICE in listed
    assert all(name in listed for name in twin_names())
    assert main(["dh_live_audio2bs", "--folder", str(folder), "--option", "frames=4"]) == 0
    written = capsys.readouterr().out
    assert str(folder) in written
    assert NOTICE in written
    assert main(["dh_live_audio2bs", "--option", "frames"]) == 2
    assert "--option: wanted KEY=VALUE" in capsys.readouterr().err
    assert main(["none"]) == 2


def test_without_onnx_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(registry.__file__).with_name("builder.py")
    spec = importlib.util.spec_from_file_location("builder_without_onnx", source)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"wanted the package onnx, got none; .* 'face-engine\[build\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LARGE)
def test_a_large_twin_is_valid_and_runs(name: str, folder: Path) -> None:
    write_check_and_run(name, folder, {})


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_inswapper_takes_a_source_for_every_face(folder: Path) -> None:
    path = write_twin("inswapper_128", folder, batch="n")
    feeds = feeds_of(graph_of("inswapper_128", {"batch": "n"}, weights=False), batch=2)
    feeds["target"][1] = feeds["target"][0]
    both = run(path, feeds)["output"]
    assert np.abs(both[0] - both[1]).max() > 0.05


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "operator"), [("inswapper_128", "Mul"), ("gfpgan_1.4", "ReduceSum")])
def test_scaled_activations_overflow_fp16_and_leave_the_picture(name: str, operator: str, folder: Path) -> None:
    """The squares pass 65504, while FP32 gives the picture of the plain twin: only a blind cast breaks it."""
    outputs = []
    for scale in (1.0, 512.0):
        path = write_twin(name, folder, activation_scale=scale)
        model = onnx.load(str(path))
        path.unlink()
        squares = [
            node.output[0]
            for node in model.graph.node
            if node.op_type == operator and (operator == "ReduceSum" or node.input[0] == node.input[1])
        ]
        assert len(squares) == {"inswapper_128": 12, "gfpgan_1.4": 15}[name]
        for square in squares:
            node = onnx.helper.make_node("ReduceMax", [square], [f"{square}_peak"], keepdims=0)
            model.graph.node.append(node)
            model.graph.output.append(onnx.helper.make_tensor_value_info(f"{square}_peak", 1, []))
        found = session(model.SerializeToString()).run(None, feeds_of(graph_of(name, {}, weights=False)))
        outputs.append((found[0], np.array(found[1:])))
    (plain, low), (scaled, high) = outputs
    np.testing.assert_allclose(scaled, plain, atol=2e-3)
    assert (low < 65504).all()
    assert (high > 65504).all()
