"""Sound pushed into a presenter: the frames of the file, in time, no sound lost, broken off at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

import engine
from engine.audio.source import read_audio
from engine.errors import DeviceError, InputError, MediaError, OutputError
from engine.talk.lipsync import LipSync, Spoken
from engine.talk.mover import Mover
from engine.template.template import Template
from engine.video.sink import Sink
from tests.talk_parts import av_offset_ms, brightness, bursts, light_files, light_profile, light_template, lit_clip
from tests.talk_parts import write_light as written_light
from tests.unit.test_speak_files import wav

F32 = npt.NDArray[np.float32]
ROOT = Path(__file__).parents[2]
RATE = 16000

# What the measure tells apart where there are 2 s of sound, AAC in between, and pictures that may have been dropped;
# the encoder's delay, were it not allowed for, is 64 ms at this rate, and half a frame is 20.
RESOLUTION_MS = 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("light")
    lit_clip(path / "clip.mp4", 12)
    with light_files(written_light(path / "light.onnx")):
        yield path


@pytest.fixture(scope="module")
def template(folder: Path) -> Template:
    return light_template(folder / "clip.mp4")


def head(template: Template, **options: Any) -> LipSync:
    return engine.open_lipsync(light_profile(), template=template, **{"rate_hz": RATE, **options})


def noise(seconds: float, seed: int = 1) -> F32:
    return (0.2 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def unpaced(template: Template, sound: F32, size: int) -> tuple[list[bytes], F32]:
    """Pictures and sound of a sound that is pushed in pieces of one size."""
    with head(template, paced=False) as one:

        def push() -> None:
            for at in range(0, len(sound), size):
                one.push(sound[at : at + size])
            one.finish()

        threading.Thread(target=push, daemon=True).start()
        pictures, heard = [], []
        for spoken in one.frames():
            pictures.append(b"".join(plane.tobytes() for plane in spoken.frame.planes()))
            heard.append(spoken.sound)
        assert one.facts.dropped == 0
    return pictures, np.concatenate(heard)[:, 0]


def test_pushed_in_any_pieces_the_frames_are_those_of_the_file(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = bursts(2.0)
    written: list[bytes] = []
    write = Sink.write

    def spy(self: Sink, planes: Any, frame: Any) -> None:
        written.append(b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes))
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", spy)
    sound = np.round(sound * 32767).astype(np.float32) / np.float32(32768)
    engine.speak(
        light_profile(), template, wav(tmp_path / "a.wav", sound * np.float32(32768 / 32767)), tmp_path / "out.mp4"
    )
    assert len(written) == 50
    assert len(set(written)) > 20
    for size in (160, 997, 32000):
        pictures, heard = unpaced(template, sound, size)
        assert pictures == written
        assert np.array_equal(heard, sound)


def test_speech_moves_the_mouth_within_its_look_ahead_and_40_ms(template: Template) -> None:
    """Three sentences pushed at the sound's own pace, each after a pause that is filled with silence."""
    with head(template) as one:
        began: list[float] = []
        moved: list[tuple[int, float]] = []

        def push() -> None:
            for number in range(3):
                time.sleep(0.613)
                sound, start = noise(0.3, number), time.perf_counter()
                began.append(start)
                for at in range(0, len(sound), 320):
                    one.push(sound[at : at + 320])
                    time.sleep(max(0.0, start + (at + 320) / RATE - time.perf_counter()))
            time.sleep(0.5)
            one.finish()

        threading.Thread(target=push, daemon=True).start()
        seen, opacity = [], 0.0
        for spoken in one.frames():
            seen.append(spoken)
            if spoken.opacity > 0.0 == opacity:
                moved.append((len(began), time.perf_counter()))
            opacity = spoken.opacity
        facts = one.facts
    assert [number for number, _ in moved] == [1, 2, 3]
    late_ms = [1e3 * (at - began[number - 1]) for number, at in moved]
    assert facts.look_ahead_ms is not None
    # the quickest of three: a busy machine delays any one of them
    assert min(late_ms) <= facts.look_ahead_ms + 40.0, late_ms
    assert facts.sound_in_s == pytest.approx(0.9)
    assert facts.sound_out_s == pytest.approx(facts.sound_in_s + facts.silence_s, abs=1e-3)
    # whatever was pushed came out, in order, with silence between
    heard = np.concatenate([spoken.sound for spoken in seen])[:, 0]
    assert np.array_equal(heard[heard != 0], np.concatenate([noise(0.3, number) for number in range(3)]))


