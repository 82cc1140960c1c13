"""What a benchmark is fed: NV12 frames in memory, of the sample's people, a video, a still, or noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from engine.errors import InputError, MediaError, explain
from engine.video.pictures import is_picture, read_picture
from engine.video.pyav import words

__all__ = ["BenchInput", "Truth", "open_input", "sample_input"]

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"

# a person of the sample, in px of its frames: narrower than the way to the other one
WINDOW = (360, 540)
_GREY = 96


@dataclass(frozen=True)
class Truth:
    """The faces of one frame: boxes float32 [k, 4] and points float32 [k, 5, 2], in px of the frame."""

    boxes: F32
    points: F32


@dataclass(frozen=True)
class BenchInput:
    """Frames uint8 [H + ceil(H / 2), W], played forth and back so that no cut is in them; `truth` where it is known."""

    frames: list[U8]
    size_px: tuple[int, int]
    says: str
    truth: list[Truth] | None = None

    def at(self, index: int) -> int:
        """Which of the frames is the index-th of a run that is longer than they are."""
        last = len(self.frames) - 1
        if last == 0:
            return 0
        place = index % (2 * last)
        return place if place <= last else 2 * last - place


def open_input(name: str, size_px: tuple[int, int] | None, faces: int, count: int) -> BenchInput:
    """ "sample" (drawn people, `faces` of them), "noise", a picture or a video; scaled to `size_px` where given.

    Raises InputError or MediaError for what can't be read.
    """
    if name == "sample":
        return sample_input(size_px or (1280, 720), faces, count)
    if name == "noise":
        width, height = size_px or (1280, 720)
        shape = (height + (height + 1) // 2, width)
        return BenchInput(
            [np.random.default_rng(7).integers(16, 236, shape, dtype=np.uint8)],
            (width, height),
            "noise: finds no face, so it shows what finding costs",
        )
    if is_picture(name):
        return _still(Path(name), size_px)
    return _video(name, size_px, count)


def sample_input(size_px: tuple[int, int], faces: int, count: int) -> BenchInput:
    """`faces` close-ups of the sample's two people side by side, with where they are; drawn faces only."""
    told = np.load(SAMPLE / "clip_truth.npz")
    chosen = _apart(told)[:count]
    frames, truth = [], []
    for index, picture in enumerate(_decode(str(SAMPLE / "clip.mp4"))):
        if index > chosen[-1]:
            break
        if index in chosen:
            nv12, faces_there = _arrange(picture, told["box"][index], told["points"][index], size_px, faces)
            frames.append(nv12)
            truth.append(faces_there)
    return BenchInput(frames, size_px, f"sample, {faces} drawn faces of {_height(truth[0]):.0f} px", truth)


def _apart(told: dict[str, F32]) -> list[int]:
    """The longest run of frames in which both people are whole, and each window holds one of them."""
    box = told["box"]
    whole = (told["visible"][:, :, 0] > 0.99).all(axis=1)
    left, right = box[:, :, 0].min(axis=1), box[:, :, 2].max(axis=1)
    centre = (box[:, :, 0] + box[:, :, 2]) / 2
    order = centre.argsort(axis=1)
    near = np.take_along_axis(box[:, :, 2], order, 1)[:, 0] + 20 < np.sort(centre, axis=1)[:, 1] - WINDOW[0] / 2
    far = np.take_along_axis(box[:, :, 0], order, 1)[:, 1] - 20 > np.sort(centre, axis=1)[:, 0] + WINDOW[0] / 2
    good = whole & near & far & (left > 0) & (right < 1280)
    best: list[int] = []
    run: list[int] = []
    for index, is_good in enumerate(good):
        run = [*run, index] if is_good else []
        best = run if len(run) > len(best) else best
    return best


