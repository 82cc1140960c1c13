"""From file to file: nothing lost, nothing touched that is not a face, no half-written file, errors in sentences."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import engine
from engine.__main__ import main
from engine.errors import DeviceError, InputError, MediaError, OutputError
from engine.result import Progress
from engine.stages.generate import Generate
from engine.video.ai_altered import is_marked
from engine.video.sink import Sink
from engine.video.source import open_source
from kernels.compile import find_compiler
from profiles.profile import load_profile
from tests.clips import U8, cut_out, decoded, lay_down
from tests.unit.media import make_clip

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


def test_ctrl_c_leaves_a_playable_partial_file(clip: Path, source: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == COUNT - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        engine.run("tiny", source, clip, tmp_path / "out.mp4", on_progress=interrupt)
    partial = tmp_path / "out.partial.mp4"
    assert caught.value.partial_path == partial  # type: ignore[attr-defined]
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [partial]
    assert len(decoded(partial)) >= 1


@pytest.mark.parametrize("times", [1, 2, 3])
def test_further_interrupts_wait_for_the_picture_and_keep_what_was_written(
    times: int, clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    write, abort, seen = Sink.write, Sink.abort, []

    def slow(self: Sink, planes: tuple[U8, U8], frame: Any) -> None:
        if frame.index == 8:
            for _ in range(times):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                time.sleep(0.3)
        write(self, planes, frame)
        seen.append("written")

    def told(self: Sink) -> Path | None:
        seen.append("abort")
        return abort(self)

    monkeypatch.setattr(Sink, "write", slow)
    monkeypatch.setattr(Sink, "abort", told)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            engine.run("tiny", source, clip, tmp_path / "out.mp4")
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["written"] * 9 + ["abort"]
    partial = tmp_path / "out.partial.mp4"
    assert caught.value.partial_path == partial  # type: ignore[attr-defined]
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [partial]
    assert len(decoded(partial)) == 9


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_with_130_and_a_playable_partial_file(
    how: signal.Signals, sample: Path, source: Path, tmp_path: Path
) -> None:
    arguments = [
        "run",
        "--profile",
        "tiny",
        "--source",
        str(source),
        str(sample / "clip.mp4"),
        str(tmp_path / "out.mp4"),
    ]
    command = [sys.executable, "-m", "engine", *arguments]
    # a test run in the background of a shell ignores SIGINT, and a child inherits that
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        # a header alone is smaller: frames are being written
        if any(path.stat().st_size > 40_000 for path in tmp_path.glob(".out*")):
            break
        time.sleep(0.01)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    partial = tmp_path / "out.partial.mp4"
    assert f"interrupted; what was written so far is {partial}" in said
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [partial]
    assert 1 <= len(decoded(partial)) < 250


def test_a_bad_output_is_refused_before_a_model_is_loaded(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("engine.request.find", never)
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
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out.mkv"
    assert main(["run", "--profile", "tiny", "--source", str(source), str(clip), str(out)]) == 0
    said = capsys.readouterr().out
    for word in ("stage", "calls", "p50", "p95", "p99", "max ms", "share", "budget", "verdict", "generate"):
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


NO_NETWORK = """
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
extern "C" int socket(int domain, int, int) {
    if (domain == AF_INET || domain == AF_INET6) {
        fprintf(stderr, "a network socket was opened\\n");
        abort();
    }
    errno = EACCES;
    return -1;
}
"""


def test_a_whole_demo_needs_no_network(tmp_path: Path) -> None:
    """Below Python: FFmpeg, ONNX Runtime and the kernels find a socket() that ends the process."""
    (tmp_path / "no_network.cpp").write_text(NO_NETWORK)
    blocker = tmp_path / "no_network.so"
    subprocess.run(
        [find_compiler(), "-shared", "-fPIC", "-o", str(blocker), str(tmp_path / "no_network.cpp")], check=True
    )
    # ONNX Runtime's telemetry is off by itself where it sees a CI system, and our own setting is inherited here
    hidden = ("CI", "ORT_DISABLE_TELEMETRY")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"LD_PRELOAD": str(blocker)}
    planted = "import socket; socket.socket()"
    assert subprocess.run([sys.executable, "-c", planted], env=environment, check=False, capture_output=True).returncode

    out = tmp_path / "out"
    command = [sys.executable, "-m", "engine", "demo", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "drawn faces only" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["demo.mp4", "demo_side_by_side.mp4"]
    with av.open(str(out / "demo.mp4")) as container:
        assert len(container.streams.audio) == 1
    for path in out.iterdir():
        with av.open(str(path)) as container:
            assert is_marked(container.metadata)


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


def test_failed_frames_give_exit_code_4(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Generate, frame: Any, crops: Any) -> Any:
        if frame.meta is not None:
            raise DeviceError("generate: wanted a result, got nothing; a planted fault")
        return self.outputs[crops.shape[0]]

    monkeypatch.setattr(Generate, "__call__", fail)
    assert main(["run", "--profile", "tiny", "--source", str(source), str(clip), str(tmp_path / "out.mp4")]) == 4
    assert f"{COUNT} frames went out unchanged; the first: generate: wanted a result" in capsys.readouterr().out


def test_a_log_folder_that_cannot_be_made_does_not_stop_a_run(
    clip: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert main(["run", "--profile", "tiny", "--source", str(source), str(clip), str(tmp_path / "out.mp4")]) == 0


def test_a_picture_never_replaces_its_own_source(source: Path, sample: Path, tmp_path: Path) -> None:
    face = tmp_path / "face.png"
    face.write_bytes(source.read_bytes())
    with pytest.raises(OutputError, match="wanted another file than the input, got the input itself"):
        engine.run("tiny", face, sample / "source_2.png", face)
    assert face.read_bytes() == source.read_bytes()


def test_a_bad_picture_output_is_refused_before_a_model_is_loaded(
    source: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("engine.request.find", never)
    for out in (tmp_path / "missing" / "out.png", tmp_path / "out.mp4"):
        with pytest.raises(OutputError):
            engine.run("tiny", source, sample / "source_2.png", out)


def test_an_address_is_not_taken_for_a_path(source: Path, tmp_path: Path) -> None:
    wanted = (
        r"^rtsp://127\.0\.0\.1:1/none: wanted a live input, got Connection refused; check the address, and the sender$"
    )
    with pytest.raises(MediaError, match=wanted):
        engine.run("tiny", source, "rtsp://127.0.0.1:1/none", tmp_path / "out.mp4")


def test_a_run_without_faces_says_what_it_saw(source: Path, tmp_path: Path) -> None:
    grey = make_clip(tmp_path / "in.mp4", size=(320, 240))
    result = engine.run("tiny", source, grey, tmp_path / "out.mp4")
    if not result.faces:
        assert any(note.startswith("no face was found: the best score seen was 0.") for note in result.notes)


def test_more_faces_than_room_are_told(clip: Path, source: Path, tmp_path: Path) -> None:
    profile = load_profile("tiny")
    profile = dataclasses.replace(profile, track=dataclasses.replace(profile.track, faces=1))
    result = engine.run(profile, source, clip, tmp_path / "out.mp4")
    assert (result.faces, result.crowded) == (COUNT, COUNT)
    assert any(note.startswith(f"{COUNT} frames showed more than 1 faces") for note in result.notes)
