"""speech: whether anybody speaks in a video frame, and how clean the sound is.

The level of a frame is its RMS in dBFS (a full-scale square wave is 0). Between speech and silence lie two levels,
so that a voice at the edge doesn't flicker, and a hold, so that a stop consonant doesn't shut the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.audio.clock import AudioClock
from engine.audio.stream import samples_checked
from engine.audio.tape import Tape

__all__ = ["SpeechGate", "SpeechOptions"]

F32 = npt.NDArray[np.float32]

_FLOOR_DB = -100  # below lies digital silence
_DIGITAL_DB = -90.0  # 1 bit of 16: a muted microphone, which says nothing about the room
_QUIET_SHARE = 0.05  # of the frames, the quietest: pauses
_HEARD_S, _SPOKEN_S = 3.0, 1.0  # before a ratio is told


@dataclass(frozen=True)
class SpeechOptions:
    """Levels in dBFS, times in ms.

    Speech begins at `open_dbfs`, or `above_noise_db` above the measured noise where that is more, at most
    `open_most_dbfs`; it ends after `hold_ms` below that by `hysteresis_db`. The noise is that of the last
    `memory_s` or so. Under `clean_snr_db` a warning is due.
    """

    open_dbfs: float = -42.0
    above_noise_db: float = 8.0
    open_most_dbfs: float = -25.0
    hysteresis_db: float = 5.0
    hold_ms: float = 240.0
    memory_s: float = 15.0
    clean_snr_db: float = 20.0


class SpeechGate:
    """One sound after another to one yes or no for each video frame, in order. Memory is of a fixed size."""

    def __init__(self, clock: AudioClock, options: SpeechOptions | None = None) -> None:
        self.clock, self.options = clock, options or SpeechOptions()
        longest = clock.first_sample(1) + 1
        self._sound = Tape(longest + 4096)
        frame_s = float(1 / clock.fps)
        self._fade = float(np.exp(-frame_s / self.options.memory_s))
        self._hold_frames = max(1, round(self.options.hold_ms / 1000.0 / frame_s))
        self._levels = np.zeros(-_FLOOR_DB + 1)  # frames at each dB, older ones faded
        self.reset()

    @property
    def snr_db(self) -> float | None:
        """Speech above noise: the mean power of speaking frames against the quietest; None before enough was heard.

        An echo fills the pauses, and counts as noise.
        """
        frame_s = float(1 / self.clock.fps)
        noise_db = self._noise_db()
        if noise_db is None or self._heard * frame_s < _HEARD_S or self._spoken * frame_s < _SPOKEN_S:
            return None
        noise = 10.0 ** (noise_db / 10.0)
        speech = self._speech_power / self._speech_weight
        return float(10.0 * np.log10(max(speech - noise, noise * 1e-3) / noise))

    @property
    def warning(self) -> str:
        """A sentence where the speech is noisy or echoing, empty otherwise."""
        snr_db = self.snr_db
        if snr_db is None or snr_db >= self.options.clean_snr_db:
            return ""
        return (
            f"audio: wanted speech {self.options.clean_snr_db:.0f} dB above noise and echo, got {snr_db:.0f} dB; "
            "the mouth may move in pauses: use a nearer microphone, or clean the sound first"
        )

    def push(self, samples: F32) -> npt.NDArray[np.bool_]:
        """Whether there is speech in each frame that is complete with these samples (mono, -1..1)."""
        samples = samples_checked(samples)
        speaks: list[bool] = []
        at = 0
        while at < len(samples):
            step = min(self._sound.room, len(samples) - at)
            self._sound.reserve(step)[...] = samples[at : at + step]
            at += step
            while self._sound.end >= self.clock.first_sample(self._frame + 1):
                speaks.append(self._next(self.clock.first_sample(self._frame + 1)))
        return np.array(speaks, np.bool_)

    def flush(self) -> npt.NDArray[np.bool_]:
        """The last frame, where the sound ends within it. The gate then begins anew; what it measured stays."""
        last = [self._next(self._sound.end)] if self._sound.end > self.clock.first_sample(self._frame) else []
        self._begin()
        return np.array(last, np.bool_)

    def reset(self) -> None:
        """Forget the sound and what was measured."""
        self._levels[...] = 0.0
        self._speech_power = self._speech_weight = 0.0
        self._heard = self._spoken = 0
        self._begin()

    def _begin(self) -> None:
        self._sound.clear()
        self._frame = 0
        self._held = 0

    def _next(self, end: int) -> bool:
        """The next frame, which ends before sample `end`."""
        wave = self._sound.view(self.clock.first_sample(self._frame), end).astype(np.float64)
        self._sound.forget(end)
        self._frame += 1
        power = float(np.mean(np.square(wave - wave.mean())))
        level_db = max(10.0 * np.log10(power), float(_FLOOR_DB)) if power > 0.0 else float(_FLOOR_DB)
        self._measure_noise(level_db)
        open_db = self._open_db()
        if level_db >= open_db or (self._held and level_db >= open_db - self.options.hysteresis_db):
            self._held = self._hold_frames
        elif self._held:
            self._held -= 1
        if level_db >= open_db:
            self._speech_power = self._fade * self._speech_power + power
            self._speech_weight = self._fade * self._speech_weight + 1.0
            self._spoken += 1
        return self._held > 0

    def _measure_noise(self, level_db: float) -> None:
        # digital silence right behind speech is a pause of a clean sound; a longer one is a muted microphone
        if level_db < _DIGITAL_DB and not self._held:
            return
        self._levels *= self._fade
        self._levels[min(round(level_db) - _FLOOR_DB, len(self._levels) - 1)] += 1.0
        self._heard += 1

    def _open_db(self) -> float:
        noise_db, options = self._noise_db(), self.options
        if noise_db is None or self._heard < _HEARD_S * float(self.clock.fps):
            return options.open_dbfs
        return min(max(options.open_dbfs, noise_db + options.above_noise_db), options.open_most_dbfs)

    def _noise_db(self) -> float | None:
        """The level of the quietest frames."""
        total = float(self._levels.sum())
        if not total:
            return None
        return float(np.searchsorted(np.cumsum(self._levels), _QUIET_SHARE * total) + _FLOOR_DB)
