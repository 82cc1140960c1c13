"""tape: the last entries of an endless sequence, in memory of a fixed size, addressed by their number in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Tape"]

Array = npt.NDArray[Any]


class Tape:
    """Entries `start` to `end` of a sequence, one behind the other in memory, so that any run of them is one view.

    Room for `capacity` entries of `shape`. What `forget` gives up is overwritten when room is needed.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...] = (), dtype: npt.DTypeLike = np.float32) -> None:
        self._memory: Array = np.zeros((capacity, *shape), dtype)
        self._first = 0  # number of the entry that stands first in memory
        self.start = self.end = 0

    @property
    def capacity(self) -> int:
        """How many entries fit."""
        return len(self._memory)

    @property
    def room(self) -> int:
        """How many more entries fit now."""
        return self.capacity - (self.end - self.start)

    def reserve(self, count: int) -> Array:
        """Memory of the next `count` entries, to be filled by the caller; at most `room` of them."""
        if count > self.room:
            raise ValueError(f"Tape: wanted {count} entries, got room for {self.room}; forget some, or make it larger")
        if self.end - self._first + count > self.capacity:
            held = self.end - self.start
            self._memory[:held] = self._memory[self.start - self._first : self.end - self._first]
            self._first = self.start
        at = self.end - self._first
        self.end += count
        return self._memory[at : at + count]

    def view(self, start: int, end: int) -> Array:
        """Entries `start` to `end` without a copy; valid until the next `reserve`."""
        if not self.start <= start <= end <= self.end:
            raise ValueError(
                f"Tape: wanted entries {self.start} to {self.end}, got {start} to {end}; ask before they are forgotten"
            )
        return self._memory[start - self._first : end - self._first]

    def take(self, numbers: npt.NDArray[np.int64]) -> Array:
        """A copy of the entries of these numbers, in this order."""
        taken: Array = self._memory[numbers - self._first]
        return taken

    def forget(self, start: int) -> None:
        """Give up the entries before `start`."""
        self.start = min(max(start, self.start), self.end)

    def clear(self) -> None:
        """Begin again at entry 0."""
        self._first = self.start = self.end = 0
