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


def feature_map(seed: int = 512, look: str = "classic") -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """The embedding's fixed parts, never trained: linear [k,192], frequencies [k,320], phases [320], mean [512].

    The mean over random people is taken off, so that the cosine of two strangers is about 0.
    """
    rng, count = np.random.default_rng(seed), parameters(look)
    linear = rng.normal(0.0, 1.0, (count, _LINEAR)) / (_SPREAD * np.sqrt(count * _LINEAR))
    waves = EMBEDDING - _LINEAR
    frequencies = SIGMA * rng.normal(0.0, 1.0, (count, waves)) / (_SPREAD * np.sqrt(count))
    phases = rng.uniform(0.0, 2.0 * np.pi, waves)
    everybody = rng.uniform(-1.0, 1.0, (20000, count))
    if look != "classic":  # features go together there: the mean is that of people as they are cast
        everybody = np.stack([random_inner(rng, look) for _ in range(4000)]).astype(np.float64)
    people = visible(everybody, look).astype(np.float64)
    cosines = np.cos(people @ frequencies + phases) * np.sqrt(2.0 / waves)
    return linear, frequencies, phases, np.concatenate([people @ linear, cosines], axis=1).mean(0)


def emap(seed: int = 128) -> npt.NDArray[np.float32]:
    """The swapper's 512x512 map from embedding to latent: a fixed rotation, so that leaving it out shows at once."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(EMBEDDING, EMBEDDING)))
    return np.ascontiguousarray(q * np.sign(np.diag(r)), np.float32)
