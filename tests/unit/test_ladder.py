"""The rungs of a ladder: what a profile may state, what is built and opened for it, and that a step costs nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from build_engines.build import shapes_of
from engine.errors import InputError, ModelError
from engine.frame import held_buffer
from engine.ladder import Find, finds_of
from engine.pipeline import Pipeline, open_pipeline
from kernels.launch import Colour
from models.model_files import find
from models.tables import TableError
from profiles.ladder import Governor, Rung
from profiles.profile import Profile, load_profile, profile_names
from tests.clips import U8, decoded
from tests.recording.sessions import open_backend

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
SIZE = (1280, 720)
COUNT = 18


@pytest.fixture(scope="module")
def frames() -> list[U8]:
    return decoded(SAMPLE / "clip.mp4", COUNT)


def governed(profile: Profile | None = None, **options: object) -> Pipeline:
    """The tiny profile's pipeline with its whole ladder."""
    return open_pipeline(
        profile or load_profile("tiny"),
        sources=[SAMPLE / "source_1.png"],
        size=SIZE,
        colour=Colour(),
        governed=True,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with governed() as opened:
        yield opened


def with_rungs(*rungs: Rung, **changes: object) -> Profile:
    """The tiny profile with this ladder."""
    return dataclasses.replace(load_profile("tiny"), governor=Governor(rungs=rungs), **changes)  # type: ignore[arg-type]


# -- what a profile states --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", profile_names())
def test_every_profiles_ladder_begins_with_its_own_and_gets_cheaper(name: str) -> None:
    profile = load_profile(name)
    assert profile.ladder[0] == profile.own
    for above, rung in zip(profile.ladder, profile.ladder[1:], strict=False):
        assert rung != above
        assert rung.detect_every >= above.detect_every
        assert rung.detect_size_px <= above.detect_size_px
        assert rung.faces <= above.faces


def test_a_rung_is_a_set_of_changes_against_the_profile() -> None:
    own, *rungs = load_profile("tiny").ladder
    assert own == Rung(0, 1, 640, 4)
    assert rungs == [Rung(0, 2, 640, 4), Rung(0, 3, 320, 4), Rung(0, 3, 320, 2), Rung(0, 3, 320, 1)]
    assert rungs[2].words(own) == "detect every 3, detect at 320 px, faces at most 2"
    assert own.words(own) == "the profile's own"
    assert [rung.cycle for rung in (own, *rungs)] == [1, 2, 3, 3, 3]


TINY = Path(__file__).parents[2] / "profiles" / "tiny.toml"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("detect_every = 6", "governor.rungs[0].detect_every: wanted at most track.coast_frames (5), got 6; tracks"),
        ("detect_size_px = 100", "governor.rungs[0].detect_size_px: wanted a multiple of 32, got 100; correct the"),
        ("detect_size_px = 960", "governor.rungs[0].detect_size_px: wanted 640 or less, as the rung above has it, got"),
        ("faces = 33", "governor.rungs[0].faces: wanted 0 to 32, got 33; correct the value"),
        ("faces = 4", "governor.rungs[0]: wanted less work than in the rung above, got the same; leave it out"),
        ("enhance_every = 2", "governor.rungs[0].enhance_every: wanted none without a restorer, got 2; name one"),
        (
            "paste = 2",
            "governor.rungs[0]: wanted only the keys detect_every, detect_size_px, enhance_every, faces",
        ),
        (
            "faces = 2\n[[governor.rungs]]\ndetect_every = 2",
            "governor.rungs[1].faces: wanted 2 or less, as the rung above has it, got 4; a rung states everything",
        ),
        ("faces = 2\n[governor]\nup_at = 0.95", "governor.up_at: wanted less than down_at (0.9), got 0.95; between"),
        ("faces = 2\n[governor]\ndown_at = 1.5", "governor.down_at: wanted 0.1 to 1, got 1.5; correct the value"),
    ],
)
def test_a_ladder_that_can_not_be_is_refused_when_the_profile_is_read(tmp_path: Path, text: str, sentence: str) -> None:
    whole = TINY.read_text().partition("# what a live run gives up")[0]
    rungs, _, table = text.partition("[governor]")
    table = f"[governor]\n{table}\n" if table else ""
    path = tmp_path / "mine.toml"
    path.write_text(f"{whole}{table}[[governor.rungs]]\n{rungs}\n")
    with pytest.raises(TableError) as caught:
        load_profile(path)
    assert sentence in str(caught.value)


