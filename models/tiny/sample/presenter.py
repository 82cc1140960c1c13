"""Makes the presenter that talks in the demo: python -m models.tiny.sample.presenter [--out FOLDER].

presenter.mp4 is a template: nine seconds of somebody who listens with a shut mouth. Same numbers, same pictures; needs
PyAV. What she says is made by models/tiny/sample/spoken.py.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from models.tiny.renderer import Person, backdrop, draw, labels, light_from, place
from models.tiny.renderer.film_cast import calm_values
from models.tiny.renderer.person import names

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

FPS, FRAMES = 25, 225
WIDTH, HEIGHT = 1280, 720
_SCALE = 118.0  # pixels per head unit: a face of about 260 px
_EYES = (640.0, 285.0)

_INNER = {
    "skin_tone": 0.35, "skin_hue": 0.15, "eye_hue": 0.1, "eye_light": 0.2, "eye_size": 0.25, "eye_round": 0.1,
    "brow_thick": -0.1, "brow_light": -0.6, "brow_arch": 0.35, "lash": 0.6, "nose_width": -0.35, "nose_length": -0.2,
    "lip_full": 0.35, "lip_hue": 0.25, "lip_width": 0.1, "blush": -0.2, "age": -0.35, "cheek": 0.3,
    "beard": -1.0, "moustache": -1.0, "freckles": -1.0, "mole": -1.0,
}  # fmt: skip
_OUTER = {
    "hair_amount": 1.0, "hair_length": -0.2, "hair_volume": 0.25, "hair_part": 0.5, "hair_sweep": 0.6,
    "hair_wave": 0.15, "hairline": 0.3, "hair_r": 0.27, "hair_g": 0.16, "hair_b": 0.10,
    "face_width": -0.1, "jaw_width": -0.25, "chin_length": 0.0, "ear_size": -0.2, "shoulders": -0.5,
    "cloth_kind": 4.0, "cloth_r": 0.17, "cloth_g": 0.27, "cloth_b": 0.44,
    "cloth2_r": 0.90, "cloth2_g": 0.88, "cloth2_b": 0.84, "neck_tone": 0.35, "neck_hue": 0.15,
}  # fmt: skip
_LIGHT = {
    "light_x": -0.4, "light_y": -0.45, "light_gain": 1.0, "ambient": 0.48, "warmth": 0.15, "rim_x": 0.9,
    "rim_gain": 0.35,
}  # fmt: skip


def ground() -> Bytes:
    """The room behind the presenter [720, 1280, 3]."""
    return backdrop(45, 1, WIDTH, HEIGHT, "film")


def presenter() -> Person:
    """Who presents: nobody of the training, whose people are random."""
    blank = Person(*(np.zeros(len(names(group, "film")), np.float32) for group in range(3)), look="film")
    room = ground()
    surroundings = light_from(room[: HEIGHT // 2].mean((0, 1)) / 255.0, room[HEIGHT // 2 :].mean((0, 1)) / 255.0)
    return blank.set({**calm_values(), **_LIGHT, **surroundings, **_INNER, **_OUTER})


def _sway(rng: np.random.Generator, size: float, hertz: float) -> Doubles:
    """A slow motion [FRAMES] without a beginning."""
    t = np.arange(FRAMES) / FPS
    waves = [np.sin(2 * np.pi * hertz * k * t + rng.uniform(0, 6.3)) / k for k in (1, 1.7, 2.9)]
    return np.asarray(size * sum(waves))


def _blinks(at_s: tuple[float, ...]) -> Doubles:
    frame = np.arange(FRAMES)
    out = np.full(FRAMES, 0.04)
    for second in at_s:
        out = np.maximum(out, np.clip(1.35 - np.abs(frame - second * FPS) / 2.4, 0.0, 1.0))
    return out


def performance() -> list[tuple[Person, Doubles]]:
    """The person and pixels_from_head [2,3] of every frame: small moves, blinks, a mouth that hardly opens."""
    rng = np.random.default_rng(12)
    yaw, pitch, roll = _sway(rng, 2.6, 0.19), 1.0 + _sway(rng, 1.6, 0.27), _sway(rng, 1.3, 0.16)
    gaze, brow = -yaw / 45.0, 0.12 + _sway(rng, 0.12, 0.31)
    smile, opened = 0.28 + _sway(rng, 0.06, 0.13), np.clip(_sway(rng, 0.03, 0.22), 0.0, 1.0)
    blink, body = _blinks((1.1, 3.9, 5.2, 8.0)), _sway(rng, 1.5, 0.11)
    drift_x, drift_y = _sway(rng, 2.5, 0.17), _sway(rng, 1.5, 0.23)
    who, out = presenter(), []
    for f in range(FRAMES):
        moment = {
            "yaw": yaw[f], "pitch": pitch[f], "roll": roll[f], "gaze_x": gaze[f], "brow_raise": brow[f],
            "smile": smile[f], "open": opened[f], "blink": blink[f], "body_turn": body[f],
        }  # fmt: skip
        view = place((_EYES[0] + drift_x[f], _EYES[1] + drift_y[f]), _SCALE)
        out.append((who.set({name: float(value) for name, value in moment.items()}), view))
    return out


def picture(person: Person, view: Doubles, room: Bytes) -> Bytes:
    """One frame [720, 1280, 3] RGB."""
    image = room.copy()
    draw(person, view, image, threads=2)
    return image


def make_template(folder: Path, crf: float) -> None:
    """Writes presenter.mp4 and presenter_truth.npz (points [225,5,2], box [225,4] in px)."""
    room, points, boxes = ground(), [], []
    path = folder / "presenter.mp4"
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = Fraction(1, FPS)
        video.options = {"crf": str(crf), "preset": "slower", "profile": "high", "bf": "2", "g": "50", "threads": "1"}
        colour = video.codec_context
        colour.color_primaries, colour.color_trc, colour.colorspace, colour.color_range = 1, 1, 1, 1  # BT.709, limited
        for f, (person, view) in enumerate(performance()):
            told = labels(person, view)
            points.append(told.points_px)
            boxes.append(told.box_xyxy_px)
            frame = av.VideoFrame.from_ndarray(picture(person, view, room), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = f, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    part.replace(path)
    found, framed = np.stack(points).astype(np.float32), np.stack(boxes).astype(np.float32)
    np.savez_compressed(folder / "presenter_truth.npz", points=found, box=framed)


def main() -> None:
    """python -m models.tiny.sample.presenter"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.sample.presenter")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--crf", type=float, default=21.0, help="quality of the clip: smaller is better and larger")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    make_template(given.out, given.crf)


if __name__ == "__main__":
    main()
