"""Template: shapes that must agree, and what follows from the video that it is of."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.template.template import FrameIndex
from tests.clips import cut_out, lay_down
from tests.templates import hand_made


def test_what_follows_from_the_video(sample: Path, tmp_path: Path) -> None:
    template = hand_made(sample / "clip.mp4", 10)
    assert (template.count, template.size_px, template.turn_deg) == (10, (1280, 720), 0)
    assert (template.colour.matrix, template.colour.full_range) == ("bt709", False)
    assert len(template.idle) == 0
    cut = cut_out(sample / "clip.mp4", tmp_path / "cut.mp4", start=0, count=3, size=(320, 180))
    lying = hand_made(lay_down(cut, tmp_path / "lying.mp4", 90), 3)
    assert (lying.size_px, lying.turn_deg) == ((320, 180), 90)
    assert (lying.video.width_px, lying.video.height_px) == (180, 320)


def test_arrays_must_agree(sample: Path) -> None:
    template = hand_made(sample / "clip.mp4", 10)
    with pytest.raises(ValueError, match=r"Template\.boxes: wanted \[10, 4\] for 10 frames, got \[9, 4\]"):
        dataclasses.replace(template, boxes=template.boxes[:9])
    with pytest.raises(ValueError, match=r"Template\.idle: wanted frames in 0\.\.9, got range\(5, 11\)"):
        dataclasses.replace(template, idle=range(5, 11))
    with pytest.raises(ValueError, match=r"Template\.references: wanted frames in 0\.\.9, got \(3, 10\)"):
        dataclasses.replace(template, references=(3, 10))
    with pytest.raises(ValueError, match=r"Template: wanted frames and a rate, got 10 at 0"):
        dataclasses.replace(template, rate=Fraction(0))
    with pytest.raises(ValueError, match=r"FrameIndex: wanted a checksum for each of 3 pictures and keys from 0 on"):
        FrameIndex(np.arange(3), np.array([1]), np.zeros(3, np.uint32))
