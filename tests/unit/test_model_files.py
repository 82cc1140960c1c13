"""python -m models: which ONNX file serves which contract is found out, checked, and never guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import model_files
from models.__main__ import main
from models.contract import ROLES, Contract, contract_names, load_contract
from models.model_files import ModelFileError, add, find, folder, recognise
from models.onnx_file import read_onnx, sha256_of
from models.spec import Spec

TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
    "int32": TensorProto.INT32, "int64": TensorProto.INT64,
}  # fmt: skip
PUBLISHED = [load_contract(name) for name in contract_names() if not load_contract(name).drawn_faces_only]


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
    return save(graph, path)


def save(graph: onnx.GraphProto, path: Path) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def file_of(contract: Contract, path: Path, rename: dict[str, str] | None = None, **sizes: int) -> Path:
    """A file with the interface of a contract: its first names (or those of `rename`), its shapes, one weight."""

    def tensors(specs: dict[str, Spec]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(
                (rename or {}).get(name) or next(iter(spec.names), name),
                TYPES[spec.dtype],
                [sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.shape],
            )
            for name, spec in specs.items()
        ]

    inputs, outputs = tensors(contract.inputs), tensors(contract.outputs)
    nodes = [helper.make_node("Add", [inputs[0].name, "own"], [output.name]) for output in outputs]
    dtype = np.float16 if contract.weights == "float16" else np.float32
    initializers = [numpy_helper.from_array(np.ones(8, dtype), "own")]
    if contract.emap is not None:
        initializers.append(numpy_helper.from_array(np.eye(512, dtype=np.float32), contract.emap.names[0]))
    return save(helper.make_graph(nodes, contract.name, inputs, outputs, initializers), path)


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


def test_every_published_file_is_recognised_by_its_interface_and_its_name(tmp_path: Path) -> None:
    for contract in PUBLISHED:
        for name in (contract.file, *contract.also_named):
            if (contract.name, name) == ("dfm_morph", "NAME.dfm"):
                continue
            path = file_of(contract, tmp_path / name.replace("*", "1234"))
            found, tensors = recognise(path)
            assert found.name == contract.name
            assert set(tensors) == {*contract.inputs, *contract.outputs}
            path.unlink()


SAME_INTERFACE = [
    {"scrfd_500m", "scrfd_500m_640", "scrfd_2.5g_kps"}, {"scrfd_500m_bnkps", "scrfd_2.5g_bnkps", "scrfd_10g_bnkps"},
    {"crossface_ghost", "crossface_hififace", "crossface_simswap"}, {"w600k_r50"}, {"w600k_mbf"},
    {"ghost_1_256", "ghost_2_256", "ghost_3_256", "hififace_unofficial_256", "simswap_256"}, {"reswapper_256"},
    {"hyperswap_1a_256", "hyperswap_1b_256", "hyperswap_1c_256"}, {"arcface_w600k_r50"}, {"simswap_unofficial_512"},
    {"gfpgan_1.4", "gpen_bfr_512"}, {"gfpgan_1024"}, {"codeformer"}, {"bisenet_resnet_18", "bisenet_resnet_34"},
    {"bisenet_79999"}, {"xseg_1", "xseg_2", "xseg_3"}, {"duix_wenet", "heygem_wenet"}, {"inswapper_128"},
    {"hubert_large", "feather_hubert"}, {"wav2lip_96", "wav2lip_gan_96"}, {"ultralight_wenet"}, {"dfm"}, {"dfm_morph"},
]  # fmt: skip


@pytest.mark.parametrize("group", SAME_INTERFACE, ids=lambda group: min(group))
def test_under_another_file_name_what_fits_several_contracts_is_asked_for(tmp_path: Path, group: set[str]) -> None:
    path = tmp_path / "model.onnx"
    for name in group:
        file_of(load_contract(name), path)
        if len(group) == 1:
            assert recognise(path)[0].name == name
            continue
        with pytest.raises(ModelFileError) as caught:
            recognise(path)
        assert str(caught.value) == (
            f"{path}: wanted a file that fits one contract, got one that fits {', '.join(sorted(group))}; "
            f"say which: python -m models add model.onnx --as {min(group)}"
        )


def test_a_file_that_fits_several_contracts_is_added_under_the_one_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(load_contract("hyperswap_1b_256"), tmp_path / "mine.onnx")
    assert main(["add", str(path)]) == 2
    assert (
        "got one that fits hyperswap_1a_256, hyperswap_1b_256, hyperswap_1c_256; say which" in capsys.readouterr().err
    )
    assert main(["add", str(path), "--as", "hyperswap_1b_256"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{path} serves hyperswap_1b_256 (swapper)\n")
    assert "\n  uncertain: the weights' type: 402 MB fit 201 M parameters" in said
    assert find("hyperswap_1b_256").tensors == {name: name for name in ("source", "target", "output", "mask")}
    assert main(["add", str(path), "--as", "det_10g"]) == 2
    assert capsys.readouterr().err.startswith(
        f"{path}: wanted an ONNX file that fits the contract det_10g, got one that fits none; see what differs:\n"
        "  det_10g: input image: wanted a tensor named input.1, got source, target; "
    )
    assert main(["add", str(path), "--as", "hyperswap"]) == 2
    assert "contract hyperswap: wanted one of 1k3d68, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("yoloface_8n", {"image": "images", "rows": "output0"}),
        ("codeformer", {"image": "x", "fidelity": "w", "output": "y"}),
        ("simswap_unofficial_512", {"source": "onnx::Gemm_1", "target": "input", "output": "7"}),
        ("ghost_2_256", {"output": "1165"}),
        ("gfpgan_1.4", {"output": "1392"}),
        ("arcface_w600k_r50", {"image": "input", "embedding": "9"}),
        ("retinaface_10g", {}),
    ],
)
def test_other_names_of_a_files_tensors_are_known(tmp_path: Path, name: str, rename: dict[str, str]) -> None:
    contract, tensors = recognise(file_of(load_contract(name), tmp_path / "renamed.onnx", rename))
    assert contract.name == name
    assert {key: tensors[key] for key in rename} == rename


def test_outputs_without_known_names_are_found_by_their_shape(tmp_path: Path) -> None:
    contract = load_contract("scrfd_500m_640")
    numbers = {name: str(number) for number, name in enumerate(contract.outputs)}
    path = file_of(contract, tmp_path / contract.file, numbers)
    assert recognise(path)[1] == {"image": "input.1", **numbers}
    free = load_contract("scrfd_500m")
    with pytest.raises(ModelFileError) as caught:
        recognise(file_of(free, path, numbers), contract.name)
    assert "output score_8: wanted a tensor named score_8, or one alone of float32 [12800, 1], got 0, 1, 2, " in str(
        caught.value
    )


def test_a_file_that_fits_nothing_is_told_the_nearest_contracts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = swapper(tmp_path / "big.onnx", size=192)
    assert main(["add", str(path)]) == 2
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert lines[0] == f"{path}: wanted an ONNX file that fits a contract, got one that fits none; see what differs:"
    assert lines[1] == (
        "  inswapper_128: input target: wanted the shape [1, 3, 128, 128], got [1, 3, 192, 192]; "
        "output output: wanted the shape [1, 3, 128, 128], got [1, 3, 192, 192]"
    )
    assert [line.split(":")[0] for line in lines[2:4]] == ["  reswapper_128", "  reswapper_256"]
    assert lines[6] == f"  and {len(PUBLISHED) - 5} other contracts, further off: python -m models list"
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("name", "rename", "sizes", "misfit"),
    [
        ("det_10g", {"score_8": "x"}, {}, "output score_8: wanted a tensor named 448, got x, 471, "),
        ("2d106det", {}, {"n": 4}, ""),
        ("det_10g", {}, {"h": 100}, "input input.1: wanted h in multiples of 32, got 100"),
        ("dfm", {}, {"n": 1, "side": 224}, ""),
        ("xseg_1", {}, {}, ""),
        ("wenet_encoder", {"att_cache": "cache"}, {}, "input att_cache: wanted a tensor named att_cache, got chunk, "),
    ],
)
def test_a_near_miss_under_its_own_file_name_says_what_differs(
    tmp_path: Path, name: str, rename: dict[str, str], sizes: dict[str, int], misfit: str
) -> None:
    contract = load_contract(name)
    path = file_of(contract, tmp_path / contract.file, rename, **sizes)
    if not misfit:
        assert recognise(path)[0].name == name
        return
    with pytest.raises(ModelFileError) as caught:
        recognise(path)
    assert f"\n  {name}: {misfit}" in str(caught.value)


def test_an_axis_has_one_size_and_a_face_is_square(tmp_path: Path) -> None:
    side = ["n", 224, 320, 3]
    face = helper.make_tensor_value_info("in_face:0", TensorProto.FLOAT, side)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [*side[:3], channels])
        for name, channels in (("out_face_mask:0", 1), ("out_celeb_face:0", 3), ("out_celeb_face_mask:0", 1))
    ]
    nodes = [helper.make_node("Identity", ["in_face:0"], [output.name]) for output in outputs]
    path = save(helper.make_graph(nodes, "face", [face], outputs), tmp_path / "wide.dfm")
    with pytest.raises(ModelFileError, match=r"\n  dfm: axis side: wanted one size, got 224 and 320\n"):
        recognise(path)


def test_inputs_beyond_the_contract_and_other_types_are_refused(tmp_path: Path) -> None:
    morph, code = load_contract("dfm_morph"), load_contract("codeformer")
    with pytest.raises(ModelFileError, match=r"  dfm: inputs: wanted 1, got in_face:0, morph_value:0$"):
        recognise(file_of(morph, tmp_path / "model.onnx"), "dfm")
    fidelity = replace(code.inputs["fidelity"], dtype="float32")
    other = replace(code, inputs={**code.inputs, "fidelity": fidelity})
    with pytest.raises(ModelFileError, match=r"  codeformer: input weight: wanted float64, got float32"):
        recognise(file_of(other, tmp_path / "codeformer.onnx"))


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
    contract, tensors = recognise(save(graph, tmp_path / "w600k_r50.onnx"))
    assert (contract.name, tensors) == ("w600k_r50", {"image": "data", "embedding": "embedding"})
    with pytest.raises(ModelFileError, match=r"got one that fits arcface_w600k_r50, w600k_mbf, w600k_r50; say which: "):
        recognise(save(graph, tmp_path / "face.onnx"))


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


def test_a_file_of_ones_own_goes_before_the_packaged_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packaged = find("tiny_embedder").path
    model = onnx.load(packaged)
    model.doc_string = "trained at home"
    onnx.save(model, tmp_path / "mine.onnx")
    add(tmp_path / "mine.onnx", "tiny_embedder")
    found = find("tiny_embedder")
    assert onnx.load(found.path).doc_string == "trained at home"
    assert main(["list"]) == 0
    assert "  tiny_embedder            mine.onnx (drawn faces only)" in capsys.readouterr().out.splitlines()
    add(packaged, "tiny_embedder", replace=True)  # the way back
    assert find("tiny_embedder").sha256 == sha256_of(packaged)


def test_list_shows_every_contract_under_its_role(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    add(swapper(tmp_path / "mine.onnx"))
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    roles = [line for line in lines[1:] if not line.startswith(" ")]
    assert roles == list(ROLES)
    in_order = {line.split()[0]: lines.index(line) for line in lines if line.startswith("  ")}
    assert set(contract_names()) <= set(in_order)
    assert lines.index("swapper") < in_order["inswapper_128"] < lines.index("restorer")
    assert lines[in_order["inswapper_128"]] == "  inswapper_128            mine.onnx"
    assert lines[in_order["det_10g"]] == "  det_10g                  no file; published as det_10g.onnx"
    convertible = "no file; published as wav2lip256.pth: python -m models convert CKPT --as wav2lip_256"
    assert lines[in_order["wav2lip_256"]].endswith(convertible)
    assert lines[in_order["heygem_wenet"]].endswith("no file; published as wenetmodel.pt, to be exported to ONNX")
    assert lines[in_order["tiny_swapper"]].endswith("(drawn faces only)")


def test_twins_are_listed_by_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["twin"]) == 0
    said = capsys.readouterr().out
    assert "random weights" in said
    assert "inswapper_128" in said
    assert main(["twin", "none"]) == 2


def test_a_network_of_ours_that_is_not_packaged_says_how_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(load_contract("tiny_points68"), packaged="")
    monkeypatch.setattr(model_files, "load_contract", lambda name: bare)
    sentence = (
        r"tiny_points68: wanted a file .*, got none; train it: python -m models train points68, and then add yours"
    )
    with pytest.raises(ModelFileError, match=sentence):
        find("tiny_points68")
