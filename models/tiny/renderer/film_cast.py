"""Random people of the film look: features that belong together, hair cuts, clothes, light and moments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.tiny.renderer.person import Floats, Person, Range, fill, names

LOOK = "film"
Doubles = npt.NDArray[np.float64]

_ANY = Range()

_HAIR = np.array(
    [
        (0.09, 0.075, 0.075),
        (0.20, 0.13, 0.09),
        (0.34, 0.215, 0.13),
        (0.52, 0.27, 0.12),
        (0.76, 0.58, 0.34),
        (0.86, 0.74, 0.52),
    ]
)
_CLOTH = np.array(
    [
        (0.17, 0.27, 0.44),
        (0.62, 0.22, 0.20),
        (0.22, 0.42, 0.36),
        (0.88, 0.85, 0.79),
        (0.24, 0.25, 0.29),
        (0.80, 0.60, 0.24),
        (0.45, 0.33, 0.52),
        (0.86, 0.52, 0.42),
        (0.45, 0.62, 0.72),
    ]
)


def random_inner(rng: np.random.Generator) -> Floats:
    """36 identity parameters in -1..1. Two thirds of the people have features that go together; the rest have any."""
    values = dict(zip(names(0, LOOK), rng.uniform(-1.0, 1.0, len(names(0, LOOK))), strict=True))
    if rng.random() < 0.35:
        return fill(0, values, LOOK)
    man = rng.random() < 0.5
    if man:
        values["lash"], values["lip_hue"] = rng.uniform(-1.0, -0.3), rng.uniform(-1.0, -0.1)
        values["brow_thick"], values["lip_full"] = rng.uniform(-0.2, 1.0), rng.uniform(-1.0, 0.3)
        values["beard"] = rng.uniform(0.0, 1.0) if rng.random() < 0.45 else -1.0
        values["moustache"] = values["beard"] if rng.random() < 0.8 else rng.uniform(-1.0, 1.0)
        values["nose_width"], values["eye_size"] = rng.uniform(-0.5, 1.0), rng.uniform(-1.0, 0.4)
    else:
        values["lash"], values["lip_hue"] = rng.uniform(0.0, 1.0), rng.uniform(-0.6, 1.0)
        values["brow_thick"], values["lip_full"] = rng.uniform(-1.0, 0.2), rng.uniform(-0.3, 1.0)
        values["beard"] = values["moustache"] = -1.0
        values["nose_width"], values["eye_size"] = rng.uniform(-1.0, 0.5), rng.uniform(-0.3, 1.0)
    dark = values["skin_tone"] < -0.2
    values["brow_light"] = rng.uniform(-1.0, -0.4) if dark else rng.uniform(-1.0, 0.7)
    if dark and rng.random() < 0.8:
        values["eye_hue"] = rng.uniform(-1.0, -0.4)
    if rng.random() < 0.6:
        values["freckles"] = -1.0
    if rng.random() < 0.6:
        values["mole"] = -1.0
    return fill(0, values, LOOK)


def _colour(rng: np.random.Generator, table: Doubles, spread: float) -> Doubles:
    a, b = table[rng.integers(len(table))], table[rng.integers(len(table))]
    mixed = (a + (b - a) * rng.uniform(0.0, 0.35)) * rng.uniform(1 - spread, 1 + spread)
    return np.asarray(np.clip(mixed + rng.normal(0.0, 0.012, 3), 0.02, 0.95))


def _cut(rng: np.random.Generator, man: bool) -> dict[str, float]:
    """A hair cut as its parameters."""
    u = rng.uniform
    cuts: dict[str, dict[str, float]] = {
        "short": {"hair_length": -0.9, "hair_volume": u(-0.5, 0.5), "hair_quiff": u(0.0, 0.5)},
        "quiff": {"hair_length": -0.9, "hair_volume": u(-0.6, 0.0), "hair_quiff": u(0.5, 1.0)},
        "cropped": {"hair_length": -1.0, "hair_volume": -1.3},
        "fringe": {"hair_length": -0.8, "hair_volume": u(-0.4, 0.3), "hair_fringe": u(0.3, 0.9)},
        "bob": {"hair_length": u(-0.35, -0.1), "hair_volume": u(-0.2, 0.6), "hair_fringe": u(-0.4, 1.0)},
        "long": {"hair_length": u(0.1, 1.0), "hair_volume": u(-0.4, 0.5), "hair_wave": u(0.0, 0.5)},
        "wavy": {"hair_length": u(0.0, 0.8), "hair_volume": u(0.0, 0.8), "hair_wave": u(0.7, 1.5)},
        "tail": {"hair_length": -0.8, "hair_volume": -0.6, "hair_tail": 1.0},
        "bun": {"hair_length": -0.8, "hair_volume": u(-0.7, 0.0), "hair_bun": 1.0},
        "afro": {"hair_length": u(-0.7, -0.4), "hair_volume": u(0.6, 1.8), "hair_curl": 1.0},
        "curly": {"hair_length": u(-0.9, 0.3), "hair_volume": u(-0.5, 0.5), "hair_curl": u(0.6, 1.0)},
        "receding": {"hair_length": -0.9, "hair_volume": u(-1.1, -0.5), "hair_recede": u(0.5, 1.0)},
    }
    mens = ("short", "quiff", "cropped", "fringe", "curly", "afro", "receding", "short", "quiff")
    womens = ("bob", "long", "wavy", "tail", "bun", "afro", "curly", "fringe", "long", "wavy")
    kinds = mens if man else womens
    cut = cuts[kinds[rng.integers(len(kinds))]]
    cut["hair_fringe"] = max(0.0, cut.get("hair_fringe", 0.0))
    return cut


def random_outer(rng: np.random.Generator, inner: Floats) -> Floats:
    """Hair, hat, outline and clothes; the neck has the skin of `inner`, and a beard suggests a man's cut."""
    own = dict(zip(names(0, LOOK), map(float, inner), strict=True))
    man = own["beard"] > 0.0 or own["lash"] < 0.0
    values = {name: rng.uniform(-1.0, 1.0) for name in ("face_width", "chin_length", "ear_size", "collar", "hairline")}
    values["jaw_width"] = rng.uniform(-0.2, 1.0) if man else rng.uniform(-1.0, 0.3)
    values["shoulders"] = rng.uniform(0.0, 1.0) if man else rng.uniform(-1.0, 0.0)
    values["hair_amount"] = 0.0 if man and rng.random() < 0.08 else 1.0
    values["hair_part"], values["hair_sweep"] = rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)
    values |= _cut(rng, man)
    values["hat"] = float(rng.random() < 0.07)
    values["earring"], values["necklace"] = float(not man and rng.random() < 0.4), float(rng.random() < 0.15)
    values["cloth_kind"] = float(rng.integers(5))
    brow = 0.5 * (own["brow_light"] + 1.0)
    natural = _HAIR[min(int(brow * 4.999), 4) : min(int(brow * 4.999), 4) + 2]
    hair = _colour(rng, natural, 0.2) if rng.random() < 0.8 else _colour(rng, _HAIR, 0.2)
    if rng.random() < 0.03:
        hair = rng.uniform(0.2, 0.8, 3)
    age = 0.36 + 0.56 * own["age"]  # as film_layout.h
    values["hair_grey"] = float(np.clip((age - 0.6) * 2.6 + rng.normal(0, 0.2), 0.0, 1.0)) if age > 0.6 else 0.0
    colours = {"hair": hair, "cloth": _colour(rng, _CLOTH, 0.25), "cloth2": _colour(rng, _CLOTH, 0.25)}
    colours["hat"] = _colour(rng, _CLOTH, 0.3)
    for name, colour in colours.items():
        values.update({f"{name}_{c}": float(v) for c, v in zip("rgb", colour, strict=True)})
    values["neck_tone"], values["neck_hue"] = own["skin_tone"], own["skin_hue"]
    return fill(1, values, LOOK)


