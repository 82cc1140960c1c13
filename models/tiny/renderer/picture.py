"""Pictures of drawn people with exact labels: points, box, visible-face mask; in the film look also 19 classes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.renderer.build import film_library, library
from models.tiny.renderer.person import Floats, Person

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

# The template of ArcFace's 112-pixel crop (left eye, right eye, nose, left and right mouth corner), as published.
ARCFACE_112: Doubles = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
ARCFACE_128: Doubles = ARCFACE_112 + np.array([8.0, 0.0])

# Extent of a person's head and shoulders round its origin, in head units: what has to be traced.
_EXTENT = {"classic": (-2.6, -2.9, 2.6, 4.3), "film": (-3.0, -2.9, 3.0, 8.2)}


# The parser's classes in the order of BiSeNet's published contracts; left is the image's left.
CLASSES = (
    "background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear",
    "earring", "nose", "mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """Truth of one drawn face. points_px [5|68|98,2]; box_xyxy_px [4], hairline to chin, not clipped to the picture."""

    points_px: Doubles
    box_xyxy_px: Doubles


def _pointer(array: npt.NDArray[np.float32] | Bytes | npt.NDArray[np.int32]) -> ctypes._Pointer[ctypes.c_float]:
    kinds = {"f": ctypes.c_float, "u": ctypes.c_uint8, "i": ctypes.c_int32}
    return array.ctypes.data_as(ctypes.POINTER(kinds[array.dtype.kind]))  # type: ignore[arg-type]


def similarity(source: Doubles, target: Doubles) -> Doubles:
    """Least-squares similarity [2,3] (scale, rotation, shift; no mirror) that maps source [n,2] to target [n,2]."""
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    x, y = (a - mean_a).T
    u, v = (b - mean_b).T
    size = float((x * x + y * y).sum())
    cos, sin = float((x * u + y * v).sum()) / size, float((x * v - y * u).sum()) / size
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([linear, (mean_b - linear @ mean_a)[:, None]], axis=1)


def inverse(matrix: Doubles) -> Doubles:
    """Inverse of a 2x3 affine map, again 2x3."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def apply(matrix: Doubles, points: Doubles) -> Doubles:
    """Points [n,2] through a 2x3 affine map."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def place(centre_px: tuple[float, float], pixels_per_unit: float, turn_deg: float = 0.0) -> Doubles:
    """pixels_from_head [2,3] that puts the point between the eyes at centre_px."""
    c, s = np.cos(np.radians(turn_deg)) * pixels_per_unit, np.sin(np.radians(turn_deg)) * pixels_per_unit
    return np.array([[c, -s, centre_px[0]], [s, c, centre_px[1]]])


def geometry(person: Person, count: int = 5) -> tuple[Doubles, Doubles]:
    """Points [count,2] and the face's box [4] in head units, before any view.

    count: 5; in the film look also 68 (iBUG's order) and 98 (WFLW's order). A point that the head itself hides lies
    where it is on the head. Raises ValueError for another count.
    """
    if count not in ((5, 68, 98) if person.look == "film" else (5,)):
        raise ValueError(
            f"geometry: wanted 5 points, or 68 or 98 of the film look, got {count} of the {person.look} look; "
            "draw the person in the film look"
        )
    points, box = np.empty((count, 2), np.float32), np.empty(4, np.float32)
    if person.look == "film":
        film_library().film_geometry(_pointer(person.vector()), count, _pointer(points), _pointer(box))
    else:
        library().face_geometry(_pointer(person.vector()), _pointer(points), _pointer(box))
    return points.astype(np.float64), box.astype(np.float64)


def aligned(person: Person, template_px: Doubles) -> Doubles:
    """pixels_from_head [2,3] by which the person's five points fit a template [5,2] best."""
    return similarity(geometry(person)[0], template_px)


def labels(person: Person, pixels_from_head: Doubles, count: int = 5) -> Labels:
    """Exact points and box of a person in a picture; count as for geometry."""
    points, box = geometry(person, count)
    corners = apply(pixels_from_head, np.array([(box[i], box[j]) for i in (0, 2) for j in (1, 3)]))
    return Labels(apply(pixels_from_head, points), np.concatenate([corners.min(0), corners.max(0)]))


