"""Training voices: what is heard in a window of mel bands, and the mouth that goes with it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.tables import read_toml
from models.tiny.renderer.speech import SHAPES, Sound, phrase, track
from models.tiny.train import espeak, formants, log_mel, phonemes

Floats = npt.NDArray[np.float32]

RATE_HZ = 16000
WINDOW = 16  # columns that the network hears
COLUMNS = 320  # windows of one utterance, 80 a second
LENGTH_S = (COLUMNS + WINDOW) / 80.0
# A window tells of the mouth in the middle of a frame at 25/s: 20 ms behind its instant, which lies 0 to 10 ms behind
# the column that the frame begins with.
_MIDDLE_S = 0.025
_OWN_SHARE = 0.18  # of the utterances, by our own voice


@dataclass(frozen=True)
class Speech:
    """Sound [samples] at 16 kHz in -1..1, and what makes it, in order of time."""

    sound: Floats
    sounds: list[Sound]


@functools.cache
def _texts() -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    tables = read_toml(Path(__file__).with_name("sentences.toml"))
    spoken = {language: tuple(texts) for language, texts in tables["languages"].items()}
    return spoken, tuple(tables["held_out"]), tuple(tables["voices"]["trained"]), tuple(tables["voices"]["held_out"])


def held_out_languages() -> tuple[str, ...]:
    """Languages that no training heard."""
    return _texts()[1]


def resampled(sound: Floats, rate_hz: int) -> Floats:
    """To 16 kHz by cutting the spectrum: the sound begins and ends in silence, so that its ends do not wrap."""
    count = round(len(sound) * RATE_HZ / rate_hz)
    spectrum = np.fft.rfft(sound)
    kept = np.zeros(count // 2 + 1, np.complex128)
    both = min(len(kept), len(spectrum))
    kept[:both] = spectrum[:both]
    return np.asarray(np.fft.irfft(kept, count) * (count / len(sound))).astype(np.float32)


def _shuffled(rng: np.random.Generator, text: str) -> str:
    """The words in another order: sentences that nobody wrote, of the same language."""
    words = text.replace(",", "").rstrip(".?。").split(" ")
    return " ".join(words[i] for i in rng.permutation(len(words)))


def spoken(rng: np.random.Generator, held_out: bool = False, language: str = "") -> Speech:
    """One sentence by a random synthetic voice: languages and voices of training, or those that it never hears."""
    texts, kept, trained_voices, kept_voices = _texts()
    names = [language] if language else [name for name in texts if (name in kept) == held_out]
    name = names[rng.integers(len(names))]
    text = texts[name][rng.integers(len(texts[name]))]
    if rng.random() < 0.6:
        text = _shuffled(rng, text)
    variants = kept_voices if held_out else trained_voices
    voice = espeak.Voice(
        name, variants[rng.integers(len(variants))], int(rng.integers(115, 215)), int(rng.integers(15, 85)),
        int(rng.integers(20, 80)),
    )  # fmt: skip
    said = espeak.loaded().say(text, voice)
    sound = resampled(said.sound, said.rate_hz)
    return Speech(sound, phonemes.sounds(said.phonemes, len(sound) / RATE_HZ))


def sung(rng: np.random.Generator, length_s: float) -> Speech:
    """Random syllables, or long vowels, by our own voice."""
    if rng.random() < 0.4:
        sounds, at = [], 0.1
        while at < length_s - 1.0:
            vowel = ("ee", "eh", "ah", "uh", "oh", "oo")[rng.integers(6)]
            sounds.append(Sound(vowel, at, rng.uniform(0.25, 0.9), rng.uniform(0.6, 1.0)))
            at += sounds[-1].length_s + (rng.uniform(0.1, 0.6) if rng.random() < 0.5 else 0.0)
    else:
        sounds = phrase(rng, length_s - 0.3, 0.15)
    return Speech(formants.sing(sounds, length_s, rng), sounds)


def joined(parts: list[tuple[float, Speech]], length_s: float) -> Speech:
    """Utterances at their times in one sound of a length; what passes its end is cut."""
    sound, sounds = np.zeros(round(length_s * RATE_HZ), np.float32), []
    for begin_s, part in parts:
        at = round(begin_s * RATE_HZ)
        fits = min(len(part.sound), len(sound) - at)
        sound[at : at + fits] += part.sound[:fits]
        sounds += [Sound(s.viseme, s.begin_s + begin_s, s.length_s, s.loud) for s in part.sounds]
    return Speech(sound, sounds)


def utterance(rng: np.random.Generator) -> Speech:
    """About four seconds: speech with pauses, silence or nothing but a room."""
    if rng.random() < 0.06:
        return Speech(np.zeros(round(LENGTH_S * RATE_HZ), np.float32), [])
    if rng.random() < _OWN_SHARE:
        return sung(rng, LENGTH_S)
    parts, at = [], rng.uniform(-0.2, 0.8)
    while at < LENGTH_S:
        said = spoken(rng)
        if at < 0.0:  # begins in the middle of speech
            skip_s = rng.uniform(0.0, 0.5) * len(said.sound) / RATE_HZ
            moved = [Sound(s.viseme, s.begin_s - skip_s, s.length_s) for s in said.sounds]
            said, at = Speech(said.sound[round(skip_s * RATE_HZ) :], moved), 0.0
        parts.append((at, said))
        at += len(said.sound) / RATE_HZ + (rng.uniform(0.2, 1.2) if rng.random() < 0.5 else 0.0)
    return joined(parts, LENGTH_S)


def _coloured(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Noise of a random tilt, of unit level."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    hz = np.fft.rfftfreq(count, 1.0 / RATE_HZ)
    spectrum *= (1.0 + hz / 200.0) ** -rng.uniform(0.0, 1.2)
    wave = np.fft.irfft(spectrum, count)
    return np.asarray(wave / max(float(wave.std()), 1e-12))


def recorded(rng: np.random.Generator, sound: Floats) -> Floats:
    """The sound as some microphone hears it: a room, a tilt of the spectrum, a level, a noise floor, 16 bits."""
    wave = sound.astype(np.float64)
    if rng.random() < 0.35:  # a small room
        count = int(RATE_HZ * rng.uniform(0.05, 0.25))
        echo = rng.normal(size=count) * 10.0 ** (-3.0 * np.arange(count) / count)
        echo *= rng.uniform(0.1, 0.5) / np.sqrt(np.square(echo).sum())
        echo[0] += 1.0
        size = 1 << (len(wave) + count).bit_length()
        wave = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(echo, size), size)[: len(wave)]
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1.0 / RATE_HZ)
    tilt_db = rng.normal(0.0, 2.5) * np.log2((hz + 100.0) / 1000.0) + rng.normal(0.0, 2.0) * np.sin(hz / 900.0)
    cut = 1.0 / (1.0 + (hz / rng.uniform(3300.0, 7900.0)) ** 16) if rng.random() < 0.25 else 1.0
    wave = np.fft.irfft(spectrum * 10.0 ** (np.clip(tilt_db, -15.0, 15.0) / 20.0) * cut, len(wave))
    loud = np.sqrt(np.mean(np.square(wave[np.abs(wave) > 0.02 * np.abs(wave).max()]))) if np.abs(wave).max() else 0.0
    level_db = rng.uniform(-34.0, -12.0)
    if loud > 0.0:
        wave *= 10.0 ** (level_db / 20.0) / loud
    floor_db = min(rng.uniform(-95.0, -46.0), level_db - 14.0)
    wave += 10.0 ** (floor_db / 20.0) * _coloured(rng, len(wave))
    return np.asarray(np.round(np.clip(wave, -1.0, 1.0) * 32767.0) / 32768.0).astype(np.float32)


def shapes(speech: Speech, count: int = COLUMNS) -> Floats:
    """Mouth shapes [count, 6] in the order of SHAPES, for the window that begins at each column."""
    early = _MIDDLE_S - 0.5 / 80.0  # track() tells of the middle of each step
    moved = [Sound(s.viseme, s.begin_s - early, s.length_s, s.loud) for s in speech.sounds]
    tracks = track(moved, count, 80.0)
    return np.stack([tracks[name] for name in SHAPES], 1).astype(np.float32)


def sample(rng: np.random.Generator) -> tuple[npt.NDArray[np.float16], Floats]:
    """Mel columns [COLUMNS + WINDOW, 80] of one recorded utterance, and the mouth of each of its windows."""
    speech = utterance(rng)
    mel = log_mel.columns(recorded(rng, speech.sound))[: COLUMNS + WINDOW]
    return mel.astype(np.float16), shapes(speech)
