"""The commands: the profile's task decides, the other task's options are errors by name, all ends well or in a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import doctor
from engine.__main__ import main
from engine.errors import InputError, ModelError
from engine.template.folder import open_template
from profiles.profile import load_profile
from tests.clips import cut_out
from tests.talk_parts import brightness, bursts, light_files, lit_clip
from tests.talk_parts import write_light as written_light
from tests.unit.test_speak_files import wav

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
SOURCE = str(SAMPLE / "source_1.png")

PROFILE = """
name = "light"
task = "lipsync"
says = "a test"
backend = "cpu"
threads = 2
[models]
detector = "tiny_detector"
refiner = "tiny_refiner"
lipsync = "wav2lip_96"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("command")
    cut_out(SAMPLE / "presenter.mp4", path / "presenter.mp4", start=0, count=8)
    lit_clip(path / "nobody.mp4", 8)
    wav(path / "a.wav", bursts(0.6))
    (path / "light.toml").write_text(PROFILE)
    with pytest.MonkeyPatch.context() as patch, light_files(written_light(path / "light.onnx"), with_tiny=True):
        patch.setenv("FACE_ENGINE_TEMPLATES", str(path / "templates"))
        yield path


def command(folder: Path, *more: str, template: str = "presenter.mp4", out: str = "out.mp4") -> list[str]:
    given = ["--template", str(folder / template), "--audio", str(folder / "a.wav")]
    return ["run", "--profile", str(folder / "light.toml"), *given, *more, str(folder / out)]


def test_a_presenter_that_is_not_prepared_is_prepared_and_talks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, trace = tmp_path / "report.html", tmp_path / "trace.json"
    assert main(command(folder, "--report", str(report), "--trace", str(trace), "--metrics", "127.0.0.1:0")) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert f"template {folder / 'presenter.mp4'}: prepared now, once for all runs; to do it beforehand: " in said
    assert "template: 8 frames ready in " in said
    assert "sound: written as AAC, since few players find pcm_s16le in mp4; .mov and .mkv take it as it is" in lines
    assert any(line.startswith("speech in ") and line.endswith("the model hears 212 ms ahead") for line in lines)
    assert f"result  {folder / 'out.mp4'}" in lines
    told = json.loads(lines[-1])
    assert told["frames"] == 15
    assert told["speech"]["moved"] == told["faces"] > 3
    assert {"decode", "listen", "crop", "generate", "paste", "encode", "frame"} <= set(told["stages"])
    assert "listen" in report.read_text()
    assert json.loads(trace.read_text())["traceEvents"]
    # a second run finds it
    assert main(command(folder)) == 0
    assert "prepared now" not in capsys.readouterr().out
    assert open_template(folder / "presenter.mp4", load_profile(folder / "light.toml")).count == 8
    assert len(brightness(folder / "out.mp4")[0]) == 15


