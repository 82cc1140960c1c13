"""Runs the tiny networks with ONNX Runtime and NumPy alone, as their contracts say. Not for speed."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from models.tiny.renderer import ARCFACE_112, ARCFACE_128, LOOKS, apply, inverse, similarity
from models.tiny.train.crops import REFINER_SIZE, REFINER_TEMPLATE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FOLDER = Path(__file__).resolve().parent
SCORE = 0.5  # published default of the detector's users
OVERLAP = 0.4
STRIDES = (8, 16, 32)
_PARSER_MEAN: Floats = np.array((123.675, 116.28, 103.53), np.float32)  # ImageNet's, as BiSeNet's contracts say
_PARSER_STD: Floats = np.array((58.395, 57.12, 57.375), np.float32)


@dataclass(frozen=True)
class Found:
    """Detected faces, best first: scores [k], boxes_xyxy [k,4] and points [k,5,2] in pixels of the picture."""

    scores: Doubles
    boxes_xyxy: Doubles
    points: Doubles


def warp(image: Bytes, matrix: Doubles, size: int) -> Bytes:
    """Crop [size,size,3]: matrix is crop_from_picture [2,3]; bilinear, black outside."""
    v, u = np.mgrid[:size, :size].astype(np.float64)
    at = apply(inverse(matrix), np.stack([u.ravel(), v.ravel()], 1))
    low = np.floor(at).astype(np.int64)
    part = at - low
    height, width = image.shape[:2]
    out = np.zeros((size * size, 3))
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = low[:, 0] + dx, low[:, 1] + dy
            weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            out += image[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] * weight[:, None]
    return np.asarray(out.reshape(size, size, 3) + 0.5).astype(np.uint8)


def letterbox(image: Bytes, size: int) -> tuple[Bytes, float]:
    """The picture bilinearly resized into the top left of a black square, and the scale used."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    high, wide = int(height * scale), int(width * scale)
    if (high, wide) == (height, width):
        resized = image
    else:
        y = np.clip((np.arange(high) + 0.5) / scale - 0.5, 0, height - 1)
        x = np.clip((np.arange(wide) + 0.5) / scale - 0.5, 0, width - 1)
        y0, x0 = np.minimum(y.astype(np.int64), height - 2), np.minimum(x.astype(np.int64), width - 2)
        fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
        rows = image[y0] * (1 - fy) + image[y0 + 1] * fy
        resized = (rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx + 0.5).astype(np.uint8)
    out = np.zeros((size, size, 3), np.uint8)
    out[:high, :wide] = resized
    return out, scale


