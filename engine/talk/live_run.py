"""A live sound through a LipSync into an output, until the sound ends or Ctrl-C.

One thread reads the sound and pushes it, at most a little ahead of its time; the caller's thread writes pictures and
sound as they are handed out. Stamps are those of the sound's own clock, so that neither ever drifts from the other.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

import av

from engine.result import LiveFacts, Progress, RunResult
from engine.runner import write_frame
from engine.talk.file_run import sound_notes
from engine.talk.lipsync import LipSync
from engine.talk.origin import stamped
from engine.talk.sound import Speech
from engine.talk.track import EncodedTrack, audio_frame
from engine.video.live_clock import TIME_BASE
from engine.video.sink import Sink

__all__ = ["run_speaking"]

log = logging.getLogger("engine.talk")

# A file, or a program that writes faster than sound is heard, waits when so much of it is pending.
_BACKLOG_S = 1.0
_POLL_S = 0.02


class _Reader(threading.Thread):
    """Pushes what comes in, as it came, until it ends."""

    def __init__(self, speech: Speech, head: LipSync) -> None:
        super().__init__(name="hear", daemon=True)
        self.error: BaseException | None = None
        self._speech, self._head, self._stop = speech, head, threading.Event()
        speech.tap(self._push)

    def run(self) -> None:
        """Read to the end; then no sound comes any more."""
        try:
            for _ in self._speech:  # what it makes of the sound is not needed: the tap is
                if self._stop.is_set():
                    break
        except BaseException as error:
            self.error = error
        finally:
            self._head.finish()

    def end(self) -> None:
        """Push nothing any more; a read that waits is left to wait."""
        self._stop.set()

    def _push(self, frame: av.AudioFrame) -> None:
        while self._head.backlog_s > _BACKLOG_S and not self._stop.is_set():
            time.sleep(_POLL_S)
        if not self._stop.is_set():
            array, channels = frame.to_ndarray(), len(frame.layout.channels)
            samples = array.reshape(-1, channels) if frame.format.is_packed else array.T
            self._head.push(samples, frame.sample_rate, channels)


def run_speaking(
    head: LipSync,
    speech: Speech,
    track: EncodedTrack,
    sink: Sink,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """`speech` as it comes, said by `head` into `sink`; returns the figures.

    The sound's end and Ctrl-C both finish the output; `LiveFacts.ended_by` says which it was. On a failure what was
    written is kept as `OUT.partial.*` where the output is a file, as in `run_live`.
    """
    facts = LiveFacts(ended_by="end of the sound")
    result, reader = head.result, _Reader(speech, head)
    result.output, result.live = sink.path, facts
    start = time.perf_counter()
    reader.start()
    try:
        try:
            _write_all(head, track, sink, on_progress, start)
        except KeyboardInterrupt:
            facts.ended_by = "interrupt"
        finally:
            reader.end()
        if reader.error is not None:
            raise reader.error
        for item in track.packets(None):
            sink.pass_through(item)
        sink.close()
    except BaseException as error:
        error.partial_path = sink.abort()  # type: ignore[attr-defined]
        error.frames_written = result.frames  # type: ignore[attr-defined]
        log.error("live run ended early after %d frames: %s", result.frames, error)
        raise
    result.wall_s = time.perf_counter() - start
    facts.pictures_in = result.frames + head.facts.dropped
    facts.dropped["late"] = head.facts.dropped
    head.facts.snr_db = head.pipeline.listen.gate.snr_db
    result.notes += [*sink.notes, *sound_notes(head.pipeline, speech)]
    return result


def _write_all(
    head: LipSync, track: EncodedTrack, sink: Sink, on_progress: Callable[[Progress], None] | None, start: float
) -> None:
    pipeline, fps = head.pipeline, head.fps
    timings, turn_deg = pipeline.timings, pipeline.template.turn_deg
    for spoken in head.frames():
        timings.on(spoken.index, spoken.index)
        with timings.span("encode"):
            track.take(audio_frame(spoken.sound, head.rate_hz))
            for item in track.packets(math.inf):
                sink.pass_through(item)
            picture = stamped(spoken.frame.meta, spoken.index, fps, TIME_BASE)
            write_frame(pipeline.backend, sink, spoken.frame, picture, turn_deg)
        if on_progress is not None:
            done, passed_s = head.result.frames, time.perf_counter() - start
            on_progress(Progress(done, None, done / passed_s, None, head.facts.dropped))
