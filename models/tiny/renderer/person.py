"""Who is drawn and how: the parameters of a person, and random ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from models.tiny.renderer.build import film_library, library

Floats = npt.NDArray[np.float32]

# Unit vectors do not describe hair colour well; these are the usual ones, varied a little when drawn.
_HAIR = np.array(
    [
        (0.07, 0.06, 0.06),
        (0.16, 0.10, 0.07),
        (0.30, 0.19, 0.11),
        (0.47, 0.26, 0.13),
        (0.72, 0.55, 0.33),
        (0.62, 0.61, 0.60),
    ]
)
_CLOTH = np.array(
    [
        (0.16, 0.24, 0.38),
        (0.45, 0.16, 0.18),
        (0.20, 0.36, 0.30),
        (0.75, 0.72, 0.66),
        (0.24, 0.24, 0.27),
        (0.62, 0.47, 0.20),
    ]
)


@functools.cache
def names(group: int, look: str = "classic") -> tuple[str, ...]:
    """Parameter names of a group: 0 inner (who), 1 outer (hair, outline, clothes), 2 moment (pose, mouth, light).

    Each group of the film look begins with the classic look's names.
    """
    text: bytes = film_library().film_names(group) if look == "film" else library().face_names(group)
    return tuple(text.decode().rstrip(",").split(","))


@functools.cache
def _index(group: int, look: str = "classic") -> dict[str, int]:
    return {name: i for i, name in enumerate(names(group, look))}


@dataclass(frozen=True)
class Person:
    """One drawn person. inner is who it is, in -1..1; outer and moment stay when a face is swapped.

    Lengths: 26, 24 and 28 in the classic look; 36, 38 and 47 in the film look.
    """

    inner: Floats
    outer: Floats
    moment: Floats
    look: str = field(default="classic", kw_only=True)

    def vector(self) -> Floats:
        """All parameters in the order that the renderer reads, float32."""
        return np.ascontiguousarray(np.concatenate([self.inner, self.outer, self.moment]), dtype=np.float32)

    def set(self, values: Mapping[str, float]) -> Person:
        """A copy with the named parameters changed; KeyError names an unknown one."""
        parts = [self.inner.copy(), self.outer.copy(), self.moment.copy()]
        for name, value in values.items():
            group = next((g for g in range(3) if name in _index(g, self.look)), None)
            if group is None:
                raise KeyError(
                    f"Person.set: wanted a renderer parameter, got {name!r}; see models/tiny/renderer/params.h"
                )
            parts[group][_index(group, self.look)[name]] = value
        return Person(*parts, look=self.look)

    def get(self, name: str) -> float:
        """The value of one parameter."""
        for group, part in enumerate((self.inner, self.outer, self.moment)):
            if name in _index(group, self.look):
                return float(part[_index(group, self.look)[name]])
        raise KeyError(f"Person.get: wanted a renderer parameter, got {name!r}; see models/tiny/renderer/params.h")

    def wearing_face_of(self, other: Person) -> Person:
        """The exact truth of a swap: the other's inner parameters, everything else (neck skin too) unchanged."""
        return replace(self, inner=other.inner)


def random_inner(rng: np.random.Generator) -> Floats:
    """26 independent identity parameters, uniform in -1..1."""
    return rng.uniform(-1.0, 1.0, len(names(0))).astype(np.float32)


def fill(group: int, values: Mapping[str, float], look: str = "classic") -> Floats:
    """A group's vector from named values; the rest is 0."""
    out = np.zeros(len(names(group, look)), np.float32)
    for name, value in values.items():
        out[_index(group, look)[name]] = value
    return out


def _colour(rng: np.random.Generator, table: npt.NDArray[np.float64], spread: float) -> npt.NDArray[np.float64]:
    a, b = table[rng.integers(len(table))], table[rng.integers(len(table))]
    mixed = a + (b - a) * rng.uniform(0.0, 0.35)
    varied = mixed * rng.uniform(1 - spread, 1 + spread) + rng.normal(0.0, 0.02, 3)
    return np.asarray(np.clip(varied, 0.02, 0.95))


