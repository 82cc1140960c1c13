"""Stills of the renderer's film look as frames for the pipeline, with what the drawing knows about each pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av
import numpy as np
import numpy.typing as npt

from models.tiny.renderer import Person, Range, backdrop, calm, draw, labels, light_from, place, random_person

U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
SIZE = (1280, 720)
SCALE_PX = 120.0  # of a head unit: faces of about 260 px
HAND, BALL = 4.0, 2.0  # what passes in front


@dataclass(frozen=True)
class Still:
    """nv12 [1080, 1280] of one person; face: visible [720, 1280]; hidden: face behind something; classes of a parser.

    points: the true five points [5, 2] in pixels. person and view draw it again.
    """

    nv12: U8
    face: Mask
    hidden: Mask
    classes: U8
    points: npt.NDArray[np.float64]
    person: Person
    view: npt.NDArray[np.float64]


def to_nv12(rgb: U8) -> U8:
    """RGB [h, w, 3] as limited-range BT.709 NV12 [h * 3 / 2, w]."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(format="nv12", dst_colorspace="ITU709", dst_color_range="MPEG").to_ndarray().astype(np.uint8)


def still(seed: int, occluder: float = 0.0, yaw: float = 12.0) -> Still:
    """One calm person of that seed in the middle of a picture; occluder: 0 for none, or what is held before a cheek."""
    rng = np.random.default_rng([4711, seed])
    person = calm(random_person(rng, Range(yaw=yaw, pitch=6.0, roll=6.0, glasses=0.0, occluder=0.0), "film"))
    ground = backdrop(900 + seed, seed % 4, *SIZE, "film")
    sky, floor = (half.mean((0, 1)) / 255.0 for half in (ground[:360], ground[360:]))
    person = person.set(light_from(sky, floor))
    shown = person
    if occluder:
        shown = person.set(
            {"occluder": occluder, "occluder_x": 0.55, "occluder_y": 0.75, "occluder_size": 0.4, "occluder_angle": 15.0,
             "occluder_r": 0.2, "occluder_g": 0.3, "occluder_b": 0.6}
        )  # fmt: skip
    view = place((640.0, 330.0), SCALE_PX)
    image, masks = ground.copy(), np.zeros((3, SIZE[1], SIZE[0]), np.uint8)
    draw(shown, view, image, masks[0], threads=2, classes=masks[1])
    draw(person, view, ground.copy(), masks[2], threads=2)
    seen = masks[0] > 127
    return Still(to_nv12(image), seen, (masks[2] > 127) & ~seen, masks[1], labels(person, view).points_px, shown, view)


def swapped_classes(one: Still, inner: npt.NDArray[np.float32]) -> U8:
    """The parser's classes [720, 1280] of the same still with another's inner features, as drawn."""
    image, classes = np.zeros((SIZE[1], SIZE[0], 3), np.uint8), np.zeros((SIZE[1], SIZE[0]), np.uint8)
    draw(replace(one.person, inner=inner), one.view, image, threads=2, classes=classes)
    return classes


def grown(mask: Mask, by_px: int) -> Mask:
    """A mask and everything within by_px of it, along both axes."""
    out = mask.copy()
    for axis in (0, 1):
        run = out.copy()
        for shift in range(1, by_px + 1):
            run |= np.roll(out, shift, axis) | np.roll(out, -shift, axis)
        out = run
    return out


def shrunk(mask: Mask, by_px: int) -> Mask:
    """What of a mask is further than by_px from its border."""
    return ~grown(~mask, by_px)
