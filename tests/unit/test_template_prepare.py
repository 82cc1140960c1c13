"""prepare, from a video to a Template: what is found, what is kept, what goes on, and every refusal in its words."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.__main__ import main
from engine.errors import EngineError, InputError, MediaError, ModelError, NoFaceError, OutputError
from engine.pipeline import open_backend_for
from engine.talk.files import open_ready_template
from engine.template.find import FaceFinder
from engine.template.folder import locked, open_template, template_folder
from engine.template.frames import TemplateFrames
from engine.template.prepare import parse_idle, prepare
from engine.template.template import Template
from profiles.profile import load_profile
from tests.clips import cut_out, decoded, lay_down
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend
from tests.templates import drawn_profile, half, write_pictures
from tests.unit.media import make_audio_file, make_clip

U8 = npt.NDArray[np.uint8]
SIZE = (640, 360)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_ENGINE_TEMPLATES", str(tmp_path / "templates"))


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the pictures in which faces were looked for."""
    seen: list[int] = []
    call = FaceFinder.__call__

    def counted(self: FaceFinder, picture: Any) -> Any:
        seen.append(picture.index)
        return call(self, picture)

    monkeypatch.setattr(FaceFinder, "__call__", counted)
    return seen


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[U8]:
    """The first 40 pictures of the sample at half its size."""
    sample = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "clip.mp4"
    return decoded(cut_out(sample, tmp_path_factory.mktemp("clip") / "cut.mp4", start=0, count=40, size=SIZE))


@pytest.fixture
def chunks_of_8(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("chunks", "survey"):
        monkeypatch.setattr(f"engine.template.{module}.CHUNK_PICTURES", 8)


def grey(like: U8) -> U8:
    return np.full_like(like, 128)


def same(one: Template, other: Template) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("source_frame", "has_face", "crop_from_frame", "raw_crop_from_frame", "points", "boxes")
    )


def test_a_template_holds_what_the_drawing_is(tmp_path: Path, pictures: list[U8], sample: Path) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:40])
    profile = drawn_profile()
    template = prepare(clip, profile, face="leftmost", idle=parse_idle("0:00.4-0:01"))
    assert (template.count, template.size_px, template.idle) == (40, SIZE, range(10, 25))
    assert template.rate == 25
    assert template.has_face.all()
    truth = np.load(sample / "clip_truth.npz")["points"][:40, 0] / 2
    error_px = np.linalg.norm(template.points - truth, axis=-1)
    assert np.sqrt((error_px**2).mean()) < 2.0
    # the crop's five points stand at the contract's template, but for the face's own proportions
    crop = (
        np.einsum("nij,nkj->nki", template.crop_from_frame[:, :, :2], truth) + template.crop_from_frame[:, None, :, 2]
    )
    wanted = np.array([[18.8, -29.6], [77.2, -29.6], [48.0, 1.2], [24.2, 35.6], [71.8, 35.6]])
    assert np.abs(crop.mean(axis=0) - wanted).max() < 8
    identity = np.einsum("nij,njk->nik", template.crop_from_frame[:, :, :2], template.frame_from_crop[:, :, :2])
    np.testing.assert_allclose(identity, np.tile(np.eye(2), (40, 1, 1)), atol=1e-4)
    with TemplateFrames(template) as frames:
        assert frames.read(39).index == 39
    assert same(open_template(clip, profile), template)
    assert open_template(clip, profile).digest == template.digest


def test_a_second_prepare_looks_at_nothing(tmp_path: Path, pictures: list[U8], looked: list[int]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:20])
    said: list[str] = []
    first = prepare(clip, drawn_profile(), say=said.append)
    assert said[-1] == "models: the tiny pack, drawn faces only"
    assert looked == list(range(20))
    again = prepare(clip, drawn_profile(), say=said.append)
    assert said[-1].startswith("template: prepared before, in ")
    assert again.digest == first.digest
    # another face and stretch of the same video: what was found is there, no network is opened
    opened = len(said)
    other = prepare(clip, drawn_profile(), face="leftmost", idle=(Fraction(0), Fraction(1, 5)), say=said.append)
    assert said[opened:] == []
    assert looked == list(range(20))
    assert other.idle == range(0, 5)
    assert other.digest != first.digest


