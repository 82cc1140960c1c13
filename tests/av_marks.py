"""A flash in the picture and a chirp in the sound at the same instant, and how far apart they are found again.

The source says what lies together: every two seconds a patch of the picture, under the number's bars and away from all
faces, turns white, and a chirp begins at the same sample. What comes out is decoded and searched for both, without a
look at any stamp but those of the decoded pictures and samples: an A/V offset that no part of the engine has a say in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["FLASH_EVERY_S", "BeepFinder", "FlashFinder", "Offset", "draw_flash", "offsets_ms", "sound_with_beeps"]

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

FLASH_EVERY_S = 2
FLASH_PICTURES = 5
#: Rows and columns of the patch: under the number's bars.
PATCH_PX = (slice(16, 32), slice(0, 256))
RATE_HZ = 48_000
CHIRP_S = 0.04


def chirp() -> F32:
    """The sound of a mark: 40 ms that rise from 500 to 5000 Hz, so that its place is known to a sample."""
    at_s = np.arange(round(CHIRP_S * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * (500 * at_s + 0.5 * (5000 - 500) / CHIRP_S * at_s**2)
    fade = np.minimum(1.0, np.minimum(at_s, CHIRP_S - at_s) / 0.002)
    return (0.5 * fade * np.sin(phase)).astype(np.float32)


def draw_flash(luma: U8, number: int, rate: int) -> None:
    """White for the first pictures of every second second, black for the others."""
    is_lit = number % (FLASH_EVERY_S * rate) < FLASH_PICTURES
    luma[PATCH_PX] = 235 if is_lit else 16


def sound_with_beeps(first: int, count: int) -> F32:
    """Samples from `first` on: a chirp at every second second, silence between."""
    mark = chirp()
    at = np.arange(first, first + count) % (FLASH_EVERY_S * RATE_HZ)
    return np.where(at < len(mark), mark[np.minimum(at, len(mark) - 1)], np.float32(0))


@dataclass
class FlashFinder:
    """Flashes in decoded pictures. `onsets_s`: stamps of the first lit picture; `lost`: its picture was dropped."""

    rate: int
    onsets_s: list[float] = field(default_factory=list)
    lost: int = 0
    _was_lit: bool | None = None

    def picture(self, luma: U8, number: int, stamp_s: float) -> None:
        """One decoded picture, in the order of showing."""
        is_lit = bool(luma[PATCH_PX].mean() > 125)
        if is_lit and self._was_lit is False:
            # where the first lit picture was dropped, the flash begins late by right, and says nothing of the sound
            if number >= 0 and number % (FLASH_EVERY_S * self.rate) == 0:
                self.onsets_s.append(stamp_s)
            else:
                self.lost += 1
        self._was_lit = is_lit


class BeepFinder:
    """Chirps in decoded sound, found by correlation; `onsets_s` are stamps of their first sample."""

    _KEEP = RATE_HZ // 2

    def __init__(self) -> None:
        self.onsets_s: list[float] = []
        self._samples: F32 = np.zeros(0, np.float32)
        self._stamps: npt.NDArray[np.float64] = np.zeros(0)
        self._mark = chirp()

    def push(self, samples: F32, stamp_s: float) -> None:
        """Decoded mono samples, the first of them at `stamp_s`."""
        stamps = stamp_s + np.arange(len(samples)) / RATE_HZ
        self._samples = np.concatenate([self._samples, samples])
        self._stamps = np.concatenate([self._stamps, stamps])
        if len(self._samples) >= 2 * self._KEEP:
            self._search()

    def finish(self) -> None:
        """No sound comes any more."""
        self._search()

    def _search(self) -> None:
        """Find the marks that lie wholly in what is kept, and keep its end, where one may have begun."""
        size = len(self._mark)
        while len(self._samples) >= 2 * size:
            loud = np.flatnonzero(np.abs(self._samples) > 0.2)
            if not len(loud):
                break
            start = max(int(loud[0]) - size // 2, 0)
            part = self._samples[start : start + 2 * size]
            if len(part) < 2 * size:
                break  # the rest of it has not come yet
            self.onsets_s.append(self._place(start, np.correlate(part, self._mark, "valid")))
            self._drop(start + 2 * size)
        self._drop(max(len(self._samples) - self._KEEP, 0) if not (np.abs(self._samples) > 0.2).any() else 0)

    def _place(self, start: int, match: F32) -> float:
        """Where the best match lies, to a part of a sample."""
        at = int(match.argmax())
        part = 0.0
        if 0 < at < len(match) - 1:
            left, peak, right = (float(match[at + step]) for step in (-1, 0, 1))
            part = 0.5 * (left - right) / (left - 2 * peak + right)
        return float(self._stamps[start + at]) + part / RATE_HZ

    def _drop(self, count: int) -> None:
        self._samples, self._stamps = self._samples[count:], self._stamps[count:]


@dataclass(frozen=True)
class Offset:
    """One flash and its beep: when, and by how much the sound comes before its picture."""

    at_s: float
    sound_early_ms: float


def offsets_ms(flashes_s: Sequence[float], beeps_s: Sequence[float]) -> list[Offset]:
    """Each flash beside the nearest beep within half of the distance between two."""
    beeps = sorted(beeps_s)
    found = []
    for flash in flashes_s:
        near = bisect_left(beeps, flash)
        nearest = min(beeps[max(near - 1, 0) : near + 1], key=lambda beep: abs(beep - flash), default=None)
        if nearest is not None and abs(nearest - flash) < FLASH_EVERY_S / 2:
            found.append(Offset(flash, 1e3 * (flash - nearest)))
    return found