def overlaps(box: Doubles, others: Doubles) -> Doubles:
    """IoU of one box with [k,4] others."""
    sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
    inter = sides.prod(1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(inter / np.maximum(areas - inter, 1e-9))


def _nchw(images: Bytes, mean: float, scale: float) -> Floats:
    return np.ascontiguousarray(((images.astype(np.float32) - mean) / scale).transpose(0, 3, 1, 2))


def look_of(folder: Path) -> str:
    """The look of drawn faces that a folder's networks learned, as its card.json says; "classic" where none does.

    Raises ValueError for a look that the renderer has not.
    """
    card = folder / "card.json"
    look = str(json.loads(card.read_text()).get("look", "classic")) if card.exists() else "classic"
    if look not in LOOKS:
        raise ValueError(f"{card}: wanted a look of {', '.join(LOOKS)}, got {look!r}; measure the folder again")
    return look


class Pack:
    """The networks of a folder of tiny_*.onnx, each opened when it is first asked for.

    The first four are always meant to be there; the others are None where the folder has no file of them.
    """

    def __init__(self, folder: Path = FOLDER, threads: int = 2) -> None:
        self.folder, self.look = folder, look_of(folder)
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3  # the unused emap is meant to be there
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def _open(self, name: str) -> ort.InferenceSession:
        path = self.folder / f"tiny_{name}.onnx"
        if not path.exists():
            raise FileNotFoundError(
                f"Pack: wanted {path.name} in {self.folder}, got none; "
                f"run python -m models.tiny.train.{name} --out FOLDER/{path.name} first"
            )
        return ort.InferenceSession(str(path), self._options, providers=["CPUExecutionProvider"])

    def _open_if_there(self, name: str) -> ort.InferenceSession | None:
        return self._open(name) if (self.folder / f"tiny_{name}.onnx").exists() else None

    @functools.cached_property
    def detector(self) -> ort.InferenceSession:
        """SCRFD's form."""
        return self._open("detector")

    @functools.cached_property
    def refiner(self) -> ort.InferenceSession:
        """Five points of a crop."""
        return self._open("refiner")

    @functools.cached_property
    def embedder(self) -> ort.InferenceSession:
        """ArcFace's form."""
        return self._open("embedder")

    @functools.cached_property
    def swapper(self) -> ort.InferenceSession:
        """inswapper's form."""
        return self._open("swapper")

    @functools.cached_property
    def emap(self) -> Floats:
        """The swapper's last initializer [512,512], which takes an embedding to a latent."""
        graph = onnx.load(str(self.folder / "tiny_swapper.onnx")).graph
        return np.asarray(onnx.numpy_helper.to_array(graph.initializer[-1]), np.float32)

    @functools.cached_property
    def restorer(self) -> ort.InferenceSession | None:
        """GFPGAN's form, at 256 px."""
        return self._open_if_there("restorer")

    @functools.cached_property
    def judge(self) -> ort.InferenceSession | None:
        """A second embedder, that was in no loss."""
        return self._open_if_there("judge")

    @functools.cached_property
    def occluder(self) -> ort.InferenceSession | None:
        """XSeg's form: where the face is seen."""
        return self._open_if_there("occluder")

    @functools.cached_property
    def parser(self) -> ort.InferenceSession | None:
        """BiSeNet's form: 19 classes."""
        return self._open_if_there("parser")

    @functools.cached_property
    def landmarks(self) -> ort.InferenceSession | None:
        """2dfan4's form: 68 points."""
        return self._open_if_there("points68")

    def detect(self, image: Bytes, sizes: tuple[int, ...] = (640,), score: float = SCORE) -> Found:
        """Faces of a picture [h,w,3]; several sizes are pooled before one greedy suppression, as published."""
        scores, boxes, points = [], [], []
        for size in sizes:
            canvas, scale = letterbox(image, size)
            out = self.detector.run(None, {"input.1": _nchw(canvas[None], 127.5, 128.0)})
            for i, stride in enumerate(STRIDES):
                n = size // stride
                y, x = np.mgrid[:n, :n] * stride
                centre = np.repeat(np.stack([x, y], -1).reshape(-1, 2), 2, 0)
                keep = out[i][:, 0] >= score
                c = centre[keep].astype(np.float64)
                box, kps = out[i + 3][keep] * stride, out[i + 6][keep].reshape(-1, 5, 2) * stride
                scores.append(out[i][keep, 0])
                boxes.append(np.concatenate([c - box[:, :2], c + box[:, 2:]], 1) / scale)
                points.append((c[:, None] + kps) / scale)
        return _suppress(np.concatenate(scores), np.concatenate(boxes), np.concatenate(points))

    def refine(self, image: Bytes, points: Doubles) -> Doubles:
        """Better points [5,2] from rough ones, both in pixels of the picture."""
        matrix = similarity(points, REFINER_TEMPLATE)
        crop = warp(image, matrix, REFINER_SIZE)
        out = self.refiner.run(None, {"input": _nchw(crop[None], 127.5, 128.0)})[0][0]
        return apply(inverse(matrix), out.astype(np.float64))

    def embed(self, crops: Bytes) -> Floats:
        """Unit embeddings [n,512] of aligned 112-pixel crops [n,112,112,3]."""
        out: Floats = self.embedder.run(None, {"input.1": _nchw(crops, 127.5, 127.5)})[0]
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))

    def judged(self, crops: Bytes) -> Floats:
        """As embed, by a second embedder that no training ever asked; training leaves one beside its candidates."""
        if self.judge is None:
            raise FileNotFoundError(
                "judged: wanted tiny_judge.onnx beside the other files, got none; "
                "run python -m models.tiny.train.embedder --seed 2 --out FOLDER/tiny_judge.onnx first"
            )
        out: Floats = self.judge.run(None, {"input.1": _nchw(crops, 127.5, 127.5)})[0]
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))

    def embed_at(self, image: Bytes, points: Doubles) -> Floats:
        """Unit embedding [512] of the face with these points."""
        return np.asarray(self.embed(warp(image, similarity(points, ARCFACE_112), 112)[None])[0])

    def latent(self, embedding: Floats) -> Floats:
        """Unit latents [n,512] of unit embeddings [n,512]."""
        mapped = embedding @ self.emap
        return np.asarray(mapped / np.linalg.norm(mapped, axis=1, keepdims=True))

    def swap(self, targets: Bytes, latents: Floats) -> Bytes:
        """Swapped crops [n,128,128,3] of targets (ARCFACE_128 template)."""
        feed = {"target": _nchw(targets, 0.0, 255.0), "source": latents.astype(np.float32)}
        out = self.swapper.run(None, feed)[0].transpose(0, 2, 3, 1)
        return np.asarray(np.clip(out * 255.0, 0, 255)).astype(np.uint8)

    def restore(self, crops: Bytes) -> Bytes:
        """Restored crops [n,256,256,3] of crops (ARCFACE_128 template at twice its size)."""
        out = (
            _there(self.restorer, "restore", "restorer")
            .run(None, {"input": _nchw(crops, 127.5, 127.5)})[0]
            .transpose(0, 2, 3, 1)
        )
        return np.asarray(np.clip(out * 127.5 + 128.0, 0, 255)).astype(np.uint8)

    def seen(self, crops: Bytes) -> Floats:
        """How surely the face is seen, 0..1 [n,256,256], in crops [n,256,256,3] (placed as for `restore`)."""
        session = _there(self.occluder, "seen", "occluder")
        feed = {"input": np.ascontiguousarray(crops[..., ::-1], np.float32) / 255.0}
        return np.asarray(session.run(None, feed)[0][..., 0])

    def classes(self, crops: Bytes) -> Bytes:
        """The parser's class [n,256,256] of each pixel of crops [n,256,256,3], placed as for `seen`.

        The network sees every pixel as four, and its four answers for a pixel are one by their mean.
        """
        session = _there(self.parser, "classes", "parser")
        out = np.empty(crops.shape[:3], np.uint8)
        for crop, told in zip(crops, out, strict=True):  # one by one: the logits of a face are 20 MB
            x = (crop.astype(np.float32) - _PARSER_MEAN) / _PARSER_STD
            large = x.transpose(2, 0, 1).repeat(2, axis=1).repeat(2, axis=2)
            logits = session.run(None, {"input": np.ascontiguousarray(large[None])})[0][0]
            height, width = told.shape
            told[:] = logits.reshape(-1, height, 2, width, 2).mean((2, 4)).argmax(0)
        return out

    def points68(self, crops: Bytes) -> Doubles:
        """iBUG's 68 points [n,68,2], px of crops [n,256,256,3] that a face's box fills as 2dfan4's contract asks."""
        session = _there(self.landmarks, "points68", "points68")
        feed = {"input": np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2), np.float32) / 255.0}
        scored = session.run(["landmarks_xyscore"], feed)[0]
        return np.asarray(scored[..., :2], np.float64) * 4.0 - 0.5  # a cell of its grid is 4 px, told by its border


def _there(session: ort.InferenceSession | None, method: str, name: str) -> ort.InferenceSession:
    if session is None:
        raise FileNotFoundError(
            f"{method}: wanted tiny_{name}.onnx beside the other files, got none; "
            f"run python -m models.tiny.train.{name} --out FOLDER/tiny_{name}.onnx first"
        )
    return session


def _suppress(scores: Floats, boxes: Doubles, points: Doubles) -> Found:
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(order):
        best = int(order[0])
        keep.append(best)
        order = order[1:][overlaps(boxes[best], boxes[order[1:]]) <= OVERLAP]
    return Found(scores[keep].astype(np.float64), boxes[keep], points[keep])


__all__ = ["ARCFACE_112", "ARCFACE_128", "FOLDER", "SCORE", "Found", "Pack", "letterbox", "look_of", "overlaps", "warp"]
