"""Who plays in the sample clip, what they do in every frame, and who is on the source pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import Person, names
from models.tiny.renderer.film_cast import calm_values
from models.tiny.renderer.speech import SHAPES
from models.tiny.sample.voice import Speech

Doubles = npt.NDArray[np.float64]

FPS = 25
FRAMES = 250
CUT = 150  # first frame of the second shot


def _person(inner: dict[str, float], outer: dict[str, float]) -> Person:
    blank = Person(*(np.zeros(len(names(group, "film")), np.float32) for group in range(3)), look="film")
    neck = {"neck_tone": inner["skin_tone"], "neck_hue": inner["skin_hue"]}
    return blank.set({**calm_values(), "hair_amount": 1.0, **neck, **inner, **outer})


def _colours(**given: tuple[float, float, float]) -> dict[str, float]:
    return {f"{name}_{c}": v for name, colour in given.items() for c, v in zip("rgb", colour, strict=True)}


# Features that are a matter of amount are absent at -1.
_PLAIN = {"beard": -1.0, "moustache": -1.0, "freckles": -1.0, "mole": -1.0}

LEFT = _person(
    {
        **_PLAIN, "skin_tone": 0.38, "skin_hue": 0.05, "blush": -0.5, "age": -0.35, "eye_hue": -0.75, "eye_light": -0.2,
        "eye_size": 0.05, "brow_thick": 0.55, "brow_light": -0.75, "brow_tilt": 0.15, "brow_arch": -0.1, "lash": -0.6,
        "nose_width": -0.05, "nose_length": 0.15, "nose_bridge": 0.4, "lip_full": -0.25, "lip_hue": -0.75,
        "lip_width": 0.15, "cheek": 0.1,
    },
    {
        "hair_length": -0.9, "hair_volume": -0.35, "hair_quiff": 0.75, "hair_part": 0.5, "hair_sweep": 0.5,
        "hairline": 1.0, "jaw_width": 0.55, "face_width": 0.05, "chin_length": 0.1, "ear_size": -0.1,
        "shoulders": 0.45, "cloth_kind": 4.0,
        **_colours(hair=(0.21, 0.135, 0.09), cloth=(0.16, 0.23, 0.38), cloth2=(0.86, 0.87, 0.90)),
    },
)  # fmt: skip
RIGHT = _person(
    {
        **_PLAIN, "skin_tone": 0.62, "skin_hue": 0.25, "blush": 0.05, "age": -0.55, "eye_hue": 0.40, "eye_light": 0.05,
        "eye_size": 0.5, "eye_round": 0.2, "eye_tilt": 0.25, "brow_thick": -0.35, "brow_light": -0.2,
        "brow_arch": 0.5, "lash": 0.75, "nose_width": -0.55, "nose_length": -0.3, "nose_tip": -0.2, "lip_full": 0.4,
        "lip_hue": 0.35, "cheek": 0.35,
    },
    {
        "hair_length": -0.2, "hair_volume": 0.5, "hair_part": -0.6, "hair_sweep": -0.6,
        "hairline": 0.9, "jaw_width": -0.5, "face_width": -0.1, "chin_length": -0.1, "ear_size": -0.3,
        "shoulders": -0.6, "cloth_kind": 3.0, "earring": 1.0,
        **_colours(hair=(0.36, 0.155, 0.085), cloth=(0.16, 0.42, 0.40), cloth2=(0.9, 0.88, 0.84)),
    },
)  # fmt: skip

SOURCES = (
    # A man with a full fair beard, freckles and blue eyes.
    _person(
        {
            **_PLAIN, "skin_tone": 0.72, "skin_hue": 0.45, "blush": 0.55, "age": 0.0, "eye_hue": 0.95, "eye_light": 0.5,
            "eye_size": -0.35, "eye_round": -0.3, "eye_tilt": -0.35, "eye_spacing": 0.3, "brow_thick": 0.75,
            "brow_light": 0.3, "brow_height": -0.3, "brow_tilt": -0.3, "lash": -0.8, "beard": 0.95, "moustache": 0.95,
            "freckles": 0.55, "nose_width": 0.6, "nose_length": 0.35, "nose_tip": 0.5, "lip_full": -0.4,
            "lip_hue": -0.5, "cheek": -0.2,
        },
        {
            "hair_length": -0.9, "hair_volume": 0.1, "hair_quiff": 0.25, "hair_part": -0.5, "hair_sweep": -0.5,
            "hairline": 0.4, "jaw_width": 0.7, "face_width": 0.3, "shoulders": 0.6, "cloth_kind": 2.0,
            **_colours(hair=(0.58, 0.31, 0.13), cloth=(0.24, 0.36, 0.30), cloth2=(0.88, 0.86, 0.8)),
        },
    ),
    # A young woman with dark skin, large brown eyes and red lips.
    _person(
        {
            **_PLAIN, "skin_tone": -0.62, "skin_hue": -0.1, "blush": -0.3, "age": -0.65, "eye_hue": -0.95,
            "eye_light": -0.4, "eye_size": 0.55, "eye_round": 0.2, "eye_tilt": -0.1, "eye_spacing": -0.2,
            "brow_thick": 0.35, "brow_light": -1.0, "brow_arch": 0.3, "brow_height": 0.5, "lash": 1.0,
            "nose_width": 0.7, "nose_length": -0.15, "nose_bridge": -0.4, "lip_full": 0.95, "lip_hue": 0.85,
            "lip_width": 0.1, "mole": 0.9, "mole_place": 0.7, "cheek": 0.5,
        },
        {
            "hair_length": -0.5, "hair_volume": 1.1, "hair_curl": 1.0, "hairline": 0.35, "jaw_width": -0.5,
            "shoulders": -0.5, "cloth_kind": 0.0, "earring": 1.0, "necklace": 1.0,
            **_colours(hair=(0.10, 0.075, 0.07), cloth=(0.80, 0.55, 0.20), cloth2=(0.9, 0.8, 0.6)),
        },
    ),
    # An old man with grey brows and moustache.
    _person(
        {
            **_PLAIN, "skin_tone": 0.05, "skin_hue": -0.6, "blush": -0.8, "age": 0.95, "eye_hue": 0.25,
            "eye_light": 0.1, "eye_size": -0.6, "eye_round": -0.4, "eye_tilt": 0.1, "eye_deep": 0.5, "lid_fold": -0.5,
            "brow_thick": 0.9, "brow_light": 0.7, "brow_tilt": 0.6, "brow_height": 0.1, "lash": -0.9,
            "moustache": 0.95, "nose_width": 0.4, "nose_length": 0.8, "nose_tip": -0.4, "nose_bridge": 0.8,
            "lip_full": -0.7, "lip_hue": -0.8, "lip_width": -0.4, "philtrum": 0.5, "cheek": -0.5,
        },
        {
            "hair_length": -0.9, "hair_volume": -0.4, "hair_quiff": 0.4, "hair_recede": 0.5, "hair_part": 0.3,
            "hairline": 0.5, "hair_grey": 0.95, "jaw_width": 0.2, "chin_length": 0.4, "shoulders": 0.3,
            "cloth_kind": 1.0,
            **_colours(hair=(0.30, 0.28, 0.26), cloth=(0.48, 0.20, 0.22), cloth2=(0.9, 0.88, 0.84)),
        },
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Role:
    """A person's part: who, what they say, and on which side the other one sits in the first shot (+1 = right)."""

    person: Person
    speech: Speech
    partner: float
    seed: int