def _pose(rng: np.random.Generator, within: Range) -> dict[str, float]:
    out = {}
    for name, limit in (("yaw", within.yaw), ("pitch", within.pitch), ("roll", within.roll)):
        calm = rng.random() < 0.5
        out[name] = float(np.clip(rng.normal(0.0, 0.5) * limit, -limit, limit)) if calm else rng.uniform(-limit, limit)
    return out


def _face(rng: np.random.Generator) -> dict[str, float]:
    """An expression, and in half of the moments a mouth that speaks."""
    u = rng.uniform
    values = {"smile": u(-0.3, 1.0), "gaze_x": u(-0.8, 0.8), "gaze_y": u(-0.6, 0.6), "brow_raise": u(-0.5, 1.0)}
    values["blink"] = u(0.6, 1.0) if rng.random() < 0.12 else u(0.0, 0.2)
    values["squint"], values["brow_tense"] = max(0.0, u(-0.6, 0.7)), max(-0.3, u(-1.0, 1.0))
    values["wide"] = u(-1.0, 1.0)
    if rng.random() < 0.6:
        values["open"] = u(0.0, 1.0) ** 1.3
        values["round"] = max(0.0, u(-1.0, 1.0))
        values["tongue"] = max(0.0, u(-1.0, 1.0))
        values["smile"] *= 1.0 - 0.6 * values["round"]
    elif rng.random() < 0.3:
        values["press"] = u(0.0, 1.0)
    if rng.random() < 0.1:
        values["tuck"] = u(0.3, 1.0)
    return values


