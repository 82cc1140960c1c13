"""A presenter who talks for minutes: sound against picture, memory, and how soon a pushed word moves the mouth.

    python -m tests.soak.speak [--minutes 10] [--live-profiles tiny_lipsync] [--write NAME]

From a file: bursts of noise on a template of 10 s, by a network whose mouth is as bright as the sound is loud. The
written file is decoded again, and each minute's pictures are compared with its sound, in steps of 1 ms; resident memory
is read after every 250th frame. Live: the sample presenter and the tiny pack, sentences pushed in pieces of 20 ms after
pauses; times are from the push of the first sample to the picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import engine
from engine.audio.source import read_audio
from engine.talk.lipsync import LipSync
from tests.benchmark.conditions import conditions
from tests.lipsync_parts import files_in_place, open_twin, twin_path
from tests.talk_parts import av_offset_ms, brightness, bursts, lit_clip, write_light
from tests.unit.test_audio_input import write_wav

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
MEASURED = Path(__file__).parents[2] / "profiles" / "measured"
SIZE = (640, 360)
RATE_HZ = 48000

_CHILD = """
import json, sys, time
from pathlib import Path
import psutil
import engine
from tests.talk_parts import light_files, light_profile, light_template
folder = Path(sys.argv[1])
process, seen = psutil.Process(), []
def watch(at):
    if at.done % 250 == 0:
        seen.append((time.monotonic(), process.memory_info().rss))
with light_files(folder / "light.onnx"):
    template = light_template(folder / "clip.mp4")
    result = engine.speak(light_profile(), template, folder / "a.wav", folder / "out.mp4", on_progress=watch)
print(json.dumps({"result": result.to_json(), "memory": seen, "template_frames": template.count}))
"""


def from_file(minutes: float) -> dict[str, Any]:
    """A/V offset over the whole film and minute by minute, and memory; raises where the run fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lit_clip(folder / "clip.mp4", 250, size=SIZE)
        write_light(folder / "light.onnx")
        wave = bursts(60 * minutes, rate_hz=RATE_HZ)
        write_wav(folder / "a.wav", (wave * 32767).astype(np.int16)[:, None], RATE_HZ, 1)
        run = [sys.executable, "-c", _CHILD, name]
        told = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        stamps, mouths, _ = brightness(folder / "out.mp4")
        heard = read_audio(folder / "out.mp4", rate_hz=16000)
    result = told["result"]
    held = np.array(told["memory"])[:, 1]
    late = len(held) // 5  # the first fifth warms up codecs and allocator arenas
    frames = 250 * np.arange(1, len(held) + 1)
    slope = np.polyfit(frames[late:], held[late:], 1)[0]
    by_minute = [_offset(stamps, mouths, heard, minute) for minute in range(int(np.ceil(minutes)))]
    return {
        "what": f"{minutes:g} min of sound at {RATE_HZ} Hz on a template of {told['template_frames']} frames, "
        f"{SIZE[0]}x{SIZE[1]}, to mp4 with AAC",
        "frames": result["frames"],
        "wall_s": round(result["wall_s"], 1),
        "stamps_off_by_at_most_ms": round(1e3 * float(np.abs(stamps - np.arange(len(stamps)) / 25).max()), 3),
        "sound_longer_by_ms": round(1e3 * (len(heard) / 16000 - len(stamps) / 25), 2),
        "picture_late_ms": _offset(stamps, mouths, heard, None),
        "picture_late_by_minute_ms": by_minute,
        "memory_mb": round(float(held[-1]) / 1e6, 1),
        "memory_growth_bytes_a_frame": round(float(slope), 1),
        "memory_growth_mb_in_all": round(float(held[-1] - held[late]) / 1e6, 2),
        "stages": result["stages"],
    }


def _offset(
    stamps: npt.NDArray[np.float64], mouths: npt.NDArray[np.float64], heard: npt.NDArray[np.float32], minute: int | None
) -> float:
    if minute is None:
        return av_offset_ms(stamps, mouths, heard)
    held = (stamps >= 60 * minute) & (stamps < 60 * (minute + 1))
    return av_offset_ms(
        stamps[held] - 60 * minute, mouths[held], heard[60 * minute * 16000 : 60 * (minute + 1) * 16000]
    )


