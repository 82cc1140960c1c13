"""Every contract reads and holds together; what can't be one is refused in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.contract import ROLES, Contract, Template, contract_names, load_contract, load_template
from models.spec import Spec
from models.tables import TableError, from_table

ALL = [load_contract(name) for name in contract_names()]


def test_every_contract_is_complete_and_every_name_that_it_uses_exists() -> None:
    for contract in ALL:
        print(contract.name)  # pytest shows what was printed last before a failure
        is_complete(contract)
        names_exist(contract)


def is_complete(contract: Contract) -> None:
    assert contract.origin
    assert contract.licence
    assert contract.used_by
    assert contract.file.endswith((".onnx", ".dfm"))
    assert contract.inputs
    assert contract.outputs
    for spec in (*contract.inputs.values(), *contract.outputs.values()):
        if spec.layout in ("nchw", "nhwc") and spec.shape[1 if spec.layout == "nchw" else -1] == 3:
            assert spec.colour, "a picture says its colour"
        assert spec.colour or spec.values or spec.layout, "a tensor says what it holds"
    pictures = [spec for spec in contract.inputs.values() if spec.colour]
    if contract.role in ("detector", "refiner", "attributes", "embedder", "swapper", "restorer", "mask"):
        assert pictures
    if contract.checkpoint:
        assert any(doubt.startswith("tensor names: ours") for doubt in contract.uncertain)


def names_exist(contract: Contract) -> None:
    templates = [contract.template]
    for name in contract.embedder:
        assert load_contract(name).role == "embedder"
    if contract.swapper is not None:
        templates.append(contract.swapper.source_template)
        if contract.swapper.identity_map:
            assert load_contract(contract.swapper.identity_map).role == "identity_map"
        assert not contract.swapper.mask_output or contract.swapper.mask_output in contract.outputs
    if contract.restorer is not None:
        templates += [paste.template for paste in contract.restorer.paste.values()]
        assert contract.template == contract.restorer.paste[contract.restorer.like].template
    if contract.lipsync is not None:
        assert all(load_contract(name).role == "audio_encoder" for name in contract.lipsync.encoders)
        assert set(contract.lipsync.driven_by) <= set(contract.inputs)
        assert set(contract.lipsync.stack) <= set(contract.inputs)
    if contract.audio is not None:
        assert set(contract.audio.state) <= set(contract.outputs)
        assert set(contract.audio.state.values()) <= set(contract.inputs)
    if contract.attributes is not None:
        assert set(contract.attributes.labels) == set(contract.outputs)
    for name in templates:
        assert not name or load_template(name).points_px


def test_names_of_contracts_and_of_files_are_unique() -> None:
    assert {contract.role for contract in ALL} == set(ROLES)
    files = [name for contract in ALL for name in (contract.file, *contract.also_named) if ".dfm" not in name]
    assert len(files) == len(set(files))


IMAGE = {
    "dtype": "float32",
    "shape": [1, 3, 8, 8],
    "names": ["in"],
    "layout": "nchw",
    "colour": "rgb",
    "mean": [0],
    "std": [1],
}
PLAIN = {
    "name": "x", "role": "embedder", "file": "x.onnx", "origin": "a test", "template": "arcface_112",
    "inputs": {"image": IMAGE}, "outputs": {"embedding": {"dtype": "float32", "shape": [1, 4], "names": ["out"]}},
}  # fmt: skip
DETECTOR = {
    "kind": "scrfd", "strides": [8], "anchors": 2, "score_threshold": 0.5, "iou_threshold": 0.4, "pad_value": 0,
    "input_sizes_px": [640],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"role": "mask"}, "here: mask: wanted a table for the role mask, got none; add it"),
        ({"template": ""}, "here: template: wanted a name for the role embedder, got none; name one of templates.toml"),
        ({"colour": "rgb"}, "here: wanted only the keys also_named, attributes, "),
        (
            {"swapper": {"source": "embedding", "border": "black"}},
            "here: embedder: wanted the contracts whose identity",
        ),
        ({"role": "identity_map"}, "here: embedder: wanted the contracts whose identity it takes, got none; name them"),
        (
            {"inputs": {"image": {**IMAGE, "mean": []}}},
            "here: inputs.image: wanted mean, std and layout of a picture, got a colour alone; add them",
        ),
        (
            {"inputs": {"image": IMAGE, "more": {"dtype": "float32", "shape": [1]}}},
            "here: inputs.more: wanted names or by_shape, got neither; add one",
        ),
        ({"outputs": {"image": IMAGE}}, "here: outputs: wanted other names than the inputs', got image; rename one"),
        ({"constants": {"offset": 1}}, "here: constants: wanted one of image, got offset; correct the name"),
        (
            {"detector": {**DETECTOR, "kind": "yunet"}},
            "here.detector: yunet: wanted a table for the kind yunet, got none; correct one of them",
        ),
        (
            {"detector": {**DETECTOR, "yunet": {"score": "product"}}},
            "here.detector: yunet: wanted none for the kind scrfd, got a table; correct one of them",
        ),
        (
            {"restorer": {"like": "b", "paste": {"a": {"template": "", "border": "replicate", "mask": "box"}}}},
            "here.restorer: like: wanted one of a, got 'b'; correct the name",
        ),
    ],
)
def test_what_is_no_contract_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TableError) as caught:
        from_table(Contract, {**PLAIN, **change}, "here")
    assert str(caught.value).startswith(sentence)


def test_unknown_names_and_keys_are_refused() -> None:
    with pytest.raises(TableError, match=r"^contract none: wanted one of 1k3d68, .*, got 'none'; correct the name$"):
        load_contract("none")
    with pytest.raises(TableError, match=r"^template none: wanted one of arcface_112, .*; correct the name$"):
        load_template("none")
    with pytest.raises(TableError, match="points_px: wanted five pairs, got 1 entries; correct the list"):
        from_table(Template, {"size_px": 4, "points_px": [[1, 2]]}, "here")


@pytest.mark.parametrize(
    ("dtype", "shape", "misfit"),
    [
        ("float32", (1, 3, 640, 384), ""),
        ("float32", (1, 3, None, "width"), ""),
        ("float16", (1, 3, 640, 640), "wanted float32, got float16"),
        ("float32", (1, 1, 640, 640), "wanted the shape [1, 3, h, w], got [1, 1, 640, 640]"),
        ("float32", (3, 640, 640), "wanted the shape [1, 3, h, w], got [3, 640, 640]"),
        ("float32", (1, 3, 641, 640), "wanted h in multiples of 32, got 641"),
    ],
)
def test_a_spec_says_what_does_not_fit(dtype: str, shape: tuple[int | str | None, ...], misfit: str) -> None:
    assert load_contract("det_10g").inputs["image"].misfit(dtype, shape) == misfit


def test_a_spec_with_sizes_counts_its_bytes() -> None:
    spec = Spec("float32", ("n", 3, 4), mean=(1.0,), std=(2.0, 3.0, 4.0))
    assert spec.at(n=2).nbytes == 2 * 3 * 4 * 4
    assert (spec.mean_by_channel, spec.std_by_channel) == ((1.0, 1.0, 1.0), (2.0, 3.0, 4.0))
    with pytest.raises(ValueError, match="wanted a size for every axis, got names"):
        _ = spec.nbytes


def test_the_crop_template_of_128_is_the_one_of_112_moved_by_8_px() -> None:
    small, large = load_template("arcface_112"), load_template("arcface_128")
    assert np.allclose(np.array(large.points_px) - np.array(small.points_px), [8.0, 0.0])
