"""Templates made by hand, for tests that don't prepare one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.template.template import Template
from engine.video.source import open_source

__all__ = ["hand_made"]


def hand_made(path: Path, count: int) -> Template:
    """A template of the first frames of a video, with one crop for all of them."""
    with open_source(path, threads=1) as source:
        info = source.info
    matrix = np.tile(np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32), (count, 1, 1))
    return Template(
        path=path,
        video=info,
        rate=Fraction(25),
        source_frame=np.arange(count),
        has_face=np.ones(count, bool),
        crop_from_frame=matrix,
        frame_from_crop=np.tile(np.array([[2, 0, 0], [0, 2, 0]], np.float32), (count, 1, 1)),
        raw_crop_from_frame=matrix,
        points=np.zeros((count, 5, 2), np.float32),
        boxes=np.zeros((count, 4), np.float32),
    )