@dataclass(frozen=True)
class Gesture:
    """A hand of the person's own that rises before the face: first and last second, and where it is at its highest.

    Where: x and y of the hand's middle in head units from the point between the eyes. lean: degrees from upright.
    """

    first_s: float
    last_s: float
    x: float
    y: float
    lean: float


def _glide(keys: list[tuple[float, float]]) -> Doubles:
    """Key values at times in seconds -> one value a frame, eased between."""
    t = np.arange(FRAMES) / FPS
    at, value = np.array(keys).T
    i = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 2)
    k = np.clip((t - at[i]) / (at[i + 1] - at[i]), 0.0, 1.0)
    return np.asarray(value[i] + (value[i + 1] - value[i]) * k * k * (3 - 2 * k))


def _sway(rng: np.random.Generator, size: float, hertz: float) -> Doubles:
    t = np.arange(FRAMES) / FPS
    waves = [np.sin(2 * np.pi * hertz * k * t + rng.uniform(0, 6.3)) / k for k in (1, 1.7, 2.9)]
    return np.asarray(size * sum(waves))


def _blinks(rng: np.random.Generator) -> Doubles:
    """A blink every two to four seconds: down in two frames, up in three."""
    frame, out, at = np.arange(FRAMES), np.full(FRAMES, 0.04), rng.uniform(15, 45)
    while at < FRAMES:
        after = frame - at
        out = np.maximum(out, np.clip(1.3 - np.where(after < 0, -after / 1.8, after / 2.8), 0.0, 1.0))
        at += rng.uniform(50, 105)
    return out