def test_a_prepared_folder_is_a_template_too(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    given = [str(folder / "presenter.mp4"), "--profile", str(folder / "light.toml"), "--out", str(out)]
    assert main(["prepare", *given, "--idle", "0:00-0:00.2"]) == 0
    assert main(command(folder, template=str(out), out="folder.mp4")) == 0
    assert len(open_template(out, load_profile(folder / "light.toml")).idle) == 5


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--faces", "all"], "--faces: wanted a swap profile, got light, of lipsync; leave it out, or name a swap "),
        (["--opacity", "0"], "--opacity: wanted a swap profile, got light, of lipsync; "),
        (["--deinterlace"], "--deinterlace: wanted a swap profile, got light, of lipsync; "),
        (["--input-option", "a=b"], "--input-option: wanted a swap profile, got light, of lipsync; "),
        (["--source", SOURCE], "--source: wanted a swap profile, got light, of lipsync; "),
        (["in.mp4"], "run with the lipsync profile light: wanted OUT alone, got in.mp4 "),
        (["--raw-audio", "16000"], "--raw-audio: wanted a pipe of samples without a header, got "),
        (["--face", "nobody"], "--face: wanted largest, leftmost or like=PICTURE, got 'nobody'; name one"),
        (["--codec", "h264", "--quality", "99"], "encode.quality: wanted 0 to 51"),
        (["--unheard-of"], "unrecognized arguments: --unheard-of"),
    ],
)  # fmt: skip
def test_wrong_options_of_a_lip_sync_run(
    flags: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(folder, *flags, out="wrong.mp4")
    if flags[0].startswith("--unheard"):
        with pytest.raises(SystemExit):
            main(arguments)
    else:
        assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder / "wrong.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", SOURCE, "--audio", "a", "a.mp4", "b.mp4"], "--audio: wanted a lip-sync profile, got tiny, of "),
        (["--source", SOURCE, "--template", "t.mp4", "a.mp4", "b.mp4"], "--template: wanted a lip-sync profile, got "),
        (["a.mp4", "b.mp4"], "run with the swap profile tiny: wanted --source, got none; add --source"),
        (["--source", SOURCE, "b.mp4"], "run with the swap profile tiny: wanted IN and OUT, got b.mp4; see "),
    ],
)  # fmt: skip
def test_wrong_options_of_a_swap(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--profile", "tiny", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--template", "--audio"])
def test_what_a_lip_sync_run_needs(missing: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(folder)
    at = arguments.index(missing)
    assert main([*arguments[:at], *arguments[at + 2 :]]) == 2
    assert f"run with the lipsync profile light: wanted {missing}, got none; add {missing}" in capsys.readouterr().err


def test_a_template_without_any_face_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(folder, template="nobody.mp4", out="nobody_out.mp4")) == 2
    said = capsys.readouterr().err
    assert "nobody.mp4: wanted " in said
    assert "log: " in said
    assert not list(folder.glob("*nobody_out*"))


def test_a_template_that_is_not_there_is_refused_before_anything_is_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, template="none.mp4")) == 2
    said = capsys.readouterr()
    assert "none.mp4: wanted " in said.err
    assert "prepared now" not in said.out


def test_an_empty_folder_is_no_template(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wanted a prepared template, got a folder without one; prepare it: "):
        engine.speak(load_profile(folder / "light.toml"), tmp_path, folder / "a.wav", tmp_path / "out.mp4")


def test_a_lip_sync_profile_swaps_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "profile tiny_lipsync: wanted the task swap, got lipsync; name a swap profile; a presenter talks by "
    with pytest.raises(ModelError, match=sentence):
        engine.run("tiny_lipsync", SOURCE, SAMPLE / "clip.mp4", tmp_path / "out.mp4")
    assert main(["bench", "--profile", "tiny_lipsync", "--frames", "1"]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("*out*"))


def test_the_help_says_both_uses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    said = capsys.readouterr().out
    assert "--profile SWAP --source PICTURE [option ...] IN OUT" in said
    assert "--profile LIPSYNC --template VIDEO --audio SOUND [option ...] OUT" in said


def test_doctor_tries_what_sound_needs() -> None:
    aac, microphone, templates = doctor._aac(), doctor._microphone(), doctor._templates()
    assert (aac.state, aac.found) == ("ok", "4800 samples became 6 packets")
    assert microphone.state in ("ok", "missing")
    assert templates.found.endswith("/templates")


@pytest.mark.full
def test_the_demo_talks(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_ENGINE_TEMPLATES", str(tmp_path / "templates"))
    assert main(["demo", "--task", "lipsync", "--out", str(tmp_path), "--backend", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "the tiny pack, drawn faces only" in said
    told = json.loads(said.splitlines()[-1])
    assert told["faces"] > 0.5 * told["frames"]
    assert (tmp_path / "demo_talking.mp4").is_file()
    stamps, _, _ = brightness(tmp_path / "demo_talking.mp4")
    assert np.allclose(np.diff(stamps), 0.04)
