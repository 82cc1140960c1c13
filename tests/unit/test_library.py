"""python -m models: which ONNX file serves which contract is found out, checked, and never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.__main__ import main
from models.library import ModelFileError, add, find, folder, recognise
from models.onnx_file import read_onnx

Shape = list[int | str]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_ENGINE_MODELS", str(tmp_path / "models"))


def swapper(
    path: Path,
    *,
    size: int = 128,
    emap: str | None = "buff2fs",
    weights: int = TensorProto.FLOAT,
    trailing: bool = False,
) -> Path:
    """An ONNX file with the interface of inswapper_128: a 1x1 convolution, its source unused by the result."""
    kernel = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    dtype = np.float16 if weights == TensorProto.FLOAT16 else np.float32
    initializers = [numpy_helper.from_array(kernel.astype(dtype), "kernel")]
    if emap:
        initializers.append(numpy_helper.from_array(np.eye(512, dtype=np.float32) * 2, emap))
    if trailing:
        initializers.append(numpy_helper.from_array(np.ones(4, dtype=dtype), "scale"))
    nodes = [
        helper.make_node("Cast", ["kernel"], ["kernel32"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["target", "kernel32"], ["swapped"]),
        helper.make_node("ReduceMean", ["source"], ["mean"], keepdims=0),
        helper.make_node("Add", ["swapped", "mean"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "swapper",
        [
            helper.make_tensor_value_info("target", TensorProto.FLOAT, [1, 3, size, size]),
            helper.make_tensor_value_info("source", TensorProto.FLOAT, [1, 512]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, size, size])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_interface_is_read_without_the_onnx_package(tmp_path: Path) -> None:
    path = swapper(tmp_path / "a.onnx")
    read, reference = read_onnx(path), onnx.load(path)
    assert list(read.inputs) == [item.name for item in reference.graph.input]
    assert read.inputs["target"] == ("float32", (1, 3, 128, 128))
    assert read.outputs["output"] == ("float32", (1, 3, 128, 128))
    assert [item.name for item in read.initializers] == [item.name for item in reference.graph.initializer]
    assert (read.opset, read.nodes) == (17, 4)
    assert "buff2fs" not in read.consumed


def test_a_swapper_is_recognised_taken_in_by_hash_and_found_again(tmp_path: Path) -> None:
    taken = add(swapper(tmp_path / "mine.onnx"))
    assert taken.contract.name == "inswapper_128"
    assert taken.path == folder() / f"{taken.sha256}.onnx"
    found = find("inswapper_128")
    assert found == taken
    emap = found.emap()
    assert emap is not None
    assert np.array_equal(emap, np.eye(512, dtype=np.float32) * 2)


def test_fp16_weights_are_another_contract_and_the_emap_need_not_be_last(tmp_path: Path) -> None:
    path = swapper(tmp_path / "half.onnx", weights=TensorProto.FLOAT16, emap="some_name", trailing=True)
    contract, tensors = recognise(path)
    assert contract.name == "inswapper_128_fp16"
    assert tensors == {"target": "target", "source": "source", "output": "output"}


def test_a_file_that_fits_nothing_is_told_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = swapper(tmp_path / "big.onnx", size=256)
    assert main(["add", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"{path}: wanted an ONNX file that fits a contract, got one that fits none; see what differs:\n"
    )
    assert "  inswapper_128: input target: wanted the shape [1, 3, 128, 128], got [1, 3, 256, 256]" in said
    assert "  det_10g: input image: wanted a tensor named input.1, got target, source" in said


def test_a_swapper_without_its_emap_is_refused(tmp_path: Path) -> None:
    path = swapper(tmp_path / "simplified.onnx", emap=None)
    with pytest.raises(ModelFileError, match=r"emap: wanted an initializer of 512 x 512 that no node uses, got none"):
        recognise(path, "inswapper_128")


@pytest.mark.parametrize("content", [b"", b"not a model at all", bytes(range(256)) * 8])
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"no\.onnx: wanted an ONNX model, got .*; export or copy it again"):
        add(path)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    path = swapper(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelFileError, match=r"wanted an ONNX model, got other or truncated content"):
        add(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match="wanted a readable ONNX file, got No such file or directory; check the path"
    ):
        add(tmp_path / "none.onnx")


def test_a_second_file_for_a_contract_needs_to_be_asked_for(tmp_path: Path) -> None:
    first = add(swapper(tmp_path / "first.onnx"))
    other = swapper(tmp_path / "second.onnx", trailing=True)
    with pytest.raises(
        ModelFileError, match=r"wanted no other file for inswapper_128, got first\.onnx .*; add --replace"
    ):
        add(other)
    second = add(other, replace=True)
    assert find("inswapper_128").sha256 == second.sha256
    assert not first.path.exists()


def test_a_file_whose_only_tensors_have_other_names_is_bound_by_being_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["weight"], ["weight32"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight32"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 512])],
        [numpy_helper.from_array(np.ones((3, 512), dtype=np.float32), "weight")],
    )
    path = tmp_path / "face.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    contract, tensors = recognise(path)
    assert (contract.name, tensors) == ("w600k_r50", {"image": "data", "embedding": "embedding"})


def test_a_changed_file_in_the_folder_is_noticed(tmp_path: Path) -> None:
    taken = add(swapper(tmp_path / "mine.onnx"))
    swapper(taken.path, trailing=True)
    with pytest.raises(ModelFileError, match=r"wanted the SHA-256 \w{12}, got \w{12}; the file has changed"):
        find("inswapper_128")


def test_a_missing_model_names_the_command() -> None:
    with pytest.raises(
        ModelFileError,
        match=r"^model det_10g: wanted a file for this contract in .*, got none; add yours: "
        r"python -m models add det_10g\.onnx$",
    ):
        find("det_10g")


def test_list_shows_every_contract(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    add(swapper(tmp_path / "mine.onnx"))
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "inswapper_128        swapper   mine.onnx" in said
    assert "det_10g              detector  no file" in said