def _region(person: Person, pixels_from_head: Doubles, width: int, height: int) -> npt.NDArray[np.int32]:
    x0, y0, x1, y1 = _EXTENT[person.look]
    outline = apply(pixels_from_head, np.array([(x0, y0), (x1, y0), (x0, y1), (x1, y1)]))
    low, high = np.floor(outline.min(0)), np.ceil(outline.max(0)) + 1
    if person.get("occluder") > 0.5:
        low, high = np.array([0.0, 0.0]), np.array([float(width), float(height)])
    corners = [max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)]
    return np.array(corners, np.float64).astype(np.int32)


def draw(
    person: Person,
    pixels_from_head: Doubles,
    image: Bytes,
    mask: Bytes | None = None,
    samples: int = 0,
    threads: int = 1,
    classes: Bytes | None = None,
) -> None:
    """Draws a person over image [h,w,3] RGB in place, and its visible face (255 = all) into mask [h,w].

    samples: rays along a pixel's side; 0 takes 2 for small faces, whose features are finer than a pixel. The film look
    knows 1, 2 and 4; left to itself it takes 2 along edges and on small faces, 4 on tiny ones. It can also write the
    parser's classes (see CLASSES) into classes [h,w], where the person covers the picture.
    """
    height, width = image.shape[:2]
    scale = float(np.hypot(pixels_from_head[0, 0], pixels_from_head[1, 0]))
    region = _region(person, pixels_from_head, width, height)
    view: Floats = np.ascontiguousarray(inverse(pixels_from_head), np.float32)
    null = ctypes.POINTER(ctypes.c_uint8)()
    if person.look == "film":
        side = samples or (0 if scale >= 22.0 else (2 if scale >= 9.0 else 4))
        if samples not in (0, 1, 2, 4):
            raise ValueError(f"draw: wanted 1, 2 or 4 samples along a pixel's side, got {samples}; choose one of them")
        if region[2] > region[0] and region[3] > region[1]:
            film_library().film_draw(
                _pointer(person.vector()), _pointer(view), _pointer(image), null if mask is None else _pointer(mask),
                null if classes is None else _pointer(classes), width, _pointer(region), side, threads,
            )  # fmt: skip
        return
    if classes is not None:
        raise ValueError(
            "draw: wanted a person of the film look for classes, got the classic look; cast one with look='film'"
        )
    library().face_draw(
        _pointer(person.vector()), _pointer(view), _pointer(image), null if mask is None else _pointer(mask),
        width, height, _pointer(region), samples or (2 if scale < 22.0 else 1), threads,
    )  # fmt: skip


def backdrop(seed: int, style: int, width: int, height: int, look: str = "classic") -> Bytes:
    """A background [h,w,3]: style 0 soft studio, 1 with lights and panels, 2 clutter.

    In the film look: 0 studio, 1 room, 2 garden, 3 evening street, all out of focus.
    """
    image = np.empty((height, width, 3), np.uint8)
    if look == "film":
        film_library().film_backdrop(seed & 0xFFFFFFFF, style, _pointer(image), width, height)
        return image
    library().backdrop_draw(seed & 0xFFFFFFFF, style, _pointer(image), width, height)
    return image


def grain(seed: int, sigma: float, gain: float, image: Bytes) -> None:
    """Sensor noise of standard deviation sigma (of 255) and a gain, in place."""
    library().film_grain(seed & 0xFFFFFFFF, sigma, gain, _pointer(image), image.size)


def soften(image: Bytes, amount: float) -> Bytes:
    """A 3x3 binomial blur mixed in by amount 0..1; amounts above 1 repeat it."""
    out = image.astype(np.float32)
    while amount > 0:
        padded = np.pad(out, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
        smooth = 0.25 * rows[:, :-2] + 0.5 * rows[:, 1:-1] + 0.25 * rows[:, 2:]
        out += min(amount, 1.0) * (smooth - out)
        amount -= 1.0
    return np.asarray(out + 0.5).astype(np.uint8)
