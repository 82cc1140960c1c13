"""python -m build_engines on the smallest model: a plan without a GPU, what stands in it, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from build_engines import build
from build_engines.__main__ import main
from build_engines.flavour import BuildError, find_flavour
from build_engines.samples import Samples, sample_clip
from models.contract import Drift, load_contract
from models.model_files import find
from models.plan_file import listed
from profiles.profile import load_profile

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")


@pytest.fixture(autouse=True)
def _own_cache_and_one_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's other models are left out: they are built in test-full."""
    find_flavour()  # its library is loaded from the user's own cache-free site-packages
    monkeypatch.setattr("models.plan_file.plan_folder", lambda: tmp_path / "plans")
    monkeypatch.setattr("build_engines.build.plan_folder", lambda: tmp_path / "plans")
    monkeypatch.setattr("build_engines.__main__.plan_folder", lambda: tmp_path / "plans")
    monkeypatch.setattr(build, "_face_counts", lambda file, profile: [1])
    monkeypatch.setattr(build, "Samples", functools.partial(Samples, count=8))
    real = build.build_profile

    def only_the_refiner(profile: Any, *rest: Any, **options: Any) -> Any:
        monkeypatch.setattr(build, "_roles", lambda models: {"detector": models.detector, "refiner": models.refiner})
        yield from real(profile, *rest, **options)

    monkeypatch.setattr(build, "build_profile", only_the_refiner)


def last_json(text: str) -> dict[str, Any]:
    """The last line of what a command printed."""
    loaded: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return loaded


def test_plans_are_built_without_a_gpu_and_left_alone_the_second_time(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tiny", "--arch", "sm89", "--precision", "fp16", "--flavour", "tensorrt_rtx"]
    assert main(arguments) == 0
    rows = last_json(capsys.readouterr().out)["plans"]
    assert [row["contract"] for row in rows] == ["tiny_detector", "tiny_detector", "tiny_refiner"]
    # the sample clip is 16:9: trimmed to the next multiple of 32, also on the governor's lower rungs
    assert [row["shapes"]["image"] for row in rows[:2]] == [[1, 3, 384, 640], [1, 3, 192, 320]]
    assert rows[0]["drift_db"] != rows[1]["drift_db"], "each size is measured itself"
    for row in rows:
        assert row["state"] == "built"
        assert row["drift_db"] >= load_contract(row["contract"]).drift.fp16_psnr_db
        assert row["layers"]["fp16"] > 0
        assert row["plan_bytes"] > 100_000
    start = time.monotonic()
    assert main(arguments) == 0
    assert time.monotonic() - start < 2.0
    assert {row["state"] for row in last_json(capsys.readouterr().out)["plans"]} == {"unchanged"}


def test_types_found_on_other_frames_are_found_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(sample_clip().read_bytes() + bytes(8))  # the same pictures in another file
    arguments = ["tiny", "--arch", "sm_89", "--precision", "fp16", "--clip"]
    states = []
    for clip in (sample_clip(), other, other):
        assert main([*arguments, str(clip)]) == 0
        states.append({row["state"] for row in last_json(capsys.readouterr().out)["plans"]})
    assert states == [{"built"}, {"built"}, {"unchanged"}]


def test_a_spoiled_plan_is_named_by_verify_and_removed_by_prune(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--arch", "sm_120", "--precision", "fp32"]) == 0
    assert main(["verify"]) == 0
    path = sorted(path for path, _ in listed())[0]
    path.write_bytes(path.read_bytes()[:-10])
    capsys.readouterr()
    assert main(["verify"]) == 1
    assert "wanted the SHA-256" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert main(["prune"]) == 0
    assert "1 of 3 plans removed" in capsys.readouterr().out
    assert main(["verify"]) == 0


def test_a_model_that_drifts_too_far_is_refused_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def strict(name: str) -> Any:
        file = find(name)
        return dataclasses.replace(file, contract=dataclasses.replace(file.contract, drift=Drift(250.0)))

    monkeypatch.setattr(build, "find", strict)
    assert main(["tiny", "--arch", "sm_89", "--precision", "fp16"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tiny_detector: wanted 250 dB or more in FP16, got ")
    assert "drifts most: use --precision fp32" in said
    assert list((tmp_path / "plans").glob("*.plan")) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tiny"], "--arch: wanted an architecture, got none and no GPU to ask; add --arch sm_89 or another"),
        (["tiny", "--arch", "sm_90"], "TensorRT: wanted tensorrt_rtx or tensorrt, got none (tensorrt_rtx "),
        (["tiny", "--arch", "sm_89,sm_90"], "tiny: wanted an architecture of tensorrt_rtx (sm_75, sm_80, sm_86, "),
        (["swap_720p30", "--arch", "sm_89"], "model det_10g: wanted a file for this contract in "),
        (["none", "--arch", "sm_89"], "profile none: wanted one of "),
        (
            ["tiny", "--arch", "sm_89", "--clip", "none.mp4"],
            "none.mp4: wanted a video to calibrate and verify on, got ",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--precision", "fp16"]) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_a_graph_that_tensorrt_does_not_read_is_an_error_in_its_own_words() -> None:
    with pytest.raises(BuildError, match=r"^here: wanted a graph that tensorrt_rtx reads, got .*Failed to parse"):
        find_flavour("tensorrt_rtx").build(b"no graph", "sm_89", where="here")


def test_a_flavour_that_is_not_installed_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        BuildError, match=r'^TensorRT: wanted tensorrt, got none .*; install one: pip install "face-eng'
    ):
        find_flavour("tensorrt")
    assert load_profile("tiny").precision == "fp32"
