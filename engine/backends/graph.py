"""Recordings: a body of launches captured once into graphs, with what can't be captured running in between.

There is one recording for each frame slot: a graph holds addresses, and a slot's working frame, faces and status word
have their own. The other way, one graph that reads its addresses from the device, would cost every kernel a lookup,
and the networks' inputs are shared by all slots anyway. What differs from frame to frame within a slot, counts and
points and sources, kernels read from device memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from engine.backends.driver import Driver, Graph, Stream
from engine.backends.spans import Marks, Spans
from engine.errors import DeviceError, explain

__all__ = ["Recorder", "Recording"]

Step = Graph | Callable[[], None]


@dataclass
class Recording:
    """What a body became: graphs, and calls between them. One graph alone is the rule."""

    steps: list[Step] = field(default_factory=list)
    marks: Marks = field(default_factory=Marks)

    @property
    def graphs(self) -> int:
        """Graph launches of one replay."""
        return sum(isinstance(step, int) for step in self.steps)


class Recorder:
    """Captures bodies on one stream, and replays them there."""

    def __init__(self, driver: Driver, stream: Stream, spans: Spans) -> None:
        self._driver, self._stream, self._spans = driver, stream, spans
        self._open: Recording | None = None

    @property
    def is_recording(self) -> bool:
        """Whether work on the stream is being written down."""
        return self._open is not None

    def record(self, body: Callable[[], None]) -> Recording:
        """Write down what a body launches; nothing of it runs. Raises DeviceError when the capture was spoilt."""
        if self._open is not None:
            raise DeviceError(explain("record", "one recording at a time", "one within another", "record them in turn"))
        self._open = recording = Recording()
        self._driver.begin_capture(self._stream)
        self._spans.begin(in_graph=True)
        try:
            body()
            recording.marks = self._spans.end()
            self._close_graph(recording)
        except BaseException:
            self._spans.drop()
            self._driver.drop_capture(self._stream)
            with suppress(DeviceError):  # the first error is the one to tell
                for step in recording.steps:
                    self._drop(step)
            raise
        finally:
            self._open = None
        return recording

    def leave_out(self, call: Callable[[], None]) -> None:
        """Within a recording: this call can't be captured, so it is made between two graphs, at every replay."""
        if self._open is None:
            raise DeviceError(explain("leave_out", "an open recording", "none", "make the call"))
        self._close_graph(self._open)
        self._open.steps.append(call)
        self._driver.begin_capture(self._stream)

    def replay(self, recording: Recording) -> None:
        """Run a recording; returns at once."""
        for step in recording.steps:
            if isinstance(step, int):
                self._driver.replay(step, self._stream)
            else:
                step()
        self._spans.launched(recording.marks)

    def can_capture(self, call: Callable[[], None]) -> bool:
        """Try a call in a capture of its own, which is thrown away: nothing runs where that works."""
        self._driver.begin_capture(self._stream)
        try:
            call()
            made = self._driver.end_capture(self._stream)
        except DeviceError:
            self._driver.drop_capture(self._stream)
            with suppress(DeviceError):
                call()  # a library may find the capture's error in its next call: let it be this one
            return False
        self._drop(made)
        return True

    def _drop(self, step: Step | None) -> None:
        if isinstance(step, int):
            self._driver.drop_graph(step)

    def _close_graph(self, recording: Recording) -> None:
        graph = self._driver.end_capture(self._stream)
        if graph is not None:
            recording.steps.append(graph)
