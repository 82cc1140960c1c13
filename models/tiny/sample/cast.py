"""Who plays in the sample clip, what they do in every frame, and who is on the source pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import Person, names
from models.tiny.sample.voice import Speech

FPS = 25
FRAMES = 250
CUT = 150  # first frame of the second shot


def _person(inner: dict[str, float], outer: dict[str, float]) -> Person:
    blank = Person(*(np.zeros(len(names(group)), np.float32) for group in range(3)))
    light = {
        "light_x": -0.45,
        "light_y": -0.50,
        "light_gain": 1.0,
        "ambient": 0.48,
        "warmth": 0.15,
        "hair_amount": 1.0,
    }
    neck = {"neck_tone": inner.get("skin_tone", 0.0), "neck_hue": inner.get("skin_hue", 0.0)}
    return blank.set({**light, **neck, **inner, **outer})


def _hair(r: float, g: float, b: float, **more: float) -> dict[str, float]:
    return {"hair_r": r, "hair_g": g, "hair_b": b, **more}


def _cloth(r: float, g: float, b: float) -> dict[str, float]:
    return {"cloth_r": r, "cloth_g": g, "cloth_b": b}


# Features that are a matter of amount (beard, moustache, freckles, mole) are absent at -1.
_PLAIN = {"beard": -1.0, "moustache": -1.0, "freckles": -1.0, "mole": -1.0, "blush": -0.6}

LEFT = _person(
    {**_PLAIN, "skin_tone": 0.15, "skin_hue": 0.1, "eye_hue": -0.7, "brow_thick": 0.5, "brow_light": -0.7,
     "brow_tilt": 0.1,
     "eye_size": -0.1, "beard": 0.55, "moustache": 0.35, "nose_width": 0.2, "nose_length": 0.3, "lip_full": -0.2,
     "lash": -0.6,
     "lip_hue": -0.6},
    {**_hair(0.17, 0.11, 0.08, hair_length=-0.8, hair_volume=-0.1, hairline=0.5, hair_part=0.6),
     **_cloth(0.20, 0.30, 0.44),
     "jaw_width": 0.6, "face_width": 0.2, "collar": 0.6},
)  # fmt: skip
RIGHT = _person(
    {**_PLAIN, "skin_tone": 0.55, "skin_hue": 0.3, "eye_hue": 0.35, "eye_light": 0.3, "eye_size": 0.5,
     "brow_thick": -0.5,
     "brow_light": 0.1, "brow_arch": 0.5, "lash": 0.7, "nose_width": -0.6, "nose_length": -0.2, "lip_full": 0.4,
     "lip_hue": 0.3,
     "blush": 0.0, "eye_round": 0.3, "eye_tilt": 0.3},
    {**_hair(0.45, 0.22, 0.11, hair_length=0.25, hair_volume=0.2, hairline=0.4, hair_part=-0.7),
     **_cloth(0.60, 0.66, 0.60),
     "jaw_width": -0.5, "collar": -0.3},
)  # fmt: skip

SOURCES = (
    _person(
        {**_PLAIN, "skin_tone": -0.75, "skin_hue": 0.1, "eye_hue": -1.0, "brow_thick": 0.2, "brow_light": -0.95,
         "moustache": 0.9,
         "nose_width": 0.7, "lip_full": 0.7, "eye_spacing": 0.4, "brow_tilt": -0.4, "lip_hue": -0.3},
        {**_hair(0.06, 0.05, 0.05, hair_length=-1.0, hair_volume=-0.8, hairline=0.8, hair_curl=0.6),
         **_cloth(0.70, 0.58, 0.25),
         "jaw_width": 0.5, "collar": 0.8},
    ),
    _person(
        {**_PLAIN, "skin_tone": 0.95, "skin_hue": 0.5, "eye_hue": 0.95, "eye_light": 0.6, "eye_size": 0.7,
         "brow_thick": 0.1,
         "brow_light": 0.55, "freckles": 0.85, "nose_width": -0.3, "nose_length": -0.5, "lip_width": -0.3,
         "lip_hue": 0.1,
         "blush": 0.7, "brow_height": 0.6},
        {**_hair(0.66, 0.33, 0.15, hair_length=0.6, hair_volume=0.4, hairline=0.5, hair_curl=0.8),
         **_cloth(0.22, 0.40, 0.36)},
    ),
    _person(
        {**_PLAIN, "skin_tone": 0.25, "skin_hue": -0.9, "eye_hue": -0.5, "eye_tilt": 0.9, "eye_round": -0.5,
         "brow_thick": 0.9,
         "brow_light": -1.0, "brow_tilt": 0.6, "lash": 1.0, "lip_hue": 1.0, "lip_full": 0.6, "mole": 1.0,
         "mole_place": 0.75,
         "nose_width": -0.2, "nose_length": 0.5},
        {**_hair(0.05, 0.05, 0.07, hair_length=-0.1, hair_volume=-0.2, hairline=0.1), **_cloth(0.50, 0.20, 0.26),
         "jaw_width": -0.3},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Role:
    """A person's part: who, when they speak, and on which side the other one sits (+1 = to the image's right)."""

    person: Person
    speech: Speech
    partner: float
    seed: int


def _glide(keys: list[tuple[float, float]]) -> npt.NDArray[np.float64]:
    """Key values at times in seconds -> one value a frame, eased between."""
    t = np.arange(FRAMES) / FPS
    at, value = np.array(keys).T
    i = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 2)
    k = np.clip((t - at[i]) / (at[i + 1] - at[i]), 0.0, 1.0)
    return np.asarray(value[i] + (value[i + 1] - value[i]) * k * k * (3 - 2 * k))


def _sway(rng: np.random.Generator, size: float, hertz: float) -> npt.NDArray[np.float64]:
    t = np.arange(FRAMES) / FPS
    return np.asarray(
        sum(size / (k + 1) * np.sin(2 * np.pi * hertz * (k + 1) * t + rng.uniform(0, 6.3)) for k in range(3))
    )


def _blinks(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    out, at = np.full(FRAMES, 0.05), rng.uniform(10, 40)
    while at < FRAMES:
        out = np.maximum(out, np.clip(1.3 - np.abs(np.arange(FRAMES) - at) / 2.6, 0.0, 1.0))
        at += rng.uniform(45, 95)
    return out


def performance(role: Role, turns: list[tuple[float, float]], passing: tuple[float, float, float]) -> list[Person]:
    """One Person a frame. turns: (second, yaw degrees) keys; passing: an object's (kind, first and last second)."""
    rng = np.random.default_rng(role.seed)
    t = np.arange(FRAMES) / FPS
    yaw, pitch, roll = _glide(turns) + _sway(rng, 2.5, 0.31), 1.5 + _sway(rng, 3.0, 0.43), _sway(rng, 3.0, 0.23)
    blink, gaze, brow = (
        _blinks(rng),
        _sway(rng, 0.25, 0.37) + 0.3 * role.partner * (np.abs(yaw) > 12),
        _sway(rng, 0.35, 0.51),
    )
    talk = role.speech
    smile = 0.35 + 0.25 * _sway(rng, 0.8, 0.17) - 0.3 * talk.open
    kind, first, last = passing
    along = (t - first) / (last - first)
    people = []
    for f in range(FRAMES):
        moment = {
            "yaw": yaw[f], "pitch": pitch[f] + 3.0 * talk.open[f], "roll": roll[f], "blink": blink[f],
            "gaze_x": gaze[f],
            "brow_raise": brow[f] + 0.5 * talk.open[f], "open": talk.open[f], "wide": talk.wide[f],
            "smile": smile[f],
            "occluder": 0.0,
        }  # fmt: skip
        if 0.0 <= along[f] <= 1.0:
            moment |= {"occluder": kind, "occluder_x": -3.2 + 6.4 * along[f],
            "occluder_y": 0.75 - 0.8 * np.sin(np.pi * along[f]),
                       "occluder_angle": 75.0 - 40.0 * along[f], "occluder_size": 0.42,
                       "occluder_r": 0.85, "occluder_g": 0.42, "occluder_b": 0.20}  # fmt: skip
        people.append(role.person.set({k: float(v) for k, v in moment.items()}))
    return people