def _glances(rng: np.random.Generator, towards: Doubles) -> tuple[Doubles, Doubles]:
    """Where the eyes look, x and y: held for a second or so, then elsewhere within a frame or two, as eyes do."""
    x, y, at = towards.copy(), np.zeros(FRAMES), 0
    while at < FRAMES:
        until = at + int(rng.integers(16, 40))
        x[at:until] += rng.normal(0.0, 0.13)
        y[at:until] += rng.normal(0.05, 0.09)
        at = until
    ease = np.array([0.2, 0.6, 0.2])
    return tuple(np.convolve(np.pad(v, 1, mode="edge"), ease, mode="valid") for v in (x, y))  # type: ignore[return-value]


def _slow(values: Doubles, frames: int) -> Doubles:
    """A mean over time."""
    kernel = np.hanning(frames + 2)[1:-1]
    padded = np.pad(values, (frames // 2, frames - 1 - frames // 2), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _hand(role: Role, gesture: Gesture, second: float) -> dict[str, float]:
    """The hand's parameters at a time; none where it is down."""
    along = (second - gesture.first_s) / (gesture.last_s - gesture.first_s)
    if not 0.0 <= along <= 1.0:
        return {"occluder": 0.0}
    up = float(np.clip(np.sin(np.pi * along) * 1.15, 0.0, 1.0))
    up = up * up * (3 - 2 * up)
    sleeve = {f"occluder_{c}": role.person.get(f"cloth_{c}") for c in "rgb"}
    return {
        "occluder": 4.0, "occluder_size": 0.50, "occluder_tone": role.person.get("neck_tone"), **sleeve,
        "occluder_x": gesture.x + 0.9 * (1.0 - up) * np.sign(-gesture.lean) + 0.10 * float(np.sin(9.0 * along)) * up,
        "occluder_y": gesture.y + 4.2 * (1.0 - up), "occluder_angle": gesture.lean * (0.4 + 0.6 * up),
    }  # fmt: skip


def performance(role: Role, turns: list[tuple[float, float]], gesture: Gesture) -> list[Person]:
    """One Person a frame. turns: (second, yaw degrees) keys."""
    rng = np.random.default_rng(role.seed)
    mouth = role.speech.mouth
    talks = np.clip(_slow(mouth["open"], 25) * 4.0, 0.0, 1.0)
    stress = _slow(mouth["open"], 9)
    yaw, pitch, roll = _glide(turns) + _sway(rng, 1.6, 0.31), 1.0 + _sway(rng, 1.5, 0.33), _sway(rng, 1.7, 0.23)
    side = role.partner * np.where(np.arange(FRAMES) < CUT, 1.0, -1.0)  # they are seen from the other side of the desk
    gaze_x, gaze_y = _glances(rng, np.where(np.abs(yaw) > 12, 0.45 * side, 0.0))
    blink, brow = _blinks(rng), 0.10 + _sway(rng, 0.14, 0.41)
    smile = np.clip(0.58 + _sway(rng, 0.24, 0.17), 0.05, 1.0) * (1.0 - 0.35 * talks)
    moment = {
        "yaw": yaw, "pitch": pitch + 5.0 * stress, "roll": roll, "body_turn": _sway(rng, 2.0, 0.11) - 0.10 * yaw,
        "blink": blink, "gaze_x": gaze_x, "gaze_y": gaze_y, "brow_raise": brow + 0.55 * stress * talks,
        "squint": np.clip(0.40 * (smile - 0.3), 0.0, 1.0), "smile": smile * (1.0 - 0.6 * mouth["round"]),
        **{name: mouth[name] for name in SHAPES}, "tongue": 0.75 * mouth["tongue"],
    }  # fmt: skip
    people = []
    for f in range(FRAMES):
        values = {name: float(track[f]) for name, track in moment.items()}
        people.append(role.person.set({**values, **_hand(role, gesture, f / FPS)}))
    return people
