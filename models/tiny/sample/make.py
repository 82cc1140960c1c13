"""Makes the sample: python -m models.tiny.sample.make [--out FOLDER]. Same numbers, same pictures; needs PyAV."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from models.tiny.renderer import Person, backdrop, calm, draw, labels, light_from, place
from models.tiny.sample import cast, stage
from models.tiny.sample.cast import Gesture, Role
from models.tiny.sample.voice import RATE, Speech, speech

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

# Where the two sit in each shot: centre between the eyes, and pixels per head unit (a face is 2.2 units high).
_SEATS = (((452.0, 300.0), 92.0), ((838.0, 310.0), 88.0)), (((902.0, 322.0), 130.0), ((344.0, 332.0), 130.0))
_SPEAKS = ([(0.2, 2.9), (6.2, 8.1)], [(3.1, 5.8), (8.3, 9.7)])
_WORDS, _VOICES = (21, 23), (3, 15)  # seeds
_TURNS = (
    [
        (0.0, 6.0), (0.8, 22.0), (2.6, 12.0), (3.4, 30.0), (5.6, 26.0), (5.99, 28.0), (6.0, -8.0), (7.5, -20.0),
        (8.6, -31.0), (10.0, -26.0),
    ],
    [
        (0.0, -28.0), (2.8, -23.0), (3.3, -4.0), (4.6, -18.0), (5.99, -8.0), (6.0, 28.0), (8.0, 30.0), (8.5, 9.0),
        (10.0, 3.0),
    ],
)  # fmt: skip
_GESTURES = Gesture(1.5, 3.0, 0.45, 1.45, -32.0), Gesture(6.5, 8.2, 0.86, 0.20, -22.0)
_PORTRAIT_PX = 448


@dataclass(frozen=True)
class Actor:
    """One of the two: the person in every frame, and the sound of the whole clip."""

    people: list[Person]
    speech: Speech


def actors() -> list[Actor]:
    """The two of the clip, LEFT first."""
    out = []
    for i, (person, partner) in enumerate(((cast.LEFT, 1.0), (cast.RIGHT, -1.0))):
        talk = speech(_WORDS[i], _VOICES[i], cast.FRAMES, cast.FPS, _SPEAKS[i])
        role = Role(person, talk, partner, 31 + i)
        out.append(Actor(cast.performance(role, _TURNS[i], _GESTURES[i]), talk))
    return out


def _shot(frame: int) -> int:
    return int(frame >= cast.CUT)


def view(frame: int, who: int) -> Doubles:
    """pixels_from_head [2,3] of a person in a frame: nobody sits quite still."""
    (x, y), scale = _SEATS[_shot(frame)][who]
    t = frame / cast.FPS
    drift = 5.0 * np.sin(0.9 * t + 2.1 * who), 3.0 * np.sin(1.3 * t + who)
    return place((x + drift[0], y + drift[1]), scale * (1.0 + 0.015 * np.sin(0.7 * t + who)))


def _visible(person: Person, at: Doubles, mask: Bytes, threads: int) -> float:
    """Share of the face that the hand leaves to be seen."""
    if person.get("occluder") < 0.5:
        return 1.0
    bare = np.zeros_like(mask)
    draw(person.set({"occluder": 0.0}), at, np.zeros((*mask.shape, 3), np.uint8), bare, 2, threads)
    return float(mask.sum(dtype=np.int64)) / max(float(bare.sum(dtype=np.int64)), 1.0)


def draw_frame(frame: int, people: list[Person], threads: int = 2) -> tuple[Bytes, list[dict[str, Doubles]]]:
    """One picture [720,1280,3] RGB and each person's truth: points [5,2], box [4], visible share [1]."""
    shot = _shot(frame)
    ground = (stage.talk_show, stage.close_up)[shot]()
    image, truth = ground.copy(), []
    for who, unlit in enumerate(people):
        at = view(frame, who)
        person = unlit.set(stage.light_on(ground, _SEATS[shot][who][0][0], shot))
        mask = np.zeros(image.shape[:2], np.uint8)
        fine = 2 if person.get("occluder") > 0.5 else 0  # a sleeve's end is an edge that the drawing does not look for
        draw(person, at, image, mask, fine, threads)
        label = labels(person, at)
        share = _visible(person, at, mask, threads)
        truth.append({"points": label.points_px, "box": label.box_xyxy_px, "visible": np.array([share])})
    if shot == 0:
        stage.add_desk(image)
    return image, truth


