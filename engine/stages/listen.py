"""listen: sound in; for each video frame, in order, what the generator takes of it, and whether anybody speaks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.audio.conditions import Conditions
from engine.audio.shapes import ShapeFilter
from engine.audio.speech import SpeechGate, SpeechOptions
from engine.timing import Timings

__all__ = ["Heard", "Listen"]

F32 = npt.NDArray[np.float32]

_FADE_FRAMES = 3  # that speech is told ahead of time, where the look-ahead covers them


@dataclass(frozen=True)
class Heard:
    """What one video frame takes of the sound: `condition` float32, the generator's input without its batch.

    `speaks`: somebody does in this frame, or will within the next few, so that a mouth that is faded in is there
    when speech begins. Frames count from 0 at the sound's beginning.
    """

    n: int
    condition: F32
    speaks: bool


class Listen:
    """One sound after another to one Heard a video frame, none left out, the same however the sound is cut.

    `rate_hz` is that of the samples; `look_ahead_ms` the sound behind a frame's instant that it waits for, None where
    it waits for the sound's end. `ahead_frames`: how far `speaks` looks, at no further wait. Times itself as "listen".
    `shapes` is for conditions that are weights of mouth shapes.
    """

    def __init__(
        self,
        conditions: Conditions,
        timings: Timings,
        speech: SpeechOptions | None = None,
        *,
        shapes: ShapeFilter | None = None,
    ) -> None:
        self.conditions, self.timings, self.shapes = conditions, timings, shapes
        self.clock, self.rate_hz = conditions.clock, conditions.rate_hz
        self.gate = SpeechGate(self.clock, speech)
        self.look_ahead_ms = conditions.look_ahead_ms
        frame_ms = 1000.0 / float(self.clock.fps)
        known = _FADE_FRAMES if self.look_ahead_ms is None else int(self.look_ahead_ms / frame_ms) - 1
        self.ahead_frames = max(0, min(_FADE_FRAMES, known))
        self._arrays: deque[F32] = deque()
        self._speaks: deque[bool] = deque()
        self._frame = 0

    def push(self, samples: F32) -> list[Heard]:
        """The frames that are ready with these samples: mono, -1..1, float32 at `rate_hz`."""
        if not len(samples):  # a live run asks often; what takes nothing in is no work to be timed
            return self._ready(self.ahead_frames)
        with self.timings.span("listen"):
            self._arrays.extend(self.conditions.push(samples))
            self._speaks.extend(map(bool, self.gate.push(samples)))
            return self._ready(self.ahead_frames)

    def flush(self) -> list[Heard]:
        """The frames left, up to the last that begins within the sound. The next sample is another sound's first."""
        with self.timings.span("listen"):
            self._arrays.extend(self.conditions.flush())
            self._speaks.extend(map(bool, self.gate.flush()))
            rest = self._ready(0)
        self._begin()
        return rest

    def reset(self) -> None:
        """Forget the sound (barge-in): the next sample is the first of another one, the next frame is frame 0."""
        self.conditions.reset()
        self.gate.reset()
        self._begin()

    def warm_up(self) -> None:
        """Run an encoder once on silence, so that the first sound finds its buffers; then forget it."""
        if self.look_ahead_ms is None:
            return  # its buffers are as long as the sound
        for at in range(0, int(self.rate_hz * self.look_ahead_ms / 1000) + self.rate_hz, self.rate_hz // 10):
            if len(self.conditions.push(np.zeros(self.rate_hz // 10, np.float32))) or at > 4 * self.rate_hz:
                break
        self.reset()

    def _ready(self, ahead: int) -> list[Heard]:
        found: list[Heard] = []
        while self._arrays and len(self._speaks) > ahead:
            speaks = any(list(self._speaks)[: self.ahead_frames + 1])
            self._speaks.popleft()
            array = self._arrays.popleft()
            found.append(Heard(self._frame, self.shapes(array) if self.shapes is not None else array, speaks))
            self._frame += 1
        return found

    def _begin(self) -> None:
        self._arrays.clear()
        self._speaks.clear()
        self._frame = 0
        if self.shapes is not None:
            self.shapes.reset()
