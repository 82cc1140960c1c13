"""A renderer of drawn faces with exact labels: what the tiny models are trained and measured on."""

from models.tiny.renderer.build import LOOKS
from models.tiny.renderer.camera import Camera, compress, random_camera, sensor_noise, smear
from models.tiny.renderer.casting import calm, random_inner, random_moment, random_outer, random_person
from models.tiny.renderer.film_cast import light_from
from models.tiny.renderer.person import Person, Range, names
from models.tiny.renderer.picture import (
    ARCFACE_112,
    ARCFACE_128,
    CLASSES,
    Labels,
    aligned,
    apply,
    backdrop,
    draw,
    geometry,
    grain,
    inverse,
    labels,
    place,
    similarity,
    soften,
)

__all__ = [
    "ARCFACE_112",
    "ARCFACE_128",
    "CLASSES",
    "LOOKS",
    "Camera",
    "Labels",
    "Person",
    "Range",
    "aligned",
    "apply",
    "backdrop",
    "calm",
    "compress",
    "draw",
    "geometry",
    "grain",
    "inverse",
    "labels",
    "light_from",
    "names",
    "place",
    "random_camera",
    "random_inner",
    "random_moment",
    "random_outer",
    "random_person",
    "sensor_noise",
    "similarity",
    "smear",
    "soften",
]
