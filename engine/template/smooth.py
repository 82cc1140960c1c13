"""Still faces rest, moving ones are followed without lag: what is known of the whole video at once.

Values are looked at in three layers: what changes over seconds, over some frames, and from frame to frame. A layer
stays where it is stronger than the noise, and goes where it is not. All kernels are symmetric, so nothing lags.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["filled", "runs", "smoothed", "without_outliers"]

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Sigmas of the two slower layers, in pictures; the fastest is a quadratic through five (Savitzky and Golay).
_SIGMAS = (8.0, 2.0)
_FIVE = np.array([-3.0, 12.0, 17.0, 12.0, -3.0]) / 35
#: A layer's strength is measured over this many pictures, and counts from so many times the noise on.
_WINDOW_SIGMA, _NOISES = 4.0, 2.0
#: The least noise, in face sizes: 0.3 px of a face of 150.
_LEAST_NOISE = 0.002
#: An outlier is this far from the median of five pictures, in noises and at least in face sizes.
_OUTLIER_NOISES, _OUTLIER_SIZE = 8.0, 0.05
#: Pictures that are compared at once: an hour of 68 points is not to be held five times.
_ROWS = 4096
#: From a median absolute deviation to a standard deviation, of a normal distribution.
_OF_MEDIAN = 1.4826


def smoothed(values: F64, size: float) -> F64:
    """Values [m, d] of m pictures in a row, smoothed with one weight for all d.

    `size`: a face's size in their unit. Noise is never taken for less than a small part of it: a compressed still
    picture stands for some frames and then moves a little, which looks like motion without noise.
    """
    if len(values) < 3:
        return values.copy()
    slow, middle, fast = (_filtered(values, kernel) for kernel in _KERNELS)
    residual = values - fast
    noise = (_OF_MEDIAN * np.median(np.abs(residual), axis=0)) ** 2 / _energy(_minus(_DELTA, _FIVE))
    noise = np.maximum(noise, (_LEAST_NOISE * size) ** 2)
    out = slow
    for layer, kernel in (
        (middle - slow, _minus(_KERNELS[1], _KERNELS[0])),
        (fast - middle, _minus(_FIVE, _KERNELS[1])),
    ):
        power = _filtered((layer**2).sum(axis=1, keepdims=True), _gauss(_WINDOW_SIGMA))
        expected = float(noise.sum()) * _energy(kernel) * _NOISES
        out = out + layer * np.maximum(0, 1 - expected / np.maximum(power, 1e-12))
    return out


def without_outliers(values: F64, size: F64) -> F64:
    """Values [m, d] with each picture that leaps away from its neighbours put between them.

    `size` [m]: a face's size in the unit of the values. It is an outlier that is far from the median of five pictures
    and from the curve through its four neighbours: the turning point of a nod is only the first. At most two in five
    pictures may be outliers; the first and the last picture are taken as they are.
    """
    m = len(values)
    if m < 5:
        return values.copy()
    padded = np.pad(values, ((2, 2), (0, 0)), mode="reflect", reflect_type="odd")
    away = np.concatenate([_leaps(padded[at : at + _ROWS + 4]) for at in range(0, m, _ROWS)])
    noise = _OF_MEDIAN * float(np.median(away))
    good = away <= np.maximum(_OUTLIER_NOISES * noise, _OUTLIER_SIZE * size)
    return filled(values, good) if good.any() else values.copy()


def _leaps(padded: F64) -> F64:
    """How far each of [m + 4, d] values, but the first and last two, is from what its neighbours say: [m]."""
    m = len(padded) - 4
    around = np.stack([padded[n : n + m] for n in range(5)])
    curve = (4 * (around[1] + around[3]) - around[0] - around[4]) / 6
    from_median = np.linalg.norm(around[2] - np.median(around, axis=0), axis=1)
    return np.asarray(np.minimum(from_median, np.linalg.norm(around[2] - curve, axis=1)))


def filled(values: F64, known: Flags) -> F64:
    """Values [m, d] with the rows that are not `known` put on the line between their neighbours."""
    at = np.flatnonzero(known)
    return np.stack([np.interp(np.arange(len(values)), at, column[at]) for column in values.T], axis=1)


def runs(has_face: Flags, begins: Flags) -> list[slice]:
    """Stretches of pictures with a face; one that `begins` something new is the first of its stretch."""
    starts = np.flatnonzero(has_face & (begins | ~np.concatenate([[False], has_face[:-1]])))
    ends = np.flatnonzero(has_face & np.concatenate([begins[1:] | ~has_face[1:], [True]])) + 1
    return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _gauss(sigma: float) -> F64:
    reach = round(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


_KERNELS = (_gauss(_SIGMAS[0]), _gauss(_SIGMAS[1]), _FIVE)
_DELTA = np.ones(1)


def _minus(one: F64, other: F64) -> F64:
    reach = max(len(one), len(other)) // 2
    return np.pad(one, reach - len(one) // 2) - np.pad(other, reach - len(other) // 2)


def _energy(kernel: F64) -> float:
    """What a kernel makes of white noise of variance 1."""
    return float((kernel**2).sum())


def _filtered(values: F64, kernel: F64) -> F64:
    """Each column under a symmetric kernel; beyond the ends the values go on turned about the last one."""
    reach, m = len(kernel) // 2, len(values)
    padded = np.pad(values, ((min(reach, m - 1),) * 2, (0, 0)), mode="reflect", reflect_type="odd")
    padded = np.pad(padded, ((max(0, reach - m + 1),) * 2, (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
