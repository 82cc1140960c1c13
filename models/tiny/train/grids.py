"""One picture that shows what a trained network does with the first held-out drawings, not picked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.tiny import talking
from models.tiny.measure import HELD_OUT
from models.tiny.pack import FOLDER, Pack
from models.tiny.renderer import random_inner
from models.tiny.renderer.speech import SHAPES, track
from models.tiny.train import crops, picture_file

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

_GREEN, _WHITE, _RED = (60, 220, 90), (255, 255, 255), (235, 60, 50)
_SEED = HELD_OUT + 40  # of the refiner's crops; the others show what the card measures
_PEOPLE, _NEAREST = 8, 5
_SPEECH_FPS, _TALKING_EVERY = 25.0, 7  # frames of speech between two pictures


def tiled(pictures: Sequence[Bytes], columns: int) -> Bytes:
    """Pictures of one size side by side, row by row; black where the last row ends early."""
    blank = np.zeros_like(pictures[0])
    rows = [list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    return np.concatenate([np.concatenate([*row, *[blank] * (columns - len(row))], axis=1) for row in rows])


def _open(folder: Path, name: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(str(folder / f"tiny_{name}.onnx"), options, providers=["CPUExecutionProvider"])


def scenes(folder: Path, look: str) -> Bytes:
    """Scenes: the true boxes in white, what the detector found in green, with its points."""
    pack = Pack(folder, threads=1)
    return tiled([picture_file.found_scene(pack, look, i, refined=False) for i in range(8)], 4)


def crops_with_points(folder: Path, look: str) -> Bytes:
    """Shaken crops at twice their size: the true points in white, the refined ones in green."""
    session, shown = _open(folder, "refiner"), []
    for i in range(24):
        image, truth = crops.refine_crop(np.random.default_rng([_SEED, i]), look)
        nchw = (image.astype(np.float32) - 127.5).transpose(2, 0, 1)[None] / 128.0
        found = session.run(None, {"input": nchw})[0][0]
        large = image.repeat(2, 0).repeat(2, 1)
        picture_file.dots(large, 2.0 * truth + 0.5, _WHITE)
        picture_file.dots(large, 2.0 * found + 0.5, _GREEN)
        shown.append(large)
    return tiled(shown, 8)


def people(folder: Path, look: str) -> Bytes:
    """A person a row, and whom the embedder holds nearest among the others' and the same person's other pictures.

    Framed in green where it is the same person, in red where not.
    """
    pack, images = Pack(folder, threads=1), []
    for i in range(_PEOPLE):
        rng = np.random.default_rng([HELD_OUT + 2, i])
        inner = random_inner(rng, look)
        images.append([crops.embed_crop(rng, inner, look=look) for _ in range(_NEAREST + 1)])
    known = np.stack([pack.embed(np.stack(row)) for row in images]).reshape(-1, 512)
    flat, shown = [image for row in images for image in row], []
    for i in range(_PEOPLE):
        asked = i * (_NEAREST + 1)
        nearest = [int(n) for n in np.argsort(-(known @ known[asked])) if n != asked][:_NEAREST]
        shown.append(flat[asked])
        for n in nearest:
            image = flat[n].copy()
            for inset in range(3):
                box = np.array([inset, inset, 111 - inset, 111 - inset])
                picture_file.frame_box(image, box, _GREEN if n // (_NEAREST + 1) == i else _RED)
            shown.append(image)
    return tiled(shown, 2 * (_NEAREST + 1))


def swaps(folder: Path, look: str) -> Bytes:
    """Pairs: source, target, output, truth."""
    return picture_file.swap_grid(Pack(folder, threads=1), look)


def restored(folder: Path, look: str) -> Bytes:
    """Faces: soft, restored, truth."""
    return picture_file.restored_grid(Pack(folder, threads=1), look)


def labels(folder: Path, look: str) -> Bytes:
    """Faces: true classes, and what those of the three labelling networks say that the folder has."""
    return picture_file.label_grid(Pack(folder, threads=1))


def mouths(folder: Path, look: str) -> Bytes:
    """The presenter in held-out speech: the template's picture, with the network's mouth, with the true one."""
    talker, frames = talking.Talker(folder), talking.moments()
    sample = FOLDER / "sample"
    sound, said = talking.read_sound(sample / "held_out_speech.opus"), talking.said_of(sample / "held_out_speech.json")
    count = 16 * _TALKING_EVERY
    mel = talking.windows(sound, count)
    mouth = track([each for piece in said for each in piece.sounds], count, _SPEECH_FPS)
    shapes = np.stack([mouth[name] for name in SHAPES], 1)
    shown = []
    for n in range(0, count, _TALKING_EVERY):
        crop = talking.cut(frames[n % len(frames)])
        shown += [crop, talker.speak(crop, mel[n]), talking.cut(frames[n % len(frames)], shapes[n])]
    return tiled(shown, 12)


# Which picture shows a module's network. The functions take a folder with its file and with those that it reads.
GRIDS: dict[str, Callable[[Path, str], Bytes]] = {
    "detector": scenes,
    "refiner": crops_with_points,
    "embedder": people,
    "swapper": swaps,
    "restorer": restored,
    "parser": labels,
    "occluder": labels,
    "points68": labels,
    "lipsync": mouths,
}
