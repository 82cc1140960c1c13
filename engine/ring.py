"""The ring of frame slots that the threads of a run pass on, and how they end together."""

from __future__ import annotations

import queue
import threading
from typing import Any, Final

from engine.frame import Frame

__all__ = ["END", "POLL_S", "Ring", "StoppedError"]

POLL_S: Final = 0.1


class Ring:
    """Queues between the three threads, and the first failure of any of them."""

    def __init__(self, frames: list[Frame]) -> None:
        self.free: queue.Queue[Frame] = queue.Queue()
        self.decoded: queue.Queue[Any] = queue.Queue()
        self.finished: queue.Queue[Any] = queue.Queue()
        self.stop = threading.Event()
        self.read = threading.Event()  # the decode thread has ended
        self.encoded = threading.Event()  # the encode thread has ended
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
        """The next item; raises StoppedError when another thread has failed."""
        while not self.stop.is_set():
            try:
                return line.get(timeout=POLL_S)
            except queue.Empty:
                continue
        raise StoppedError

    def take_if_there(self, line: queue.Queue[Any]) -> Any:
        """The next item, or None where there is none yet; raises StoppedError when another thread has failed."""
        if self.stop.is_set():
            raise StoppedError
        try:
            return line.get_nowait()
        except queue.Empty:
            return None


class StoppedError(Exception):
    """Another thread has failed; not an error of its own."""


#: Behind the last item of a queue.
END: Final = object()
