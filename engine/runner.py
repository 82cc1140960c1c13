"""The runner: decode, compute and encode overlapped around a pipeline, over a fixed ring of frame slots.

`file` mode: every frame, in order, nothing lost. Three threads and two queues; a slot goes from `free` to the
decoder, to the pipeline, to the encoder and back. Packets of other streams travel in the same order.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import EngineError, PoisonedError
from engine.frame import Frame
from engine.identity import SourceFace
from engine.pipeline import Pipeline, open_pipeline
from engine.timing import Timings
from engine.video.info import VideoInfo
from engine.video.pictures import is_picture
from engine.video.sink import Sink, open_sink
from engine.video.source import PassThrough, Source, open_source
from engine.video.turn import turned, upright_turn_deg
from kernels.launch import Colour
from profiles.profile import Profile, load_profile

__all__ = ["Progress", "RunResult", "run", "run_file"]

log = logging.getLogger("engine.runner")

_POLL_S = 0.1


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `total` and `eta_s` are None while the input does not say how long it is."""

    done: int
    total: int | None
    fps: float
    eta_s: float | None


@dataclass
class RunResult:
    """What a run did. `failed` frames went out as they came in, and `first_failure` says why."""

    output: Path
    frames: int = 0
    frames_with_face: int = 0
    faces: int = 0
    cuts: int = 0
    failed: int = 0
    first_failure: str = ""
    wall_s: float = 0.0
    rate: float = 0.0
    timings: Timings = field(default_factory=Timings)
    notes: list[str] = field(default_factory=list)


