"""Between the 98 points of a face and maps of a picture: points found in maps, drawn as lines, spread as coordinates.

Points are [n,98,2] (x, y) in -1..1 of a picture whose pixels' middles go from -1 to 1; maps are [n,k,64,64] or, where
points are looked for, [n,k,32,32].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POINTS = 98
# Which of them are drawn together: jaw, brows, ridge and foot of the nose, eyes, outer and inner lips, pupils.
_GROUPS = (
    (0, 33), (33, 42), (42, 51), (51, 55), (55, 60), (60, 68), (68, 76), (76, 83), (83, 88), (88, 92), (92, 96),
    (96, 97), (97, 98),
)  # fmt: skip
LINES = len(_GROUPS)
# Where colours are read: every third point, and spots between two of them or, at a weight above 1, beyond the second.
_BETWEEN = (
    (4, 60, 0.5), (6, 55, 0.5), (8, 76, 0.5), (28, 72, 0.5), (26, 59, 0.5), (24, 82, 0.5), (16, 85, 0.5), (11, 76, 0.5),
    (21, 82, 0.5), (57, 79, 0.5), (41, 42, 0.5), (66, 55, 0.4), (74, 59, 0.4), (62, 35, 1.8), (70, 48, 1.8),
)  # fmt: skip
SPOTS = len(range(0, POINTS, 3)) + len(_BETWEEN)
_WAVES = (1.0, 2.0)  # of the coordinates, in half turns from the middle of a face to a picture's edge
COORDINATES = 2 + 4 * len(_WAVES) + 2 + 1
_CELL = 2.0 / 63.0
_WINDOW = 0.12  # around a rough point, standard deviation: 8 px of 128
_RIM = 2  # cells around a map that are as its edge is: a chin may lie below the picture
_REACH = 0.15  # how far a point carries its neighbourhood along: 10 px of 128


class FaceMaps(nn.Module):  # type: ignore[misc]
    """No weights: grids, and where the points of the usual face lie."""

    def __init__(self) -> None:
        super().__init__()
        y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
        self.register_buffer("place", torch.stack([x, y])[None])
        self.register_buffer("along", torch.linspace(-1, 1, 64))
        self.register_buffer("cells", (4.0 * torch.arange(-_RIM, 32 + _RIM) + 1.5) / 63.5 - 1.0)
        self.register_buffer("usual", torch.zeros(POINTS, 2))
        spots = torch.zeros(SPOTS, POINTS)
        for row, point in enumerate(range(0, POINTS, 3)):
            spots[row, point] = 1.0
        for row, (first, second, share) in enumerate(_BETWEEN, SPOTS - len(_BETWEEN)):
            spots[row, first] += 1.0 - share
            spots[row, second] += share
        self.register_buffer("spots", spots)

    def found(self, heat: Tensor, rough: Tensor) -> tuple[Tensor, Tensor]:
        """Points by the middle of each one's map [n,98,32,32], seen through a soft window around a rough guess.

        And the logarithm of what share of a map is at each cell [n,98,36,36], two more on each side.
        """
        for axis in (2, 3):
            first, last = heat.narrow(axis, 0, 1), heat.narrow(axis, heat.shape[axis] - 1, 1)
            heat = torch.cat([*[first] * _RIM, heat, *[last] * _RIM], axis)
        away = [self.cells - rough[..., i : i + 1] for i in (0, 1)]
        near_x, near_y = (-0.5 / _WINDOW**2 * each**2 for each in away)
        seen = (heat + near_y[..., :, None] + near_x[..., None, :]).flatten(2)
        share, logs = torch.softmax(seen, 2).view(heat.shape), torch.log_softmax(seen, 2).view(heat.shape)
        return rough + torch.stack([(share.sum(2) * away[0]).sum(2), (share.sum(3) * away[1]).sum(2)], 2), logs

    def missed(self, logs: Tensor, points: Tensor) -> Tensor:
        """Cross-entropy of such maps against the cells that the true points [n,98,2] lie between; none outside."""
        step = 4.0 / 63.5
        x, y = ((1.0 - (points[..., i : i + 1] - self.cells).abs() / step).clamp(min=0.0) for i in (0, 1))
        return -torch.einsum("npyx,npy,npx->np", logs, y, x).mean()

    def _bells(self, points: Tensor, width: float) -> tuple[Tensor, Tensor]:
        x, y = (torch.exp(-0.5 * ((points[..., i : i + 1] - self.along) / width) ** 2) for i in (0, 1))
        return x, y

    def lines(self, points: Tensor) -> Tensor:
        """Soft lines [n,13,64,64] of jaw, brows, nose, eyes, lips and pupils."""
        x, y = self._bells(points, _CELL)
        return torch.stack([torch.matmul(y[:, a:b].transpose(1, 2), x[:, a:b]) for a, b in _GROUPS], 1)

    def colours(self, picture: Tensor, points: Tensor) -> Tensor:
        """What a picture [n,3,64,64] shows around 48 spots of the face, [n,3,48]; 0 outside of the picture."""
        x, y = self._bells(torch.matmul(self.spots, points), 1.5 * _CELL)
        rows = torch.matmul(y[:, None], picture)
        return (rows * x[:, None]).sum(3) * (1.0 / (2.0 * math.pi * 1.5**2))

    def coordinates(self, here: Tensor, there: Tensor) -> Tensor:
        """Where on the usual face each pixel lies, if a face's points are `there`: [n,13,64,64].

        Two coordinates, their sines and cosines, how far the place came from `here`, and how near the face is.
        """
        x, y = self._bells(there, _REACH)
        moves = torch.cat([self.usual - there, here - there, torch.ones_like(there[..., :1])], 2).transpose(1, 2)
        sums = torch.matmul((moves[..., None] * y[:, None]).transpose(2, 3), x[:, None])
        near = sums[:, 4:]
        flow = sums[:, :4] / (near + 0.05)
        at = self.place + flow[:, :2]
        waves = [wave(turns * math.pi * at) for turns in _WAVES for wave in (torch.sin, torch.cos)]
        return torch.cat([at, *waves, 4.0 * flow[:, 2:], near / (1.0 + near)], 1)
