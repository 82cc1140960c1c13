"""Makes the sample: python -m models.tiny.sample.make [--out FOLDER]. Same numbers, same pictures; needs PyAV."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from models.tiny.renderer import Person, backdrop, calm, draw, labels, place
from models.tiny.sample import cast, stage
from models.tiny.sample.voice import RATE, Speech, speech

Bytes = npt.NDArray[np.uint8]
View = npt.NDArray[np.float64]

# Where the two sit in each shot: centre between the eyes, and pixels per head unit (a face is 2.2 units high).
_SEATS = (((455.0, 310.0), 74.0), ((835.0, 318.0), 70.0)), (((905.0, 325.0), 114.0), ((335.0, 335.0), 118.0))
_SPEAKS = ([(0.2, 2.9), (6.2, 8.1)], [(3.1, 5.8), (8.3, 9.7)])
_TURNS = (
    [
        (0.0, 4.0),
        (0.8, 22.0),
        (2.6, 12.0),
        (3.4, 34.0),
        (5.6, 28.0),
        (5.99, 30.0),
        (6.0, -8.0),
        (7.5, -20.0),
        (8.6, -35.0),
        (10.0, -30.0),
    ],
    [
        (0.0, -30.0),
        (2.8, -24.0),
        (3.3, -4.0),
        (4.6, -16.0),
        (5.99, -8.0),
        (6.0, 30.0),
        (8.0, 33.0),
        (8.5, 10.0),
        (10.0, 2.0),
    ],
)
_PASSING = ((1.0, 1.5, 2.7), (2.0, 6.9, 8.0))  # kind of object, first and last second


def _actors() -> list[tuple[list[Person], Speech]]:
    out = []
    voices = ((21, 112.0, 1.0), (22, 198.0, 1.16))
    for i, (person, partner) in enumerate(((cast.LEFT, 1.0), (cast.RIGHT, -1.0))):
        seed, pitch, tract = voices[i]
        talk = speech(seed, cast.FRAMES, cast.FPS, _SPEAKS[i], pitch, tract)
        role = cast.Role(person, talk, partner, 31 + i)
        out.append((cast.performance(role, _TURNS[i], _PASSING[i]), talk))
    return out


def _shot(frame: int) -> int:
    return int(frame >= cast.CUT)


def _view(frame: int, who: int) -> View:
    (x, y), scale = _SEATS[_shot(frame)][who]
    t = frame / cast.FPS
    drift = 5.0 * np.sin(0.9 * t + 2.1 * who), 3.0 * np.sin(1.3 * t + who)
    return place((x + drift[0], y + drift[1]), scale * (1.0 + 0.015 * np.sin(0.7 * t + who)))


def draw_frame(
    frame: int, people: list[Person], ground: Bytes
) -> tuple[Bytes, list[dict[str, npt.NDArray[np.float64]]]]:
    """One picture [720,1280,3] RGB and each person's truth: points [5,2], box [4], visible share [1]."""
    image, truth = ground.copy(), []
    for who, person in enumerate(people):
        view = _view(frame, who)
        mask = np.zeros(image.shape[:2], np.uint8)
        draw(person, view, image, mask, threads=2)
        shown = float(mask.sum(dtype=np.int64))
        if person.get("occluder") > 0.5:
            bare = np.zeros_like(mask)
            draw(person.set({"occluder": 0.0}), view, np.zeros_like(image), bare, threads=2)
            share = shown / max(float(bare.sum(dtype=np.int64)), 1.0)
        else:
            share = 1.0
        label = labels(person, view)
        truth.append({"points": label.points_px, "box": label.box_xyxy_px, "visible": np.array([share])})
    if _shot(frame) == 0:
        stage.add_desk(image)
    return image, truth


def _video(container: av.container.OutputContainer, crf: int) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=cast.FPS)
    stream.width, stream.height, stream.pix_fmt = stage.WIDTH, stage.HEIGHT, "yuv420p"
    stream.time_base = Fraction(1, cast.FPS)
    stream.options = {"crf": str(crf), "preset": "slower", "profile": "high", "bf": "2", "g": "50", "threads": "1"}
    context = stream.codec_context
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = (
        1,
        1,
        1,
        1,
    )  # BT.709, limited
    return stream


def _encode(folder: Path, crf: int) -> dict[str, npt.NDArray[np.float32]]:
    actors, grounds = _actors(), (stage.talk_show(), stage.close_up())
    truth: dict[str, list[npt.NDArray[np.float64]]] = {"points": [], "box": [], "visible": []}
    with av.open(str(folder / "clip.mp4"), "w", options={"movflags": "+faststart"}) as container:
        video = _video(container, crf)
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 64000
        for frame in range(cast.FRAMES):
            image, labelled = draw_frame(frame, [people[frame] for people, _ in actors], grounds[_shot(frame)])
            for key, rows in truth.items():
                rows.append(np.stack([person[key] for person in labelled]))
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            picture.pts, picture.time_base = frame, Fraction(1, cast.FPS)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        sound = np.clip(sum(talk.sound for _, talk in actors), -1, 1).astype(np.float32)[None]
        for start in range(0, sound.shape[1], 1024):
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound[:, start : start + 1024]), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return {key: np.stack(rows).astype(np.float32) for key, rows in truth.items()}


def _save_png(path: Path, image: Bytes) -> None:
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _save_portrait(path: Path, person: Person, ground: int) -> None:
    image = backdrop(ground, 0, 448, 448)
    draw(calm(person), place((224.0, 205.0), 98.0), image, samples=2, threads=2)
    _save_png(path, image)


def make(folder: Path, crf: int = 21) -> None:
    """Writes clip.mp4, clip_truth.npz (points [250,2,5,2], box [250,2,4], visible [250,2,1]) and pictures.

    source_1 to source_3 are faces to put on; person_1 and person_2 are stills of the two in the clip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, person in enumerate(cast.SOURCES, start=1):
        _save_portrait(folder / f"source_{i}.png", person, 70 + i)
    for i, person in enumerate((cast.LEFT, cast.RIGHT), start=1):
        _save_portrait(folder / f"person_{i}.png", person, 80 + i)
    truth = _encode(folder, crf)
    np.savez_compressed(folder / "clip_truth.npz", points=truth["points"], box=truth["box"], visible=truth["visible"])


def main() -> None:
    """python -m models.tiny.sample.make"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.sample.make")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--crf", type=int, default=21, help="quality of the clip: smaller is better and larger")
    given = parser.parse_args()
    make(given.out, given.crf)


if __name__ == "__main__":
    main()
