"""What lip-sync tests and the benchmark share: twins as a user's files, and a template of the sample clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.lipsync import LipsyncPipeline, open_lipsync
from engine.template.template import Template
from engine.video.source import open_source
from models.contract import Contract, load_contract
from models.model_files import ModelFile, ModelFileError, open_file
from models.twins import write_twin
from profiles.profile import Lipsync, Models, Profile

__all__ = ["CLIP", "SIZE", "files_in_place", "lipsync_profile", "open_twin", "sample_template", "twin_path"]

F32 = npt.NDArray[np.float32]
CLIP = Path(__file__).parents[1] / "models" / "tiny" / "sample" / "clip.mp4"
SIZE = (1280, 720)


@contextmanager
def files_in_place(paths: Mapping[str, Path]) -> Iterator[None]:
    """While this is open, these files serve these contracts, where they lie: twins are large."""

    def find(name: str) -> ModelFile:
        if name not in paths:
            raise ModelFileError(f"model {name}: wanted one of {', '.join(paths)}, got none; put it in place")
        return open_file(load_contract(name), paths[name])

    with patch("engine.request.find", find):
        yield


def twin_path(name: str, **options: Any) -> Path:
    """A twin in the cache."""
    return write_twin(name, **options)


def lipsync_profile(contract: str, *, encoder: str = "", slots: int = 3, threads: int = 2, **options: Any) -> Profile:
    """A profile for one generator; encoders of free length are called live, on spans of sound."""
    if encoder in ("hubert_large", "heygem_wenet"):
        options = {"span": (8, 4, 8), **options}
    return Profile(
        name=f"test_{contract}",
        task="lipsync",
        says="a test",
        models=Models(detector="det_10g", lipsync=contract, encoder=encoder),
        backend="cpu",
        slots=slots,
        threads=threads,
        lipsync=Lipsync(**options),
    )


def sample_template(
    contract: Contract, count: int, *, rate: Fraction | None = None, without_face: tuple[int, ...] = ()
) -> Template:
    """The first frames of the sample clip with the first person's mouth, by the truth that comes with it.

    `raw_crop_from_frame` are boxes of whole px, `crop_from_frame` their mean over five frames.
    """
    with open_source(CLIP, threads=1) as source:
        info = source.info
    truth = np.load(CLIP.with_name("clip_truth.npz"))
    points, faces = truth["points"][:count, 0], truth["box"][:count, 0]
    boxes = np.array([mouth_box(one) for one in points])
    padded = np.pad(boxes, ((2, 2), (0, 0)), mode="edge")
    smoothed = np.mean([padded[i : i + count] for i in range(5)], axis=0)
    facts = contract.lipsync
    assert facts is not None
    has_face = np.ones(count, bool)
    has_face[list(without_face)] = False
    there = crops(smoothed, facts.crop_px)
    linear = np.linalg.inv(there[:, :, :2].astype(np.float64))
    back = np.concatenate([linear, -linear @ there[:, :, 2:]], axis=2).astype(np.float32)
    return Template(
        path=CLIP,
        video=info,
        rate=rate or Fraction(facts.frame_rate_hz or 25),
        source_frame=np.arange(count),
        has_face=has_face,
        crop_from_frame=there,
        frame_from_crop=back,
        raw_crop_from_frame=crops(np.round(boxes), facts.crop_px),
        points=points,
        boxes=faces,
        references=tuple(range(min(5, count))),
    )


def mouth_box(points: F32) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a square from the nose to below the chin."""
    left, right, nose, *mouth = points
    side = 2.2 * float(np.hypot(*(right - left)))
    middle = float(np.mean([x for x, _ in mouth]))
    return middle - side / 2, float(nose[1]) - 0.1 * side, middle + side / 2, float(nose[1]) + 0.9 * side


def crops(boxes: npt.NDArray[Any], crop_px: tuple[int, int]) -> F32:
    """crop_from_frame [count, 2, 3] of boxes whose edges meet the crop's."""
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).T
    sx, sy = crop_px[0] / (x1 - x0), crop_px[1] / (y1 - y0)
    zero = np.zeros_like(sx)
    rows = [[sx, zero, (0.5 - x0) * sx - 0.5], [zero, sy, (0.5 - y0) * sy - 0.5]]
    return np.array(rows).transpose(2, 0, 1).astype(np.float32)


def open_twin(
    contract: str,
    count: int = 6,
    *,
    encoder: str = "",
    like: Literal["ours", "original"] = "ours",
    backend: Backend | None = None,
    without_face: tuple[int, ...] = (),
    slots: int = 3,
    **options: Any,
) -> LipsyncPipeline:
    """A pipeline on the sample clip; its files must be in place."""
    template = sample_template(load_contract(contract), count, without_face=without_face)
    profile = lipsync_profile(contract, encoder=encoder, slots=slots, like=like, **options)
    return open_lipsync(profile, template=template, backend=backend)