def _arrange(picture: U8, boxes: F32, points: F32, size_px: tuple[int, int], faces: int) -> tuple[U8, Truth]:
    width, height = size_px
    canvas = np.full((height + (height + 1) // 2, width // 2 * 2), 128, dtype=np.uint8)
    canvas[:height] = _GREY
    columns = math.ceil(math.sqrt(faces))
    rows = math.ceil(faces / columns)
    scale = min(width / columns / WINDOW[0], height / rows / WINDOW[1])
    wide, high = (int(side * scale) // 2 * 2 for side in WINDOW)
    found_boxes, found_points = [], []
    for at in range(faces):
        box = boxes[at % 2]
        from_x = _even((box[0] + box[2] - WINDOW[0]) / 2, 1280 - WINDOW[0])
        from_y = _even((box[1] + box[3] - WINDOW[1]) / 2, 720 - WINDOW[1])
        to_x = _even((at % columns + 0.5) * width / columns - wide / 2, width - wide)
        to_y = _even((at // columns + 0.5) * height / rows - high / 2, height - high)
        _paste(picture, (from_x, from_y), canvas, (to_x, to_y), (wide, high), height)
        step = np.array([wide / WINDOW[0], high / WINDOW[1]])
        found_boxes.append((box.reshape(2, 2) - (from_x, from_y)) * step + (to_x, to_y))
        found_points.append((points[at % 2] - (from_x, from_y)) * step + (to_x, to_y))
    boxes_px = np.stack(found_boxes).reshape(faces, 4).astype(np.float32)
    return canvas, Truth(boxes_px, np.stack(found_points).astype(np.float32))


def _paste(
    picture: U8, start: tuple[int, int], canvas: U8, to: tuple[int, int], size_px: tuple[int, int], height: int
) -> None:
    (x, y), (to_x, to_y), (wide, high) = start, to, size_px
    luma = picture[y : y + WINDOW[1], x : x + WINDOW[0]]
    chroma = picture[720 + y // 2 : 720 + (y + WINDOW[1]) // 2, x : x + WINDOW[0]]
    window = np.ascontiguousarray(np.vstack([luma, chroma]))
    scaled = _scaled(av.VideoFrame.from_ndarray(window, format="nv12"), (wide, high))
    canvas[to_y : to_y + high, to_x : to_x + wide] = scaled[:high]
    canvas[height + to_y // 2 : height + (to_y + high) // 2, to_x : to_x + wide] = scaled[high:]


def _still(path: Path, size_px: tuple[int, int] | None) -> BenchInput:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(read_picture(path)), format="rgb24")
    size = size_px or (frame.width // 2 * 2, frame.height // 2 * 2)
    return BenchInput([_scaled(frame, size)], size, f"the still {path.name}")


def _video(name: str, size_px: tuple[int, int] | None, count: int) -> BenchInput:
    frames = []
    size = size_px
    for picture in _decode(name, size_px):
        size = size or (picture.shape[1], picture.shape[0] * 2 // 3)
        frames.append(picture)
        if len(frames) == count:
            break
    if not frames or size is None:
        raise MediaError(explain(name, "a video with pictures", "none", "name another file"))
    return BenchInput(frames, size, f"{len(frames)} frames of {Path(name).name}")


def _decode(name: str, size_px: tuple[int, int] | None = None) -> Iterator[U8]:
    try:
        with av.open(name) as container:
            if not container.streams.video:
                raise InputError(explain(name, "a video", "a file without one", "name another file"))
            for frame in container.decode(video=0):
                yield _scaled(frame, size_px or (frame.width // 2 * 2, frame.height // 2 * 2))
    except (av.FFmpegError, OSError) as error:
        raise MediaError(explain(name, "a video that FFmpeg reads", words(error), "check the path")) from error


def _scaled(frame: av.VideoFrame, size_px: tuple[int, int]) -> U8:
    made = frame.reformat(width=size_px[0], height=size_px[1], format="nv12").to_ndarray()
    return np.ascontiguousarray(made, dtype=np.uint8)


def _even(value: float, most: float) -> int:
    return int(min(max(value, 0), most)) // 2 * 2


def _height(truth: Truth) -> float:
    return float((truth.boxes[:, 3] - truth.boxes[:, 1]).mean())
