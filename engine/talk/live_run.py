"""A live sound through a LipSync into an output, until the sound ends or Ctrl-C.

One thread reads the sound and pushes it, at most a little ahead of its time; one writes pictures and sound as they are
handed out; the caller's waits for both. Stamps are those of the sound's own clock: neither ever drifts from the other.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

import av

from engine.ending import wait_ended
from engine.errors import OutputError, explain
from engine.result import LiveFacts, Progress, RunResult
from engine.runner import write_frame
from engine.talk.file_run import sound_notes
from engine.talk.lipsync import LipSync, Spoken
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

#: An output that takes nothing for so long is not coming back by itself.
STALL_S = 10.0


class _Reader(threading.Thread):
    """Pushes what comes in, as it came, until it ends, and then closes it: nobody else may while it is read."""

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
            if not self._stop.is_set():  # afterwards nobody takes sound any more, and that is no failure
                self.error = error
        finally:
            self._speech.close()
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


class _Writer(threading.Thread):
    """Writes pictures and sound as they are handed out."""

    def __init__(
        self, head: LipSync, track: EncodedTrack, sink: Sink, on_progress: Callable[[Progress], None] | None
    ) -> None:
        super().__init__(name="encode", daemon=True)
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._head, self._track, self._sink, self._on_progress = head, track, sink, on_progress
        self._busy_since: float | None = None

    @property
    def is_stuck(self) -> bool:
        """True when the output has taken nothing for so long that it is not coming back by itself."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > STALL_S

    def run(self) -> None:
        """Write until there is no more, then the end of the sound."""
        start = time.perf_counter()
        try:
            for spoken in self._head.frames():
                self._busy_since = time.monotonic()
                self._write(spoken)
                self._busy_since = None
                if self._on_progress is not None:
                    done, passed_s = self._head.result.frames, time.perf_counter() - start
                    self._on_progress(Progress(done, None, done / passed_s, None, self._head.facts.dropped))
            self._busy_since = time.monotonic()
            for item in self._track.packets(None):
                self._sink.pass_through(item)
        except BaseException as error:
            self.error = error
        finally:
            self._busy_since = None
            self.ended.set()

    def _write(self, spoken: Spoken) -> None:
        head, pipeline = self._head, self._head.pipeline
        pipeline.timings.on(spoken.index, spoken.index)
        with pipeline.timings.span("encode"):
            self._track.take(audio_frame(spoken.sound, head.rate_hz))
            for item in self._track.packets(math.inf):
                self._sink.pass_through(item)
            picture = stamped(spoken.frame.meta, spoken.index, head.fps, TIME_BASE)
            write_frame(pipeline.backend, self._sink, spoken.frame, picture, pipeline.template.turn_deg)


def run_speaking(
    head: LipSync,
    speech: Speech,
    track: EncodedTrack,
    sink: Sink,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """`speech` as it comes, said by `head` into `sink`; returns the figures.

    The sound's end and Ctrl-C both finish the output; `LiveFacts.ended_by` says which it was. On a failure, as which
    a second Ctrl-C counts, what was written is kept as `OUT.partial.*` where the output is a file, as in `run_live`.
    `speech` is closed when its last read ends, which may be after this returns.
    """
    facts = LiveFacts(ended_by="end of the sound")
    result, reader, writer = head.result, _Reader(speech, head), _Writer(head, track, sink, on_progress)
    result.output, result.live = sink.path, facts
    start = time.perf_counter()
    reader.start()
    writer.start()
    try:
        try:
            _wait_written(writer, sink.path)
        except KeyboardInterrupt:
            facts.ended_by = "interrupt"
            reader.end()  # first: a push into what was stopped fails
            head.stop()
            _wait_written(writer, sink.path)
        finally:
            reader.end()
            head.stop()
        if (error := writer.error or reader.error) is not None:
            raise error
        sink.close()
    except BaseException as error:
        if not wait_ended([writer.ended], 0.0 if writer.is_stuck else STALL_S):
            sink.give_up()
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


def _wait_written(writer: _Writer, name: object) -> None:
    """Until everything is written; raises OutputError for an output that is stuck."""
    while not writer.ended.wait(_POLL_S):
        if writer.is_stuck:
            do = "check that the receiver reads, the network and the disk"
            raise OutputError(explain(str(name), f"a picture taken within {STALL_S:g} s", "none", do))
