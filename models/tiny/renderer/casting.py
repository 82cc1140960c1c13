"""Random people of either look. The classic look's numbers for a seed never change: weights were trained on them."""

from __future__ import annotations

import numpy as np

from models.tiny.renderer import film_cast, person
from models.tiny.renderer.person import Floats, Person, Range

_ANY = Range()


def random_inner(rng: np.random.Generator, look: str = "classic") -> Floats:
    """Identity parameters in -1..1: 26, or 36 in the film look."""
    return film_cast.random_inner(rng) if look == "film" else person.random_inner(rng)


def random_outer(rng: np.random.Generator, inner: Floats, look: str = "classic") -> Floats:
    """Hair, hat, outline and clothes; the neck has the skin of `inner`."""
    return film_cast.random_outer(rng, inner) if look == "film" else person.random_outer(rng, inner)


def random_moment(rng: np.random.Generator, within: Range = _ANY, look: str = "classic") -> Floats:
    """Pose, expression, light, glasses and a passing object."""
    return film_cast.random_moment(rng, within) if look == "film" else person.random_moment(rng, within)


def random_person(rng: np.random.Generator, within: Range = _ANY, look: str = "classic") -> Person:
    """A random person at a random moment."""
    return film_cast.random_person(rng, within) if look == "film" else person.random_person(rng, within)


def calm(someone: Person) -> Person:
    """The same person looking straight at us with a closed mouth in soft light."""
    quiet = person.calm(someone)
    return quiet.set(film_cast.calm_values()) if someone.look == "film" else quiet
