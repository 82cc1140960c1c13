"""Where a file's pictures are, and a checksum of each: what makes decoding in any order safe."""

from __future__ import annotations

import zlib
from array import array
from pathlib import Path

import numpy as np

from engine.template.template import FrameIndex
from engine.video.decoded import DecodedFrame
from engine.video.source import open_source

__all__ = ["IndexBuilder", "checksum", "index_video"]

#: One row in so many goes into a checksum: what decodes wrongly is wrong in blocks of 8 or 16 rows.
_ROWS = 4


def checksum(frame: DecodedFrame) -> int:
    """A CRC-32 over every fourth row of a picture's planes: tells a picture from another, and whole from broken."""
    value = 0
    for plane in frame.planes():
        value = zlib.crc32(np.ascontiguousarray(plane[::_ROWS]).data, value)
    return value


class IndexBuilder:
    """A FrameIndex, picture by picture, in the order in which a source hands them out."""

    def __init__(self) -> None:
        self._pts, self._checks, self._keys = array("q"), array("L"), array("q")
        self._pts_are_exact = True

    def add(self, frame: DecodedFrame) -> None:
        """Take in the next picture."""
        if frame.carried.key_frame or not self._pts:
            self._keys.append(len(self._pts))
        self._pts_are_exact &= frame.carried.pts == frame.pts
        self._pts.append(frame.pts)
        self._checks.append(checksum(frame))

    def build(self) -> FrameIndex:
        """The index of what was taken in."""
        keys = self._keys if self._pts_are_exact else self._keys[:1]
        return FrameIndex(
            pts=np.array(self._pts, np.int64),
            keys=np.array(keys, np.int64),
            checks=np.array(self._checks, np.uint32),
        )


def index_video(path: Path, *, threads: int) -> FrameIndex:
    """The index of a file; decodes all of it. Raises as `open_source` and reading it do."""
    builder = IndexBuilder()
    with open_source(path, threads=threads) as source:
        for item in source:
            if isinstance(item, DecodedFrame):
                builder.add(item)
    return builder.build()