def test_a_video_whose_stamps_say_nothing_is_refused(
    tmp_path: Path, pictures: list[U8], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:4])
    monkeypatch.setattr("engine.template.prepare._MOST_HZ", 24)
    sentence = r"wanted a video of up to 24 pictures a second, got 25: its time stamps are wrong; export it again$"
    with pytest.raises(InputError, match=sentence):
        prepare(clip, drawn_profile())


def test_a_run_for_another_face_keeps_the_silent_stretch(tmp_path: Path, pictures: list[U8]) -> None:
    clip, profile = write_pictures(tmp_path / "in.mp4", pictures[:20]), drawn_profile()
    first = prepare(clip, profile, idle=(Fraction(1, 5), Fraction(3, 5)))
    assert first.idle == range(5, 15)
    said: list[str] = []
    backend = open_backend_for(profile)
    try:
        other = open_ready_template(clip, profile, backend=backend, face="leftmost", say=said.append)
    finally:
        backend.close()
    assert other.idle == first.idle
    assert other.digest != first.digest
    assert open_template(clip, profile).idle == first.idle
    assert f"python -m engine prepare {clip} --profile {profile.name}" in said[0]


@pytest.mark.usefixtures("chunks_of_8")
def test_what_was_broken_off_goes_on_and_ends_the_same(
    tmp_path: Path, pictures: list[U8], looked: list[int], chunks_of_8: None
) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:20])
    whole = prepare(clip, drawn_profile(), folder=tmp_path / "whole").digest
    for stop_after in (1, 8, 9, 16, 19):
        broken = tmp_path / f"broken_{stop_after}"

        def stop(done: int, total: int | None, last: int = stop_after) -> None:
            assert total == 20
            if done == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(clip, drawn_profile(), folder=broken, on_progress=stop)
        with pytest.raises(InputError, match="wanted a prepared template, got a folder without one"):
            open_template(broken, drawn_profile())
        looked.clear()
        assert prepare(clip, drawn_profile(), folder=broken).digest == whole
        assert looked == list(range((stop_after - 1) // 8 * 8, 20))
        for chunk in sorted((tmp_path / "whole").glob("faces-*.npz")):
            with np.load(chunk) as wanted, np.load(broken / chunk.name) as got:
                assert all(np.array_equal(wanted[name], got[name]) for name in wanted.files), chunk.name


@pytest.mark.usefixtures("chunks_of_8")
def test_spoiled_chunks_are_found_again(
    tmp_path: Path, pictures: list[U8], looked: list[int], chunks_of_8: None
) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:20])
    first = prepare(clip, drawn_profile(), folder=tmp_path / "kept")
    chunk = tmp_path / "kept" / "faces-000001.npz"
    (tmp_path / "kept" / "template.json").unlink()
    for spoiled in (chunk.read_bytes()[:-700], b""):
        chunk.write_bytes(spoiled)
        looked.clear()
        assert prepare(clip, drawn_profile(), folder=tmp_path / "kept").digest == first.digest
        assert looked == list(range(8, 20))
        (tmp_path / "kept" / "template.json").unlink()


def test_sixty_a_second_look_only_at_what_is_shown(
    tmp_path: Path, pictures: list[U8], looked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.template.prepare.model_rate", lambda generator, own: Fraction(25))
    often = [picture for picture in pictures[:12] for _ in range(2)]
    clip = write_pictures(tmp_path / "in.mp4", often, time_base=Fraction(1, 60))
    template = prepare(clip, drawn_profile())
    shown = [0, 2, 5, 7, 10, 12, 14, 17, 19, 22]
    assert template.source_frame.tolist() == shown
    assert looked == shown
    assert template.rate == 25
    assert "60.00 frames a second are shown at the model's 25.00" in template.notes
    with TemplateFrames(template) as frames:
        assert [frames.read(n).index for n in range(10)] == shown


def test_turned_video_gives_the_upright_crops(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:12])
    lying = lay_down(clip, tmp_path / "lying.mp4", 90)
    upright, turned = (prepare(path, drawn_profile(), face="leftmost") for path in (clip, lying))
    assert (turned.size_px, turned.turn_deg) == (SIZE, 90)
    np.testing.assert_allclose(turned.points, upright.points, atol=0.5)