def run(
    profile: str | Path | Profile,
    *,
    sources: Sequence[Path],
    input: Path,
    output: Path,
    faces: Sequence[str],
    source_face: SourceFace,
    deinterlace: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """One video or picture from file to file; see `engine.run`."""
    profile = profile if isinstance(profile, Profile) else load_profile(profile)
    if is_picture(input):
        from engine.still import run_picture

        return run_picture(
            profile, sources=sources, input=input, output=output, faces=faces, source_face=source_face, say=say
        )
    threads = profile.threads or len(os.sched_getaffinity(0))
    # decoder and encoder overlap with the networks: a quarter of the budget each, and never none
    edge = max(1, threads // 4)
    with open_source(input, threads=edge, deinterlace=deinterlace) as source:
        encode = profile.encode
        # opened first: a bad output is refused before a model is loaded
        sink = open_sink(output, source, threads=edge, codec=encode.codec, quality=encode.quality, preset=encode.preset)
        try:
            pipeline = open_pipeline(
                profile,
                sources=sources,
                size=_upright_size(source.info),
                colour=_colour(source.info),
                faces=faces,
                source_face=source_face,
                say=say,
            )
        except BaseException:
            sink.abort()
            raise
        with pipeline:
            return run_file(pipeline, source, sink, on_progress=on_progress)


def _upright_size(info: VideoInfo) -> tuple[int, int]:
    lies = upright_turn_deg(info) in (90, 270)
    return (info.height_px, info.width_px) if lies else (info.width_px, info.height_px)


def _colour(info: VideoInfo) -> Colour:
    siting: Literal["left", "center"] = "center" if info.colour.chroma_location == "center" else "left"
    return Colour(info.colour.matrix, info.colour.full_range, siting)


class _Ring:
    """Queues between the three threads, and the first failure of any of them."""

    def __init__(self, frames: list[Frame]) -> None:
        self.free: queue.Queue[Frame] = queue.Queue()
        self.decoded: queue.Queue[Any] = queue.Queue()
        self.finished: queue.Queue[Any] = queue.Queue()
        self.stop = threading.Event()
        self.encoded = threading.Event()
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        for frame in frames:
            self.free.put(frame)

    def fail(self, error: BaseException) -> None:
        """Keep the first failure and ask all threads to end."""
        with self._lock:
            if self.failure is None:
                self.failure = error
        self.stop.set()

    def take(self, line: queue.Queue[Any]) -> Any:
        """The next item; raises _StoppedError when another thread has failed."""
        while not self.stop.is_set():
            try:
                return line.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        raise _StoppedError


class _StoppedError(Exception):
    """Another thread has failed; not an error of its own."""


_END = object()


def run_file(
    pipeline: Pipeline,
    source: Source,
    sink: Sink,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Every frame of `source` through `pipeline` into `sink`; returns when the output stands under its name.

    On a failure or Ctrl-C the output so far is finalised as `OUT.partial.*` by the sink, and the error is raised
    again with that path as its attribute `partial_path`.
    """
    result = RunResult(sink.path, rate=float(source.info.rate or 0), timings=pipeline.timings)
    ring, turn_deg = _Ring(pipeline.frames), upright_turn_deg(source.info)
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
    for thread in threads:
        thread.join()
    result.wall_s = time.perf_counter() - start
    if ring.failure is not None:
        partial = sink.abort()
        what = "Ctrl-C" if isinstance(ring.failure, KeyboardInterrupt) else str(ring.failure)
        log.error("run ended early after %d frames: %s", result.frames, what)
        if partial is not None:
            result.notes.append(f"{result.frames} frames were written to {partial}")
            ring.failure.partial_path = partial  # type: ignore[attr-defined]
        raise ring.failure
    sink.close()
    result.notes += [*source.notes, *sink.notes]
    return result


def _decode(ring: _Ring, pipeline: Pipeline, source: Source, turn_deg: int) -> None:
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
            work_ms = (time.perf_counter_ns() - start) / 1e6
            frame = ring.take(ring.free)
            start = time.perf_counter_ns()
            pipeline.load(frame, item, turn_deg)
            pipeline.timings.add("decode", work_ms + (time.perf_counter_ns() - start) / 1e6)
            ring.decoded.put(frame)
        ring.decoded.put(_END)
    except _StoppedError:
        pass
    except BaseException as error:
        # what was decoded before the fault still goes through: the end of the line carries the error
        ring.decoded.put(error)


def _compute(
    ring: _Ring,
    pipeline: Pipeline,
    result: RunResult,
    info: VideoInfo,
    on_progress: Callable[[Progress], None] | None,
    start: float,
) -> None:
    total, turn_deg, done = info.frame_count, upright_turn_deg(info), 0
    while True:
        item = ring.take(ring.decoded)
        if item is _END or isinstance(item, BaseException):
            ring.finished.put(item)
            break
        if isinstance(item, Frame):
            _step(pipeline, item, result, turn_deg)
            done += 1
        ring.finished.put(item)
        if on_progress is not None and isinstance(item, Frame):
            passed = time.perf_counter() - start
            fps = done / passed if passed else 0.0
            left = (total - done) / fps if total and fps else None
            on_progress(Progress(done, total, fps, max(left, 0.0) if left is not None else None))
    # short waits, so that Ctrl-C is heard while the encoder empties its queue
    while not ring.encoded.wait(_POLL_S):
        continue


def _step(pipeline: Pipeline, frame: Frame, result: RunResult, turn_deg: int) -> None:
    try:
        pipeline.step(frame)
    except PoisonedError:
        raise
    except EngineError as error:
        pipeline.load(frame, frame.meta, turn_deg)
        frame.face_count = 0
        result.failed += 1
        result.first_failure = result.first_failure or str(error)
        log.warning("frame %d goes out unchanged: %s", frame.index, error)
    result.faces += frame.face_count
    result.frames_with_face += frame.face_count > 0
    result.cuts += frame.is_cut and frame.index > 0


def _encode(ring: _Ring, pipeline: Pipeline, sink: Sink, result: RunResult, turn_deg: int) -> None:
    try:
        while True:
            item = ring.take(ring.finished)
            if item is _END:
                break
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, Frame):
                sink.pass_through(item)
                continue
            with pipeline.timings.span("encode"):
                luma, chroma = turned(item.planes(), -turn_deg)
                sink.write((luma, chroma), item.meta)
            result.frames += 1
            item.meta = None
            ring.free.put(item)
    except _StoppedError:
        pass
    except BaseException as error:
        ring.fail(error)
    finally:
        ring.encoded.set()
