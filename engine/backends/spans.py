"""Time on the device by stage: timed events around what a stage launches, in graphs as in single launches.

Nothing here waits: events are read when a later frame shows that they have long passed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.backends.driver import Driver, Event, Stream
from engine.timing import Timings

__all__ = ["Marks", "Spans"]


@dataclass
class Marks:
    """The events of one body: (stage, begin, end) for each span.

    `passed` is marked behind the whole body: an event within a graph can't be asked whether its replay has begun.
    """

    spans: list[tuple[str, Event, Event]] = field(default_factory=list)
    passed: Event | None = None
    in_graph: bool = False
    is_running: bool = False
    frame: int | None = None


class Spans:
    """The spans of one stream. `work` grows with everything that is put on it, `frame` is the index of the one at hand.

    Between `begin` and `end` a span is two events, and one that follows another without work in between shares one
    with it; elsewhere a span is host time.
    """

    def __init__(self, driver: Driver, stream: Stream, timings: Timings, *, timed: bool) -> None:
        self._driver, self._stream, self._timings, self.timed = driver, stream, timings, timed
        self.work = 0
        self.frame: int | None = None
        self._open: Marks | None = None
        self._last: tuple[Event, int] | None = None
        self._running: deque[Marks] = deque()
        self._free: list[Event] = []
        self._passed: list[Event] = []

    def begin(self, *, in_graph: bool) -> None:
        """Open the list of a body's spans."""
        self._open, self._last = Marks(in_graph=in_graph), None

    def end(self) -> Marks:
        """Close it."""
        marks, self._open = self._open or Marks(), None
        if marks.in_graph:
            marks.passed = self._driver.event()
        return marks

    def drop(self) -> None:
        """Forget the open list; its events are not used again."""
        self._open = None

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Time what is launched inside; a block that raises is not counted."""
        marks = self._open
        if marks is None:
            with self._timings.span(stage):
                yield
            return
        if not self.timed:
            yield
            return
        begin = self._mark(marks)
        yield
        marks.spans.append((stage, begin, self._mark(marks)))

    def launched(self, marks: Marks) -> None:
        """A body with these marks was put on the stream; its times are read later, by `harvest`."""
        if marks.spans and not marks.is_running:
            if marks.passed is None:
                marks.passed = self._passed.pop() if self._passed else self._driver.event()
            self._driver.record(marks.passed, self._stream)
            marks.is_running, marks.frame = True, self.frame
            self._running.append(marks)

    def harvest(self) -> None:
        """Read what has passed. Bodies run in order, so the first that has not passed ends it."""
        while self._running and self._driver.is_done(self._running[0].passed or Event(0)):
            marks = self._running.popleft()
            marks.is_running = False
            for stage, begin, end in marks.spans:
                self._timings.add(stage, self._driver.elapsed_ms(begin, end), marks.frame)
            if not marks.in_graph and marks.passed is not None:
                self._passed.append(marks.passed)
                self._free += sorted({event for _, begin, end in marks.spans for event in (begin, end)})

    def _mark(self, marks: Marks) -> Event:
        if self._last is not None and self._last[1] == self.work:
            return self._last[0]
        event = self._driver.event(timed=True) if marks.in_graph or not self._free else self._free.pop()
        self._driver.record(event, self._stream, in_graph=marks.in_graph)
        self._last = (event, self.work)
        return event
