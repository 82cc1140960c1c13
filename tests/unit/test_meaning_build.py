"""What a precision does to meaning, measured on networks that run as their plans would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from build_engines import meaning
from build_engines.flavour import BuildError
from build_engines.meaning import Measured, Rounded, apart_from_calibration, main, meaning_of, recall_on_clip
from build_engines.media import read_frames
from build_engines.samples import Samples, sample_clip
from build_engines.surgery import prepare, static_shapes
from models.model_files import find
from models.tiny.pack import Pack
from models.tiny.train.evaluate import BARS

COMMITTED = Path(__file__).parents[2] / "profiles" / "measured" / "build_meaning.json"


def test_a_rounded_network_answers_like_the_packs_session() -> None:
    file = find("tiny_refiner")
    rounded = Rounded(prepare(file, static_shapes(file, {"n": 1})))
    given = np.random.default_rng(1).random((3, 3, 96, 96), dtype=np.float32)
    [ours] = rounded.run(None, {"input": given})
    [theirs] = Pack().refiner.run(None, {"input": given})
    assert ours.shape == theirs.shape == (3, 5, 2)
    assert np.allclose(ours, theirs, atol=1e-2)  # px


def test_recall_counts_people_whose_box_was_met() -> None:
    boxes = np.array([[0, 0, 100, 100], [200, 0, 300, 100]], np.float32)
    moved = boxes[:1] + 25  # half of it still overlaps, but less than half of both together
    found = [SimpleNamespace(scores=np.ones(len(one)), boxes_xyxy=one) for one in (boxes, moved, boxes[:0])]
    pack = SimpleNamespace(detect=lambda frame: found[int(frame[0])])
    frames = [np.array([i], np.uint8) for i in range(3)]
    figures = recall_on_clip(cast(Any, pack), frames, [boxes, boxes, boxes])
    assert figures == {"clip_frames": 3.0, "clip_faces": 6.0, "clip_recall": 2 / 6}
    assert recall_on_clip(cast(Any, pack), frames[:1], [boxes + 10])["clip_recall"] == 1.0


def test_frames_that_were_calibrated_on_are_not_measured_on() -> None:
    files = {role: find(f"tiny_{role}") for role in ("detector", "refiner")}
    samples = Samples(sample_clip(), files, count=32)
    every, _ = read_frames(sample_clip(), 250)
    assert len(every) == 250
    measured = apart_from_calibration(250, 100)
    assert len(measured) == 100
    calibrated = {frame.tobytes() for frame in samples._to_calibrate_on}
    assert sum(every[index].tobytes() in calibrated for index in range(250)) == 32
    assert not any(every[index].tobytes() in calibrated for index in measured)


def test_the_command_prints_a_table_and_one_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Measured("int8", {"eer": 0.01}, {"embedder": 37.0}, {"embedder": {"int8": 15}}, {"embedder": {}})

    def given(precisions: Any, **options: Any) -> list[Measured]:
        if precisions == ["fp16"]:
            raise BuildError("tiny_embedder: wanted 40 dB or more in FP16, got 3.0 dB")
        return [replace(one, precision=name) for name in precisions]

    monkeypatch.setattr(meaning, "all_of", given)
    assert main(["--precision", "int8"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any("eer" in line and "0.01" in line for line in printed)
    [row] = json.loads(printed[-1])
    assert (row["precision"], row["figures"]) == ("int8", {"eer": 0.01})
    assert main(["--precision", "fp16"]) == 2
    assert capsys.readouterr().err.startswith("tiny_embedder: wanted 40 dB")


def test_the_committed_figures_keep_their_meaning() -> None:
    measured = json.loads(COMMITTED.read_text())
    by_precision = {one["precision"]: one for one in measured["precisions"]}
    assert set(by_precision) == {"fp32", "fp16", "int8"}
    for one in by_precision.values():
        assert one["conditions"]["share"] == 1.0
        _holds_its_bars(one["figures"])
    # what INT8 may cost beside FP32: recall and precision nothing, identity and points little
    exact, int8 = by_precision["fp32"]["figures"], by_precision["int8"]["figures"]
    assert int8["recall_32"] >= exact["recall_32"] - 0.005
    assert int8["precision_32"] >= exact["precision_32"] - 0.005
    assert int8["eer"] <= exact["eer"] + 0.003
    assert int8["cosine_source"] >= exact["cosine_source"] - 0.02
    assert int8["point_error_48"] <= exact["point_error_48"] * 1.2
    assert all(notes["verified_on"] >= 32 for one in by_precision.values() for notes in one["notes"].values())
    assert min(notes["int8_share_of_macs"] for notes in by_precision["int8"]["notes"].values()) >= 0.9


@pytest.mark.full
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_keeps_the_packs_meaning(precision: Any) -> None:
    one = meaning_of(precision, share=0.2)
    _holds_its_bars(one.figures)
    exact = json.loads(COMMITTED.read_text())["precisions"][0]["figures"]
    assert one.figures["cosine_source"] >= exact["cosine_source"] - 0.08
    assert one.figures["clip_recall"] >= 0.97


def _holds_its_bars(figures: dict[str, float]) -> None:
    """The bars of the model card, which are for FP32; identity's are met by all precisions."""
    for name in ("recall_32", "precision_32", "point_error_48", "eer", "nearer_source"):
        sign, bar = next(value for key, value in BARS.items() if key.endswith(f".{name}"))
        assert figures[name] >= bar if sign == ">=" else figures[name] <= bar, name
