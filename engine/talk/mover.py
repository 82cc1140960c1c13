"""mover: steps through the pipeline, counted; a frame that fails goes on as it came in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.errors import EngineError, PoisonedError
from engine.frame import Frame
from engine.lipsync import LipsyncPipeline
from engine.result import RunResult
from engine.talk.plan import Step

__all__ = ["Mover"]

log = logging.getLogger("engine.talk")


class Mover:
    """Steps through the pipeline, counted; a frame that fails on the host goes on as it came in."""

    def __init__(self, pipeline: LipsyncPipeline, result: RunResult) -> None:
        self._pipeline, self._result = pipeline, result
        self._failed: set[int] = set()

    def begin(self, step: Step, frame: Frame) -> None:
        """Start on a loaded frame. Raises PoisonedError; any other failure is kept until `finish`."""
        self._try(step, frame, lambda: self._pipeline.begin(frame, step.row, step.condition, step.opacity))

    def faded(self, step: Step, frame: Frame, other: Frame) -> None:
        """Both places of a step that leaves one for another, faded into `frame`; `finish` is still to come."""
        leaving = step.leaving
        if leaving is None:
            return self.begin(step, frame)

        def work() -> None:
            pipeline = self._pipeline
            pipeline.finish(pipeline.begin(other, leaving.row, step.condition, leaving.opacity))
            pipeline.finish(pipeline.begin(frame, step.row, step.condition, step.opacity))
            pipeline.cross_fade(frame, other, leaving.part)

        return self._try(step, frame, work)

    def finish(self, step: Step, frame: Frame) -> None:
        """The frame is done: its mouth moved, or as it came in. Raises PoisonedError."""
        result, facts = self._result, self._result.speech
        if frame.slot not in self._failed and step.leaving is None:
            self._try(step, frame, lambda: self._pipeline.finish(frame))
        if frame.slot in self._failed:
            self._failed.discard(frame.slot)
            self._pipeline.load(frame, frame.meta)
            frame.face_count = 0
        result.faces += frame.face_count
        result.frames_with_face += bool(self._pipeline.template.has_face[step.row])
        if facts is not None:
            facts.spoken += step.speaks
            facts.moved += frame.face_count

    def _try(self, step: Step, frame: Frame, work: Callable[[], object]) -> None:
        try:
            work()
        except PoisonedError:
            raise
        except EngineError as error:
            self._failed.add(frame.slot)
            self._result.failed += 1
            self._result.first_failure = self._result.first_failure or str(error)
            log.warning("frame %d goes out unchanged: %s", step.n, error)