def test_a_slow_generator_drops_template_frames_and_no_sound(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Mover.finish

    def slow(self: Mover, *arguments: Any) -> None:
        time.sleep(0.1)
        finish(self, *arguments)

    monkeypatch.setattr(Mover, "finish", slow)
    sound = noise(1.6)
    with head(template) as one:
        one.push(sound)
        one.finish()
        seen = list(one.frames())
        facts = one.facts
    assert 8 <= len(seen) <= 30
    assert facts.dropped >= 10
    # every frame is there or counted, and stamps are those of the sound
    assert seen[-1].index + 1 == len(seen) + facts.dropped
    assert all(one.time_s == one.index / 25 for one in seen)
    heard = np.concatenate([spoken.sound for spoken in seen])[:, 0]
    assert np.array_equal(heard[heard != 0], sound[sound != 0])


def test_a_reset_breaks_off_within_two_frames_and_the_next_sentence_follows(template: Template) -> None:
    with head(template) as one:
        one.push(noise(10.0))
        seen: list[Spoken] = []
        reset_at = 0
        for spoken in one.frames():
            seen.append(spoken)
            if spoken.index >= 10 and not reset_at:
                reset_at = spoken.index
                one.reset()
            if spoken.index >= 25 and one.facts.sound_in_s < 10.1:
                one.push(noise(0.2, 5))
                one.finish()
        facts = one.facts
    assert seen[-1].index + 1 == len(seen) + facts.dropped  # a busy machine may drop some
    sound = np.concatenate([spoken.sound for spoken in seen])[:, 0]
    later = noise(0.2, 5)
    begin = int(np.argmax(sound != 0))  # a moment passed before the push
    first = np.concatenate([np.zeros(begin, np.float32), noise(10.0)])
    cut = int(np.argmax(sound != first[: len(sound)]))
    # what was on its way at the reset goes out: one frame ready, one being made
    assert reset_at * 640 < cut <= (reset_at + 4) * 640
    assert cut % 640 < 2
    # 10 ms of fading out against the click
    assert np.abs(sound[cut : cut + 160]).max() <= np.abs(first[cut : cut + 160]).max()
    assert not sound[cut + 160 : cut + 400].any()
    assert np.array_equal(sound[-len(later) :], later)
    opacity = {spoken.index: spoken.opacity for spoken in seen}
    assert opacity[reset_at] == 1.0
    shut = [one for index, one in opacity.items() if cut // 640 <= index < 23]
    assert shut == sorted(shut, reverse=True)
    assert {one for index, one in opacity.items() if cut // 640 + 3 <= index < 23} == {0.0}
    assert max(list(opacity.values())[-4:]) == 1.0
    assert facts.resets == 1
    assert facts.sound_out_s == pytest.approx(facts.sound_in_s + facts.silence_s - facts.cut_s, abs=2e-3)


def test_a_host_may_be_called_rather_than_ask(template: Template) -> None:
    seen: list[int] = []
    with head(template, paced=False, on_frame=lambda spoken: seen.append(spoken.index)) as one:
        one.push(noise(0.5))
        one.finish()
        one.wait_finished()
    assert seen == list(range(13))


def test_what_ends_the_worker_is_raised_where_frames_are_taken(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *arguments: Any) -> None:
        raise ValueError("a planted fault")

    monkeypatch.setattr(Mover, "begin", fail)
    with head(template) as one:
        with pytest.raises(ValueError, match="a planted fault"):
            list(one.frames())
        with pytest.raises(ValueError, match="a planted fault"):
            one.push(noise(0.1))


def test_a_frame_that_fails_goes_on_unchanged(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.lipsync import LipsyncPipeline

    begin = LipsyncPipeline.begin

    def fail(self: Any, frame: Any, *arguments: Any) -> Any:
        if frame.index == 3:
            raise DeviceError("mouth: wanted a result, got nothing; a planted fault")
        return begin(self, frame, *arguments)

    monkeypatch.setattr(LipsyncPipeline, "begin", fail)
    with head(template, paced=False) as one:
        one.push(noise(0.4))
        one.finish()
        assert len(list(one.frames())) == 10
        assert one.result.failed == 1


def test_noisy_speech_is_told_while_it_runs(template: Template) -> None:
    said: list[str] = []
    sound = bursts(8.0) + (10 ** (-26 / 20) * np.random.default_rng(3).standard_normal(128000)).astype(np.float32)
    with head(template, paced=False, say=said.append) as one:
        one.push(sound)
        one.finish()
        assert len(list(one.frames())) == 200
    told = [line for line in said if line.startswith("warning: audio: wanted speech 20 dB above noise and echo, got ")]
    assert len(told) == 1


def test_samples_that_are_no_numbers_are_counted(template: Template) -> None:
    sound = noise(0.2)
    sound[100:103] = np.nan, np.inf, -np.inf
    with head(template, paced=False) as one:
        one.push(sound)
        one.push(np.array([[1e39, 0.1], [0.1, np.nan]]), RATE, 2)
        one.finish()
        list(one.frames())
        assert one.condition.not_finite == 5


def test_after_the_end_a_push_is_refused(template: Template) -> None:
    with head(template, paced=False) as one:
        one.finish()
        sentence = "^LipSync.push: wanted an open one, got a finished one; open another$"
        with pytest.raises(InputError, match=sentence):
            one.push(noise(0.1))
        assert list(one.frames()) == []


def test_few_slots_are_refused(template: Template) -> None:
    sentence = "^profile light, live: wanted 4 slots, got 3; raise slots in the profile$"
    with pytest.raises(InputError, match=sentence):
        engine.open_lipsync(light_profile(slots=3), template=template)


# -- runs -------------------------------------------------------------------------------------------------


def fifo(path: Path, sound: F32, *, pause_s: float = 0.0) -> Path:
    os.mkfifo(path)

    def write() -> None:
        # a run that ends early leaves nobody to read
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as file:
            for at in range(0, len(sound), 320):
                file.write((sound[at : at + 320] * 32767).astype(np.int16).tobytes())
                time.sleep(pause_s)

    threading.Thread(target=write, daemon=True).start()
    return path


def test_a_pipe_is_said_live_into_a_file_in_sync(template: Template, tmp_path: Path) -> None:
    sound, out = bursts(2.0), tmp_path / "out.mp4"
    pipe = fifo(tmp_path / "pipe", sound, pause_s=0.018)
    result = engine.speak(light_profile(), template, pipe, out, live=True, raw_audio="16000:1:s16le")
    assert result.live is not None
    assert result.speech is not None
    assert result.live.ended_by == "end of the sound"
    assert result.speech.sound_in_s == pytest.approx(2.0)
    stamps, mouths, _ = brightness(out)
    heard = read_audio(out, rate_hz=16000)
    assert abs(av_offset_ms(stamps, mouths, heard)) <= RESOLUTION_MS
    assert len(heard) == pytest.approx(16000 * result.speech.sound_out_s, abs=1100)
    assert result.wall_s < 5


def test_a_live_run_replaces_the_file_of_the_one_before(template: Template, tmp_path: Path) -> None:
    out, counts = tmp_path / "out.mp4", []
    for seconds in (0.6, 0.2):
        pipe = fifo(tmp_path / f"pipe{seconds}", noise(seconds))
        engine.speak(light_profile(), template, pipe, out, live=True, raw_audio="16000")
        counts.append(len(brightness(out)[0]))
    assert counts[0] > counts[1] > 0


def test_a_pipe_is_said_as_fast_as_it_goes_into_a_file(template: Template, tmp_path: Path) -> None:
    sound, out = bursts(3.0), tmp_path / "out.mp4"
    result = engine.speak(light_profile(), template, fifo(tmp_path / "pipe", sound), out, raw_audio="16000")
    assert (result.frames, result.live) == (75, None)
    stamps, mouths, _ = brightness(out)
    assert abs(av_offset_ms(stamps, mouths, read_audio(out, rate_hz=16000))) <= RESOLUTION_MS


def test_a_pipe_that_ends_without_a_sample_leaves_nothing(template: Template, tmp_path: Path) -> None:
    for live in (False, True):
        pipe = fifo(tmp_path / f"pipe{live}", np.zeros(0, np.float32))
        with pytest.raises(MediaError, match="wanted sound of some length, got 0 s of it; check what writes into the"):
            engine.speak(light_profile(), template, pipe, tmp_path / "out.mp4", live=live, raw_audio="16000")
        left = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("pipe"))
        assert left in ([], ["out.partial.mp4"])


def test_an_output_that_is_stuck_ends_the_run(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    write = Sink.write

    def stuck(self: Sink, planes: Any, frame: Any) -> None:
        if frame.index == 5:
            go_on.wait(20)
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", stuck)
    monkeypatch.setattr("engine.talk.live_run.STALL_S", 0.3)
    pipe = fifo(tmp_path / "pipe", noise(2.0), pause_s=0.018)
    try:
        with pytest.raises(
            OutputError, match=r"out.mp4: wanted a picture taken within 0.3 s, got none; check that the"
        ):
            engine.speak(light_profile(), template, pipe, tmp_path / "out.mp4", live=True, raw_audio="16000")
    finally:
        go_on.set()


def test_a_file_said_live_goes_at_its_own_pace_into_a_stream(template: Template, tmp_path: Path) -> None:
    """To standard output, as another program would read it; the sound is AAC in a transport stream."""
    sound = bursts(2.0)
    given = wav(tmp_path / "a.wav", sound)
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import engine
from tests.talk_parts import light_files, light_profile, light_template
folder = Path({str(template.path.parent)!r})
with light_files(folder / "light.onnx"):
    result = engine.speak(light_profile(), light_template(folder / "clip.mp4"), {str(given)!r}, "-", live=True)
print(result.wall_s, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    path = tmp_path / "out.ts"
    path.write_bytes(done.stdout)
    assert 1.9 < float(done.stderr.split()[-1]) < 6
    with av.open(str(path)) as container:
        start_s = container.streams.audio[0].start_time * container.streams.audio[0].time_base  # type: ignore[operator]
    stamps, mouths, _ = brightness(path)
    heard = read_audio(path, rate_hz=16000)
    # the encoder's own 1024 samples in front are heard in a transport stream
    assert abs(av_offset_ms(stamps - float(start_s), mouths, heard)) <= RESOLUTION_MS


@pytest.mark.full
def test_an_interrupt_is_the_ordinary_end_of_a_live_run(template: Template, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    reading, writing = os.pipe()
    os.write(writing, (noise(0.5) * 32767).astype(np.int16).tobytes())
    program = f"""
import signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
signal.signal(signal.SIGTERM, signal.default_int_handler)
import engine
from tests.talk_parts import light_files, light_profile, light_template
folder = Path({str(template.path.parent)!r})
with light_files(folder / "light.onnx"):
    result = engine.speak(light_profile(), light_template(folder / "clip.mp4"), "-", {str(out)!r}, live=True,
        raw_audio="16000", on_progress=lambda progress: print(progress.done, flush=True))
print(result.live.ended_by)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=reading, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if int(text) == 20:
                break
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read().split("\n")
    assert process.returncode == 0
    assert said[-2] == "interrupt"
    os.close(writing)
    os.close(reading)
    assert len(brightness(out)[0]) >= 20
