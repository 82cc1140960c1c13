"""How figures of the tiny pack are counted, told and drawn: on made-up answers whose figures are known."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from models.tiny import labelling, measure
from models.tiny.pack import Found, Pack, look_of
from models.tiny.renderer import CLASSES, draw
from models.tiny.train import card, card_rows, crops, evaluate, parts, picture_file

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

EVERYWHERE = np.ones((9, 9), np.bool_)


def _session(answer: Callable[[dict[str, F32]], list[F32]]) -> Any:
    """What a pack takes for a network: a function from inputs to outputs."""
    return SimpleNamespace(run=lambda names, feed: answer(feed))


# ---- distances between pictures ----


def test_sharpness_is_the_energy_of_the_laplacian() -> None:
    picture = np.full((9, 9, 3), 100, np.uint8)
    assert measure.sharpness(picture, EVERYWHERE) == pytest.approx(0.0, abs=1e-6)
    picture[4, 4] = 110
    # -4 * 10 at the dot and 10 at its four neighbours, over 81 pixels
    assert measure.sharpness(picture, EVERYWHERE) == pytest.approx((40.0**2 + 4 * 10.0**2) / 81, rel=1e-4)
    away = EVERYWHERE.copy()
    away[3:6, 3:6] = False
    assert measure.sharpness(picture, away) == pytest.approx(0.0, abs=1e-6)


def test_detail_agrees_where_it_lies_in_the_same_place() -> None:
    rng = np.random.default_rng(1)
    truth, noise = (rng.integers(60, 200, (64, 64, 1)).astype(np.uint8).repeat(3, 2) for _ in range(2))
    where = np.ones((64, 64), np.bool_)
    assert measure.detail_agreement(truth, truth, where) == pytest.approx(1.0)
    faint = (truth // 2 + 30).astype(np.uint8)
    assert measure.detail_agreement(faint, truth, where) > 0.99
    # as sharp as the truth, and nothing of it
    assert measure.sharpness(noise, where) == pytest.approx(measure.sharpness(truth, where), rel=0.2)
    assert abs(measure.detail_agreement(noise, truth, where)) < 0.1
    assert measure.detail_agreement(np.full_like(truth, 9), truth, where) == pytest.approx(0.0, abs=1e-3)


def test_psnr_counts_only_what_the_mask_says() -> None:
    one = np.zeros((9, 9, 3), np.uint8)
    other = one.copy()
    other[0] = 51
    first = np.zeros((9, 9), np.bool_)
    first[0] = True
    assert measure.psnr_db(one, other, first) == pytest.approx(20 * np.log10(5.0))
    assert measure.psnr_db(one, other, ~first) > 70.0


def test_a_correlation_of_too_little_is_told_as_nan() -> None:
    assert measure.correlation([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(1.0)
    assert np.isnan(measure.correlation([]))
    assert np.isnan(measure.correlation([(0.1, 0.2)]))
    assert np.isnan(measure.correlation([(0.5, 0.1), (0.5, 0.9)]))


# ---- detection ----


def _scene(boxes: list[tuple[float, float, float, float]], counts: list[bool]) -> crops.Scene:
    n = len(boxes)
    return crops.Scene(
        np.zeros((640, 640, 3), np.uint8),
        np.array(boxes, np.float32).reshape(n, 4),
        np.zeros((n, 5, 2), np.float32),
        np.array(counts, np.bool_),
    )


def _found(*rows: tuple[float, float, float, float, float]) -> Found:
    """Rows of score and box."""
    told = np.array(rows, np.float64).reshape(-1, 5)
    return Found(told[:, 0], told[:, 1:], np.zeros((len(told), 5, 2)))


def test_each_detection_is_of_one_face_and_faces_that_do_not_count_forgive_theirs() -> None:
    scene = _scene([(0, 0, 40, 40), (100, 0, 140, 40), (300, 0, 400, 100)], [True, True, False])
    found = _found((0.9, 1, 1, 41, 41), (0.8, 2, 0, 42, 40), (0.7, 300, 0, 400, 40), (0.6, 500, 500, 520, 520))
    matches, extra = measure._matched(scene, found, 0.5)
    assert [(m.height, m.hit) for m in matches] == [(20.0, True), (20.0, False)]
    assert extra == [20.0, 10.0]  # the second on the first face, and the one on nothing; not that on the third face


def test_recall_is_told_at_the_lowest_score_that_has_the_precision() -> None:
    hit, small, miss = (
        measure._Match(50.0, True, 0.0),
        measure._Match(20.0, True, 0.0),
        measure._Match(20.0, False, 0.0),
    )
    by_score = {
        0.2: ([hit] * 10 + [small] * 10, [30.0] * 3),
        0.4: ([hit] * 10 + [small] * 9 + [miss], [5.0]),  # one false face under 16 px does not count
        0.6: ([hit] * 10 + [small] * 5 + [miss] * 5, list[float]()),
    }
    told = measure._at_precision(by_score)
    assert told == {
        "score_at_98": 0.4, "precision_at_98": 1.0, "recall_32_at_98": 1.0, "recall_16_32_at_98": 0.9,
    }  # fmt: skip
    assert all(np.isnan(value) for value in measure._at_precision({0.2: by_score[0.2]}).values())


class _Told(Pack):
    """A pack whose detector answers with the first scene's faces, and whose refiner is right."""

    def __init__(self, found: list[Found], scenes: list[crops.Scene]) -> None:
        super().__init__(Path("nowhere"))
        self.asked: list[float] = []
        self._found, self._scenes = iter(found), scenes

    def detect(self, image: U8, sizes: tuple[int, ...] = (640,), score: float = 0.5) -> Found:
        self.asked.append(score)
        return next(self._found)

    def refine(self, image: U8, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return points


def test_recall_precision_and_points_of_made_up_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.array([(10, 10), (30, 10), (20, 20), (12, 30), (28, 30)], np.float32)
    scene = _scene([(0, 0, 60, 60), (100, 0, 120, 20)], [True, True])
    scene.points[:] = points
    off = points.astype(np.float64) + np.array([1.0, 0.0])  # a twentieth of the eye distance
    found = Found(
        np.array([0.9, 0.45, 0.3]),
        np.array([(0.0, 0, 60, 60), (100, 0, 120, 20), (300, 300, 320, 320)]),
        np.stack([off, off, off]),
    )
    looks = []

    def drawn(rng: Any, size: int, shape: Any, indoors: bool, look: str) -> crops.Scene:
        looks.append(look)
        return scene

    monkeypatch.setattr(crops, "scene", drawn)
    pack = _Told([found], [scene])
    told = measure.detection(pack, 1)
    assert (told["recall_32"], told["recall_16_32"], told["precision_16"]) == (1.0, 0.0, 1.0)
    # the small face comes at 0.45, the false one at 0.3: both are known though only scores from 0.5 count elsewhere
    assert pack.asked == [0.2]
    assert (told["score_at_98"], told["recall_16_32_at_98"]) == (0.35, 1.0)
    assert told["point_error_48"] == pytest.approx(0.05)
    assert looks == ["classic"]


# ---- mouths and smiles ----


@pytest.mark.parametrize("look", ["classic", "film"])
def test_a_truths_mouth_and_smile_are_read_back(look: str) -> None:
    sample = crops.swap_sample(np.random.default_rng(5), look=look)
    values = {"smile": 0.62, "open": 0.2, "yaw": 3.0, "pitch": 0.0, "occluder": 0.0}
    person = sample.person.set(values | ({"round": 0.0} if look == "film" else {}))
    picture = sample.ground.copy()
    draw(replace(person, inner=sample.inner), sample.view, picture)
    probes = measure._Probes()
    probes.add(replace(sample, person=person, truth=picture), picture)
    told = probes.figures()
    assert told["yaw_error_deg"] == 0.0
    assert told["mouth_error"] <= 0.051
    assert told["smile_error"] <= 0.051
    low, high = measure._SMILES[look]
    grid = measure._grid("smile", 0.0, look)
    assert (grid[0], grid[-1]) == (low, high)
    assert np.allclose(np.diff(grid), 0.1)


# ---- labels ----


def test_overlap_of_masks() -> None:
    one, other = np.zeros((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    assert labelling.overlap(one, other) == 1.0
    one[:2], other[1:3] = True, True
    assert labelling.overlap(one, other) == pytest.approx(1 / 3)


def test_only_classes_that_occur_count() -> None:
    counts = np.zeros((19, 19), np.int64)
    counts[0, 0], counts[0, 1], counts[1, 1], counts[1, 17] = 6, 2, 3, 1
    told = labelling.class_overlaps(counts)
    assert told == {"background": 6 / 8, "skin": 3 / 6}  # hair was found and is nowhere


def _oracle(monkeypatch: pytest.MonkeyPatch, aligned: list[parts.Part], boxed: list[parts.Part], off: int) -> Pack:
    """A pack whose labelling networks know the truth, `off` pixels further right; each asserts what it is given."""
    pack = Pack(Path("nowhere"))
    drawn, drawn_boxed = iter(aligned), iter(boxed)
    monkeypatch.setattr(parts, "part", lambda rng: next(drawn))
    monkeypatch.setattr(parts, "boxed_part", lambda rng: next(drawn_boxed))
    seen, parsed, pointed = iter(aligned), iter(aligned), iter(boxed)

    def occluder(feed: dict[str, F32]) -> list[F32]:
        part = next(seen)
        assert np.allclose(feed["input"], part.image[None, :, :, ::-1] / 255.0, atol=1e-6)
        return [np.roll(part.seen, off, 1)[None, :, :, None].astype(np.float32) / 255.0]

    def parser(feed: dict[str, F32]) -> list[F32]:
        part = next(parsed)
        given = feed["input"][0].transpose(1, 2, 0) * (58.395, 57.12, 57.375) + (123.675, 116.28, 103.53)
        assert given.shape == (512, 512, 3)
        assert np.allclose(given[1::2, ::2], part.image, atol=1e-2)
        large = np.roll(part.classes, off, 1).repeat(2, 0).repeat(2, 1)
        return [np.eye(19, dtype=np.float32)[large].transpose(2, 0, 1)[None]]

    def points68(feed: dict[str, F32]) -> list[F32]:
        part = next(pointed)
        assert np.allclose(feed["input"], part.image.transpose(2, 0, 1)[None, ::-1] / 255.0, atol=1e-6)
        grid = (part.points + np.array([off + 0.5, 0.5])) / 4.0  # cells of 4 px, told by their borders
        return [np.concatenate([grid, np.ones((68, 1))], 1)[None].astype(np.float32)]

    for name, answer in (("occluder", occluder), ("parser", parser), ("landmarks", points68)):
        monkeypatch.setattr(pack, name, _session(answer))
    return pack


@pytest.mark.parametrize("off", [0, 4])
def test_networks_that_know_the_truth_get_it_all_right(monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    rng = np.random.default_rng(3)
    aligned, boxed = [parts.part(rng) for _ in range(2)], [parts.boxed_part(rng) for _ in range(2)]
    told = labelling.labelling(_oracle(monkeypatch, aligned, boxed, off), 2)
    eyes = [labelling.eye_distance_px(part.points.astype(np.float64)) for part in boxed]
    assert told["points68_error"] == pytest.approx(np.mean([off / eye for eye in eyes]), abs=1e-5)
    each = [value for key, value in told.items() if key.startswith("parser_iou_")]
    assert told["parser_miou"] == pytest.approx(np.mean(each))
    assert len(each) == len(np.unique(np.stack([part.classes for part in aligned])))
    if off == 0:
        assert (told["mask_iou"], told["parser_miou"], told["parser_right"]) == (1.0, 1.0, 1.0)
    else:
        assert told["mask_iou"] < 0.98
        assert told["parser_miou"] < 0.9


def test_a_pack_without_labelling_networks_is_measured_by_nothing() -> None:
    assert labelling.labelling(Pack(Path("nowhere")), 3) == {"pictures": 3.0}


# ---- the pack ----


def test_a_pack_knows_its_look(tmp_path: Path) -> None:
    assert Pack(tmp_path).look == "classic"
    (tmp_path / "card.json").write_text(json.dumps({"look": "film"}))
    assert Pack(tmp_path).look == "film"
    (tmp_path / "card.json").write_text(json.dumps({"figures": {}}))
    assert Pack(tmp_path).look == "classic"
    (tmp_path / "card.json").write_text(json.dumps({"look": "noir"}))
    with pytest.raises(ValueError, match="wanted a look of classic, film, got 'noir'; measure the folder again"):
        look_of(tmp_path)


def test_a_network_that_is_not_there_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    pack, face = Pack(tmp_path), np.zeros((1, 256, 256, 3), np.uint8)
    with pytest.raises(FileNotFoundError, match=r"Pack: wanted tiny_embedder.onnx in .*, got none; run python -m"):
        pack.embed(np.zeros((1, 112, 112, 3), np.uint8))
    for method, name in (
        ("seen", "occluder"),
        ("classes", "parser"),
        ("points68", "points68"),
        ("restore", "restorer"),
    ):
        words = f"{method}: wanted tiny_{name}.onnx beside the other files, got none; run python -m models.tiny.train."
        with pytest.raises(FileNotFoundError, match=words + name):
            getattr(pack, method)(face)


# ---- what is measured, and told ----


def test_a_folder_is_measured_by_what_it_holds(tmp_path: Path) -> None:
    assert evaluate.figures(tmp_path, 0.01, "film") == {}
    assert evaluate.lacking("chain", tmp_path) == ("tiny_detector.onnx", "tiny_refiner.onnx", "tiny_embedder.onnx")
    (tmp_path / "tiny_parser.onnx").touch()
    assert evaluate.lacking("labelling", tmp_path) == ()
    with pytest.raises(
        FileNotFoundError,
        match=r"evaluate: wanted tiny_embedder.onnx and tiny_swapper.onnx in .* for swapping, got none; train it there",
    ):
        evaluate.figures(tmp_path, 0.01, "film", only=["swapping"])


def test_every_group_has_its_networks_and_its_lines() -> None:
    assert set(evaluate._GROUPS) == set(evaluate._NEEDS) == set(card_rows.GROUPS)
    networks = {name for choices in evaluate._NEEDS.values() for needs in choices for name in needs}
    assert networks == set(evaluate._INPUTS) == set(card._FILES)
    assert {name.split(".")[0] for name in evaluate.WANTED} <= set(evaluate._GROUPS)


def test_what_is_missed_is_named_and_nan_misses() -> None:
    bars = {"a.x": (">=", 0.5), "a.y": ("<=", 0.5), "b.z": (">=", 1.0)}
    assert evaluate.missed({"a": {"x": 0.5, "y": 0.5}}, bars) == []
    assert evaluate.missed({"a": {"x": 0.4, "y": float("nan")}}, bars) == [
        "a.x: wanted >= 0.5, got 0.4",
        "a.y: wanted <= 0.5, got nan",
    ]


def test_one_group_measured_again_keeps_the_others(tmp_path: Path) -> None:
    told: dict[str, Any] = {"figures": {"chain": {"faces": 1.0}, "embedding": {"eer": 0.5}}}
    told["timings_1_thread"] = {"parser_ms": 3.0}
    told["training"] = {"parser": [{"steps": 1, "minutes": 2.0, "seed": 1, "device": "cpu"}]}
    (tmp_path / "card.json").write_text(json.dumps(told))
    (tmp_path / "tiny_judge.json").write_text("[]")
    kept = evaluate.card(tmp_path, {"embedding": {"eer": 0.0123456}}, "film", keep=True)
    assert kept["figures"] == {"embedding": {"eer": 0.01235}, "chain": {"faces": 1.0}}
    assert kept["timings_1_thread"] == {"parser_ms": 3.0}
    assert kept["training"] == {**told["training"], "judge": []}
    assert kept["look"] == "film"
    alone = evaluate.card(tmp_path, {"embedding": {"eer": 0.0123456}}, "film", keep=False)
    assert (alone["figures"], alone["timings_1_thread"]) == ({"embedding": {"eer": 0.01235}}, {})


def _card() -> dict[str, Any]:
    run = {"steps": 70, "minutes": 12.5, "seed": 1, "device": "cpu"}
    return {
        "look": "film",
        "bars": {"labelling.mask_iou": ">= 0.9"},
        "wanted": {"labelling.mask_iou": ">= 0.96", "labelling.points68_error": "<= 0.04"},
        "figures": {
            "labelling": {
                "pictures": 200.0, "mask_iou": 0.95, "mask_iou_p5": 0.9, "points68_error": 0.031,
                "points68_error_p95": 0.08, "parser_miou": 0.7, "parser_right": 0.97, "parser_iou_skin": 0.9,
                "parser_iou_left_brow": 0.5,
            }
        },
        "timings_1_thread": {"parser_ms": 30.0},
        "sizes_bytes": {"parser": 500_000, "occluder": 250_000},
        "training": {"parser": [run, run], "judge": [run]},
    }  # fmt: skip


def test_the_card_tells_figure_bar_and_wish() -> None:
    words = card.text(_card())
    lines = words.splitlines()
    assert "| occluder: IoU of the visible face | 0.950 | >= 0.9 | >= 0.96 | 200 pictures; 5 % below 0.900 |" in lines
    assert any(line.startswith("| 68 points: mean error | 3.1 % | - | <= 4 % |") for line in lines)
    assert "The parser's IoU by class, the worst first: left brow 0.50, skin 0.90." in lines
    assert [line for line in lines if line.startswith("- ") and ", wanted " in line] == [
        "- occluder: IoU of the visible face: 0.950, wanted >= 0.96."
    ]
    assert any(line.startswith("| `parser` | BiSeNet, 19 classes |") and line.endswith("| 0.50 MB |") for line in lines)
    assert not any(line.startswith("| `detector`") for line in lines)
    assert "| all |  |  |  | 0.75 MB |" in lines
    assert "| parser | `python -m models train parser` | cpu | 12.5 (70; 1); 12.5 (70; 1) | 25.0 |" in lines
    assert any("`python -m models train judge`" in line for line in lines)
    for name in ("sheet.jpg", "pairs.jpg", "labels.jpg", "restored.jpg", "scenes.jpg", "curves.png"):
        assert f"]({name})" in words
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|") and "](" not in line]


def test_all_classes_are_told_in_lines_of_prose() -> None:
    told = _card()
    each = {f"parser_iou_{name.replace(' ', '_')}": 0.05 * i for i, name in enumerate(CLASSES)}
    told["figures"]["labelling"].update(each)
    words = card.text(told)
    assert f"{len(CLASSES)} classes that occur |" in words
    start = words.index("The parser's IoU by class")
    part = words[start : words.index("\n\n", start)]
    assert " ".join(part.split()).endswith("cloth 0.80, hair 0.85, hat 0.90.")
    assert max(map(len, part.splitlines())) <= 120


def test_a_card_that_reaches_all_says_so() -> None:
    told = _card()
    told["figures"]["labelling"]["mask_iou"] = 0.97
    assert "Every figure that was wanted is reached." in card.text(told)


# ---- pictures ----


def test_a_jpeg_shows_the_picture(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :96]
    image = np.stack([2 * x, 3 * y, 255 - 2 * x], -1).astype(np.uint8)
    data = picture_file.jpeg(image)
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    with av.open(io.BytesIO(data), "r") as container:
        shown = np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)
    assert measure.psnr_db(shown, image, np.ones(image.shape[:2], np.bool_)) > 32.0
    assert len(picture_file.jpeg(image, 12)) < len(data)


def test_grids_have_paper_between_pictures() -> None:
    pictures = [np.full((10, 20, 3), value, np.uint8) for value in (1, 2, 3)]
    grid = picture_file._grid(pictures, 2)
    assert grid.shape == (24, 44, 3)
    assert [int(grid[y, x, 0]) for y, x in ((0, 0), (9, 43), (14, 19), (23, 43), (12, 3), (3, 21))] == [
        1, 2, 3, 250, 250, 250,
    ]  # fmt: skip


def test_curves_stand_under_their_names(tmp_path: Path) -> None:
    curve = [{"minutes": 0.1 * i, "step": float(i), "loss": 4.0 * 0.9**i} for i in range(20)]
    (tmp_path / "tiny_a.curve.json").write_text(json.dumps(curve))
    (tmp_path / "tiny_empty.curve.json").write_text("[]")
    image = picture_file.curves(tmp_path)
    assert image.shape == (260, 724, 3)
    for left in (0, 364):
        assert image[:20, left : left + 100].min() < 120  # a name in ink


def test_pictures_that_a_folder_cannot_show_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_file, "face_grid", lambda look: np.full((16, 16, 3), 90, np.uint8))
    sizes = picture_file.written(tmp_path, tmp_path / "out", "film")
    assert sizes == {"sheet.jpg": (tmp_path / "out" / "sheet.jpg").stat().st_size}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sheet.jpg"]
    assert "pairs.jpg left out" in capsys.readouterr().out


def test_each_class_has_a_colour_of_its_own() -> None:
    assert picture_file._COLOURS.shape == (len(CLASSES), 3)
    assert len(np.unique(picture_file._COLOURS, axis=0)) == len(CLASSES)
