"""The runner: decode, compute and encode overlapped around a pipeline, over a fixed ring of frame slots.

`file` mode: every frame, in order, nothing lost. Three threads and two queues; a slot goes from `free` to the
decoder, to the pipeline, to the encoder and back. Packets of other streams travel in the same order. `live` mode is
engine/live.py.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from engine.backends.base import Backend
from engine.ending import wait_threads
from engine.errors import EngineError, PoisonedError
from engine.frame import Frame
from engine.pipeline import Pipeline
from engine.result import Progress, RunResult
from engine.ring import END, POLL_S, Ring, StoppedError
from engine.video.info import VideoInfo
from engine.video.sink import Sink
from engine.video.source import DecodedFrame, PassThrough, Source
from engine.video.turn import turned, upright_turn_deg
from kernels.launch import ERROR_FACES_FULL

__all__ = ["Steps", "forget_locals", "run_video", "what_to_know", "write_frame"]

log = logging.getLogger("engine.runner")


def run_video(
    pipeline: Pipeline,
    source: Source,
    sink: Sink,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Every frame of `source` through `pipeline` into `sink`; returns when the output stands under its name.

    On a failure or Ctrl-C the output so far is finalised as `OUT.partial.*` by the sink, and the error is raised
    again with that path (or None) as its attribute `partial_path`, and `frames_written`.
    """
    result = RunResult(sink.path, rate=float(source.info.rate or 0), timings=pipeline.timings)
    ring, turn_deg = Ring(pipeline.frames), upright_turn_deg(source.info)
    threads = [
        threading.Thread(target=_decode, args=(ring, pipeline, source, turn_deg), name="decode", daemon=True),
        threading.Thread(target=_encode, args=(ring, pipeline, sink, result, turn_deg), name="encode", daemon=True),
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        _compute(ring, pipeline, result, source.info, on_progress, start)
    except BaseException as error:
        ring.fail(error)
    wait_threads(ring, (ring.read, ring.encoded), sink)
    if ring.failure is not None:
        forget_locals(ring.failure)
        partial = sink.abort()
        what = "Ctrl-C" if isinstance(ring.failure, KeyboardInterrupt) else str(ring.failure)
        log.error("run ended early after %d frames: %s", result.frames, what)
        for note in (*source.notes, *sink.notes):
            log.info("note: %s", note)
        ring.failure.partial_path = partial  # type: ignore[attr-defined]
        ring.failure.frames_written = result.frames  # type: ignore[attr-defined]
        raise ring.failure
    try:
        sink.close()
    except BaseException as error:
        forget_locals(error)
        error.partial_path = sink.abort()  # type: ignore[attr-defined]
        error.frames_written = result.frames  # type: ignore[attr-defined]
        raise
    result.wall_s = time.perf_counter() - start
    result.notes += [*source.notes, *sink.notes, *what_to_know(pipeline, result)]
    return result


def forget_locals(error: BaseException) -> None:
    """Empty the frames that an error came through: a packet among their locals would keep the encoder, and with it
    NVENC's session, beyond the device's stream that it reads on."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__


def what_to_know(pipeline: Pipeline, result: RunResult) -> list[str]:
    """Sentences on what the run saw that its user may not expect."""
    notes = []
    if result.crowded:
        room = pipeline.profile.track.faces
        notes.append(
            f"{result.crowded} frames showed more than {room} faces, of which the {room} largest were changed; "
            "raise track.faces in the profile"
        )
    if not result.faces and not result.failed:
        wanted = pipeline.detect.threshold
        if result.best_score < wanted:
            notes.append(
                f"no face was found: the best score seen was {result.best_score:.2f}, below the threshold of "
                f"{wanted:.2f}; --score-threshold lowers it"
            )
        elif pipeline.identify is not None:
            notes.append(
                f"no face was like the pictures asked for: the best cosine was {pipeline.identify.best:.2f}, below "
                f"{pipeline.identify.threshold:.2f}; track.like_threshold in the profile lowers it"
            )
    return notes


def _decode(ring: Ring, pipeline: Pipeline, source: Source, turn_deg: int) -> None:
    try:
        items = iter(source)
        while True:
            start = time.perf_counter_ns()
            item = next(items, None)
            if item is None:
                break
            if isinstance(item, PassThrough):
                ring.decoded.put(item)
                continue
            timings = pipeline.timings
            timings.arrived(item.index, item.pts, start)
            work_ms, begun_ns = (time.perf_counter_ns() - start) / 1e6, start
            frame = ring.take(ring.free)
            start = time.perf_counter_ns()
            pipeline.load(frame, item, turn_deg)
            timings.add("decode", work_ms + (time.perf_counter_ns() - start) / 1e6, item.index, begun_ns)
            ring.decoded.put(frame)
        ring.decoded.put(END)
    except StoppedError:
        pass
    except BaseException as error:
        # what was decoded before the fault still goes through: the end of the line carries the error
        ring.decoded.put(error)
    finally:
        ring.read.set()


def _compute(
    ring: Ring,
    pipeline: Pipeline,
    result: RunResult,
    info: VideoInfo,
    on_progress: Callable[[Progress], None] | None,
    start: float,
) -> None:
    total, done = info.frame_count, 0
    steps = Steps(pipeline, result, upright_turn_deg(info))
    # a frame that is begun, and what came behind it: the next one's find runs before its make
    ahead = min(pipeline.lookahead, len(pipeline.frames) - 1)
    begun: deque[Any] = deque()

    def finish_first() -> None:
        nonlocal done
        frame = begun.popleft()
        steps.finish(frame)
        done += 1
        ring.finished.put(frame)
        while begun and not isinstance(begun[0], Frame):
            ring.finished.put(begun.popleft())
        if on_progress is not None:
            on_progress(_progress(done, total, time.perf_counter() - start))

    while True:
        item = ring.take(ring.decoded) if not begun else ring.take_if_there(ring.decoded)
        if item is None:
            # nothing decoded yet: what is begun is not kept waiting for it
            finish_first()
        elif item is END or isinstance(item, BaseException):
            while begun:
                finish_first()
            ring.finished.put(item)
            break
        elif isinstance(item, Frame):
            steps.begin(item)
            begun.append(item)
            if sum(isinstance(one, Frame) for one in begun) > ahead:
                finish_first()
        elif begun:
            begun.append(item)
        else:
            ring.finished.put(item)
    # short waits, so that Ctrl-C is heard while the encoder empties its queue
    while not ring.encoded.wait(POLL_S):
        continue


def _progress(done: int, total: int | None, passed_s: float) -> Progress:
    fps = done / passed_s if passed_s else 0.0
    left_s = (total - done) / fps if total and fps else None
    return Progress(done, total, fps, max(left_s, 0.0) if left_s is not None else None)


class Steps:
    """Frames through the pipeline, counted; one that fails on the host goes on as it came in."""

    def __init__(self, pipeline: Pipeline, result: RunResult, turn_deg: int) -> None:
        self._pipeline, self._result, self._turn_deg = pipeline, result, turn_deg
        self._failed: set[int] = set()

    def begin(self, frame: Frame) -> None:
        """Start on a frame. Raises PoisonedError; any other failure is kept until `finish`."""
        try:
            self._pipeline.begin(frame)
        except PoisonedError:
            raise
        except EngineError as error:
            self._failed.add(frame.slot)
            self._count_failure(frame, error)

    def finish(self, frame: Frame) -> None:
        """The frame is done: changed, or as it came in. Raises PoisonedError."""
        try:
            if frame.slot not in self._failed:
                self._pipeline.finish(frame)
        except PoisonedError:
            raise
        except EngineError as error:
            self._failed.add(frame.slot)
            self._count_failure(frame, error)
        if frame.slot in self._failed:
            self._failed.discard(frame.slot)
            self._pipeline.load(frame, frame.meta, self._turn_deg)
            frame.face_count, frame.is_cut, frame.errors = 0, False, 0
        result = self._result
        result.faces += frame.face_count
        result.frames_with_face += frame.face_count > 0
        result.cuts += frame.is_cut and frame.index > 0
        result.crowded += bool(frame.errors & ERROR_FACES_FULL)
        result.best_score = max(result.best_score, frame.best_score)

    def _count_failure(self, frame: Frame, error: EngineError) -> None:
        self._result.failed += 1
        self._result.first_failure = self._result.first_failure or str(error)
        log.warning("frame %d goes out unchanged: %s", frame.index, error)


def write_frame(backend: Backend, sink: Sink, frame: Frame, picture: DecodedFrame, turn_deg: int) -> None:
    """Hand a finished frame to the encoder under the stamp of `picture`; on the encode thread, which alone waits.

    The frame's slot may be used again when this returns.
    """
    if sink.takes_device:
        sink.write_device(backend.encoder_planes(frame.nv12, copy=not sink.lets_go), picture)
        return
    download = backend.download(frame.nv12)
    try:
        luma, chroma = turned(download.wait_planes(), -turn_deg)
        sink.write((luma, chroma), picture)
    finally:
        download.release()


def _encode(ring: Ring, pipeline: Pipeline, sink: Sink, result: RunResult, turn_deg: int) -> None:
    try:
        while True:
            item = ring.take(ring.finished)
            if item is END:
                break
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, Frame):
                sink.pass_through(item)
                continue
            pipeline.timings.on(item.index, item.pts)
            with pipeline.timings.span("encode"):
                write_frame(pipeline.backend, sink, item, item.meta, turn_deg)
            pipeline.timings.departed(item.index)
            result.frames += 1
            item.meta = None
            ring.free.put(item)
    except StoppedError:
        pass
    except BaseException as error:
        ring.fail(error)
    finally:
        ring.encoded.set()