def test_ten_bit_and_odd_sizes_are_prepared(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:4])
    upright = prepare(clip, drawn_profile(), face="leftmost")
    import av

    odd = tmp_path / "odd.mkv"
    with av.open(str(clip)) as source, av.open(str(odd), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 641, 361, "yuv420p10le"
        for frame in source.decode(video=0):
            output.mux(stream.encode(frame.reformat(641, 361, "yuv420p10le")))
        output.mux(stream.encode(None))
    template = prepare(odd, drawn_profile(), face="leftmost")
    assert template.size_px == (641, 361)
    assert any("10-bit" in note for note in template.notes)
    np.testing.assert_allclose(template.points, upright.points, atol=3)
    with TemplateFrames(template) as frames:
        assert [frames.read(n).index for n in (3, 0)] == [3, 0]


def test_frames_without_the_face_and_somebody_else_meanwhile(tmp_path: Path, pictures: list[U8]) -> None:
    one, other = ([half(picture, side) for picture in pictures[:14]] for side in (0, 1))
    clip = write_pictures(tmp_path / "in.mp4", [*one[:10], *[grey(one[0])] * 10, *other[:6], *one[10:14]])
    template = prepare(clip, drawn_profile())
    assert template.has_face.tolist() == [True] * 10 + [False] * 16 + [True] * 4
    assert not template.crop_from_frame[10:26].any()
    assert "16 of 30 frames do not show the face; they go out as they are" in template.notes
    assert "2 people are seen; the largest is driven" in template.notes
    # nobody to tell them apart: whoever is there
    blind = prepare(clip, drawn_profile(embedder=""))
    assert blind.has_face.tolist() == [True] * 10 + [False] * 10 + [True] * 10
    assert any("without an embedder it was taken for the same" in note for note in blind.notes)


def test_a_short_miss_is_filled_in(tmp_path: Path, pictures: list[U8]) -> None:
    some = [half(picture, 0) for picture in pictures[:12]]
    some[5] = some[5].copy()
    some[5][:, 160:290] = 128
    template = prepare(write_pictures(tmp_path / "in.mp4", some), drawn_profile())
    assert template.has_face.all()
    around = (template.points[4] + template.points[6]) / 2
    np.testing.assert_allclose(template.points[5], around, atol=1.5)


def test_like_takes_the_one_of_the_picture_or_says_how_near_the_nearest_is(
    tmp_path: Path, pictures: list[U8], sample: Path
) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:6])
    right = prepare(clip, drawn_profile(), face=f"like={sample / 'person_2.png'}")
    assert (right.boxes[:, 0] > SIZE[0] / 2).all()
    left = prepare(clip, drawn_profile(), face=f"like={sample / 'person_1.png'}")
    assert (left.boxes[:, 2] < SIZE[0] / 2).all()
    said = r"in\.mp4: wanted a face like .*source_1\.png \(cosine of 0\.40 or more\), got 2 people, the nearest at "
    with pytest.raises(NoFaceError, match=said + r"-?0\.\d\d; give another picture, or name largest or leftmost"):
        prepare(clip, drawn_profile(), face=f"like={sample / 'source_1.png'}")
    with pytest.raises(InputError, match=r"--face: wanted largest or leftmost, got .* without an embedder to compare"):
        prepare(clip, drawn_profile(embedder=""), face=f"like={sample / 'person_1.png'}")


