"""How well a mouth follows speech: sounds, the mouth that they ask for, and what a picture shows of it.

The truth of a frame is the presenter drawn with the mouth that the sounds ask for; what a network made of it is
read from its pictures by mouth_reader.py, which knows neither. `talking` judges the network alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.tiny.mouth_reader import Moment, MouthReader, crop_of, opening
from models.tiny.pack import FOLDER, Pack, warp
from models.tiny.renderer import apply, draw, similarity
from models.tiny.renderer.speech import SHAPES, VOWELS, Sound, track
from models.tiny.sample import presenter
from models.tiny.train import formants, log_mel, mouths

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SHUT = 0.03  # of the distance of the eyes: lips so near show no teeth
RATE_HZ = 16000
_FAR_S = 0.16  # from any sound: silence
_FPS = 25
_TURN = 160  # frames of the presenter that figures go to and fro over


@dataclass(frozen=True)
class Said:
    """One piece of speech: its language, begin and end in its file, and its sounds."""

    language: str
    begin_s: float
    end_s: float
    sounds: tuple[Sound, ...]


def read_sound(path: Path) -> F32:
    """A sound file as mono float32 at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        parts = [one.to_ndarray() for frame in container.decode(audio=0) for one in resampler.resample(frame)]
        parts += [one.to_ndarray() for one in resampler.resample(None)]
    return np.asarray(np.concatenate(parts, axis=1)[0], np.float32)


def said_of(path: Path) -> list[Said]:
    """The pieces of a file that models/tiny/sample/spoken.py wrote."""
    told = json.loads(path.read_text())
    return [
        Said(name, part["begin_s"], part["end_s"], tuple(Sound(v, b, n) for v, b, n in part["sounds"]))
        for name, part in told.items()
    ]


def moments() -> list[Moment]:
    """The presenter's frames."""
    room = presenter.ground()
    return [Moment(person, view, room) for person, view in presenter.performance()]


def true_openings(frames: Sequence[Moment], rows: Sequence[int], sounds: Sequence[Sound], rate: float) -> F64:
    """How far the presenter's mouth is open in each frame of the output, frame n on template frame rows[n]."""
    mouth = track(sounds, len(rows), rate)
    shapes = np.stack([mouth[name] for name in SHAPES], 1)
    return np.array(
        [opening(mouths.with_mouth(frames[row].person, shape)) for row, shape in zip(rows, shapes, strict=True)]
    )


def silent(sounds: Sequence[Sound], count: int, rate: float) -> npt.NDArray[np.bool_]:
    """Frames [count] that no sound is near."""
    time = (np.arange(count) + 0.5) / rate
    out = np.ones(count, bool)
    for sound in sounds:
        if sound.viseme != "rest":
            out &= (time < sound.begin_s - _FAR_S) | (time > sound.begin_s + sound.length_s + _FAR_S)
    return out


@dataclass(frozen=True)
class Agreement:
    """Correlation at no lag, the lag in frames that correlates best (above 0: the picture is late), their number."""

    correlation: float
    best_lag: int
    frames: int


def agreement(read: F64, truth: F64, most_lag: int = 5) -> Agreement:
    """How well mouths that were read follow the true ones."""
    by_lag = {}
    for lag in range(-most_lag, most_lag + 1):
        ours = read[max(lag, 0) : len(read) + min(lag, 0)]
        theirs = truth[max(-lag, 0) : len(truth) + min(-lag, 0)]
        by_lag[lag] = float(np.corrcoef(ours, theirs)[0, 1])
    return Agreement(by_lag[0], max(by_lag, key=lambda lag: by_lag[lag]), len(read))


def to_and_fro(frames: int, count: int = _TURN) -> list[int]:
    """The template's frame of each frame of the output."""
    turn = 2 * count - 2
    return [at if at < count else turn - at for at in (n % turn for n in range(frames))]