def test_detecting_less_often_needs_a_refiner(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY.read_text().replace('refiner = "tiny_refiner"\n', ""))
    with pytest.raises(TableError) as caught:
        load_profile(path)
    wanted = "governor.rungs[0].detect_every: wanted 1 without a refiner, got 2; name a refiner"
    assert str(caught.value) == f"{path}: {wanted}"


def test_options_changed_afterwards_are_checked_when_a_governed_run_opens() -> None:
    profile = load_profile("tiny")
    changed = dataclasses.replace(profile, detect=dataclasses.replace(profile.detect, every=3))
    sentence = "profile tiny: governor.rungs[0].detect_every: wanted 3 or more, as the rung above has it, got 2; a rung"
    with pytest.raises(InputError) as caught:
        governed(changed)
    assert str(caught.value).startswith(sentence)


def restoring(every: int, *rungs: Rung) -> Profile:
    """The tiny profile with a restorer; its weights are not looked for until it opens."""
    profile = with_rungs(*rungs)
    models = dataclasses.replace(profile.models, restorer="gfpgan_1.4")
    return dataclasses.replace(profile, models=models, enhance=dataclasses.replace(profile.enhance, every=every))


def test_a_restorer_may_run_less_often_and_not_more_often() -> None:
    profile = restoring(2, Rung(enhance_every=5), Rung(enhance_every=5, detect_every=2))
    assert [rung.enhance_every for rung in profile.ladder] == [2, 5, 5]
    assert [rung.cycle for rung in profile.ladder] == [2, 5, 5]
    assert profile.ladder[1].words(profile.own) == "enhance every 5"
    with pytest.raises(ValueError, match=r"^governor\.rungs\[0\]\.enhance_every: wanted 2 or more, as the rung above"):
        _ = restoring(2, Rung(enhance_every=1)).ladder


def test_the_restorer_runs_as_often_as_the_rung_says() -> None:
    ladder = restoring(2, Rung(enhance_every=4)).ladder
    profile = restoring(2)
    held: Any = SimpleNamespace(ladder=ladder, profile=profile, enhance=object(), since_restored=1000)

    def modes(*rungs: int) -> list[str]:
        return [Pipeline._mode(held, cast(Any, SimpleNamespace(rung=rung, new_tracks=0)), 1) for rung in rungs]

    assert modes(0, 0, 0, 0) == ["+restore", "+reuse", "+restore", "+reuse"]
    assert modes(1, 1, 1, 1, 1, 1) == ["+reuse", "+reuse", "+restore", "+reuse", "+reuse", "+reuse"]
    assert modes(0, 0, 0) == ["+restore", "+reuse", "+restore"]


# -- plans ------------------------------------------------------------------------------------------------


def test_plans_are_built_for_every_rung() -> None:
    profile = with_rungs(Rung(detect_size_px=480), Rung(detect_size_px=320, faces=3), Rung(detect_size_px=320, faces=1))
    profile = dataclasses.replace(profile, detect=dataclasses.replace(profile.detect, second_pass_px=128))
    detector = [shapes["image"] for shapes in shapes_of("detector", find("tiny_detector"), profile, [SIZE])]
    assert detector == [(1, 3, 384, 640), (1, 3, 96, 128), (1, 3, 288, 480), (1, 3, 192, 320)]
    swapper = [shapes["target"][0] for shapes in shapes_of("swapper", find("tiny_swapper"), profile, [SIZE])]
    assert swapper == [1, 2, 3, 4]


