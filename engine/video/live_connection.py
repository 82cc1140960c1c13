"""One opening of a live input: low delay, the arrival of each packet, and what is fresh."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import av

from engine.video.decoded import PassThrough
from engine.video.live_open import LiveOptions, open_live_container
from engine.video.source import Source

__all__ = ["Connection"]

_ARRIVALS_KEPT = 256
# What piled up comes as fast as it is read. Over this many pictures, what is new takes its own time, or most of it; one
# pause of a busy machine does not look like that.
_PACE_PICTURES = 4
_PACE = 0.7
# Where decoding takes all the time there is, or pictures have no stamps, this is the end of it.
_STALE_NS = 3_000_000_000


class Connection(Source):
    """One opening of the input. Stamps each packet's arrival; a file is held to its own pace.

    `is_fresh` once pictures come at their own pace: the ones before piled up while FFmpeg probed the input.
    """

    def __init__(
        self, uri: str, options: LiveOptions, decoder: Any, *, threads: int, deinterlace: bool, paced: bool
    ) -> None:
        self._arrived: dict[int, int] = {}
        self._now_ns = time.perf_counter_ns()
        self._paced = paced
        self._due_from: tuple[int, float] | None = None  # perf_counter_ns, and the stamp in s that is due then
        self._last_s = 0.0
        self.is_fresh = paced
        self._opened_ns = 0
        self._pace: deque[tuple[int, float]] = deque(maxlen=_PACE_PICTURES)
        self._hurry = threading.Event()
        container = open_live_container(uri, options, decoder)
        try:
            super().__init__(
                uri,
                container,
                threads=threads,
                deinterlace=deinterlace,
                low_delay=True,
                on_device=decoder is not None,
            )
        except BaseException:
            container.close()
            raise

    def live_items(self, stop: threading.Event) -> Iterator[tuple[av.VideoFrame, int] | PassThrough]:
        """Pictures with the arrival of their packet, and other packets, until the input ends or breaks."""
        self._hurry = stop
        if self._paced:
            # what was read at open is due now, and what follows from there on
            now_ns = time.perf_counter_ns()
            self._arrived = dict.fromkeys(self._arrived, now_ns)
            self._due_from = (now_ns, self._due_from[1] if self._due_from else 0.0)
        for item in self._deinterlaced():
            if stop.is_set():
                return
            if isinstance(item, PassThrough):
                yield item
            else:
                yield item, self._arrived.pop(cast(int, item.pts), self._now_ns)

    def forget(self) -> None:
        """From here on only what comes at its own pace is fresh."""
        self.is_fresh, self._opened_ns = False, 0
        self._pace.clear()

    def _on_packet(self, packet: av.Packet[Any]) -> None:
        if self._paced:
            self._wait_until_due(packet)
        elif not self.is_fresh:
            self.is_fresh = self._comes_at_its_pace(packet)
        self._now_ns = time.perf_counter_ns()
        if packet.stream.index == self.video_stream.index and packet.pts is not None:
            self._arrived[packet.pts] = self._now_ns
            if len(self._arrived) > _ARRIVALS_KEPT:  # those that never became a picture
                del self._arrived[next(iter(self._arrived))]

    def _comes_at_its_pace(self, packet: av.Packet[Any]) -> bool:
        now_ns = time.perf_counter_ns()
        self._opened_ns = self._opened_ns or now_ns
        stamp = packet.dts if packet.dts is not None else packet.pts
        if packet.stream.index == self.video_stream.index and stamp is not None:
            self._pace.append((now_ns, float(stamp * packet.time_base)))
            (first_ns, first_s), (last_ns, last_s) = self._pace[0], self._pace[-1]
            if len(self._pace) == _PACE_PICTURES and (last_ns - first_ns) / 1e9 >= _PACE * (last_s - first_s) > 0:
                return True
        return now_ns - self._opened_ns > _STALE_NS

    def _wait_until_due(self, packet: av.Packet[Any]) -> None:
        """Hold a file to its own pace, by its pictures: sound lies beside them in the file, before or behind."""
        if packet.stream.index != self.video_stream.index or not packet.size:
            return
        if packet.dts is not None:
            self._last_s = float(packet.dts * packet.time_base)
        else:  # a raw stream
            rate = self.video_stream.average_rate or self.video_stream.guessed_rate or 25
            self._last_s += float(1 / rate)
        stamp_s = self._last_s
        now_ns = time.perf_counter_ns()
        if self._due_from is None:
            self._due_from = (now_ns, stamp_s)
        from_ns, from_s = self._due_from
        self._hurry.wait(max(0.0, stamp_s - from_s - (now_ns - from_ns) / 1e9))
