"""`live` mode: the newest picture wins. Pictures wait nowhere but in one place for one, so latency is bounded.

Three threads. `capture` reads and decodes everything as it arrives; the pipeline, on the caller's thread, takes the
newest picture when it has room; `encode` writes pictures and sound. A picture that nobody took before the next came is
dropped and counted; sound is never dropped, it goes from capture to encode. Stamps come from the capture clock, so a
dropped picture makes the one before it longer and shifts nothing.

Ctrl-C and SIGTERM are the ordinary end of a live run: what is under way goes out, and a file is finished under its
name. While a network input is away, an address gets the last picture again at the input's rate, so that its receiver
stays; a file gets nothing, and its last picture lasts longer.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from engine.ending import wait_ended
from engine.errors import OutputError, explain
from engine.frame import Frame
from engine.governor import LiveGovernor
from engine.pipeline import Pipeline
from engine.result import GovernorFacts, LiveFacts, Progress, RunResult
from engine.runner import Steps, forget_locals, what_to_know, write_frame
from engine.video.live_clock import TICKS_PER_S
from engine.video.live_input import LiveInput
from engine.video.sink import Sink
from engine.video.source import DecodedFrame, PassThrough
from engine.video.turn import upright_turn_deg

__all__ = ["Handover", "run_live"]

log = logging.getLogger("engine.live")

_POLL_S = 0.05
# An output that takes nothing for so long is not coming back by itself.
_STALL_S = 10.0
# One picture in the pipeline, one waiting for the encoder, one in it, and the last one written.
_SLOTS = 4

# A read from a network ends within it, unless nothing comes at all.
_CAPTURE_END_S = 1.0

_END = object()


class Handover:
    """Room for one picture between two threads: a newer one takes the place of one that nobody took."""

    def __init__(self) -> None:
        self._item: DecodedFrame | None = None
        self._ended = False
        self._changed = threading.Condition()

    def put(self, item: DecodedFrame) -> bool:
        """Leave a picture; True when an older one was still there, and is dropped."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def end(self) -> None:
        """No picture comes any more; one that is there can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self, timeout_s: float) -> DecodedFrame | None:
        """The newest picture, once; None when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._ended, timeout_s)
            item, self._item = self._item, None
            return item

    @property
    def is_over(self) -> bool:
        """True when the last picture was taken and none comes any more."""
        with self._changed:
            return self._ended and self._item is None


@dataclasses.dataclass
class _SoundLead:
    """How much later pictures leave than sound of the same stamp, in ms."""

    sound_lag_s: float | None = None
    least: float = 0.0
    most: float = 0.0
    total: float = 0.0
    count: int = 0

    def picture(self, stamp_s: float) -> None:
        """A picture left just now."""
        if self.sound_lag_s is None:
            return
        lead_ms = (time.perf_counter() - stamp_s - self.sound_lag_s) * 1e3
        self.least = min(self.least, lead_ms) if self.count else lead_ms
        self.most = max(self.most, lead_ms) if self.count else lead_ms
        self.total += lead_ms
        self.count += 1

    def sound(self, stamp_s: float) -> None:
        """A packet of sound left just now."""
        self.sound_lag_s = time.perf_counter() - stamp_s