def test_a_rung_whose_detector_size_has_no_plan_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has only some sizes answers with the nearest: good enough for a profile, not for a rung."""
    from engine.backends.ort_session import OrtSession

    whole = OrtSession.fit

    def some(self: OrtSession, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1, 3, 384, 640) if name == "image" and shape == (1, 3, 192, 320) else whole(self, name, shape)

    monkeypatch.setattr(OrtSession, "fit", some)
    with pytest.raises(ModelError) as caught:
        governed()
    assert str(caught.value) == (
        "governor.rungs, detect_size_px = 320: wanted tiny_detector at 320x192 px, got a file or plans for 640x384 px; "
        "build the rung's plans (python -m build_engines, with --size of the input), or leave the rung out"
    )


# -- the pipeline -----------------------------------------------------------------------------------------


def test_every_way_to_find_is_numbered_once(pipeline: Pipeline) -> None:
    assert pipeline.finds == {
        Find(640, 4): 0, Find(320, 4): 1, Find(320, 2): 2, Find(320, 1): 3, Find(0, 4): 4, Find(0, 2): 5, Find(0, 1): 6,
    }  # fmt: skip
    parts = [(part, variant) for part, variant, _ in pipeline.parts(pipeline.frames[0]) if part == "find"]
    assert parts == [("find", variant) for variant in range(7)]
    with open_pipeline("tiny", sources=[SAMPLE / "source_1.png"], size=SIZE, colour=Colour()) as plain:
        assert plain.finds == {Find(640, 4): 0}
        assert plain.detect.other_bytes == 0


def test_what_is_held_ready_is_said() -> None:
    said: list[str] = []
    governed(say=said.append).close()
    assert said[-1] == (
        "governor: 4 rungs below the profile's own (detect every 2; detect every 3, detect at 320 px; detect every 3, "
        "detect at 320 px, faces at most 2; detect every 3, detect at 320 px, faces at most 1); held ready: 1.1 MB of "
        "detector inputs and outputs, 6 more ways to find in each of 6 slots"
    )


def test_a_step_allocates_nothing_and_tracks_go_on(pipeline: Pipeline, frames: list[U8]) -> None:
    """Up and down the ladder: the same faces in the same slots, no new track, no cut, and nothing is allocated."""
    pipeline.rung = 0
    for nv12 in frames[:3]:
        pipeline.step(nv12)
    ids = pipeline.backend.to_host(held_buffer(pipeline.frames[0].faces.track_ids))[:2].tolist()
    before = dataclasses.replace(pipeline.backend.counters)
    seen = []
    for nv12, rung in zip(
        frames[3:] * 2, [0, 1, 1, 2, 2, 2, 3, 3, 0, 2, 0, 4, 4, 4, 4, 0, 0, 1, 2, 3, 0], strict=False
    ):
        pipeline.rung = rung
        frame = pipeline.step(nv12)
        assert (frame.rung, frame.new_tracks, frame.is_cut, frame.errors) == (rung, 0, False, 0)
        held = frame.faces.track_ids
        seen.append((rung, held_buffer(held).owner[: frame.face_count].tolist()))
    after = pipeline.backend.counters
    assert (after.allocations, after.uploads, after.sessions) == (before.allocations, before.uploads, before.sessions)
    assert {tuple(found) for rung, found in seen if rung < 4} == {tuple(ids)}
    # with room for one, the same one throughout
    assert len({tuple(found) for rung, found in seen if rung == 4}) == 1
    assert {len(found) for rung, found in seen if rung == 4} == {1}
    pipeline.rung = 0


def test_the_detector_runs_as_often_as_the_rung_says_whenever_it_changes(pipeline: Pipeline, frames: list[U8]) -> None:
    def detected(*rungs: int) -> str:
        text = ""
        for at, rung in enumerate(rungs):
            pipeline.rung = rung
            text += "d" if pipeline.step(frames[at % COUNT]).is_detected else "-"
        return text

    assert detected(0, 0, 0) == "ddd"
    assert detected(1, 1, 1, 1) == "-d-d"
    assert detected(2, 2, 2, 2, 2, 2) == "--d--d"
    assert detected(2, 1, 1, 0, 0) == "-d-dd"
    pipeline.rung = 0


def test_a_picture_full_of_detail_is_no_cut_when_the_detectors_size_changes(pipeline: Pipeline) -> None:
    """Noise, stripes and squares of a few pixels: scaled to another size they are other levels at every point."""
    rng = np.random.default_rng(3)
    columns, rows = np.arange(1280), np.arange(720)[:, None]
    pictures = {
        "noise": rng.integers(16, 236, (720, 1280)),
        "stripes": np.broadcast_to(np.where(columns // 3 % 2, 235, 16), (720, 1280)),
        "squares": np.where((columns // 5 + rows // 5) % 2, 235, 16),
    }
    for name, luma in pictures.items():
        nv12 = np.full((1080, 1280), 128, np.uint8)
        nv12[:720] = luma
        for rung in (0, 0, 2, 2, 2, 0, 4, 4, 4, 0, 0):
            pipeline.rung = rung
            frame = pipeline.step(nv12)
            assert not (frame.is_cut and rung), name
        cut = np.full((1080, 1280), 128, np.uint8)
        cut[:720, 640:] = 230
        assert pipeline.step(cut).is_cut, "a real cut is still seen"
        pipeline.step(nv12)
    pipeline.rung = 0


def test_fewer_faces_are_those_that_are_largest_and_no_fault(frames: list[U8]) -> None:
    profile = with_rungs(Rung(faces=1))
    with governed(profile) as pipeline:
        both = pipeline.step(frames[0])
        boxes = held_buffer(both.faces.boxes).owner[:2].copy()
        slots = held_buffer(both.faces.slots).owner[:2].copy()
        assert both.face_count == 2
        pipeline.rung = 1
        one = pipeline.step(frames[0])
        assert (one.face_count, one.errors) == (1, 0)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert held_buffer(one.faces.slots).owner[0] == slots[int(areas.argmax())]


@pytest.mark.parametrize("person", [0, 1])
def test_with_room_for_one_the_one_that_was_asked_for_stays(person: int, frames: list[U8], tmp_path: Path) -> None:
    """Every twelfth frame those who were turned away are looked at again, where there is room: there is none."""
    with governed() as pipeline:
        boxes = held_buffer(pipeline.step(frames[0]).faces.boxes).owner[:2].copy()
    picture = tmp_path / "person.png"
    x0, y0, x1, y1 = (int(value) for value in boxes[person])
    side = max(x1 - x0, y1 - y0) // 2
    rgb = cv2.cvtColor(frames[0], cv2.COLOR_YUV2BGR_NV12)
    cv2.imwrite(str(picture), rgb[max(y0 - side, 0) : y1 + side, max(x0 - side, 0) : x1 + side])
    profile = dataclasses.replace(with_rungs(Rung(faces=1)))
    with governed(profile, faces=[f"like={picture}"]) as pipeline:
        for nv12 in frames[:4]:
            pipeline.step(nv12)
        pipeline.rung = 1
        counts = [pipeline.step(frames[at % COUNT]).face_count for at in range(4, 32)]
    assert counts == [1] * 28


def test_a_recording_device_replays_every_rung_and_every_byte_is_the_cpus(frames: list[U8]) -> None:
    rungs = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 0]

    def run(pipeline: Pipeline) -> Iterator[tuple[int, bytes]]:
        for nv12, rung in zip(frames, rungs, strict=False):
            pipeline.rung = rung
            frame = pipeline.step(nv12)
            yield frame.face_count, b"".join(plane.tobytes() for plane in frame.planes())

    with governed() as cpu:
        wanted = list(run(cpu))
    with governed(backend=open_backend()) as pipeline:
        allocations = pipeline.backend.counters.allocations
        launches = pipeline.backend.counters.launches
        got = list(run(pipeline))
        assert pipeline.backend.counters.allocations == allocations
        assert pipeline.backend.counters.launches == launches, "what was not recorded would be launched"
        assert pipeline.backend.counters.replays == 2 * len(rungs)
        assert pipeline.backend.driver.races.found == []  # type: ignore[attr-defined]
    assert [count for count, _ in got] == [count for count, _ in wanted]
    assert [one == other for (_, one), (_, other) in zip(got, wanted, strict=True)] == [True] * len(rungs)


def test_ways_to_find_are_shared_by_rungs_that_find_alike() -> None:
    ladder = (Rung(5, 1, 640, 4), Rung(9, 1, 640, 4), Rung(9, 2, 640, 4), Rung(9, 3, 640, 4))
    assert finds_of(ladder) == {Find(640, 4): 0, Find(0, 4): 1}