def light_from(sky: Doubles, floor: Doubles) -> dict[str, float]:
    """Moment values that light a person with the colours round it: sky and floor [3], display-referred 0..1."""
    out = {}
    for name, colour in (("sky", sky), ("floor", floor)):
        seen = np.square(np.asarray(colour, np.float64))
        seen = seen / max(float(seen.mean()), 1e-3)
        tinted = (0.55 + 0.45 * seen) * (1.0 if name == "sky" else 0.62)
        out.update({f"{name}_{c}": float(v) for c, v in zip("rgb", np.clip(tinted, 0.2, 1.6), strict=True)})
    return out


def _light(rng: np.random.Generator, amount: float) -> dict[str, float]:
    u = rng.uniform
    values = {"light_x": amount * u(-0.95, 0.95), "light_y": -0.35 + amount * u(-0.5, 0.35)}
    values["light_gain"] = float(np.exp(amount * u(-0.35, 0.15)))
    values["ambient"], values["warmth"] = u(0.30, 0.60), amount * u(-0.8, 1.0)
    values |= light_from(0.55 + 0.25 * u(-1, 1, 3) * amount, 0.5 + 0.2 * u(-1, 1, 3) * amount)
    values["rim_x"] = u(0.6, 1.0) * (-1.0 if values["light_x"] > 0 else 1.0)
    values["rim_gain"] = amount * u(0.0, 1.0)
    tint = np.array([(1.0, 0.82, 0.6), (0.65, 0.82, 1.0), (1.0, 0.95, 0.9), (0.9, 0.6, 0.8)])[rng.integers(4)]
    values.update({f"rim_{c}": float(v) for c, v in zip("rgb", tint, strict=True)})
    return values


def random_moment(rng: np.random.Generator, within: Range = _ANY) -> Floats:
    """Pose, expression, speech, light, glasses and a passing object (1 microphone, 2 ball, 3 phone, 4 hand)."""
    u = rng.uniform
    values = _pose(rng, within) | _face(rng) | _light(rng, within.light)
    values["body_turn"] = u(-18.0, 18.0)
    values["glasses"] = (1.0 if rng.random() < 0.85 else 2.0) if rng.random() < within.glasses else 0.0
    values["glasses_shape"] = u(-1.0, 1.0)
    rim = u(0.04, 0.25, 3) if rng.random() < 0.7 else u(0.1, 0.75, 3)
    values["occluder"] = float(rng.choice([1, 2, 3, 4, 4])) if rng.random() < within.occluder else 0.0
    values["occluder_x"], values["occluder_y"] = u(-0.9, 0.9), u(-0.2, 1.6)
    values["occluder_angle"], values["occluder_size"] = u(-60.0, 60.0), u(0.24, 0.5)
    values["occluder_tone"] = u(-1.0, 1.0)
    for name, colour in (("glasses", rim), ("occluder", _colour(rng, _CLOTH, 0.3))):
        values.update({f"{name}_{c}": float(v) for c, v in zip("rgb", colour, strict=True)})
    return fill(2, values, LOOK)


def random_person(rng: np.random.Generator, within: Range = _ANY) -> Person:
    """A random person of the film look at a random moment."""
    inner = random_inner(rng)
    return Person(inner, random_outer(rng, inner), random_moment(rng, within), look=LOOK)


def calm_values() -> Mapping[str, float]:
    """Moment values of a neutral face in soft light, beyond those of the classic look."""
    still = {name: 0.0 for name in ("round", "press", "tuck", "tongue", "squint", "brow_tense", "body_turn")}
    rim = {"rim_x": 0.9, "rim_gain": 0.4, "rim_r": 1.0, "rim_g": 0.95, "rim_b": 0.9}
    return {**still, **rim, **light_from(np.array([0.6, 0.63, 0.68]), np.array([0.55, 0.5, 0.46]))}