class _LiveRun:
    """The state that the three threads of one run share."""

    def __init__(self, pipeline: Pipeline, source: LiveInput, sink: Sink) -> None:
        self.pipeline, self.source, self.sink = pipeline, source, sink
        self.facts = LiveFacts()
        rate = float(source.info.rate or 0)
        self.result = RunResult(sink.path, rate=rate, timings=pipeline.timings, live=self.facts)
        self.turn_deg = upright_turn_deg(source.info)
        self.handover = Handover()
        self.free: queue.Queue[Frame] = queue.Queue()
        self.line: queue.Queue[Any] = queue.Queue()
        for frame in pipeline.frames[:_SLOTS]:
            self.free.put(frame)
        self.stop = threading.Event()
        self.encoded = threading.Event()
        self.given_up = threading.Event()
        self.input_error: BaseException | None = None
        self.output_error: BaseException | None = None
        self.busy_since: float | None = None
        self.last: Frame | None = None
        self.keeps_last = sink.is_address and len(pipeline.frames) >= _SLOTS
        self.last_stamp = -1
        self.lead = _SoundLead()
        self.governor: LiveGovernor | None = None
        if len(pipeline.ladder) > 1:
            self.facts.governor = GovernorFacts()
            self.governor = LiveGovernor(pipeline, rate, self.facts.governor)

    # -- capture ---------------------------------------------------------------------------------------

    def capture(self) -> None:
        """Read and decode; never wait for anything but the input."""
        timings, facts = self.pipeline.timings, self.facts
        try:
            for item in self.source.items(self.stop):
                if isinstance(item, PassThrough):
                    self.line.put(item)
                    continue
                if self.handover.put(item):
                    facts.dropped["late"] += 1
                    timings.dropped("late")
        except BaseException as error:
            self.input_error = error
        finally:
            self.handover.end()

    # -- pipeline --------------------------------------------------------------------------------------

    def compute(self, on_progress: Callable[[Progress], None] | None) -> None:
        """Newest picture after newest picture, until the input has ended or the run is stopped."""
        pipeline, timings = self.pipeline, self.pipeline.timings
        steps = Steps(pipeline, self.result, self.turn_deg)
        start, done = time.perf_counter(), 0
        frame: Frame | None = None
        while not self.stop.is_set():
            self.check_output()
            # room first, then the picture: what is taken is worked on at once, and is the newest
            frame = frame or self._room()
            item = self.handover.take(_POLL_S) if frame is not None else None
            if item is None or frame is None:
                if self.handover.is_over:
                    break
                continue
            timings.arrived(item.index, item.pts, item.arrived_ns)
            timings.on(item.index, item.pts)
            load_ns = time.perf_counter_ns()
            waited_ms = max((load_ns - item.arrived_ns) / 1e6 - item.decode_ms, 0.0) if item.arrived_ns else 0.0
            pipeline.load(frame, item, self.turn_deg)
            timings.add("decode", item.decode_ms + (time.perf_counter_ns() - load_ns) / 1e6)
            work_ns = time.perf_counter_ns()
            steps.begin(frame)
            steps.finish(frame)
            if self.governor is not None:
                work_ms = (time.perf_counter_ns() - work_ns) / 1e6
                self.governor.finished(frame, work_ms, waited_ms, self.facts.dropped["late"])
            self.line.put(frame)
            frame, done = None, done + 1
            if on_progress is not None:
                fps = done / (time.perf_counter() - start)
                on_progress(Progress(done, None, fps, None, self.facts.dropped_in_all))

    def _room(self) -> Frame | None:
        try:
            return self.free.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def check_output(self) -> None:
        """Raise what the encode thread met, or that it is stuck."""
        if self.output_error is not None:
            raise self.output_error
        since = self.busy_since
        if since is not None and time.monotonic() - since > _STALL_S:
            self.given_up.set()
            self.sink.give_up()
            do = "check that the receiver reads, the network and the disk"
            raise OutputError(explain(str(self.sink.path), f"a picture taken within {_STALL_S:g} s", "none", do))

    # -- encode ----------------------------------------------------------------------------------------

    def encode(self) -> None:
        """Write pictures and sound in the order they come, until the end, or until the output was given up."""
        pause_s = float(1 / self.source.info.rate)
        try:
            # a thread that was stuck comes back to a device that is closed
            while not self.given_up.is_set():
                try:
                    item = self.line.get(timeout=pause_s)
                except queue.Empty:
                    if self.last is not None and self.source.is_waiting:
                        self._write_again(self.last)
                    continue
                if item is _END:
                    break
                self.busy_since = time.monotonic()
                if isinstance(item, Frame):
                    self._write(item)
                else:
                    self._pass(item)
                self.busy_since = None
        except BaseException as error:
            self.output_error = error
        finally:
            self.busy_since = None
            self.encoded.set()

    def _write(self, frame: Frame) -> None:
        timings, picture = self.pipeline.timings, frame.meta
        timings.on(picture.index, picture.pts)
        stamp = max(picture.pts, self.last_stamp + 1)
        self.facts.moved_ms = max(self.facts.moved_ms, 1e3 * (stamp - picture.pts) / TICKS_PER_S)
        with timings.span("encode"):
            write_frame(self.pipeline.backend, self.sink, frame, dataclasses.replace(picture, pts=stamp), self.turn_deg)
        self.last_stamp = stamp
        timings.departed(picture.index)
        self.lead.picture(stamp / TICKS_PER_S)
        self.result.frames += 1
        self._let_go_of_last()
        if self.keeps_last:
            self.last = frame
        else:
            self._release(frame)

    def _write_again(self, frame: Frame) -> None:
        """The last picture once more, at the time that it is now."""
        now = self.source.clock.arrival_ticks(time.perf_counter_ns())
        if now <= self.last_stamp:
            return
        self.busy_since = time.monotonic()
        write_frame(self.pipeline.backend, self.sink, frame, dataclasses.replace(frame.meta, pts=now), self.turn_deg)
        self.last_stamp = now
        self.busy_since = None
        self.facts.repeated += 1

    def _pass(self, item: PassThrough) -> None:
        packet = item.packet
        stamp = packet.pts if packet.pts is not None else packet.dts
        # before the muxer counts it in its own ticks
        stamp_s = float(stamp * packet.time_base) if stamp is not None else None
        self.sink.pass_through(item)
        self.facts.packets_out += 1
        if stamp_s is not None and self.source.info.streams[item.stream_index].kind == "audio":
            self.lead.sound(stamp_s)

    def _let_go_of_last(self) -> None:
        if self.last is not None:
            last, self.last = self.last, None
            self._release(last)

    def _release(self, frame: Frame) -> None:
        frame.meta = None
        self.free.put(frame)


