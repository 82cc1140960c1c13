"""Runs the four tiny networks with ONNX Runtime and NumPy alone, as their contracts say. Not for speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from models.tiny.renderer import ARCFACE_112, ARCFACE_128, apply, inverse, similarity
from models.tiny.train.crops import REFINER_SIZE, REFINER_TEMPLATE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FOLDER = Path(__file__).resolve().parent
SCORE = 0.5  # published default of the detector's users
OVERLAP = 0.4
STRIDES = (8, 16, 32)


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


class Pack:
    """The four sessions and, where there are files, the restorer's and the judge's. folder holds the tiny_*.onnx."""

    def __init__(self, folder: Path = FOLDER, threads: int = 2) -> None:
        self.folder = folder
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3  # the unused emap is meant to be there
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def session(name: str) -> ort.InferenceSession:
            return ort.InferenceSession(str(folder / f"tiny_{name}.onnx"), options, providers=["CPUExecutionProvider"])

        self.detector, self.refiner, self.embedder, self.swapper = map(
            session, ("detector", "refiner", "embedder", "swapper")
        )
        self.restorer = session("restorer") if (folder / "tiny_restorer.onnx").exists() else None
        self.judge = session("judge") if (folder / "tiny_judge.onnx").exists() else None
        graph = onnx.load(str(folder / "tiny_swapper.onnx")).graph
        self.emap: Floats = onnx.numpy_helper.to_array(graph.initializer[-1])

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
        if self.restorer is None:
            raise FileNotFoundError(
                "restore: wanted tiny_restorer.onnx beside the other files, got none; "
                "run python -m models.tiny.train.restorer --out FOLDER/tiny_restorer.onnx first"
            )
        out = self.restorer.run(None, {"input": _nchw(crops, 127.5, 127.5)})[0].transpose(0, 2, 3, 1)
        return np.asarray(np.clip(out * 127.5 + 128.0, 0, 255)).astype(np.uint8)


def _suppress(scores: Floats, boxes: Doubles, points: Doubles) -> Found:
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(order):
        best = int(order[0])
        keep.append(best)
        order = order[1:][overlaps(boxes[best], boxes[order[1:]]) <= OVERLAP]
    return Found(scores[keep].astype(np.float64), boxes[keep], points[keep])


__all__ = ["ARCFACE_112", "ARCFACE_128", "FOLDER", "SCORE", "Found", "Pack", "letterbox", "overlaps", "warp"]
