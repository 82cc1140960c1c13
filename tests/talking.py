"""The presenter's clip as a template, prepared by the truth that comes with it: no detector's error is in it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from engine.template.template import Template
from engine.video.source import open_source
from models.contract import load_contract, load_template
from models.tiny.pack import FOLDER
from models.tiny.renderer import similarity
from models.tiny.renderer.picture import inverse
from models.tiny.train.mouths import blank_xywh_px

__all__ = ["CLIP", "changed_outside", "presenter_template"]

U8 = npt.NDArray[np.uint8]

CLIP = FOLDER / "sample" / "presenter.mp4"


def presenter_template() -> Template:
    """All of the clip at 25 frames a second."""
    contract = load_contract("tiny_lipsync")
    target = np.array(load_template(contract.template).points_px)
    with open_source(CLIP, threads=1) as source:
        info = source.info
    truth = np.load(CLIP.with_name("presenter_truth.npz"))
    crops = np.stack([similarity(points.astype(np.float64), target) for points in truth["points"]])
    there, back = crops.astype(np.float32), np.stack([inverse(one) for one in crops]).astype(np.float32)
    count = len(crops)
    return Template(
        path=CLIP, video=info, rate=Fraction(25), source_frame=np.arange(count), has_face=np.ones(count, bool),
        crop_from_frame=there, frame_from_crop=back, raw_crop_from_frame=there, points=truth["points"],
        boxes=truth["box"],
    )  # fmt: skip


def changed_outside(before: tuple[U8, U8], after: tuple[U8, U8], template: Template, row: int) -> bool:
    """Whether NV12 planes differ outside the contract's blank rectangle, by its corners in the frame and one pixel."""
    x, y, width, height = blank_xywh_px()
    rectangle = np.array([(x, y), (x + width, y), (x, y + height), (x + width, y + height)]) - 0.5
    matrix = template.frame_from_crop[row]
    corners = rectangle @ matrix[:, :2].T + matrix[:, 2]
    for plane, made, share in ((before[0], after[0], 1.0), (before[1], after[1], 0.5)):
        columns = plane.shape[1] if share == 1.0 else plane.shape[1] // 2
        differs = (plane != made).reshape(plane.shape[0], columns, -1).any(-1)
        low, high = np.floor(corners.min(0) * share).astype(int) - 1, np.ceil(corners.max(0) * share).astype(int) + 2
        differs[max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = False
        if differs.any():
            return True
    return False