def windows(sound: F32, frames: int, fps: int = _FPS) -> F32:
    """mel [frames, 1, 80, 16] as the contract says: zeros before the sound, its last whole window at the end."""
    facts = mouths.facts()
    columns = log_mel.columns(sound)
    count = facts.before + facts.after
    padded = np.concatenate([np.zeros((facts.before, columns.shape[1]), np.float32), columns])
    first = np.minimum(np.arange(frames) * 80 // fps, len(padded) - count)
    return np.ascontiguousarray(padded[first[:, None] + np.arange(count)].transpose(0, 2, 1)[:, None])


def cut(moment: Moment, shape: F64 | None = None) -> U8:
    """The crop [96,96,3] of a moment, with another mouth where one is given."""
    crop_from_frame = similarity(moment.points_px, mouths.template_px())
    image = warp(moment.ground, crop_from_frame, mouths.SIZE)
    linear = crop_from_frame[:, :2] @ moment.view[:, :2]
    shift = apply(crop_from_frame, moment.view[:, 2][None])[0]
    person = moment.person if shape is None else mouths.with_mouth(moment.person, shape)
    draw(person, np.concatenate([linear, shift[:, None]], 1), image)
    return image


class Talker:
    """The lip-sync network with ONNX Runtime alone. folder holds tiny_lipsync.onnx."""

    def __init__(self, folder: Path = FOLDER) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(folder / "tiny_lipsync.onnx")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def speak(self, crop: U8, mel: F32) -> U8:
        """The crop [96,96,3] RGB with the mouth of a window [1,80,16]."""
        x, y, width, height = mouths.blank_xywh_px()
        picture = crop[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255.0
        masked = picture.copy()
        masked[:, y : y + height, x : x + width] = 0.0
        feed = {"mel": mel[None], "image": np.concatenate([masked, picture])[None]}
        out = self._session.run(None, feed)[0][0].transpose(1, 2, 0)[..., ::-1]
        return np.asarray(out * 255.0 + 0.5).astype(np.uint8)


def talking(pack: Pack, frames_at_most: int = 300, look: str = "film") -> dict[str, float]:
    """The network alone on the held-out speech of the sample: how its mouths follow, rest, and look.

    The presenter is of the film look, whatever look the others are measured on.
    """
    sample = FOLDER / "sample"
    sound, said = read_sound(sample / "held_out_speech.opus"), said_of(sample / "held_out_speech.json")
    rows = to_and_fro(min(frames_at_most, len(sound) * _FPS // RATE_HZ))
    frames, talker = moments(), Talker(pack.folder)
    reader = MouthReader(frames[:_TURN])
    mel = windows(sound, len(rows))
    crops = [cut(frames[row]) for row in rows]
    made = [talker.speak(crop, window) for crop, window in zip(crops, mel, strict=True)]
    read = reader.read(made)
    sounds = [each for piece in said for each in piece.sounds]
    truth, quiet = true_openings(frames, rows, sounds, _FPS), silent(sounds, len(rows), _FPS)
    out = {"frames": float(len(rows)), "reader_error": reader.error, "reader_correlation": reader.correlation}
    for piece in said:
        span = slice(round(piece.begin_s * _FPS), round(piece.end_s * _FPS))
        found = agreement(read[span], truth[span])
        out |= {f"correlation_{piece.language}": found.correlation, f"lag_{piece.language}": float(found.best_lag)}
    out["correlation"] = agreement(read, truth).correlation
    out["shut_in_silence"] = float((read[quiet] < SHUT).mean())
    out["silent_frames"] = float(quiet.sum())
    out["held_vowel_step"] = held_vowels(talker, reader, frames[0])
    mouth = track(sounds, len(rows), _FPS)
    shapes = np.stack([mouth[name] for name in SHAPES], 1)
    drawn = [cut(frames[row], shape) for row, shape in zip(rows, shapes, strict=True)]
    out["psnr_db"], out["reference_psnr_db"] = _psnr(made, drawn), _psnr(crops, drawn)
    out["sharpness"] = _detail(made) / _detail(drawn)
    return out


def held_vowels(talker: Talker, reader: MouthReader, moment: Moment) -> float:
    """Mean change of the opening from frame to frame while a vowel is held, its first and last 0.2 s left out.

    In eye distances, on a still picture, by our own voice: the true mouth does not move at all.
    """
    crop, steps = cut(moment), []
    for i, vowel in enumerate(VOWELS):
        sound = formants.sing([Sound(vowel, 0.2, 1.2)], 1.8, np.random.default_rng([770_301, i]))
        noise = 1e-3 * np.random.default_rng([770_302, i]).standard_normal(len(sound))
        mel = windows((0.3 * sound + noise).astype(np.float32), 45)[10:30]
        steps.append(np.abs(np.diff(reader.read([talker.speak(crop, window) for window in mel]))))
    return float(np.mean(steps))


def _inside(crops: Sequence[U8]) -> F64:
    x, y, width, height = mouths.blank_xywh_px()
    return np.stack(crops)[:, y : y + height, x : x + width].astype(np.float64)


def _psnr(made: Sequence[U8], drawn: Sequence[U8]) -> float:
    return float(-10.0 * np.log10(np.mean(np.square(_inside(made) - _inside(drawn))) / 255.0**2))


def _detail(crops: Sequence[U8]) -> float:
    """Energy of the Laplacian round the mouth."""
    part = _inside(crops)[:, 8:52, 16:70].mean(-1)
    laplacian = (
        4.0 * part[:, 1:-1, 1:-1] - part[:, :-2, 1:-1] - part[:, 2:, 1:-1] - part[:, 1:-1, :-2] - part[:, 1:-1, 2:]
    )
    return float(np.mean(np.square(laplacian)))


__all__ = [
    "RATE_HZ",
    "SHUT",
    "Agreement",
    "Said",
    "Talker",
    "agreement",
    "crop_of",
    "cut",
    "moments",
    "read_sound",
    "said_of",
    "silent",
    "talking",
    "to_and_fro",
    "true_openings",
    "windows",
]  # fmt: skip
