"""Plans for what makes a mouth: the shapes that the runtime asks for, from faces and noise like speech."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from build_engines.build import build_profile, shapes_of
from build_engines.flavour import BuildError, find_flavour
from build_engines.samples import Samples, sample_clip
from build_engines.simulate import run_model
from build_engines.speech_samples import SpeechSamples, speech_axes
from build_engines.surgery import prepare
from models.contract import load_contract
from models.model_files import ModelFile, find, open_file
from profiles.profile import Lipsync, Profile
from tests.lipsync_parts import lipsync_profile, twin_path


def model(contract: str, twin: str = "", **options: Any) -> ModelFile:
    return open_file(load_contract(contract), twin_path(twin or contract, **options))


def profile(contract: str, encoder: str = "", **options: Any) -> Profile:
    """With the tiny detector, so that faces of the sample clip are found."""
    made = lipsync_profile(contract, encoder=encoder, slots=8)
    models = dataclasses.replace(made.models, detector="tiny_detector")
    return dataclasses.replace(made, models=models, lipsync=Lipsync(**options))


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples(sample_clip(), {"detector": find("tiny_detector")}, count=4)


@pytest.mark.parametrize(
    ("role", "contract", "twin", "encoder", "options", "shapes"),
    [
        ("lipsync", "wav2lip_96", "", "", {}, [{"mel": (1, 1, 80, 16), "image": (1, 6, 96, 96)}]),
        (
            "lipsync", "wav2lip_96", "", "", {"batch": 4},
            [{"mel": (k, 1, 80, 16), "image": (k, 6, 96, 96)} for k in (1, 2, 4)],
        ),
        (
            "lipsync", "ultralight_hubert", "ultralight_half", "", {"batch": 3},
            [{"image": (k, 6, 160, 160), "audio": (k, 16, 32, 32)} for k in (1, 2, 3)],
        ),
        (
            "encoder", "wenet_encoder", "", "wenet_encoder", {},
            [{"chunk": (1, 1, 67, 80), "offset": (1,), "att_cache": (3, 8, 16, 128), "cnn_cache": (3, 1, 512, 14)}],
        ),
        (
            "encoder", "dh_live_audio2bs", "", "dh_live_audio2bs", {},
            [{"x": (1, 2, 80), "h0": (2, 1, 192), "c0": (2, 1, 192)}],
        ),
    ],
)  # fmt: skip
def test_shapes_are_those_that_the_runtime_asks_for(
    role: str, contract: str, twin: str, encoder: str, options: dict[str, Any], shapes: list[Any]
) -> None:
    chosen = profile(contract if role == "lipsync" else "wav2lip_96", encoder, **options)
    assert shapes_of(role, model(contract, twin), chosen, [(1280, 720)]) == shapes


@pytest.mark.parametrize(
    ("encoder", "span", "rows"), [("hubert_large", (10, 4, 10), 24 * 320 + 80), ("feather_hubert", (1, 1, 1), 1040)]
)
def test_a_span_makes_a_length(encoder: str, span: tuple[int, int, int], rows: int) -> None:
    axes = speech_axes("encoder", load_contract(encoder), profile("ultralight_hubert", encoder, span=span))
    assert axes == {"samples": rows}


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        ("hubert_large", "wanted calls of one length, got one for the whole sound; set lipsync.span to vectors before"),
        ("heygem_wenet", 'wanted float32 inputs for a plan, got int32 speech_lengths; run it with session = "onnxrun'),
    ],
)
def test_an_encoder_that_no_plan_can_serve_is_refused(encoder: str, sentence: str) -> None:
    with pytest.raises(BuildError) as caught:
        speech_axes("encoder", load_contract(encoder), profile("ultralight_hubert", encoder))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("role", "contract", "twin"),
    [
        ("lipsync", "ultralight_hubert", "ultralight_half"),
        ("lipsync", "heygem_dinet_v1", "dinet_3_3_256"),
        ("encoder", "dh_live_audio2bs", ""),
    ],
)
def test_feeds_run_and_show_faces(samples: Samples, role: str, contract: str, twin: str) -> None:
    file = model(contract, twin, **({"narrow": 16} if twin.startswith("dinet") else {}))
    [shapes] = shapes_of(role, file, profile("wav2lip_96"), [(1280, 720)])
    given = SpeechSamples(role, file, shapes, "fp16", samples, count=2)
    feeds = [{file.tensors[name]: value for name, value in feed.items()} for feed in given.inputs(role)]
    assert len(feeds) == 2
    untouched = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    for feed, ours in zip(feeds, run_model(prepare(file, shapes), feeds), strict=True):
        held = {item.name for item in untouched.get_inputs()}
        names = list(ours)
        theirs = untouched.run(names, {name: value for name, value in feed.items() if name in held})
        assert all(np.abs(ours[name] - one).max() < 1e-3 for name, one in zip(names, theirs, strict=True))
    if role == "lipsync":
        layouts = file.contract.lipsync
        assert layouts is not None
        name = "image" if "image" in file.contract.inputs else "source"
        picture = given.inputs(role)[0][name]
        x, y, width, height = layouts.blank_xywh_px
        masked = picture[0, 3:] if name == "image" else picture[0]
        assert np.unique(masked[:, y : y + height, x : x + width]).size == 1
        assert picture[0, :3, :5].std() > 0.01
        others = given.calibration(role)[0]
        assert not any(np.array_equal(others[key], value) for key, value in given.inputs(role)[0].items())


def test_int8_is_refused_by_name(samples: Samples) -> None:
    file = model("dh_live_audio2bs")
    sentence = r"dh_live_audio2bs: wanted speech to find the ranges of INT8 on, got noise in its place; use --precision"
    with pytest.raises(BuildError, match=sentence):
        SpeechSamples("encoder", file, {"x": (1, 2, 80)}, "int8", samples)


def test_a_profiles_plans_are_built_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    flavour = find_flavour()
    for place in ("models.plan_file.plan_folder", "build_engines.build.plan_folder"):
        monkeypatch.setattr(place, lambda: tmp_path / "plans")
    chosen = profile("dinet_mini_2", "dh_live_audio2bs")
    files = {"tiny_detector": find("tiny_detector"), "dh_live_audio2bs": model("dh_live_audio2bs")}
    monkeypatch.setattr("build_engines.build.find", lambda name: files[name])
    roles = {"detector": "", "encoder": "dh_live_audio2bs"}
    monkeypatch.setattr("build_engines.build._roles", lambda models: roles)
    real = Samples(sample_clip(), {"detector": files["tiny_detector"]}, count=2)
    monkeypatch.setattr("build_engines.build.Samples", lambda *given, **options: real)
    rows = list(build_profile(chosen, flavour, ["sm_89"], "fp16", sample_clip(), say=lambda line: None, run=False))
    assert [(row.contract, row.shapes["x"]) for row in rows] == [("dh_live_audio2bs", (1, 2, 80))]
    assert rows[0].drift_db >= load_contract("dh_live_audio2bs").drift.fp16_psnr_db
    assert rows[0].layers["fp16"] > 0
