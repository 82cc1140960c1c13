"""What a conversion decides without PyTorch: which contract, which weights of a file, and every refusal's sentence."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.__main__ import main
from models.contract import contract_names, load_contract
from models.convert import TOPOLOGIES, ConvertError, checkpoint, convert, keys, run
from models.convert.export import OTHERS, TRACED, random_inputs
from models.convert.topologies import _REASONS, topology_of

NETS = Path(run.__file__).parent / "nets"
NET = {"up.weight": (4, 3), "up.bias": (4,), "norm.num_batches_tracked": ()}


def array(*shape: int) -> Any:
    return SimpleNamespace(shape=shape)


def refused(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ConvertError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def test_nothing_heavy_is_imported_before_a_file_is_read() -> None:
    heavy = "print([name for name in ('torch', 'onnx', 'onnxruntime') if name in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys, models.__main__, models.convert; {heavy}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_row_of_the_table_names_a_contract_and_a_function_that_is_there(name: str) -> None:
    contract, topology = load_contract(name), TOPOLOGIES[name]
    module, _, function = topology.build.partition(":")
    tree = ast.parse((NETS / f"{module}.py").read_text(encoding="utf-8"))
    built = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    taken = {one.arg for one in built[function].args.kwonlyargs}
    assert taken == set(topology.fixed)
    methods = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    ours = {spec.names[0] for spec in (*contract.inputs.values(), *contract.outputs.values())}
    for part in topology.parts.values():
        assert part.method in methods
    if topology.parts:
        ref, frame = topology.parts["ref"], topology.parts["frame"]
        assert set(ref.outputs) <= set(frame.inputs)
        assert {*ref.inputs, *frame.inputs, *frame.outputs} - set(ref.outputs) == ours


def test_every_other_contract_is_refused_by_name_with_what_there_is() -> None:
    assert set(_REASONS) <= set(contract_names()) - set(TOPOLOGIES)
    for name in set(contract_names()) - set(TOPOLOGIES):
        said = refused(topology_of, name)
        assert said.startswith(f"--as: wanted one of {', '.join(TOPOLOGIES)}, got {name}; ")
    assert refused(topology_of, "inswapper_128").endswith(
        "got inswapper_128; it is published as ONNX: python -m models add inswapper_128.onnx"
    )
    assert refused(topology_of, "heygem_dinet_v1").endswith("got heygem_dinet_v1; the vendor's network is closed")
    assert "got 'wav2lip', which is no contract; correct the name" in refused(topology_of, "wav2lip")


def test_a_half_is_of_a_network_with_references() -> None:
    assert topology_of("dinet", "frame").parts["frame"].inputs == ("source", "audio", "ref_feature", "ref_appearance")
    cut = "dinet, dinet_five_ref, dinet_mini_1, dinet_mini_2"
    assert refused(topology_of, "wav2lip_96", "ref") == (
        f"--part: wanted full for wav2lip_96, got 'ref'; it is a part of {cut}"
    )
    assert refused(topology_of, "dinet", "half") == (
        "--part: wanted one of full, ref, frame, got 'half'; correct the name"
    )


def test_state_dicts_are_found_wherever_a_file_has_them() -> None:
    weights = {"up.weight": array(4, 3)}
    assert keys.state_dicts(weights) == {"": weights}
    nested = {"state_dict": {"net_g": weights, "net_d": {"down.weight": array(1)}}, "epoch": 4, "args": {"rate": 0.1}}
    assert list(keys.state_dicts(nested)) == ["state_dict.net_g", "state_dict.net_d"]
    # a step count beside weights is no weight; numbers instead of names (an optimizer's state) are none
    assert keys.state_dicts({"step": 3, **weights, "state": {0: {"exp_avg": array(4)}}}) == {"": weights}
    assert keys.state_dicts([1, 2]) == {}


def test_a_prefix_is_what_stands_before_the_longest_name() -> None:
    found = ["module.net.up.weight", "module.net.up.bias", "other.weight"]
    assert keys.prefixes(found, NET) == ("",)
    assert keys.prefixes(found, {"up.weight": (), "up.bias": ()}) == ("", "module.net.")
    assert keys.prefixes(["up.weight"], {"up.weight": ()}) == ("",)


def test_a_file_that_fits_fits_behind_its_prefix_and_counters_do_not_count() -> None:
    found: dict[str, tuple[int, ...]] = {"module.up.weight": (4, 3), "module.up.bias": (4,)}
    counted = ("num_batches_tracked", "_tmp_running_mean", "_tmp_running_var", "_running_iter")
    found |= {f"module.other.{name}": () for name in counted}
    fitted = keys.best_fit({"state_dict": found}, lambda _: {"up.weight": (4, 3), "up.bias": (4,)})
    assert fitted is not None
    assert (fitted.faults, fitted.prefix, fitted.wanted, fitted.unused) == (0, "module.", 2, 0)
    assert fitted.place == "state_dict behind the prefix module."
    assert keys.fit("", "", {"up.weight": (4, 3), "up.bias": (4,)}, NET).faults == 0


def test_faults_are_counted_and_the_first_few_named() -> None:
    wanted = {f"conv{number}.weight": (8, 8) for number in range(6)}
    found = {"conv0.weight": (8, 8), "conv1.weight": (8, 16), "head.weight": (2,), "head.bias": (2,)}
    fitted = keys.fit("model", "", found, wanted)
    assert fitted.faults == 7
    assert fitted.describe() == (
        "4 missing (conv2.weight, conv3.weight, conv4.weight, ...); 2 extra (head.weight, head.bias); "
        "1 of another shape (conv1.weight: wanted [8, 8], got [8, 16])"
    )


def test_weights_that_no_output_needs_are_no_fault_but_others_are() -> None:
    wanted = {"encoder.weight": (2,)}
    found = {"encoder.weight": (2,), "decoder.weight": (3,), "ctc.bias": (1,)}
    assert keys.fit("", "", found, wanted, (r"decoder\.",)).extra == ("ctc.bias",)
    both = keys.fit("", "", found, wanted, (r"decoder\.", r"ctc\."))
    assert (both.faults, both.unused) == (0, 2)
    # behind a prefix: what is inside is known by the name without it, what is outside by its own
    found = {"module.encoder.weight": (2,), "module.decoder.weight": (3,), "loose": (1,)}
    behind = keys.fit("", "module.", found, wanted, (r"decoder\.",))
    assert (behind.extra, behind.unused) == (("loose",), 1)


def test_of_several_states_that_fit_the_averaged_one_is_taken_and_a_discriminator_never() -> None:
    good = {"up.weight": (4, 3), "up.bias": (4,)}
    other: dict[str, tuple[int, ...]] = {"down.weight": (1,)}
    parts: dict[str, keys.Shapes] = {"params": good, "params_ema": good, "net_d": other}
    fitted = keys.best_fit(parts, lambda _: good)
    assert fitted is not None
    assert fitted.part == "params_ema"
    assert keys.best_fit({}, lambda _: good) is None


def test_a_prefix_can_be_given() -> None:
    good = {"up.weight": (4, 3)}
    parts = {"": {"a.up.weight": (4, 3), "b.up.weight": (4, 3)}}
    fitted = keys.best_fit(parts, lambda _: good, prefix="b.")
    assert fitted is not None
    assert (fitted.prefix, fitted.missing, fitted.extra) == ("b.", (), ("a.up.weight",))


def test_widths_are_read_off_a_weight_behind_any_prefix() -> None:
    shapes = {"xoutc.conv.weight": (3, 99, 1, 1), "module.outc.conv.weight": (3, 16, 1, 1)}
    assert keys.axis_size(shapes, "outc.conv.weight", 1) == 16
    assert keys.axis_size(shapes, "outc.conv.weight", 4) is None
    assert keys.axis_size(shapes, "inc.weight", 0) is None


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_random_input_is_what_the_contract_wants(name: str) -> None:
    contract = load_contract(name)
    for sizes in (TRACED, OTHERS):
        made = random_inputs(contract, sizes)
        assert list(made) == [spec.names[0] for spec in contract.inputs.values()]
        for spec, values in zip(contract.inputs.values(), made.values(), strict=True):
            assert spec.misfit(str(values.dtype), values.shape) == ""
            assert np.ptp(values) > 0 or values.size == 1
    for key, value in contract.constants.items():
        assert (made[contract.inputs[key].names[0]] == value).all()
    with pytest.raises(ConvertError, match="input x: wanted a size for the axis n, got none"):
        random_inputs(load_contract("dh_live_audio2bs"), {"frames": 2})


PAGE, POINTER = b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.onnx", b"x", "a.onnx: wanted a checkpoint, got an ONNX file; take it in: python -m models add"),
        ("a.pth", b"", "a.pth: wanted a checkpoint, got an empty file; download it again"),
        ("a.pth", PAGE, "a.pth: wanted a checkpoint, got a web page; download the file itself"),
        ("a.pth", POINTER, "a.pth: wanted a checkpoint, got a pointer of Git LFS; fetch it: git lfs pull"),
        ("a.pth", None, "a.pth: wanted a readable checkpoint, got No such file or directory; check the path"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert sentence in refused(checkpoint.read_checkpoint, tmp_path / name)


@pytest.mark.parametrize(
    ("name", "package", "install"),
    [("a.pth", "torch", "face-engine[train]"), ("a.safetensors", "safetensors.torch", "safetensors")],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, install: str
) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(checkpoint.read_checkpoint, tmp_path / name)
    assert said.startswith(f"models.convert: wanted the package {package} to read {name}, got none (")
    assert said.endswith(f"); install it with pip install '{install}'")


def test_where_the_file_goes_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    source = tmp_path / "wav2lip.pth"  # not there: what is said is about the target
    there = tmp_path / "wav2lip_96.onnx"
    there.write_bytes(b"kept")
    assert refused(convert, source, "wav2lip_96") == (
        f"{there}: wanted a new file, got one that is there; name another by --out, or --replace"
    )
    assert there.read_bytes() == b"kept"
    assert "wanted a readable checkpoint" in refused(convert, source, "wav2lip_96", replace=True)
    assert refused(convert, source, "wav2lip_96", tmp_path / "a.pth").startswith(
        "--out: wanted a file that ends in .onnx, got"
    )
    assert refused(convert, source, "wav2lip_96", tmp_path / "no" / "a.onnx") == (
        f"--out: wanted an existing folder, got {tmp_path / 'no'}; create it"
    )
    contract = load_contract("dinet_mini_2")
    assert run._target(source, contract, "ref", None, False) == tmp_path / "dinet_mini_2_ref.onnx"


def test_the_command_says_what_is_wrong_and_gives_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "a.pth"), "--as", "w600k_r50"]) == 2
    assert "got w600k_r50; it is published as ONNX: python -m models add w600k_r50.onnx" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.pth"), "--as", "dinet", "--part", "frame"]) == 2
    assert "wanted a readable checkpoint, got No such file or directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "a.pth")])
    assert "the following arguments are required: --as" in capsys.readouterr().err
