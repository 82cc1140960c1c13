"""From a sound's beginning to its end: every frame in order, decode, compute and encode overlapped.

The compute thread listens, some frames ahead, and says which template frame each takes; decode loads those into free
slots of the ring; compute moves their mouths; encode writes them and the sound between them. Nothing grows with the
length of the sound.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.ending import wait_threads
from engine.errors import InputError, explain
from engine.frame import Frame
from engine.lipsync import LipsyncPipeline
from engine.result import Progress, RunResult, SpeechFacts
from engine.ring import END, POLL_S, Ring, StoppedError
from engine.runner import write_frame
from engine.stages.listen import Heard
from engine.talk.mover import Mover
from engine.talk.origin import stamped
from engine.talk.plan import Plan, Step
from engine.talk.sound import Speech
from engine.talk.track import Track
from engine.template.frames import TemplateFrames
from engine.video.sink import Sink

__all__ = ["run_spoken", "sound_notes"]

log = logging.getLogger("engine.talk")

# of sound, into the output ahead of its pictures: its packets are few, and the muxer holds them until they are due
_SOUND_AHEAD_S = 0.5

# a step that fades from one place of the template to another holds both
_LEAST_SLOTS = 2


@dataclass
class _Job:
    """A step on its way: the slots that its pictures were loaded into."""

    step: Step
    frame: Frame
    other: Frame | None = None


@dataclass
class _Run:
    """What the threads of one run share."""

    pipeline: LipsyncPipeline
    pictures: TemplateFrames
    speech: Speech
    track: Track
    sink: Sink
    result: RunResult
    ring: Ring
    orders: queue.Queue[Step | object] = field(default_factory=queue.Queue)
    decoded: threading.Event = field(default_factory=threading.Event)
    total: int | None = None


def run_spoken(
    pipeline: LipsyncPipeline,
    pictures: TemplateFrames,
    speech: Speech,
    track: Track,
    sink: Sink,
    *,
    total: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """All of `speech` said by the template into `sink`, with `track` as its sound; returns when the output stands.

    `total`: frames that are expected, for the progress. On a failure or Ctrl-C what was written is kept as
    `OUT.partial.*`, and the error is raised again with that path (or None) as `partial_path`, and `frames_written`.
    Raises InputError for a profile of a single slot.
    """
    if len(pipeline.frames) < _LEAST_SLOTS:
        sink.abort()
        wanted, got = f"{_LEAST_SLOTS} slots or more", len(pipeline.frames)
        raise InputError(explain(f"profile {pipeline.profile.name}", wanted, got, "raise slots in the profile"))
    facts = SpeechFacts(look_ahead_ms=pipeline.listen.look_ahead_ms)
    result = RunResult(sink.path, rate=float(pipeline.fps), timings=pipeline.timings, speech=facts)
    run = _Run(pipeline, pictures, speech, track, sink, result, Ring(pipeline.frames), total=total)
    threads = [
        threading.Thread(target=_decode, args=(run,), name="decode", daemon=True),
        threading.Thread(target=_encode, args=(run,), name="encode", daemon=True),
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        _compute(run, on_progress, start)
    except BaseException as error:
        run.ring.fail(error)
    wait_threads(run.ring, (run.decoded, run.ring.encoded), sink)
    try:
        if run.ring.failure is not None:
            raise run.ring.failure
        sink.close()
    except BaseException as error:
        error.partial_path = sink.abort()  # type: ignore[attr-defined]
        error.frames_written = result.frames  # type: ignore[attr-defined]
        log.error("run ended early after %d frames: %s", result.frames, error)
        raise
    result.wall_s = time.perf_counter() - start
    facts.snr_db = pipeline.listen.gate.snr_db
    result.notes += [*sink.notes, *sound_notes(pipeline, speech)]
    return result


def sound_notes(pipeline: LipsyncPipeline, speech: Speech) -> list[str]:
    """Sentences on what the sound was like that its user may not expect."""
    came, notes = speech.condition, []
    if warning := pipeline.listen.gate.warning:
        notes.append(warning)
    if came.clipped > max(10, came.samples // 1000):
        share = 100.0 * came.clipped / came.samples
        notes.append(f"audio: {share:.1f} % of the samples are clipped; record it with less gain")
    if came.not_finite:
        notes.append(f"audio: {came.not_finite} samples were no numbers and became silence")
    if came.lost_packets:
        notes.append(f"audio: {came.lost_packets} packets did not decode; {came.filled_s:.2f} s became silence")
    elif came.filled_s:
        notes.append(f"audio: {came.filled_s:.2f} s were missing between time stamps and became silence")
    if came.cut_s:
        notes.append(f"audio: it ended {came.cut_s:.1f} s earlier than its file says; the file may be cut off")
    if came.jumps:
        notes.append(f"audio: time stamps jumped {came.jumps} times; the sound goes on without a gap there")
    return notes


def _heard(run: _Run) -> Iterator[Heard]:
    listen = run.pipeline.listen
    for block in run.speech:
        # a second at most at once: what is heard waits in memory until its frames are made
        for at in range(0, len(block), listen.rate_hz):
            yield from listen.push(block[at : at + listen.rate_hz])
    yield from listen.flush()


def _compute(run: _Run, on_progress: Callable[[Progress], None] | None, start: float) -> None:
    """Listen far enough ahead to keep decode busy, then move the mouths of what it has loaded, in order."""
    pipeline, ring, template = run.pipeline, run.ring, run.pipeline.template
    plan, mover = Plan(template.count, template.idle, pipeline.fps), Mover(pipeline, run.result)
    heard, ordered, done = _heard(run), 0, 0
    begun: deque[_Job] = deque()

    def finish_first() -> None:
        nonlocal done
        job = begun.popleft()
        mover.finish(job.step, job.frame)
        done += 1
        ring.finished.put(job)
        if on_progress is not None:
            on_progress(_progress(done, run.total, time.perf_counter() - start))

    more = True
    while more or ordered > done:
        while more and ordered - done <= len(pipeline.frames):
            one = next(heard, None)
            if one is None:
                more = False
                run.orders.put(END)
                break
            run.orders.put(plan.next(one.n, one.speaks, one.condition))
            ordered += 1
        if ordered == done:
            break
        if ordered - done == len(begun):  # all that there is, is begun
            finish_first()
            continue
        job = ring.take(ring.decoded)
        if job.other is not None:
            while begun:
                finish_first()
            mover.faded(job.step, job.frame, job.other)
            ring.free.put(job.other)
        else:
            mover.begin(job.step, job.frame)
        begun.append(job)
        while len(begun) > pipeline.lookahead or (job.other is not None and begun):
            finish_first()
    ring.finished.put(END)
    # short waits, so that Ctrl-C is heard while the encoder empties its queue
    while not ring.encoded.wait(POLL_S):
        continue


def _decode(run: _Run) -> None:
    pipeline, ring, timings = run.pipeline, run.ring, run.pipeline.timings
    fps, time_base = pipeline.fps, 1 / pipeline.fps
    try:
        while True:
            step = ring.take(run.orders)
            if step is END:
                break
            timings.arrived(step.n, step.n)
            start_ns = time.perf_counter_ns()
            picture = stamped(run.pictures.read(step.row), step.n, fps, time_base)
            other = run.pictures.read(step.leaving.row) if step.leaving is not None else None
            work_ms, begun_ns = (time.perf_counter_ns() - start_ns) / 1e6, start_ns
            job = _Job(step, ring.take(ring.free))
            start_ns = time.perf_counter_ns()
            pipeline.load(job.frame, picture)
            work_ms += (time.perf_counter_ns() - start_ns) / 1e6
            if other is not None:
                job.other = ring.take(ring.free)
                pipeline.load(job.other, stamped(other, step.n, fps, time_base))
            timings.add("decode", work_ms, step.n, begun_ns)
            ring.decoded.put(job)
    except StoppedError:
        pass
    except BaseException as error:
        ring.fail(error)
    finally:
        run.decoded.set()


def _encode(run: _Run) -> None:
    pipeline, ring, sink, result = run.pipeline, run.ring, run.sink, run.result
    timings, turn_deg = pipeline.timings, pipeline.template.turn_deg
    try:
        while (job := ring.take(ring.finished)) is not END:
            frame = job.frame
            timings.on(frame.index, frame.pts)
            with timings.span("encode"):
                for item in run.track.packets(float(frame.index / pipeline.fps) + _SOUND_AHEAD_S):
                    sink.pass_through(item)
                write_frame(pipeline.backend, sink, frame, frame.meta, turn_deg)
            timings.departed(frame.index)
            result.frames += 1
            frame.meta = None
            ring.free.put(frame)
        for item in run.track.packets(None):
            sink.pass_through(item)
    except StoppedError:
        pass
    except BaseException as error:
        ring.fail(error)
    finally:
        ring.encoded.set()


def _progress(done: int, total: int | None, passed_s: float) -> Progress:
    fps = done / passed_s if passed_s else 0.0
    left_s = (total - done) / fps if total and fps else None
    return Progress(done, total, fps, max(left_s, 0.0) if left_s is not None else None)
