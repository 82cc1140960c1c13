"""The tiny pack does what its card says: figures re-measured on held-out drawings, contracts, sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from models.tiny import labelling, measure, restoring
from models.tiny.pack import FOLDER, Pack, overlaps
from models.tiny.train import card
from models.tiny.train.evaluate import BARS

NAMES = ("detector", "refiner", "embedder", "swapper", "restorer", "parser", "occluder", "points68")
CARD = json.loads((FOLDER / "card.json").read_text())

# (input shapes, output shapes) as the systems that define them expect; None = dynamic.
CONTRACTS: dict[str, tuple[dict[str, list[int | None]], dict[str, list[int | None]]]] = {
    "detector": (
        {"input.1": [1, 3, None, None]},
        {f"{kind}_{s}": [None, n] for kind, n in (("score", 1), ("bbox", 4), ("kps", 10)) for s in (8, 16, 32)},
    ),
    "refiner": ({"input": [None, 3, 96, 96]}, {"points": [None, 5, 2]}),
    "embedder": ({"input.1": [None, 3, 112, 112]}, {"683": [None, 512]}),
    "swapper": ({"target": [None, 3, 128, 128], "source": [None, 512]}, {"output": [None, 3, 128, 128]}),
    "restorer": ({"input": [None, 3, 256, 256]}, {"output": [None, 3, 256, 256]}),
    "parser": ({"input": [None, 3, 512, 512]}, {"output": [None, 19, 512, 512]}),
    "points68": (
        {"input": [None, 3, 256, 256]},
        {"landmarks_xyscore": [None, 68, 3], "heatmaps": [None, 68, 64, 64]},
    ),
    "occluder": ({"input": [None, 256, 256, 3]}, {"output": [None, 256, 256, 1]}),
}


def _model(name: str) -> onnx.ModelProto:
    return onnx.load(str(FOLDER / f"tiny_{name}.onnx"))


def _shapes(values: list[onnx.ValueInfoProto]) -> dict[str, list[int | None]]:
    return {
        v.name: [d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim] for v in values
    }


@pytest.fixture(scope="module")
def pack() -> Pack:
    """The networks with two CPU threads."""
    return Pack()


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    model = _model(name)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    inputs, outputs = CONTRACTS[name]
    assert list(_shapes(model.graph.input)) == list(inputs)
    assert _shapes(model.graph.input) == inputs
    assert list(_shapes(model.graph.output)) == list(outputs)
    shapes = _shapes(model.graph.output)
    assert {key: len(shape) for key, shape in shapes.items()} == {key: len(shape) for key, shape in outputs.items()}
    for value in [*model.graph.input, *model.graph.output]:
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_halves_with_a_cast_behind_each(name: str) -> None:
    graph = _model(name).graph
    cast = {node.input[0]: node for node in graph.node if node.op_type == "Cast"}
    halves = [t for t in graph.initializer if t.data_type == TensorProto.FLOAT16 and t.name != "emap"]
    assert sum(numpy_helper.to_array(t).size for t in halves) > 100_000
    assert all(cast[t.name].attribute[0].i == TensorProto.FLOAT for t in halves)
    singles = [t for t in graph.initializer if t.data_type == TensorProto.FLOAT]
    assert all(numpy_helper.to_array(t).size < 16 for t in singles)


def test_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.onnx")}
    assert set(sizes) == {f"tiny_{name}.onnx" for name in (*NAMES, "lipsync")}
    assert max(sizes.values()) <= 5_000_000, sizes
    assert sum(sizes.values()) <= 14_000_000, sizes
    sample = FOLDER / "sample"
    assert sum(p.stat().st_size for p in sample.glob("*.*") if p.suffix in (".mp4", ".png", ".npz")) <= 2_600_000


def test_emap_is_the_last_initializer_and_no_node_reads_it() -> None:
    graph = _model("swapper").graph
    emap = graph.initializer[-1]
    assert (emap.name, list(emap.dims), emap.data_type) == ("emap", [512, 512], TensorProto.FLOAT16)
    assert all("emap" not in node.input for node in graph.node)
    matrix = numpy_helper.to_array(emap).astype(np.float32)
    assert np.allclose(matrix @ matrix.T, np.eye(512), atol=1e-3)
    assert abs(np.trace(matrix)) < 100  # a rotation, not the identity: leaving it out must show


def test_detector_runs_at_every_size_that_its_users_take(pack: Pack) -> None:
    for height, width in ((640, 640), (320, 320), (128, 128), (384, 640)):
        out = pack.detector.run(None, {"input.1": np.zeros((1, 3, height, width), np.float32)})
        rows = [2 * (height // s) * (width // s) for s in (8, 16, 32)]
        assert [o.shape for o in out] == [(r, n) for n in (1, 4, 10) for r in rows]


def test_a_batch_gives_what_single_pictures_give(pack: Pack) -> None:
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 255, (3, 128, 128, 3)).astype(np.uint8)
    latents = rng.normal(size=(3, 512)).astype(np.float32)
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    together = pack.swap(targets, latents).astype(int)
    alone = np.concatenate([pack.swap(targets[i : i + 1], latents[i : i + 1]) for i in range(3)])
    assert np.abs(together - alone).max() <= 1


def _bars(group: str, found: dict[str, float]) -> None:
    for name, (sign, bar) in BARS.items():
        if name.startswith(f"{group}."):
            value = found[name.split(".")[1]]
            assert value >= bar if sign == ">=" else value <= bar, f"{name}: wanted {sign} {bar}, got {value}"


# How far a figure on this small set may lie from the card's, which has about ten times the samples.
MEASUREMENTS: list[tuple[str, Callable[[Pack], dict[str, float]], dict[str, float]]] = [
    (
        "detection",
        lambda pack: measure.detection(pack, 90),
        {"recall_32": 0.015, "precision_32": 0.02, "point_error_48": 0.01},
    ),
    ("embedding", lambda pack: measure.embedding(pack, 48), {"eer": 0.012, "same_mean": 0.05, "other_mean": 0.05}),
    (
        "swapping",
        lambda pack: measure.swapping(pack, 70, 20),
        {"nearer_source": 0.08, "cosine_source": 0.08, "face_psnr_db": 1.5, "sharpness": 0.2, "yaw_error_deg": 0.5},
    ),
    (
        "labelling",
        lambda pack: labelling.labelling(pack, 40),
        {"mask_iou": 0.02, "parser_miou": 0.05, "points68_error": 0.01},
    ),
    (
        "restoring",
        lambda pack: restoring.restoring(pack, 30),  # of five, one picture more or less decides
        {"soft_gain_db": 0.5, "swap_gain_db": 0.6, "changed_cosine_kept": 0.02, "swap_sharpness_after": 0.06},
    ),
]


@pytest.mark.parametrize(("group", "run", "tolerances"), MEASUREMENTS, ids=[m[0] for m in MEASUREMENTS])
def test_figures(pack: Pack, group: str, run: Callable[[Pack], dict[str, float]], tolerances: dict[str, float]) -> None:
    found = run(pack)
    _bars(group, found)
    for key, tolerance in tolerances.items():
        told = CARD["figures"][group][key]
        assert abs(found[key] - told) <= tolerance, f"{group}.{key}: wanted {told} +- {tolerance}, got {found[key]}"


def test_the_card_meets_its_bars() -> None:
    for group in ("detection", "embedding", "swapping", "labelling", "restoring"):
        _bars(group, CARD["figures"][group])


def test_the_sample_is_what_its_truth_says(pack: Pack) -> None:
    av = pytest.importorskip("av")
    truth = np.load(FOLDER / "sample" / "clip_truth.npz")
    with av.open(str(FOLDER / "sample" / "clip.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (1280, 720, 25)
        assert [s.type for s in container.streams] == ["video", "audio"]
        frames = list(container.decode(video=0))
    assert len(frames) == 250
    assert truth["points"].shape == (250, 2, 5, 2)
    for n in (0, 149, 150, 249):  # both sides of the cut
        image = frames[n].to_ndarray(format="rgb24")
        found = pack.detect(image)
        for box, points in zip(truth["box"][n], truth["points"][n], strict=True):
            iou = overlaps(box.astype(np.float64), found.boxes_xyxy)
            assert iou.max() > 0.5
            refined = pack.refine(image, found.points[int(iou.argmax())])
            eye = float(np.hypot(*(points[1] - points[0])))
            assert np.hypot(*(refined - points).T).mean() < 0.15 * eye


def test_sources_show_one_face_each_and_three_people(pack: Pack) -> None:
    av = pytest.importorskip("av")
    vectors = []
    for i in (1, 2, 3):
        with av.open(str(Path(FOLDER) / "sample" / f"source_{i}.png")) as container:
            image = next(container.decode(video=0)).to_ndarray(format="rgb24")
        found = pack.detect(image)
        assert len(found.scores) == 1
        vectors.append(pack.embed_at(image, pack.refine(image, found.points[0])))
    cosine = np.array(vectors) @ np.array(vectors).T
    assert (cosine[np.triu_indices(3, 1)] < 0.4).all()


def test_the_cards_text_is_made_of_its_numbers() -> None:
    assert (FOLDER / "CARD.md").read_text() == card.text(CARD)
