"""Where a file's pictures are, and a checksum of each: what makes decoding in any order safe."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.template.template import FrameIndex
from engine.video.decoded import DecodedFrame
from engine.video.source import open_source

__all__ = ["checksum", "frame_index", "index_video"]

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

#: One row in so many goes into a checksum: what decodes wrongly is wrong in blocks of 8 or 16 rows.
_ROWS = 4


def checksum(frame: DecodedFrame) -> int:
    """A CRC-32 over every fourth row of a picture's planes: tells a picture from another, and whole from broken."""
    value = 0
    for plane in frame.planes():
        value = zlib.crc32(np.ascontiguousarray(plane[::_ROWS]).data, value)
    return value


def frame_index(pts: I64, checks: U32, is_key: Flags, *, pts_are_exact: bool) -> FrameIndex:
    """The index of pictures in the order in which a source hands them out.

    is_key [frames]: the decoder calls it a key picture. pts_are_exact: no time stamp had to be corrected, so that
    a picture is known by it wherever decoding begins.
    """
    keys = np.flatnonzero(is_key) if pts_are_exact else np.zeros(0, np.int64)
    return FrameIndex(pts, np.unique(np.concatenate([[0], keys])).astype(np.int64), checks)


def index_video(path: Path, *, threads: int) -> FrameIndex:
    """The index of a file; decodes all of it. Raises as `open_source` and reading it do."""
    pts, checks, is_key, pts_are_exact = [], [], [], True
    with open_source(path, threads=threads) as source:
        for item in source:
            if isinstance(item, DecodedFrame):
                pts.append(item.pts)
                checks.append(checksum(item))
                is_key.append(item.carried.key_frame)
                pts_are_exact &= item.carried.pts == item.pts
    return frame_index(
        np.array(pts, np.int64), np.array(checks, np.uint32), np.array(is_key, np.bool_), pts_are_exact=pts_are_exact
    )
