"""Pictures stored on their side, as phones do: upright for the networks, turned back for the file.

Both turns move samples and change none, so what was not pasted over leaves as it came, and the file keeps its
rotation tag.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.video.info import VideoInfo

__all__ = ["turned", "upright_turn_deg"]

Plane = npt.NDArray[np.uint8]


def upright_turn_deg(info: VideoInfo) -> int:
    """The clockwise turn, 0, 90, 180 or 270 degrees, after which the picture stands upright.

    Where the file also mirrors, the picture stays mirrored (a face is one either way), and the turn, which the
    file means for the mirrored picture, goes the other way.
    """
    quarter = round(info.rotation_deg / 90) * 90 % 360
    return -quarter % 360 if info.mirrored else quarter


def turned(planes: Sequence[Plane], clockwise_deg: int) -> tuple[Plane, ...]:
    """Planes (y, u, v) or (y, uv) turned clockwise by 0, 90, 180 or 270 degrees; copies, but for 0.

    An interleaved plane is turned as pairs: [h, 2 w] becomes [w, 2 h] for a quarter turn.
    """
    turns = -(clockwise_deg // 90) % 4
    if turns == 0:
        return tuple(planes)
    out = []
    for index, plane in enumerate(planes):
        if len(planes) == 2 and index == 1:
            pairs = np.rot90(plane.reshape(plane.shape[0], -1, 2), turns)
            out.append(np.ascontiguousarray(pairs).reshape(pairs.shape[0], -1))
        else:
            out.append(np.ascontiguousarray(np.rot90(plane, turns)))
    return tuple(out)
