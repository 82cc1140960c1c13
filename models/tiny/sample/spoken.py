"""Speech for the presenter, and held-out speech for figures and tests, with the sounds that make it.

python -m models.tiny.sample.spoken [--out FOLDER] needs espeak-ng. What is in git was made by this; the library's
own data is not in it.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from models.tiny.renderer.speech import Sound
from models.tiny.train import espeak, phonemes
from models.tiny.train.voices import RATE_HZ, Speech, held_out_languages, joined, resampled, spoken

Floats = npt.NDArray[np.float32]

_LINES = (
    "Hello, and welcome.",
    "I am drawn, from my hair down to my collar.",
    "All that moves my mouth is the sound of this voice.",
    "Purple plums, five fine violins, a blue moon.",
)
_VOICE = espeak.Voice("en-us", "f3", 158, 48, 55)
_PAUSES_S = (0.5, 0.35, 0.4, 1.2)
_BIT_RATE = 32000


def presented() -> Speech:
    """What the presenter says."""
    parts, at = [], 0.4
    for line, pause_s in zip(_LINES, _PAUSES_S, strict=True):
        said = espeak.loaded().say(line, _VOICE)
        sound = resampled(said.sound, said.rate_hz)
        parts.append((at, Speech(sound, phonemes.sounds(said.phonemes, len(sound) / RATE_HZ))))
        at += len(sound) / RATE_HZ + pause_s - 0.3  # the library ends a line with a pause of its own
    return joined(parts, at)


def held_out(length_s: float = 4.0) -> dict[str, Speech]:
    """A fixed piece of each language that no training heard, by a voice that none heard either."""
    out = {}
    for i, language in enumerate(held_out_languages()):
        rng = np.random.default_rng([770_201, i])
        parts, at = [], 0.3
        while at < length_s:
            said = spoken(rng, held_out=True, language=language)
            parts.append((at, said))
            at += len(said.sound) / RATE_HZ + 0.6
        out[language] = joined(parts, length_s)
    return out


def write_opus(path: Path, sound: Floats) -> None:
    """A mono sound at 16 kHz, -20 dBFS where it speaks, over a room's noise of -60 dBFS, as an Ogg file."""
    loud = np.sqrt(np.mean(np.square(sound[np.abs(sound) > 0.02 * np.abs(sound).max()])))
    noise = 1e-3 * np.random.default_rng(770_202).standard_normal(len(sound))
    wave = np.clip(sound * (0.1 / loud) + noise, -1.0, 1.0).astype(np.float32)[None]
    part = path.with_suffix(".part.opus")
    with av.open(str(part), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        stream.bit_rate = _BIT_RATE
        for start in range(0, wave.shape[1], 960):
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[:, start : start + 960]), format="flt", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    part.replace(path)


def write_sounds(path: Path, parts: dict[str, tuple[float, float, list[Sound]]]) -> None:
    """What was said, part by part: begin and end in seconds, and (viseme, begin, length) of each sound."""
    told = {
        name: {
            "begin_s": round(begin_s, 4),
            "end_s": round(end_s, 4),
            "sounds": [[s.viseme, round(s.begin_s, 4), round(s.length_s, 4)] for s in sounds],
        }
        for name, (begin_s, end_s, sounds) in parts.items()
    }
    path.write_text(json.dumps(told, separators=(",", ":")) + "\n")


def make(folder: Path) -> None:
    """Writes speech.opus and speech.json: what the presenter says."""
    said = presented()
    write_opus(folder / "speech.opus", said.sound)
    write_sounds(folder / "speech.json", {"en-us": (0.0, len(said.sound) / RATE_HZ, said.sounds)})


def make_held_out(folder: Path) -> None:
    """Writes held_out_speech.opus and .json: the pieces of `held_out`, one behind the other."""
    pieces, at, said = {}, 0.0, []
    for language, speech in held_out().items():
        length_s = len(speech.sound) / RATE_HZ
        moved = [Sound(s.viseme, s.begin_s + at, s.length_s) for s in speech.sounds]
        pieces[language] = (at, at + length_s, moved)
        said.append(speech.sound)
        at += length_s
    write_opus(folder / "held_out_speech.opus", np.concatenate(said))
    write_sounds(folder / "held_out_speech.json", pieces)


def main() -> None:
    """python -m models.tiny.sample.spoken"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.sample.spoken")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    given = parser.parse_args()
    make(given.out)
    make_held_out(given.out)


if __name__ == "__main__":
    main()
