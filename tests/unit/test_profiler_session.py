"""A run with everything of the profiler asked for: files, metrics while it runs, one line of JSON at its end."""

from __future__ import annotations

import io
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import engine
from engine.__main__ import main
from engine.profiler.live_table import LiveTable
from engine.profiler.options import Options
from engine.profiler.session import ProfilerSession
from engine.timing import Timings
from tests.clips import cut_out

FRAMES = 24


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "clip.mp4"
    return cut_out(sample, tmp_path_factory.mktemp("clip") / "clip.mp4", start=10, count=FRAMES, size=(640, 360))


def arguments(sample: Path, clip: Path, out: Path, *more: str) -> list[str]:
    source = str(sample / "source_1.png")
    return ["run", "--profile", "tiny", "--backend", "cpu", "--source", source, *more, str(clip), str(out)]


def test_a_run_leaves_its_report_its_trace_and_one_line_of_json(
    sample: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, trace, out = tmp_path / "report.html", tmp_path / "trace.json", tmp_path / "out.mp4"
    asked = ("--report", str(report), "--trace", str(trace), "--stages", "--metrics", "127.0.0.1:0")
    assert main(arguments(sample, clip, out, *asked)) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["frames"] == FRAMES
    assert told["output"] == str(out)
    assert set(told["stages"]) >= {"decode", "detect", "paste", "encode", "frame", "queue", "latency"}
    assert told["stages"]["latency"]["calls"] == FRAMES
    assert told["stages"]["frame"]["budget_ms"] == 40.0
    latency, work = (told["stages"][name]["p50_ms"] for name in ("latency", "frame"))
    assert latency > work
    assert told["conditions"]["profile"] == "tiny"
    # one frame's record has been through all three threads
    assert {"decode", "detect", "generate", "frame", "encode"} <= set(told["worst"][0]["stages_ms"])
    assert told["worst"][0]["pts"] is not None
    text = report.read_text()
    assert f"of {FRAMES} frames missed it" in text
    assert "clip.mp4, profile tiny" in text
    events = json.loads(trace.read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"frames", "decode", "encode", "MainThread"} <= names
    per_frame: dict[int, set[str]] = {}
    for event in events:
        if event["ph"] == "X":
            per_frame.setdefault(event["args"]["frame"], set()).add(event["name"])
    assert len(per_frame) == FRAMES
    assert all({"decode", "detect", "paste", "encode"} <= stages for stages in per_frame.values())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_metrics_can_be_read_while_the_run_goes_on(sample: Path, clip: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    with ProfilerSession(Options(metrics="127.0.0.1:0")) as session:

        def look(progress: Any) -> None:
            if progress.done == FRAMES // 2:
                with urllib.request.urlopen(session.address) as answer:
                    seen.append(answer.read().decode())

        engine.run(
            "tiny",
            sample / "source_1.png",
            clip,
            tmp_path / "out.mp4",
            on_open=session.watch,
            on_progress=look,
        )
    assert f'face_engine_stage_seconds_count{{stage="frame"}} {FRAMES // 2}' in seen[0]
    assert 'face_engine_stage_budget_seconds{stage="frame"} 0.04' in seen[0]
    assert not [thread for thread in threading.enumerate() if thread.name in ("metrics", "sampler")]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            ("--report", "report.txt"),
            "report.txt: wanted a name that ends in .html, got .txt; choose one of these formats",
        ),
        (("--metrics", "nowhere"), "--metrics: wanted HOST:PORT with a port of 0 to 65535, got 'nowhere'; "),
        (("--trace", "x/trace.json"), "x/trace.json: wanted an existing folder, got no folder "),
    ],
)
def test_what_can_not_be_written_or_served_is_refused_before_any_work(
    sample: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments(sample, clip, tmp_path / "out.mp4", *asked)) == 2
    assert capsys.readouterr().err.startswith(sentence)
    assert not (tmp_path / "out.mp4").exists()
    assert not [thread for thread in threading.enumerate() if thread.name in ("metrics", "sampler")]


def test_a_run_that_fails_leaves_no_report(sample: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    missing = tmp_path / "missing.mp4"
    assert main(arguments(sample, missing, tmp_path / "out.mp4", "--report", str(report))) == 2
    assert list(tmp_path.glob("*.html")) == []
    assert list(tmp_path.glob(".report*")) == []


def test_a_terminal_gets_the_line_only_when_it_asks(sample: Path, clip: Path, tmp_path: Path) -> None:
    from profiles.profile import load_profile

    result = engine.run("tiny", sample / "source_1.png", clip, tmp_path / "out.mp4")
    profile = load_profile("tiny")
    with ProfilerSession(Options()) as session:
        assert session.finish(profile, result, what="run", is_terminal=True) == ""
        assert json.loads(session.finish(profile, result, what="run", is_terminal=False))["frames"] == FRAMES
    with ProfilerSession(Options(json=True)) as session:
        assert json.loads(session.finish(profile, result, what="run", is_terminal=True))["frames"] == FRAMES


def test_the_live_table_shows_the_stages_as_they_stand() -> None:
    session = ProfilerSession(Options())
    timings = Timings()
    session.watch(timings)
    table = LiveTable(session)
    shown = []
    for _ in range(2):
        timings.add("crop", 3.0)
        console = Console(file=io.StringIO(), width=100)
        console.print(table)
        shown.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert [" 1  " in shown[0], " 2  " in shown[1]] == [True, True]
    assert all("crop" in one and "3.00" in one for one in shown)
