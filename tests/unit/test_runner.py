"""From file to file: nothing lost, nothing touched that is not a face, no half-written file, errors in sentences."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import engine
from engine.__main__ import main
from engine.errors import DeviceError, InputError, OutputError
from engine.runner import Progress
from engine.stages.generate import Generate
from engine.video.sink import Sink
from engine.video.source import open_source
from tests.clips import U8, cut_out, decoded, lay_down

COUNT = 24
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "clip.mp4"
    return cut_out(sample, tmp_path_factory.mktemp("clip") / "short.mp4", start=10, count=COUNT)


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "source_1.png"


def test_every_frame_in_order_with_its_time_and_progress(clip: Path, source: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    out = tmp_path / "out.mp4"
    result = engine.run("tiny", source, clip, out, on_progress=seen.append)
    assert (result.frames, result.frames_with_face, result.failed) == (COUNT, COUNT, 0)
    assert result.faces == 2 * COUNT
    assert [one.done for one in seen] == list(range(1, COUNT + 1))
    assert seen[-1].total == COUNT
    with av.open(str(clip)) as before, av.open(str(out)) as after:
        times = [[float(f.pts * f.time_base) for f in c.decode(video=0)] for c in (before, after)]  # type: ignore[operator]
    assert times[0] == pytest.approx(times[1])
    stages = set(result.timings.stages)
    assert {"decode", "detect", "track", "refine", "crop", "generate", "mask", "paste", "encode", "frame"} <= stages


def test_outside_the_faces_the_encoder_gets_what_was_decoded(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[U8, U8]] = []
    write = Sink.write

    def spy(self: Sink, planes: tuple[U8, U8], frame: Any) -> None:
        given.append((planes[0].copy(), planes[1].copy()))
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", spy)
    engine.run("tiny", source, clip, tmp_path / "out.mp4", faces="leftmost")
    clean = decoded(clip)
    assert len(given) == len(clean) == COUNT
    for (luma, chroma), original in zip(given, clean, strict=True):
        changed = np.argwhere(luma != original[:720])
        top, left = changed.min(axis=0)
        bottom, right = changed.max(axis=0)
        # one face of the sample's first part: what changed is one square of its crop, not the frame
        assert bottom - top < 420
        assert right - left < 420
        rows, columns = np.argwhere(chroma != original[720:]).T
        assert rows.min() * 2 >= top - 2
        assert rows.max() * 2 <= bottom + 2
        assert columns.min() >= left - 3
        assert columns.max() <= right + 3


def test_a_frame_that_fails_goes_out_as_it_came_and_is_counted(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = Generate.__call__
    calls = 0

    def fail_sometimes(self: Generate, frame: Any, crops: Any) -> Any:
        nonlocal calls
        calls += 1
        if frame.index in (3, 7) and calls > 1:
            raise DeviceError("generate: wanted a result, got nothing; a planted fault")
        return generate(self, frame, crops)

    given: dict[int, U8] = {}
    write = Sink.write

    def spy(self: Sink, planes: tuple[U8, U8], frame: Any) -> None:
        given[frame.index] = planes[0].copy()
        write(self, planes, frame)

    monkeypatch.setattr(Generate, "__call__", fail_sometimes)
    monkeypatch.setattr(Sink, "write", spy)
    result = engine.run("tiny", source, clip, tmp_path / "out.mp4")
    clean = decoded(clip)
    assert (result.failed, result.frames) == (2, COUNT)
    assert result.first_failure == "generate: wanted a result, got nothing; a planted fault"
    assert np.array_equal(given[3], clean[3][:720])
    assert np.array_equal(given[7], clean[7][:720])
    assert not np.array_equal(given[4], clean[4][:720])


def test_an_encoder_that_fails_leaves_a_playable_partial_file(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Sink.write

    def fail(self: Sink, planes: tuple[U8, U8], frame: Any) -> None:
        if frame.index == 12:
            raise OutputError("out.mp4: wanted picture 12 written, got a planted fault; check disk space and settings")
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", fail)
    out = tmp_path / "out.mp4"
    with pytest.raises(OutputError, match="planted fault") as caught:
        engine.run("tiny", source, clip, out)
    partial = tmp_path / "out.partial.mp4"
    assert caught.value.partial_path == partial  # type: ignore[attr-defined]
    assert len(decoded(partial)) == 12
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["out.partial.mp4"]


def test_ctrl_c_leaves_no_broken_file(clip: Path, source: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("tiny", source, clip, tmp_path / "out.mp4", on_progress=interrupt)
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert left in ([], ["out.partial.mp4"])
    if left:
        assert len(decoded(tmp_path / left[0])) <= 10


def test_an_interrupted_command_ends_with_130_and_says_where_the_rest_is(
    clip: Path, source: Path, tmp_path: Path
) -> None:
    slow = cut_out(clip, tmp_path / "slow.mp4", start=0, count=COUNT, size=(1920, 1080))
    arguments = ["run", "--profile", "tiny", "--source", str(source), str(slow), str(tmp_path / "out.mp4")]
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".out*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert left in (["slow.mp4"], ["out.partial.mp4", "slow.mp4"])


def test_a_bad_output_is_refused_before_a_model_is_loaded(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("engine.pipeline.find", never)
    with pytest.raises(OutputError):
        engine.run("tiny", source, clip, tmp_path / "missing" / "out.mp4")
    with pytest.raises((OutputError, InputError)):
        engine.run("tiny", source, clip, clip)


def test_a_source_that_fails_to_open_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        engine.run("tiny", tmp_path / "none.png", clip, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_picture_becomes_a_picture_and_keeps_every_pixel_outside_the_face(
    source: Path, sample: Path, tmp_path: Path
) -> None:
    from engine.video.pictures import read_picture

    out = tmp_path / "out.png"
    result = engine.run("tiny", source, sample / "source_2.png", out)
    assert (result.frames, result.faces) == (1, 1)
    before, after = read_picture(sample / "source_2.png"), read_picture(out)
    assert before.shape == after.shape
    changed = np.any(before != after, axis=2)
    assert 0.02 < changed.mean() < 0.6
    assert not changed[:8].any()
    assert not changed[:, :8].any()


def test_the_command_prints_the_table_and_where_the_result_is(
    clip: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    out = tmp_path / "out.mkv"
    assert main(["run", "--profile", "tiny", "--source", str(source), str(clip), str(out)]) == 0
    said = capsys.readouterr().out
    for word in ("stage", "calls", "p50 ms", "p95 ms", "p99 ms", "max ms", "share", "budget ms", "verdict"):
        assert word in said
    assert "drawn faces only" in said
    assert f"{COUNT} frames in " in said
    assert out.exists()


def test_a_command_that_fails_prints_the_sentence_and_the_log(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.png"
    code = main(["run", "--profile", "tiny", "--source", str(missing), str(clip), str(tmp_path / "out.mp4")])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(f"{missing}: wanted ")
    log = Path(said.strip().rsplit("log: ", 1)[1])
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "none"],
        ["--profile", "tiny", "--faces", "everybody"],
        ["--profile", "tiny", "--score-threshold", "3"],
        ["--profile", "tiny", "--opacity", "-1"],
    ],
)
def test_wrong_options_end_with_code_2_and_a_sentence(
    arguments: list[str], clip: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, "--source", str(source), str(clip), str(tmp_path / "out.mp4")]) == 2
    said = capsys.readouterr().err
    assert "wanted" in said
    assert "got" in said
    assert "unexpected" not in said


def test_a_whole_demo_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["demo.mp4", "demo_side_by_side.mp4"]
    with av.open(str(tmp_path / "out" / "demo.mp4")) as container:
        assert len(container.streams.audio) == 1
        assert any("altered" in str(value).lower() for value in container.metadata.values())


def test_doctor_tries_every_library_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in ("python", "kernels", "ONNX Runtime", "H.264", "HEVC", "GPU driver", "NVDEC", "NVENC", "models"):
        assert word in said


def test_doctor_fails_without_what_every_run_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 1
    assert "broken" in capsys.readouterr().out


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "engine", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "demo" in done.stdout


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="PyAV writes display matrices since 18")
@pytest.mark.parametrize("turn_deg", [90, 180, 270])
def test_a_picture_on_its_side_is_worked_on_upright_and_stored_as_it_was(
    turn_deg: int, clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone's file: the samples lie on their side and a tag says how to turn them."""
    given: list[U8] = []
    write = Sink.write

    def spy(self: Sink, planes: tuple[U8, U8], frame: Any) -> None:
        given.append(planes[0].copy())
        write(self, planes, frame)

    lying = lay_down(clip, tmp_path / "lying.mp4", turn_deg)
    monkeypatch.setattr(Sink, "write", spy)
    out = tmp_path / "out.mp4"
    assert engine.run("tiny", source, lying, out).faces == 2 * COUNT
    for luma, original in zip(given, decoded(lying), strict=True):
        assert luma.shape == ((720, 1280) if turn_deg == 180 else (1280, 720))
        assert 0.7 < (luma == original[: luma.shape[0]]).mean() < 0.995
    with open_source(lying, threads=1) as before, open_source(out, threads=1) as after:
        assert after.info.display_matrix == before.info.display_matrix
        assert after.info.rotation_deg == turn_deg