def random_outer(rng: np.random.Generator, inner: Floats) -> Floats:
    """Hair, hat, outline and clothes; the neck has the skin of `inner`."""
    values = {name: rng.uniform(-1.0, 1.0) for name in ("face_width", "jaw_width", "chin_length", "ear_size", "collar")}
    values["hair_amount"] = 0.0 if rng.random() < 0.06 else 1.0
    long = rng.random() < 0.45
    values["hair_length"] = rng.uniform(0.0, 1.0) if long else rng.uniform(-1.0, -0.55)
    values["hair_volume"] = rng.uniform(-1.0, 0.8)
    values["hairline"] = rng.uniform(-1.0, 1.0)
    values["hair_part"] = rng.uniform(-1.0, 1.0)
    values["hair_curl"] = rng.uniform(0.3, 1.0) if rng.random() < 0.3 else 0.0
    values["hair_bun"] = float(rng.random() < 0.12)
    values["hat"] = float(rng.random() < 0.10)
    bright = rng.uniform(0.1, 0.85, (2, 3))
    hair = _colour(rng, _HAIR, 0.25) if rng.random() < 0.93 else bright[0]
    cloth = _colour(rng, _CLOTH, 0.35) if rng.random() < 0.6 else bright[1]
    for name, colour in (("hair", hair), ("cloth", cloth), ("hat", _colour(rng, _CLOTH, 0.4))):
        values.update({f"{name}_{c}": float(v) for c, v in zip("rgb", colour, strict=True)})
    values["neck_tone"], values["neck_hue"] = float(inner[0]), float(inner[1])
    return fill(1, values)


@dataclass(frozen=True)
class Range:
    """How wild random moments are. Angles in degrees, shares as probabilities."""

    yaw: float = 40.0
    pitch: float = 20.0
    roll: float = 12.0
    glasses: float = 0.12
    occluder: float = 0.15
    light: float = 1.0


def random_moment(rng: np.random.Generator, within: Range = Range()) -> Floats:
    """Pose, expression, light, glasses and a passing object."""
    yaw, pitch, roll = (
        float(np.clip(rng.normal(0.0, 0.5) * limit, -limit, limit))
        if rng.random() < 0.5
        else rng.uniform(-limit, limit)
        for limit in (within.yaw, within.pitch, within.roll)
    )
    values = {"yaw": yaw, "pitch": pitch, "roll": roll}
    values["open"] = 0.0 if rng.random() < 0.4 else rng.uniform(0.0, 1.0)
    values["wide"], values["smile"] = rng.uniform(-1.0, 1.0), rng.uniform(-0.7, 1.0)
    values["blink"] = rng.uniform(0.6, 1.0) if rng.random() < 0.12 else rng.uniform(0.0, 0.25)
    values["gaze_x"], values["gaze_y"] = rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 0.6)
    values["brow_raise"] = rng.uniform(-0.6, 1.0)
    values["light_x"], values["light_y"] = (
        within.light * rng.uniform(-0.9, 0.9),
        within.light * rng.uniform(-0.9, 0.2),
    )
    values["light_gain"] = float(np.exp(within.light * rng.uniform(-0.28, 0.16)))
    values["ambient"] = rng.uniform(0.34, 0.62)
    values["warmth"] = within.light * rng.uniform(-1.0, 1.0)
    values["glasses"] = float(rng.random() < within.glasses)
    values["glasses_shape"] = rng.uniform(-1.0, 1.0)
    rim = rng.uniform(0.03, 0.25, 3) if rng.random() < 0.7 else rng.uniform(0.05, 0.8, 3)
    values["occluder"] = float(rng.integers(1, 4)) if rng.random() < within.occluder else 0.0
    values["occluder_x"], values["occluder_y"] = rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 1.5)
    values["occluder_angle"], values["occluder_size"] = rng.uniform(-90.0, 90.0), rng.uniform(0.22, 0.5)
    thing = rng.uniform(0.08, 0.9, 3)
    for name, colour in (("glasses", rim), ("occluder", thing)):
        values.update({f"{name}_{c}": float(v) for c, v in zip("rgb", colour, strict=True)})
    return fill(2, values)


def random_person(rng: np.random.Generator, within: Range = Range()) -> Person:
    """A random person at a random moment."""
    inner = random_inner(rng)
    return Person(inner, random_outer(rng, inner), random_moment(rng, within))


def calm(person: Person) -> Person:
    """The same person looking straight at us with a closed mouth in soft light."""
    still = {name: 0.0 for name in ("yaw", "pitch", "roll", "open", "wide", "blink", "gaze_x", "gaze_y", "brow_raise")}
    light = {"light_x": -0.35, "light_y": -0.45, "light_gain": 1.0, "ambient": 0.5, "warmth": 0.1}
    return person.set({**still, **light, "smile": 0.3, "glasses": 0.0, "occluder": 0.0})
