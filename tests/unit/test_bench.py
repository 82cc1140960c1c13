"""The benchmark: its input shows what it says, its comparison is neither blind nor rash, a missed budget is told."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.__main__ import main
from engine.bench.compare import compare, compare_cells, read_measured
from engine.bench.each_option import each_option, variants
from engine.bench.input import SAMPLE, BenchInput, open_input, sample_input
from engine.bench.measure import Cell, cold_start, measure, open_cell
from engine.bench.twins import twins_in_place
from engine.errors import InputError, MediaError, ModelError
from engine.frame import held_buffer
from profiles.profile import load_profile

SOURCE = SAMPLE / "source_1.png"


def tiny(**changes: Any) -> Any:
    return dataclasses.replace(load_profile("tiny"), backend="cpu", **changes)


@pytest.mark.parametrize(("size_px", "faces"), [((1280, 720), 1), ((640, 360), 2), ((1920, 1080), 4)])
def test_the_sample_shows_as_many_faces_as_it_says_where_it_says(size_px: tuple[int, int], faces: int) -> None:
    source = sample_input(size_px, faces, 3)
    assert source.truth is not None
    with open_cell(Cell("cell", tiny(), source, SOURCE), lambda line: None) as pipeline:
        for picture, truth in zip(source.frames, source.truth, strict=True):
            pipeline.detect.forget()
            frame = pipeline.step(picture)
            assert frame.face_count == faces
            found = pipeline.backend.to_host(held_buffer(frame.faces.points))[:faces]
            distance = np.linalg.norm(found[:, None].mean(axis=2) - truth.points[None].mean(axis=2), axis=-1)
            height = (truth.boxes[:, 3] - truth.boxes[:, 1]).mean()
            assert sorted(distance.argmin(axis=1)) == list(range(faces))
            assert distance.min(axis=1).max() < 0.08 * height


def test_frames_are_played_forth_and_back_so_that_no_cut_is_in_them() -> None:
    source = BenchInput([np.zeros((3, 2), np.uint8)] * 4, (2, 2), "four")
    assert [source.at(index) for index in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [BenchInput(source.frames[:1], (2, 2), "one").at(index) for index in range(3)] == [0, 0, 0]


def test_noise_stills_and_videos_are_scaled_to_the_size_asked_for(tmp_path: Path) -> None:
    for name in ("noise", str(SOURCE), str(SAMPLE / "clip.mp4")):
        source = open_input(name, (320, 240), 1, 3)
        assert {frame.shape for frame in source.frames} == {(360, 320)}
        assert source.truth is None
    assert open_input(str(SAMPLE / "clip.mp4"), None, 1, 3).size_px == (1280, 720)
    assert len(open_input(str(SAMPLE / "clip.mp4"), None, 1, 3).frames) == 3
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"^.*broken\.mp4: wanted a video that FFmpeg reads, got .*; check the path$"):
        open_input(str(broken), None, 1, 3)


def test_known_faces_take_the_place_of_what_the_detector_found() -> None:
    source = sample_input((640, 360), 2, 2)
    assert source.truth is not None
    blank = BenchInput([np.full_like(frame, 128) for frame in source.frames], source.size_px, "blank", source.truth)
    with open_cell(Cell("cell", tiny(), blank, SOURCE), lambda line: None) as pipeline:
        assert pipeline.step(blank.frames[0]).face_count == 0
    profile = dataclasses.replace(tiny(), models=dataclasses.replace(tiny().models, refiner=""))
    with open_cell(Cell("cell", profile, blank, SOURCE, with_truth=True), lambda line: None) as pipeline:
        frame = pipeline.step(blank.frames[0])
        assert frame.face_count == 2
        assert pipeline.timings.stages["detect"].max_ms > 1.0
        found = pipeline.backend.to_host(held_buffer(frame.faces.boxes))[:2]
        assert sorted(found.tolist()) == sorted(source.truth[0].boxes.tolist())
    with pytest.raises(Exception, match=r"^bench --twins: wanted an input whose faces are known, got noise: .*$"):
        open_cell(Cell("cell", profile, open_input("noise", (64, 64), 1, 1), SOURCE, with_truth=True), print)


def rounds_of(draw: np.random.Generator, median_ms: float, *, rounds: int = 10, frames: int = 20) -> list[list[float]]:
    """Frames as a shared machine gives them: rounds differ by 5 %, neighbours resemble each other, some spike."""
    made = []
    for _ in range(rounds):
        level = median_ms * np.exp(draw.normal(0, 0.05))
        noise = np.convolve(draw.normal(0, 0.1, frames + 4), np.ones(5) / 5, mode="valid")
        spikes = np.where(draw.random(frames) < 0.03, 3.0, 1.0)
        made.append((level * np.exp(noise) * spikes).tolist())
    return made


def test_no_difference_is_called_one_in_at_most_one_of_twenty_and_a_real_one_is_seen() -> None:
    draw = np.random.default_rng(11)
    words = [compare_cells("same", rounds_of(draw, 30.0), rounds_of(draw, 30.0)).word for _ in range(80)]
    # 80 trials at 5 %: 8 or more would happen once in 50 times
    assert words.count("no difference") >= 73
    slower = [compare_cells("slower", rounds_of(draw, 30.0), rounds_of(draw, 36.0)).word for _ in range(20)]
    assert slower.count("slower") >= 19
    faster = compare_cells("faster", rounds_of(draw, 30.0), rounds_of(draw, 24.0))
    assert faster.word == "faster"
    assert faster.low < 0.8 < faster.high
    assert faster.line().startswith("faster: faster: ")


def test_rounds_that_ran_side_by_side_share_their_busy_moments() -> None:
    draw = np.random.default_rng(5)
    busy = np.exp(draw.normal(0, 0.3, 10))
    a = [(30.0 * level * np.exp(draw.normal(0, 0.02, 20))).tolist() for level in busy]
    b = [(33.0 * level * np.exp(draw.normal(0, 0.02, 20))).tolist() for level in busy]
    assert compare_cells("apart", a, b).word == "no difference"
    assert compare_cells("paired", a, b, paired=True).word == "slower"


def test_one_round_and_a_difference_below_one_percent_prove_nothing() -> None:
    assert compare_cells("one", [[10.0] * 50], [[20.0] * 50]).word == "no difference"
    assert compare_cells("small", [[10.0] * 9] * 9, [[10.05] * 9] * 9).word == "no difference"
    assert compare_cells("small", [[10.0] * 9] * 9, [[10.2] * 9] * 9).word == "slower"


def test_files_of_other_conditions_or_other_cells_are_not_compared(tmp_path: Path) -> None:
    one = {"conditions": {"processor": "x", "commit": "a"}, "cells": [{"name": "c", "rounds_ms": [[1.0, 2.0]] * 3}]}
    assert [verdict.word for verdict in compare(one, {**one, "conditions": {"processor": "x", "commit": "b"}})] == [
        "no difference"
    ]
    other = {**one, "conditions": {"processor": "y", "commit": "a"}}
    wanted = (
        "bench --compare: wanted two files of the same conditions, got processor: x, y; "
        "measure both on one machine, with one set of options"
    )
    with pytest.raises(InputError) as refused:
        compare(one, other)
    assert str(refused.value) == wanted
    with pytest.raises(InputError, match="wanted a cell that is in both files, got c; measure the same profiles"):
        compare(one, {**one, "cells": [{"name": "d", "rounds_ms": [[1.0]]}]})
    path = tmp_path / "other.json"
    for text in ("[]", "{", '{"cells": []}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"wanted a file that bench --write wrote, got .*; name one$"):
            read_measured(path)


def test_the_command_measures_writes_compares_and_tells_a_missed_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    few = ["bench", "--size", "640x360", "--frames", "6", "--rounds", "2", "--cold", "0", "--backend", "cpu"]
    assert main([*few, "--faces", "1,2", "--write", str(path), "--budget-ms", "0.5"]) == 3
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["missed"] == ["tiny 640x360 k=1", "tiny 640x360 k=2"]
    written = json.loads(path.read_text())
    assert [cell["faces"] for cell in written["cells"]] == [1.0, 2.0]
    assert [[len(one) for one in cell["rounds_ms"]] for cell in written["cells"]] == [[3, 3], [3, 3]]
    assert written["conditions"]["weights"] == "tiny pack (drawn faces only), real, not a twin"
    assert written["cells"][0]["stages"]["generate"]["calls"] == 6
    assert '"size_px": [640, 360]' in path.read_text()
    assert main([*few, "--budget-ms", "100000"]) == 0
    capsys.readouterr()
    assert main(["bench", "--compare", str(path), str(path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("tiny 640x360 k=1: no difference: ")
    assert [one["word"] for one in json.loads(told[-1])["compare"]] == ["no difference"] * 2
    assert {(cell["precision"], cell["session"]) for cell in written["cells"]} == {("fp32", "onnxruntime")}
    assert main([*few, "--twins", "--input", "noise"]) == 2
    wanted = "bench --twins: wanted an input whose faces are known, got --input noise; leave --input out"
    assert wanted in capsys.readouterr().err
    assert main([*few, "--precision", "fp32", "--precision", "int8"]) == 2
    wanted = (
        "bench: wanted fp32 in ONNX Runtime on the cpu backend, got int8; "
        "leave --precision and --session out, or measure on cuda"
    )
    assert wanted in capsys.readouterr().err


def test_a_cold_start_is_a_process_of_its_own_told_by_part() -> None:
    marks = cold_start(tiny(), "tiny", (320, 192), starts=1)
    assert list(marks) == ["import_ms", "open_ms", "first_frame_ms", "second_frame_ms"]
    assert min(marks.values()) > 0.0


def test_every_option_is_tried_alone_and_one_that_can_not_be_says_why() -> None:
    profile = tiny()
    tried = {name: one for name, one in variants(profile).items() if not isinstance(one, str)}
    for changed in tried.values():
        before, after = dataclasses.asdict(profile), dataclasses.asdict(changed)
        assert sum(before[name] != after[name] for name in before) == 1
    bare = dataclasses.replace(profile, models=dataclasses.replace(profile.models, refiner=""))
    assert variants(bare)["detect.every = 2"] == "detect.every: wanted 1 without a refiner, got 2; name a refiner"


def test_an_options_cost_and_what_it_changes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tiny()
    half = dataclasses.replace(profile, opacity=0.5)
    fewer = dataclasses.replace(profile, slots=3)
    told = {"half": half, "fewer": fewer, "refused": "detect.every: a reason"}
    monkeypatch.setattr("engine.bench.each_option.variants", lambda _: told)
    cell = Cell("base", profile, sample_input((640, 360), 1, 4), SOURCE)
    half_cost, fewer_cost, refused = each_option(cell, 6, 2, lambda line: None)
    assert refused.to_json() == {"option": "refused", "refused": "detect.every: a reason"}
    assert half_cost.quality is not None
    assert fewer_cost.quality is not None
    assert half_cost.quality.to_source is not None
    assert fewer_cost.quality.to_source is not None
    assert (half_cost.quality.faces, fewer_cost.quality.faces) == (1.0, 1.0)
    assert half_cost.quality.psnr_db == pytest.approx(27.0, abs=8.0)
    assert half_cost.quality.to_source < fewer_cost.quality.to_source - 0.05
    assert fewer_cost.quality.psnr_db is None


def test_twins_stand_in_for_named_models_and_leave_the_users_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ["FACE_ENGINE_MODELS"]
    wanted = r"^bench --twins: wanted a twin of tiny_detector, got twin tiny_detector: wanted one of .*, got .*; .*$"
    with pytest.raises(ModelError, match=wanted), twins_in_place(tiny()):
        pass
    assert os.environ["FACE_ENGINE_MODELS"] == before


@pytest.mark.full
def test_a_profile_of_published_models_runs_on_twins_at_the_faces_of_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = dataclasses.replace(load_profile("swap_720p30"), backend="cpu")
    with twins_in_place(profile):
        cell = Cell("twins", profile, sample_input((640, 360), 2, 2), SOURCE, with_truth=True)
        (result,) = measure([cell], 2, 1)
    assert result.faces == 2.0
    assert result.stages["generate"]["p50_ms"] > 10 * result.stages["paste"]["p50_ms"]
