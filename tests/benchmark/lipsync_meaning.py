"""Does the mouth say what is heard? python -m tests.benchmark.lipsync_meaning [--seconds S] [--write NAME]

The whole way of a user: `prepare` finds the presenter in her clip, `speak` makes a video of held-out speech, and the
mouth is read from the video's decoded frames. Speech: languages and voices that no training heard, by espeak-ng where
it is there, else the pieces in the sample. The truth is the mouth that the speech's phonemes ask for; the reader's own
error, on drawings whose mouths are known, stands beside the figures. Pixels outside the mouth are compared before the
encoder. With --write the figures go to profiles/measured/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import wave
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from engine import speak
from engine.lipsync import open_lipsync
from engine.template.frames import TemplateFrames
from engine.template.order import FrameOrder
from engine.template.prepare import prepare
from engine.template.template import Template
from models.tiny.mouth_reader import Moment, MouthReader, crop_of
from models.tiny.pack import FOLDER
from models.tiny.renderer.speech import Sound
from models.tiny.talking import RATE_HZ, SHUT, agreement, moments, read_sound, said_of, silent, true_openings
from profiles.profile import load_profile
from tests.benchmark.conditions import conditions
from tests.talking import CLIP, changed_outside

__all__ = ["main", "measured"]

F32 = npt.NDArray[np.float32]
ROOT = Path(__file__).parents[2]
FPS = 25


def speeches(seconds: float) -> dict[str, tuple[F32, list[Sound]]]:
    """Held-out speech by language: espeak-ng's, of this length, or the sample's pieces."""
    try:
        from models.tiny.sample.spoken import held_out

        return {name: (said.sound, said.sounds) for name, said in held_out(seconds).items()}
    except OSError:
        sound, out = read_sound(FOLDER / "sample" / "held_out_speech.opus"), {}
        for piece in said_of(FOLDER / "sample" / "held_out_speech.json"):
            part = sound[round(piece.begin_s * RATE_HZ) : round(piece.end_s * RATE_HZ)]
            moved = [Sound(s.viseme, s.begin_s - piece.begin_s, s.length_s) for s in piece.sounds]
            out[piece.language] = (part, moved)
        return out


def write_wave(path: Path, sound: F32) -> None:
    """16 bits, -20 dBFS where it speaks, on a floor of -60 dBFS."""
    loud = np.sqrt(np.mean(np.square(sound[np.abs(sound) > 0.02 * np.abs(sound).max()])))
    floor = 1e-3 * np.random.default_rng(1).standard_normal(len(sound))
    samples = np.clip(sound * (0.1 / loud) + floor, -1.0, 1.0) * 32767.0
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def openings_of(video: Path, rows: list[int], reader: MouthReader, points: F32) -> npt.NDArray[np.float64]:
    """What the reader sees in each frame of a video."""
    crops = []
    with av.open(str(video)) as container:
        for row, frame in zip(rows, container.decode(video=0), strict=False):
            image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            crops.append(crop_of(image, points[row].astype(np.float64)))
    return reader.read(crops)


def measured(
    name: str, sound: F32, sounds: list[Sound], template: Template, frames: list[Moment], reader: MouthReader
) -> dict[str, Any]:
    """The figures of one piece of speech, from the video that a user would get."""
    with tempfile.TemporaryDirectory() as folder:
        write_wave(Path(folder) / "speech.wav", sound)
        made = Path(folder) / "talk.mp4"
        speak("tiny_lipsync", template=template, audio=Path(folder) / "speech.wav", output=made)
        order = FrameOrder(template.count)
        rows = [order.next(True) for _ in range(len(sound) * FPS // RATE_HZ)]
        points = np.load(CLIP.with_name("presenter_truth.npz"))["points"]
        read = openings_of(made, rows, reader, points)
    rows = rows[: len(read)]
    truth, quiet = true_openings(frames, rows, sounds, FPS), silent(sounds, len(rows), FPS)
    found = agreement(read, truth)
    shut = int((read[quiet] < SHUT).sum())
    print(f"{name}: {found}, shut in {shut} of {int(quiet.sum())} silent frames", flush=True)
    return {"language": name, **asdict(found), "silent_frames": int(quiet.sum()), "shut_frames": shut}


def outside(template: Template, sound: F32) -> dict[str, int]:
    """Frames in which anything but the mouth's rectangle differs from the template's, byte for byte."""
    touched = count = 0
    with open_lipsync("tiny_lipsync", template=template) as pipeline, TemplateFrames(template) as pictures:
        order = FrameOrder(template.count)
        for one in pipeline.listen.push(sound) + pipeline.listen.flush():
            row = order.next(True)
            frame = pipeline.frames[one.n % len(pipeline.frames)]
            pipeline.load(frame, pictures.read(row))
            before = [plane.copy() for plane in frame.planes()]
            after = pipeline.finish(pipeline.begin(frame, row, one.condition)).planes()
            touched += changed_outside((before[0], before[1]), (after[0], after[1]), template, row)
            count += 1
    return {"frames": count, "touched_outside": touched}


def main() -> None:
    """Print the figures; with --write also keep them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.lipsync_meaning", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech in each language, by espeak-ng")
    parser.add_argument("--write", metavar="NAME", help="into profiles/measured/NAME.json")
    chosen = parser.parse_args()
    frames, said = moments(), speeches(chosen.seconds)
    reader = MouthReader(frames)
    print(
        f"the reader: error {reader.error:.4f} of the eyes' distance, correlation {reader.correlation:.4f}", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        template = prepare(CLIP, load_profile("tiny_lipsync"), folder=folder)
    report = {
        "reader": {"error": round(reader.error, 5), "correlation": round(reader.correlation, 5), "drawings": 90},
        "languages": [measured(name, *speech, template, frames, reader) for name, speech in said.items()],
        "outside": outside(template, next(iter(said.values()))[0]),
        "conditions": conditions(what="the tiny pack on its presenter and held-out synthetic speech, on a CPU"),
    }
    print(json.dumps({key: value for key, value in report.items() if key != "conditions"}))
    if chosen.write:
        path = ROOT / "profiles" / "measured" / f"{chosen.write}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        part.replace(path)


if __name__ == "__main__":
    main()
