"""Every contract and template reads, and says what the published files are known to say."""

from __future__ import annotations

import numpy as np
import pytest

from models.contract import Template, contract_names, load_contract, load_template
from models.spec import Spec
from models.tables import TableError, from_table


@pytest.mark.parametrize("name", contract_names())
def test_every_contract_reads_and_is_consistent(name: str) -> None:
    contract = load_contract(name)
    assert contract.origin
    assert contract.licence
    assert contract.file.endswith(".onnx")
    if contract.template:
        assert load_template(contract.template).points_px
    for swapper_needs in contract.embedder:
        assert load_contract(swapper_needs).role == "embedder"
    if contract.detector is not None:
        for stride in contract.detector.strides:
            assert {f"score_{stride}", f"bbox_{stride}", f"kps_{stride}"} <= set(contract.outputs)


def test_published_numbers_stand_where_they_belong() -> None:
    det, arc, swap = load_contract("det_10g"), load_contract("w600k_r50"), load_contract("inswapper_128")
    assert det.detector is not None
    assert (det.detector.score_threshold, det.detector.iou_threshold, det.detector.anchors) == (0.5, 0.4, 2)
    assert [det.outputs[f"{kind}_{s}"].names[0] for kind in ("score", "bbox", "kps") for s in (8, 16, 32)] == [
        "448", "471", "494", "451", "474", "497", "454", "477", "500",
    ]  # fmt: skip
    assert (det.inputs["image"].mean, det.inputs["image"].std) == ((127.5,), (128.0,))
    assert (arc.inputs["image"].mean, arc.inputs["image"].std) == ((127.5,), (127.5,))
    assert swap.inputs["target"].shape == (1, 3, 128, 128)
    assert list(swap.inputs) == ["target", "source"]


def test_the_crop_template_of_128_is_the_one_of_112_moved_by_8_px() -> None:
    small, large = load_template("arcface_112"), load_template("arcface_128")
    assert np.allclose(np.array(large.points_px) - np.array(small.points_px), [8.0, 0.0])


def test_unknown_names_and_keys_are_refused() -> None:
    with pytest.raises(TableError, match=r"^contract none: wanted one of det_10g, .*, got 'none'; correct the name$"):
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