def test_a_changed_video_or_model_is_refused_with_the_command(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:6])
    do = re.escape(f"; prepare it: python -m engine prepare {clip} --profile drawn")
    with pytest.raises(InputError, match=r"in\.mp4: wanted a prepared template, got none in .*templates" + do):
        open_template(clip, drawn_profile())
    prepare(clip, drawn_profile())
    prepare(clip, drawn_profile(), folder=tmp_path / "kept")
    said = r"in\.mp4: wanted the refiner tiny_refiner, as prepared, got none" + do
    with pytest.raises(InputError, match=said):
        open_template(clip, drawn_profile(refiner=""))
    with pytest.raises(InputError, match=said):
        open_template(tmp_path / "kept", drawn_profile(refiner=""))
    less = dataclasses.replace(drawn_profile(), track=dataclasses.replace(drawn_profile().track, coast_frames=1))
    with pytest.raises(InputError, match=r"wanted track\.coast_frames 5, as prepared, got 1" + do):
        open_template(clip, less)
    write_pictures(clip, pictures[:7])
    said = r"in\.mp4: wanted the video of SHA-256 [0-9a-f]{12}, as prepared, got [0-9a-f]{12}" + do
    for where in (clip, tmp_path / "kept"):
        with pytest.raises(InputError, match=said):
            open_template(where, drawn_profile())
    clip.unlink()
    with pytest.raises(InputError, match=r"kept: wanted the video it was prepared from, got no file .*in\.mp4" + do):
        open_template(tmp_path / "kept", drawn_profile())


def test_what_is_in_the_folder_is_checked(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:6])
    kept = tmp_path / "kept"
    first = prepare(clip, drawn_profile(), folder=kept)
    manifest, arrays = kept / "template.json", next(kept.glob("template-*.npz"))
    data = arrays.read_bytes()
    arrays.write_bytes(data[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"template-.*\.npz: wanted the SHA-256 [0-9a-f]{12}, got [0-9a-f]{12}; prepare"
    ):
        open_template(kept, drawn_profile())
    assert prepare(clip, drawn_profile(), folder=kept).digest == first.digest
    table = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**table, "format": 99}))
    with pytest.raises(InputError, match=r"template\.json: wanted manifest format 1, got 99; prepare it"):
        open_template(kept, drawn_profile())
    manifest.write_text("{")
    with pytest.raises(InputError, match=r"template\.json: wanted a template's manifest, got Expecting"):
        open_template(kept, drawn_profile())
    assert prepare(clip, drawn_profile(), folder=kept).digest == first.digest
    assert len(list(kept.glob("template-*.npz"))) == 1


def test_a_second_prepare_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with locked(tmp_path / "kept", order.append):
            entered.set()
            release.wait(10)
            order.append("first is done")

    def waiting(line: str) -> None:
        order.append(line)
        release.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(10)
    (tmp_path / "kept" / ".face-engine-left").touch()
    with locked(tmp_path / "kept", waiting):
        order.append("second is in")
        assert not list((tmp_path / "kept").glob(".face-engine-*"))
    thread.join()
    said = f"{tmp_path / 'kept'}: another prepare is at work here; waiting for it"
    assert order == [said, "first is done", "second is in"]


def test_a_folder_that_can_t_be_made(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:3])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/kept: wanted a folder to write in, got Not a directory; name another"):
        prepare(clip, drawn_profile(), folder=tmp_path / "file" / "kept")


def test_on_cuda_the_same_is_found_and_nothing_races(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:4])
    backend = open_backend()
    template = prepare(clip, drawn_profile(), backend=backend, folder=tmp_path / "cuda")
    assert isinstance(backend.driver, RecordingDriver)
    assert backend.driver.races.found == []
    backend.close()
    assert same(template, prepare(clip, drawn_profile(), folder=tmp_path / "cpu"))


def test_the_command_says_what_was_found(
    tmp_path: Path, pictures: list[U8], capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:5])
    arguments = ["prepare", str(clip), "--profile", "tiny_lipsync", "--backend", "cpu", "--threads", "1"]
    assert main([*arguments, "--idle", "0-0.12", "--face", "leftmost", "--out", str(tmp_path / "kept")]) == 0
    out = capsys.readouterr().out
    assert "models: the tiny pack, drawn faces only\n" in out
    assert "5 frames of 640x360 at 25 a second, 5 with the face, 3 of them silent; 5 pictures were looked at in" in out
    assert open_template(tmp_path / "kept", load_profile("tiny_lipsync")).idle == range(0, 3)
    assert main([*arguments, "--idle", "1-2"]) == 2
    said = "--idle: wanted a stretch of a frame or more within the video's 0.20 s, got 1 to 2 s"
    assert said in capsys.readouterr().err