def run_live(
    pipeline: Pipeline,
    source: LiveInput,
    sink: Sink,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """A live input through `pipeline` into `sink`, until it ends, breaks for good, or Ctrl-C; returns the figures.

    All three finish the output; `LiveFacts.ended_by` and `was_lost` say which it was.
    On a failure what was written is kept as `OUT.partial.*` where the output is a file, and the error is raised again
    with that path (or None) as its attribute `partial_path`, and `frames_written`.
    """
    run = _LiveRun(pipeline, source, sink)
    threads = [
        threading.Thread(target=run.capture, name="capture", daemon=True),
        threading.Thread(target=run.encode, name="encode", daemon=True),
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    source.begin()
    run.facts.ended_by = "end of the input"
    error: BaseException | None = None
    try:
        run.compute(on_progress)
    except KeyboardInterrupt:
        run.facts.ended_by = "interrupt"
    except BaseException as caught:
        error = caught
    try:
        error = _finish(run, threads[0], error)
    except KeyboardInterrupt as caught:  # a second one, while the encoder empties itself
        error = caught
        run.line.put(_END)  # it may have come before the end was put there
        if not wait_ended([run.encoded]):
            sink.give_up()
    if error is not None:
        forget_locals(error)
        error.partial_path = sink.abort()  # type: ignore[attr-defined]
        error.frames_written = run.result.frames  # type: ignore[attr-defined]
        log.error("live run ended early after %d frames: %s", run.result.frames, error)
        raise error
    run.result.wall_s = time.perf_counter() - start
    if run.governor is not None:
        run.governor.close()
    _count(run)
    run.facts.was_lost = bool(source.lost)
    run.facts.ended_by = source.lost or run.facts.ended_by
    run.result.notes += [*source.notes, *sink.notes, *what_to_know(pipeline, run.result)]
    return run.result


def _finish(run: _LiveRun, capture: threading.Thread, error: BaseException | None) -> BaseException | None:
    """Let what is under way go out, then finish the output; returns the error that the run ends with."""
    run.stop.set()
    # an input that is away keeps its thread until its own timeout; it ends there, and closes what it opened
    capture.join(_CAPTURE_END_S)
    if run.handover.take(0) is not None:
        run.facts.dropped["end"] += 1
    error = error or run.input_error
    run.line.put(_END)
    try:
        while not run.encoded.wait(_POLL_S):
            run.check_output()
        run.check_output()
        if error is None:
            run.sink.close()
    except Exception as caught:  # of the output, or of the device that the encoder reads from
        return error or caught
    return error


def _count(run: _LiveRun) -> None:
    facts, counts = run.facts, run.source.counts
    facts.pictures_in = counts.pictures + counts.damaged
    facts.dropped["damaged"] = counts.damaged
    facts.packets_in, facts.decoder_errors = counts.packets, counts.decoder_errors
    facts.reconnects, facts.away_s, facts.jumps = counts.reconnects, round(counts.away_s, 3), counts.jumps
    lead = run.lead
    if lead.count:
        facts.sound_leads_ms = (round(lead.least, 2), round(lead.total / lead.count, 2), round(lead.most, 2))