def _video(container: av.container.OutputContainer, crf: float) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=cast.FPS)
    stream.width, stream.height, stream.pix_fmt = stage.WIDTH, stage.HEIGHT, "yuv420p"
    stream.time_base = Fraction(1, cast.FPS)
    stream.options = {"crf": str(crf), "preset": "slower", "profile": "high", "bf": "2", "g": "50", "threads": "1"}
    colour = stream.codec_context
    colour.color_primaries, colour.color_trc, colour.colorspace, colour.color_range = 1, 1, 1, 1  # BT.709, limited
    return stream


def _add_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: npt.NDArray[np.float32]) -> None:
    for start in range(0, sound.shape[1], 1024):
        part = np.ascontiguousarray(sound[:, start : start + 1024])
        block = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
        container.mux(stream.encode(block))
    container.mux(stream.encode(None))


def _encode(folder: Path, crf: float, threads: int) -> dict[str, npt.NDArray[np.float32]]:
    two = actors()
    truth: dict[str, list[Doubles]] = {"points": [], "box": [], "visible": []}
    part = folder / "clip.part.mp4"
    with av.open(str(part), "w", options={"movflags": "+faststart"}) as container:
        video = _video(container, crf)
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 64000
        for frame in range(cast.FRAMES):
            image, labelled = draw_frame(frame, [actor.people[frame] for actor in two], threads)
            for key, rows in truth.items():
                rows.append(np.stack([person[key] for person in labelled]))
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            picture.pts, picture.time_base = frame, Fraction(1, cast.FPS)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        sound = np.clip(sum(actor.speech.sound for actor in two), -1, 1).astype(np.float32)[None]
        _add_sound(container, audio, sound)
    part.replace(folder / "clip.mp4")
    return {key: np.stack(rows).astype(np.float32) for key, rows in truth.items()}


def _save_png(path: Path, image: Bytes) -> None:
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1, options={"pred": "mixed", "compression_level": "9"})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    part.replace(path)


def portrait(person: Person, ground: int, threads: int = 2) -> Bytes:
    """A still [448,448,3] of somebody who looks at us, before a studio wall of this seed."""
    size = _PORTRAIT_PX
    image = backdrop(ground, 0, size, size, "film")
    wall = light_from(image[: size // 2].mean((0, 1)) / 255.0, image[size // 2 :].mean((0, 1)) / 255.0)
    draw(calm(person).set(wall), place((size / 2, 0.46 * size), 0.22 * size), image, samples=2, threads=threads)
    return image


def make(folder: Path, crf: float = 22.0, threads: int = 2) -> None:
    """Writes clip.mp4, clip_truth.npz (points [250,2,5,2], box [250,2,4], visible [250,2,1]) and pictures.

    source_1 to source_3 are faces to put on; person_1 and person_2 are stills of the two in the clip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, person in enumerate(cast.SOURCES, start=1):
        _save_png(folder / f"source_{i}.png", portrait(person, 70 + i, threads))
    for i, person in enumerate((cast.LEFT, cast.RIGHT), start=1):
        _save_png(folder / f"person_{i}.png", portrait(person, 80 + i, threads))
    truth = _encode(folder, crf, threads)
    np.savez_compressed(folder / "clip_truth.npz", points=truth["points"], box=truth["box"], visible=truth["visible"])


def main() -> None:
    """python -m models.tiny.sample.make"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.sample.make")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--crf", type=float, default=22.0, help="quality of the clip: smaller is better and larger")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    make(given.out, given.crf, given.threads)


if __name__ == "__main__":
    main()