def test_videos_that_can_t_be_templates(tmp_path: Path, pictures: list[U8]) -> None:
    def refused(kind: type[EngineError], video: Path | str, said: str, **options: Any) -> None:
        with pytest.raises(kind, match=said):
            prepare(video, drawn_profile(), **options)

    refused(InputError, tmp_path / "no.mp4", r"no\.mp4: wanted a video file, got no such file; check the path")
    refused(InputError, "rtsp://host/live", r"rtsp://host/live: wanted a file, got an address; save the template to a ")
    sound = make_audio_file(tmp_path / "sound.m4a")
    refused(MediaError, sound, r"sound\.m4a: wanted a video stream, got only audio; name a file that holds video")
    still = write_pictures(tmp_path / "one.mp4", pictures[:1])
    refused(InputError, still, r"one\.mp4: wanted a video of 2 pictures or more, got 1; name a longer one")
    empty = make_clip(tmp_path / "empty.mp4")
    said = r"empty\.mp4: wanted a face with a score of 0\.\d\d or more in some picture, got none in 10; the best score "
    refused(NoFaceError, empty, said + r"seen was 0\.\d\d; take a clearer video, or lower detect\.score_threshold")
    with pytest.raises(InputError, match="wanted a prepared template"):
        open_template(empty, drawn_profile())
    clip = write_pictures(tmp_path / "in.mp4", pictures[:10])
    for idle, got in (("0:00-0:01", "0 to 1 s"), ("0.41-0.42", "0.41 to 0.42 s"), ("5-6", "5 to 6 s")):
        said = (
            rf"--idle: wanted a stretch of a frame or more within the video's 0\.\d\d s, got {re.escape(got)}; correct"
        )
        refused(InputError, clip, said, idle=parse_idle(idle))
    refused(InputError, clip, r"--face: wanted largest, leftmost or like=PICTURE, got 'me'; name one", face="me")
    laced = make_clip(
        tmp_path / "laced.mp4",
        size=(64, 64),
        options={"preset": "ultrafast", "flags": "+ilme+ildct", "x264-params": "tff=1"},
    )
    said = r"laced\.mp4: wanted progressive pictures, got interlaced ones; deinterlace it first: ffmpeg -i "
    refused(MediaError, laced, said)


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("0:00-0:20", (0, 20)),
        ("12.5-20", (Fraction(25, 2), 20)),
        ("1:02:03-1:02:30.04", (3723, Fraction(375004, 100))),
    ],
)
def test_stretches_are_read_exactly(text: str, idle: tuple[Fraction, Fraction]) -> None:
    assert parse_idle(text) == idle


@pytest.mark.parametrize("text", ["", "5", "a-b", "1-2-3", "0:00-", "-1-2", "1::2-3", "1e3-2e3"])
def test_stretches_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"wanted FROM-TO in s or as m:ss, such as 0:00-0:20, got {text!r}")):
        parse_idle(text)


def test_a_stretch_ends_after_it_begins() -> None:
    with pytest.raises(InputError, match=r"--idle: wanted a stretch that ends after it begins, got '3-3'; "):
        parse_idle("3-3")


def test_profiles_that_can_t_prepare(tmp_path: Path, pictures: list[U8]) -> None:
    clip = write_pictures(tmp_path / "in.mp4", pictures[:3])
    said = "profile drawn: wanted a network of 68 points for the crop of heygem_dinet_v1, got none; name pfpld, 2dfan4"
    with pytest.raises(ModelError, match=said):
        prepare(clip, drawn_profile("heygem_dinet_v1"))
    with pytest.raises(ModelError, match=r"dinet_mini_2: wanted a crop by a box, five points or 68 points, got Media"):
        prepare(clip, drawn_profile("dinet_mini_2"))
    with pytest.raises(ModelError, match=r"profile drawn: wanted a generator in models\.lipsync, got inswapper"):
        prepare(clip, drawn_profile("inswapper_128"))
    with pytest.raises(ModelError, match=r"profile drawn: wanted a refiner, got tiny_embedder, a embedder; correct it"):
        prepare(clip, drawn_profile(refiner="tiny_embedder"))
    assert not template_folder().exists()
