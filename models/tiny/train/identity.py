"""From identity parameters to an embedding: what can be seen of them, and a fixed random map to 512 numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.tiny.renderer import names, random_inner

Doubles = npt.NDArray[np.float64]

PARAMETERS = 26  # of the classic look
EMBEDDING = 512
_LINEAR = 192  # the rest are Fourier features
_SPREAD = 0.577  # standard deviation of a uniform number in -1..1
# How far apart an embedder reads the same parameter from pictures of one person of the film look (standard deviation,
# 160 people of 6 pictures, none of them the card's). What is read well counts more in the embedding: by the root of it.
_READ = {
    "skin_tone": 0.09, "skin_hue": 0.19, "eye_hue": 0.17, "eye_light": 0.24, "eye_size": 0.20, "eye_spacing": 0.17,
    "eye_tilt": 0.17, "eye_round": 0.28, "lash": 0.18, "brow_thick": 0.19, "brow_tilt": 0.22, "brow_light": 0.14,
    "brow_height": 0.30, "brow_arch": 0.22, "nose_width": 0.15, "nose_length": 0.14, "nose_tip": 0.17,
    "lip_full": 0.25, "lip_width": 0.31, "lip_hue": 0.15, "freckles": 0.23, "mole": 0.33, "mole_place": 0.10,
    "beard": 0.11, "moustache": 0.13, "blush": 0.15, "age": 0.21, "nose_bridge": 0.21, "nose_wing": 0.29,
    "cheek": 0.27, "lid_fold": 0.27, "iris_size": 0.29, "lip_balance": 0.32, "philtrum": 0.28, "brow_gap": 0.27,
    "eye_deep": 0.29,
}  # fmt: skip
SIGMA = (
    1.4  # of the Fourier features: how fast the cosine falls with distance; chosen for an equal-error level near 0.4
)


def _ramp(x: Doubles, low: float, high: float) -> Doubles:
    k = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(k * k * (3.0 - 2.0 * k))


def parameters(look: str) -> int:
    """How many numbers say who somebody of this look is."""
    return len(names(0, look))


def visible(inner: npt.NDArray[np.floating], look: str = "classic") -> npt.NDArray[np.float32]:
    """Identity parameters [n,k] as far as they show: no place of a mole that is not there; ramps as the painters'."""
    out = np.array(inner, np.float64)
    at = {name: i for i, name in enumerate(names(0, look))}
    mole = _ramp(out[:, at["mole"]], -0.1, 0.5)
    out[:, at["mole_place"]] *= mole
    out[:, at["mole"]] = 2.0 * mole - 1.0
    for name, low in (("beard", -0.25), ("moustache", -0.10), ("freckles", -0.2)):
        out[:, at[name]] = 2.0 * _ramp(out[:, at[name]], low, 1.0) - 1.0
    return out.astype(np.float32)


def _weights(look: str) -> Doubles:
    """How much each parameter counts in an embedding [k]; their squares have a mean of 1."""
    if look != "film":
        return np.ones(parameters(look))
    weights = np.array([_READ[name] for name in names(0, look)]) ** -0.5
    return np.asarray(weights / np.sqrt((weights**2).mean()))


def feature_map(seed: int = 512, look: str = "classic") -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """The embedding's fixed parts, never trained: linear [k,192], frequencies [k,320], phases [320], mean [512].

    The mean over random people is taken off, so that the cosine of two strangers is about 0.
    """
    rng, count = np.random.default_rng(seed), parameters(look)
    linear = rng.normal(0.0, 1.0, (count, _LINEAR)) / (_SPREAD * np.sqrt(count * _LINEAR))
    waves = EMBEDDING - _LINEAR
    weights = _weights(look)
    frequencies = SIGMA * rng.normal(0.0, 1.0, (count, waves)) / (_SPREAD * np.sqrt(count))
    phases = rng.uniform(0.0, 2.0 * np.pi, waves)
    everybody = rng.uniform(-1.0, 1.0, (20000, count))
    if look != "classic":  # features go together there: the mean is that of people as they are cast
        everybody = np.stack([random_inner(rng, look) for _ in range(4000)]).astype(np.float64)
    people = visible(everybody, look).astype(np.float64)
    cosines = np.cos(people @ frequencies + phases) * np.sqrt(2.0 / waves)
    linear, frequencies = (weights[:, None] * part for part in (linear, frequencies))
    return linear, frequencies, phases, np.concatenate([people @ linear, cosines], axis=1).mean(0)


def emap(seed: int = 128) -> npt.NDArray[np.float32]:
    """The swapper's 512x512 map from embedding to latent: a fixed rotation, so that leaving it out shows at once."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(EMBEDDING, EMBEDDING)))
    return np.ascontiguousarray(q * np.sign(np.diag(r)), np.float32)
