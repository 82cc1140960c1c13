"""shapes: DH_live's six mouth shapes a frame, kept within what a mouth can do, for hosts that draw it themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, explain

__all__ = ["ShapeFilter"]

F32 = npt.NDArray[np.float32]

_BIAS_MIN, _BIAS_MAX = -45.0, 0.0  # of DH_live: lips that open further, or pass through each other, are not believed


class ShapeFilter:
    """One frame's weights after another, in order: what gives an impossible mouth is softened by the last possible one.

    `upper_y` and `lower_y` float32 [weights]: how far each shape moves the vertices 4 and 5 of the host's mesh in y,
    in the mesh's own units. Weighted, their difference must lie in -45..0; else the frame takes the mean of its
    weights and the last ones for which it did (zeros before the first). `scale` multiplies the weights first: DH_live's
    mini takes half of what the network says.
    """

    def __init__(self, upper_y: F32, lower_y: F32, *, scale: float = 1.0) -> None:
        if upper_y.ndim != 1 or upper_y.shape != lower_y.shape:
            got = f"{list(upper_y.shape)} and {list(lower_y.shape)}"
            raise InputError(explain("ShapeFilter", "two rows of one length, a value for each shape", got, "cut them"))
        self._between = upper_y.astype(np.float64) - lower_y
        self.scale = scale
        self._last = np.zeros(upper_y.shape, np.float32)

    def __call__(self, weights: F32) -> F32:
        """The weights float32 [weights] to draw with."""
        scaled = weights * np.float32(self.scale)
        if _BIAS_MIN <= float(scaled @ self._between) <= _BIAS_MAX:
            self._last = scaled
            return scaled
        return np.asarray((scaled + self._last) / 2, np.float32)

    def reset(self) -> None:
        """Forget the last weights: another sound begins."""
        self._last = np.zeros_like(self._last)