def live(profile: str, sentences: int) -> dict[str, Any]:
    """A profile that needs no files of the user's, with the sample presenter."""
    with engine.open_lipsync(profile, template=SAMPLE / "presenter.mp4", rate_hz=16000) as head:
        return _live(head, f"profile {profile}, the sample presenter", sentences)


def live_twin(generator: str, encoder: str, sentences: int) -> dict[str, Any]:
    """Twins of published networks on the sample clip: their look-ahead and their cost, not their meaning."""
    paths = {name: twin_path(name) for name in (generator, encoder) if name}
    with files_in_place(paths):
        pipeline = open_twin(generator, 50, encoder=encoder, slots=6)
        with LipSync(pipeline, rate_hz=16000, channels=1) as head:
            return _live(head, f"twin of {generator}" + (f" behind {encoder}" if encoder else ""), sentences)


def _live(head: LipSync, what: str, sentences: int) -> dict[str, Any]:
    """From the push of a sentence's first sample: to its first moving picture, and to the picture it belongs to."""
    random = np.random.default_rng(0)
    word = read_audio(next(SAMPLE.glob("speech.opus")), rate_hz=16000)
    loud = int(np.argmax(np.abs(word) > 0.05))
    word = word[loud : loud + 9600]
    began: list[float] = []
    moved: list[float] = []
    belongs: list[float] = []

    def push() -> None:
        for _ in range(sentences):
            time.sleep(1.0 + float(random.uniform(0.0, 0.04)))
            began.append(time.perf_counter())
            for at in range(0, len(word), 320):
                head.push(word[at : at + 320])
                time.sleep(max(0.0, began[-1] + (at + 320) / 16000 - time.perf_counter()))
        time.sleep(0.8)
        head.finish()

    threading.Thread(target=push, daemon=True).start()
    opacity = 0.0
    for spoken in head.frames():
        now_s = time.perf_counter()
        if spoken.opacity > 0.0 == opacity and len(moved) < len(began):
            moved.append(now_s - began[len(moved)])
        if np.abs(spoken.sound).max(initial=0.0) > 0.04 and len(belongs) < len(moved):
            belongs.append(now_s - began[len(belongs)])
        opacity = spoken.opacity
    facts, stages = head.facts, head.result.to_json()["stages"]
    return {
        "what": f"{what}, 1280x720 at {float(head.fps):g} a second, {sentences} sentences pushed live in 20 ms pieces",
        "look_ahead_ms": facts.look_ahead_ms,
        "first_moving_picture_ms": _spread(moved),
        "picture_of_the_first_sample_ms": _spread(belongs),
        "pictures_dropped": facts.dropped,
        "frames": head.result.frames,
        "sound_in_s": round(facts.sound_in_s, 3),
        "sound_out_s": round(facts.sound_out_s, 3),
        "silence_s": round(facts.silence_s, 3),
        "stages": {name: stages[name] for name in ("decode", "listen", "frame") if name in stages},
    }


def _spread(times_s: list[float]) -> dict[str, float]:
    held = sorted(1e3 * one for one in times_s)
    return {
        "least": round(held[0], 1),
        "median": round(held[len(held) // 2], 1),
        "most": round(held[-1], 1),
        "of": len(held),
    }


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of sound from a file; 0 for none")
    parser.add_argument("--live-profiles", default="tiny_lipsync", metavar="A,B", help="empty for none")
    parser.add_argument("--live-twins", default="", metavar="GENERATOR[:ENCODER],...", help="networks in the cache")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--write", metavar="NAME", help="keep it as profiles/measured/NAME.json")
    chosen = parser.parse_args()
    measured: dict[str, Any] = {}
    if chosen.minutes:
        measured["file"] = from_file(chosen.minutes)
    for profile in filter(None, chosen.live_profiles.split(",")):
        measured.setdefault("live", {})[profile] = live(profile, chosen.sentences)
    for pair in filter(None, chosen.live_twins.split(",")):
        generator, _, encoder = pair.partition(":")
        measured.setdefault("live", {})[pair] = live_twin(generator, encoder, chosen.sentences)
    measured["conditions"] = conditions(
        weights="live: tiny pack (drawn faces only), or twins; from a file: a network that shows the level alone"
    )
    text = json.dumps(measured, indent=1) + "\n"
    if chosen.write:
        (MEASURED / f"{chosen.write}.json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
