"""How runs end that are broken off: nothing is closed under a thread, and no error or file is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.backends.cpu import CpuBackend
from engine.ending import wait_ended
from engine.errors import InputError
from engine.talk.mover import Mover
from engine.template.template import Template
from engine.video.sink import Sink
from tests.talk_parts import brightness, bursts, light_files, light_profile, light_template, lit_clip
from tests.talk_parts import write_light as written_light
from tests.unit.test_speak_files import wav

AT = 8  # the picture at which Ctrl-C comes


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A test run in the background of a shell ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("light")
    lit_clip(path / "clip.mp4", 40)
    with light_files(written_light(path / "light.onnx")):
        yield path


@pytest.fixture(scope="module")
def template(folder: Path) -> Template:
    return light_template(folder / "clip.mp4")


@pytest.fixture
def spoken(tmp_path: Path) -> Iterator[Path]:
    """A pipe whose sound flows until the test is over."""
    path, over = tmp_path / "pipe", threading.Event()
    os.mkfifo(path)
    sound = (bursts(1.0) * 32767).astype(np.int16).reshape(-1, 320)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as file:
            while not over.is_set():
                for piece in sound:
                    file.write(piece.tobytes())
                    time.sleep(0.018)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield path
    over.set()
    thread.join(5)


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def watched(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """What happens to the output and the backend, in order; picture AT takes long, and Ctrl-C comes within it."""
    seen: list[str] = []
    write, close, abort, release = Sink.write, Sink.close, Sink.abort, CpuBackend.close

    def slow(self: Sink, planes: Any, frame: Any) -> None:
        if frame.index == AT:
            seen.append("write")
            for _ in range(times):
                interrupt()
                time.sleep(0.3)
        write(self, planes, frame)
        if frame.index == AT:
            seen.append("written")

    def told(name: str, method: Any) -> Any:
        def tell(self: Any) -> Any:
            seen.append(name)
            return method(self)

        return tell

    monkeypatch.setattr(Sink, "write", slow)
    monkeypatch.setattr(Sink, "close", told("close", close))
    monkeypatch.setattr(Sink, "abort", told("abort", abort))
    monkeypatch.setattr(CpuBackend, "close", told("backend", release))
    return seen


def test_an_interrupt_while_sound_flows_waits_for_the_picture_and_finishes_the_file(
    template: Template, tmp_path: Path, spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, out = watched(monkeypatch, 1), tmp_path / "out.mp4"
    result = engine.speak(light_profile(), template, spoken, out, live=True, raw_audio="16000")
    assert seen[:4] == ["write", "written", "close", "backend"]
    assert result.live is not None
    assert result.live.ended_by == "interrupt"
    assert len(brightness(out)[0]) == result.frames >= AT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "pipe"]


def test_a_fault_of_the_output_behind_an_interrupt_is_raised(
    template: Template, tmp_path: Path, spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Sink.write

    def fail(self: Sink, planes: Any, frame: Any) -> None:
        if frame.index == AT:
            interrupt()
            time.sleep(0.3)
            raise ValueError("a planted fault")
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", fail)
    with pytest.raises(ValueError, match="a planted fault"):
        engine.speak(light_profile(), template, spoken, tmp_path / "out.mp4", live=True, raw_audio="16000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.partial.mp4", "pipe"]


@pytest.mark.parametrize("times", [2, 3])
def test_a_second_interrupt_of_a_live_run_keeps_what_was_written(
    times: int, template: Template, tmp_path: Path, spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch, times)
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.speak(light_profile(), template, spoken, tmp_path / "out.mp4", live=True, raw_audio="16000")
    assert seen[:4] == ["write", "written", "abort", "backend"]
    partial = tmp_path / "out.partial.mp4"
    assert caught.value.partial_path == partial  # type: ignore[attr-defined]
    assert len(brightness(partial)[0]) == caught.value.frames_written  # type: ignore[attr-defined]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_interrupt_of_a_file_run_keeps_what_was_written_however_often_it_comes(
    times: int, template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, given = watched(monkeypatch, times), wav(tmp_path / "a.wav", bursts(2.0))
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.speak(light_profile(), template, given, tmp_path / "out.mp4")
    assert seen == ["write", "written", "abort", "backend"]
    partial = tmp_path / "out.partial.mp4"
    assert caught.value.partial_path == partial  # type: ignore[attr-defined]
    assert len(brightness(partial)[0]) == caught.value.frames_written >= AT  # type: ignore[attr-defined]


def test_an_interrupt_of_close_waits_for_the_worker(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    finish, release = Mover.finish, CpuBackend.close

    def slow(self: Mover, *arguments: Any) -> None:
        seen.append("make")
        time.sleep(0.2)
        interrupt()
        time.sleep(0.2)
        finish(self, *arguments)
        seen.append("made")

    def released(self: CpuBackend) -> None:
        seen.append("backend")
        release(self)

    monkeypatch.setattr(Mover, "finish", slow)
    monkeypatch.setattr(CpuBackend, "close", released)
    one = engine.open_lipsync(light_profile(), template=template, rate_hz=16000)
    while not seen:
        time.sleep(0.005)
    with pytest.raises(KeyboardInterrupt):
        one.close()
    assert seen == ["make", "made", "backend"]


def test_what_does_not_end_is_waited_for_no_longer_than_asked() -> None:
    ended, stuck, start = threading.Event(), threading.Event(), time.monotonic()
    ended.set()
    assert wait_ended([ended], 0.0)
    assert not wait_ended([ended, stuck], 0.1)
    assert 0.1 <= time.monotonic() - start < 5


def test_one_slot_is_refused_and_two_do(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fade to a far idle stretch holds two pictures at once."""
    far = light_template(folder / "clip.mp4", idle=range(2, 6))
    sound = (0.2 * np.random.default_rng(1).standard_normal(40000)).astype(np.float32)
    sound[19200:] = 0.0
    given, out = wav(tmp_path / "a.wav", sound), tmp_path / "out.mp4"
    with pytest.raises(InputError, match=r"^profile light: wanted 2 slots or more, got 1; raise slots in the profile$"):
        engine.speak(light_profile(slots=1), far, given, out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    fades, faded = list[int](), Mover.faded

    def counted(self: Mover, step: Any, *frames: Any) -> None:
        fades.append(step.n)
        faded(self, step, *frames)

    monkeypatch.setattr(Mover, "faded", counted)
    assert engine.speak(light_profile(slots=2), far, given, out).frames == 63
    assert len(fades) >= 2, fades
