"""Masks that networks give, in the pipeline: what stands in front stays, and only the named parts are changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import engine
from engine.errors import ModelError
from engine.frame import held_buffer
from models.model_files import add
from profiles.profile import Profile, load_profile
from tests.clips import U8, decoded

SIZE = (1280, 720)
SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_ENGINE_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def frame() -> U8:
    return decoded(SAMPLE / "clip.mp4", 1)[0]


def _file(path: Path, nodes: list[Any], tensors: tuple[Any, Any], constants: dict[str, Any]) -> Path:
    graph = helper.make_graph(
        nodes, "mask", [tensors[0]], [tensors[1]], [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def _occluder(path: Path) -> Path:
    """An occlusion network of XSeg's form to which the left half of every crop is hidden."""
    seen = np.zeros((1, 1, 256, 1), np.float32)
    seen[:, :, 128:] = 1
    float32 = TensorProto.FLOAT
    return _file(
        path,
        [
            helper.make_node("Slice", ["input", "from", "to", "axis"], ["blue"]),
            helper.make_node("Mul", ["blue", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "seen"], ["output"]),
        ],
        (
            helper.make_tensor_value_info("input", float32, [1, 256, 256, 3]),
            helper.make_tensor_value_info("output", float32, [1, 256, 256, 1]),
        ),
        {
            "from": np.array([0]),
            "to": np.array([1]),
            "axis": np.array([3]),
            "zero": np.zeros(1, np.float32),
            "seen": seen,
        },
    )


def _parser(path: Path) -> Path:
    """A parser of BiSeNet's form to which the upper half is skin (1) and the lower half hair (17)."""
    logits = np.zeros((1, 19, 512, 1), np.float32)
    logits[0, 1, :256], logits[0, 17, 256:] = 5, 5
    float32 = TensorProto.FLOAT
    return _file(
        path,
        [
            helper.make_node("Slice", ["input", "from", "to", "axis"], ["red"]),
            helper.make_node("Mul", ["red", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "logits"], ["output"]),
        ],
        (
            helper.make_tensor_value_info("input", float32, [1, 3, 512, 512]),
            helper.make_tensor_value_info("output", float32, [1, 19, 512, 512]),
        ),
        {
            "from": np.array([0]),
            "to": np.array([1]),
            "axis": np.array([1]),
            "zero": np.zeros(1, np.float32),
            "logits": logits,
        },
    )


def _profile(kinds: tuple[Any, ...], regions: tuple[str, ...] = (), **roles: str) -> Profile:
    tiny = load_profile("tiny")
    return dataclasses.replace(
        tiny,
        backend="cpu",
        models=dataclasses.replace(tiny.models, **roles),
        mask=dataclasses.replace(tiny.mask, kinds=kinds, regions=regions),
    )


def _luma_change(profile: Profile, picture: U8) -> tuple[Any, Any]:
    """How much each luma px changes, and the points [5, 2] of the face that was changed."""
    with engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=SIZE, faces="largest") as pipeline:
        done = pipeline.step(picture)
        assert done.face_count == 1
        points = pipeline.backend.to_host(held_buffer(done.faces.points))[0]
        luma, _ = done.planes()
        return np.abs(luma.astype(int) - picture[: SIZE[1]].astype(int)), points


def test_what_stands_in_front_stays(frame: U8, tmp_path: Path) -> None:
    add(_occluder(tmp_path / "xseg_1.onnx"), "xseg_1")
    plain, points = _luma_change(_profile(("ellipse",)), frame)
    kept, after = _luma_change(_profile(("ellipse", "occlusion"), occluder="xseg_1"), frame)
    assert np.array_equal(after, points)
    hidden, seen = (
        (slice(int(y) - 5, int(y) + 5), slice(int(x) - 5, int(x) + 5)) for x, y in points[:2]
    )  # the eyes: 18 px of the crop left and right of the border, where the blur's 20 px hardly reach
    assert plain[hidden].mean() > 2
    assert plain[seen].mean() > 2
    assert kept[hidden].max() == 0
    assert kept[seen].mean() > 0.9 * plain[seen].mean()


def test_only_the_named_regions_are_changed(frame: U8, tmp_path: Path) -> None:
    add(_parser(tmp_path / "bisenet_resnet_18.onnx"), "bisenet_resnet_18")
    whole, points = _luma_change(_profile(("box",)), frame)
    skin, _ = _luma_change(_profile(("box", "regions"), ("skin",), parser="bisenet_resnet_18"), frame)
    hair, _ = _luma_change(_profile(("box", "regions"), ("hair",), parser="bisenet_resnet_18"), frame)
    contracts_own, _ = _luma_change(_profile(("box", "regions"), parser="bisenet_resnet_18"), frame)
    places = [slice(int(at[1]) - 4, int(at[1]) + 4) for at in (points[:2].mean(0), points[3:].mean(0))]
    columns = slice(int(points[3][0]), int(points[4][0]))
    eyes, mouth = ((place, columns) for place in places)
    assert whole[eyes].mean() > 2
    assert whole[mouth].mean() > 2
    # the blur of 5 px reaches the eyes from the border of the two halves, 12 px below them
    assert skin[eyes].mean() > 0.9 * whole[eyes].mean()
    assert skin[mouth].max() == 0
    assert np.array_equal(hair[mouth], whole[mouth])
    assert hair[eyes].max() == 0
    assert np.array_equal(contracts_own, skin)  # hair is not among those that the contract keeps


def test_a_warm_frame_with_both_networks_allocates_nothing(frame: U8, tmp_path: Path) -> None:
    add(_occluder(tmp_path / "xseg_1.onnx"), "xseg_1")
    add(_parser(tmp_path / "bisenet_resnet_18.onnx"), "bisenet_resnet_18")
    profile = _profile(("ellipse", "occlusion", "regions"), occluder="xseg_1", parser="bisenet_resnet_18")
    with engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=SIZE) as pipeline:
        pipeline.step(frame)
        before = dataclasses.replace(pipeline.backend.counters)
        pipeline.step(frame)
        after = pipeline.backend.counters
    assert (after.allocations, after.uploads, after.downloads) == (
        before.allocations,
        before.uploads,
        before.downloads,
    )
    assert after.waits == before.waits + 1


def test_what_cannot_be_a_mask_is_refused(tmp_path: Path) -> None:
    add(_occluder(tmp_path / "xseg_1.onnx"), "xseg_1")
    add(_parser(tmp_path / "bisenet_resnet_18.onnx"), "bisenet_resnet_18")
    for profile, sentence in (
        (_profile(("regions",), parser="xseg_1"), "xseg_1: wanted a parser, which gives classes, got face; name bi"),
        (
            _profile(("regions",), ("beard",), parser="bisenet_resnet_18"),
            "mask.regions: wanted background, skin, .* hat, got beard; correct the names",
        ),
        (
            _profile(("occlusion",), occluder="tiny_refiner"),
            "profile tiny: wanted a model of the role mask as its occluder, got tiny_refiner, a refiner; correct it",
        ),
    ):
        with pytest.raises(ModelError, match=sentence):
            engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=SIZE)
    with pytest.raises(ValueError, match=r"models.occluder: wanted a model for the mask occlusion, got none; name one"):
        _profile(("occlusion",))
