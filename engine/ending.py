"""ending: wait for a run's threads, so that nothing is closed under them.

Threads say by an event that they have ended. `Thread.join` can't be relied on: when Ctrl-C breaks it off, Python 3.10
to 3.12 marks the thread as stopped, and from then on neither `join` nor `is_alive` knows that it runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from engine.ring import Ring
from engine.video.sink import Sink

__all__ = ["LEAVE_S", "wait_ended", "wait_threads"]

_POLL_S = 0.02

#: A thread that has not ended so long after it was asked to is stuck.
LEAVE_S: Final = 10.0


def wait_ended(ended: Sequence[threading.Event], most_s: float = LEAVE_S) -> bool:
    """Wait until all are set, at most `most_s`; returns whether they are.

    Ctrl-C doesn't cut it short, and isn't raised: for where a run is over and its error on the way already.
    """
    until_s = time.monotonic() + most_s
    while True:
        with suppress(KeyboardInterrupt):  # wherever in here it comes
            while not all(one.is_set() for one in ended) and time.monotonic() < until_s:
                time.sleep(_POLL_S)
            return all(one.is_set() for one in ended)


def wait_threads(ring: Ring, ended: Sequence[threading.Event], sink: Sink) -> None:
    """Wait until both threads of a run have ended; Ctrl-C fails the run, but leaves neither behind the sink's back."""
    try:
        for one in ended:
            one.wait()
    except KeyboardInterrupt as error:
        ring.fail(error)
        if not wait_ended(ended):
            sink.give_up()
