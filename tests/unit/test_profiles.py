"""Every profile reads; what can't run is refused in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine.request import check_encoder
from engine.stages.mouth_layout import layout_of
from models.contract import load_contract
from models.tables import TableError
from profiles.ladder import Governor, Rung
from profiles.profile import Enhance, load_profile, profile_names


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_reads_and_its_models_fill_their_roles(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    for role in ("detector", "refiner", "embedder", "swapper", "lipsync", "encoder", "landmarks"):
        contract = getattr(profile.models, role)
        if contract:
            assert load_contract(contract).role == {"encoder": "audio_encoder"}.get(role, role)
    if profile.task == "swap":
        assert profile.models.embedder in load_contract(profile.models.swapper).embedder
        return
    generator = load_contract(profile.models.lipsync)
    check_encoder(generator, load_contract(profile.models.encoder) if profile.models.encoder else None, name)
    assert layout_of(generator).pictures


def test_the_embedded_default_says_that_it_is_for_drawn_faces() -> None:
    assert load_profile("tiny").says.startswith("drawn faces only")


BASE = """
name = "mine"
task = "swap"
says = "a test"
[models]
detector = "det_10g"
embedder = "w600k_r50"
swapper = "inswapper_128"
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[detect]\nevery = 2\n", "detect.every: wanted 1 without a refiner, got 2; name a refiner"),
        ("[detect]\nsize_px = 100\n", "detect.size_px: wanted a multiple of 32, got 100; correct the value"),
        ("[lipsync]\nfeather = 0.6\n", "lipsync.feather: wanted 0 to 0.5, got 0.6; correct the value"),
        ("[lipsync]\nbatch = 4\n", "lipsync.batch: wanted 1 to 3, got 4; correct the value"),
        ("[lipsync]\nalike = 100.0\n", "lipsync.unlike: wanted 101.0 to 255, got 96.0; correct the value"),
        ("[track]\nfaces = 0\n", "track.faces: wanted 1 to 32, got 0; correct the value"),
        ("[paste]\nopacity = 1\n", "wanted only the keys backend, budget_ms, "),
        (
            "[mask]\nkinds = ['round']\n",
            "mask.kinds[0]: wanted one of ellipse, box, erode_blur, occlusion, regions, got 'round'; correct it",
        ),
        ("[mask]\nkinds = []\n", "mask.kinds: wanted at least one of ellipse, box, erode_blur, got none; name one"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(BASE + text)
    with pytest.raises(TableError) as caught:
        load_profile(path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"opacity": 0.5}, "opacity: wanted the default for the task lipsync, got another; leave it out"),
        ({"enhance": Enhance(every=2)}, "enhance: wanted the default for the task lipsync, got another; leave it out"),
        (
            {"governor": Governor(rungs=(Rung(faces=1),))},
            "governor.rungs: wanted the default for the task lipsync, got another; leave it out",
        ),
        (
            {"models": {"restorer": "gfpgan_1.4"}},
            "models.restorer: wanted none for the task lipsync, got gfpgan_1.4; leave it out",
        ),
    ],
)
def test_what_a_task_leaves_out_is_refused(change: dict[str, Any], sentence: str) -> None:
    talks = load_profile("tiny_lipsync")
    if "models" in change:
        change = {"models": dataclasses.replace(talks.models, **change["models"])}
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(talks, **change)
    swaps = load_profile("tiny")
    with pytest.raises(ValueError, match=r"models.lipsync: wanted none for the task swap, got tiny_lipsync; leave it"):
        dataclasses.replace(swaps, models=dataclasses.replace(swaps.models, lipsync="tiny_lipsync"))


def test_a_profile_of_the_users_own_reads(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(BASE + "[track]\nfaces = 2\n")
    assert load_profile(path).track.faces == 2


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(
        TableError, match=r"^profile none: wanted one of .*swap_1080p30, .*, got 'none'; correct the name$"
    ):
        load_profile("none")
