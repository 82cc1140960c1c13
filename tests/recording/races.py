"""Happens-before over a record of calls, by vector clocks; two accesses that conflict must be ordered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["HOST", "Access", "Races", "Region"]

HOST = "host"
Clock = dict[str, int]


@dataclass
class Region:
    """A named part of memory, and what touched it that a later access may conflict with."""

    start: int
    nbytes: int
    name: str
    is_free: bool = False
    touched: list[_Touch] = field(default_factory=list)


@dataclass(frozen=True)
class Access:
    """Bytes [start, end) that one operation reads, or writes as well."""

    start: int
    end: int
    is_write: bool


@dataclass(frozen=True)
class _Touch:
    access: Access
    actor: str
    count: int
    what: str


class Races:
    """Clocks of the host and of every stream. `found` holds a sentence for each pair that is not ordered.

    Work on a stream comes after what its stream holds, after what the host knew when it was given, and after the
    events waited for. The host comes after what it has waited for, and after nothing else.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self.accesses = 0
        self._clocks: dict[str, Clock] = {HOST: {}}
        self._events: dict[int, Clock] = {}
        self._regions: list[Region] = []
        self._starts: list[int] = []

    def add_region(self, start: int, nbytes: int, name: str) -> None:
        """Name a part of memory; the newest name of an address counts."""
        at = bisect_right(self._starts, start)
        if at and self._starts[at - 1] == start:
            self._regions[at - 1] = Region(start, nbytes, name)
            return
        self._starts.insert(at, start)
        self._regions.insert(at, Region(start, nbytes, name))

    def region(self, address: int) -> Region | None:
        """The region that holds an address."""
        at = bisect_right(self._starts, address)
        if not at:
            return None
        found = self._regions[at - 1]
        return found if address < found.start + found.nbytes else None

    def to_the_end(self, address: int, *, is_write: bool, what: str) -> Access:
        """From an address to the end of its region: what a kernel given this pointer may touch."""
        region = self.region(address)
        if region is None:
            raise AssertionError(f"{what} touches {address:#x}, which nobody allocated")
        return Access(address, region.start + region.nbytes, is_write)

    def work(self, stream: str, what: str, accesses: Iterable[Access]) -> None:
        """An operation on a stream."""
        clock = self._clocks.setdefault(stream, {})
        _join(clock, self._clocks[HOST])
        self._touch(stream, clock, what, accesses)

    def host(self, what: str, accesses: Iterable[Access]) -> None:
        """The host touches memory itself."""
        self._touch(HOST, self._clocks[HOST], what, accesses)

    def record(self, event: int, stream: str) -> None:
        """An event marks a stream."""
        clock = self._clocks.setdefault(stream, {})
        _join(clock, self._clocks[HOST])
        self._events[event] = dict(clock)

    def stream_waits(self, stream: str, event: int) -> None:
        """A stream waits for an event's last mark."""
        _join(self._clocks.setdefault(stream, {}), self._events.get(event, {}))

    def host_waits_event(self, event: int) -> None:
        """The host waits for an event's last mark."""
        _join(self._clocks[HOST], self._events.get(event, {}))

    def host_waits_stream(self, stream: str) -> None:
        """The host waits for a stream."""
        _join(self._clocks[HOST], self._clocks.get(stream, {}))

    def host_knows(self, event: int) -> bool:
        """Whether the host has waited for all that the event marks."""
        mine = self._clocks[HOST]
        return all(mine.get(actor, 0) >= count for actor, count in self._events.get(event, {}).items())

    def free_all(self) -> None:
        """All memory is given back."""
        for region in self._regions:
            region.is_free = True

    def _touch(self, actor: str, clock: Clock, what: str, accesses: Iterable[Access]) -> None:
        clock[actor] = clock.get(actor, 0) + 1
        for access in accesses:
            self.accesses += 1
            region = self.region(access.start)
            if region is None:
                continue
            if region.is_free:
                self.found.append(f"{actor}: {what} touches {region.name} after it was given back")
            kept = []
            for earlier in region.touched:
                ordered = clock.get(earlier.actor, 0) >= earlier.count
                if _conflict(earlier.access, access) and not ordered:
                    self.found.append(
                        f"{region.name}: {what} on {actor} is not ordered after {earlier.what} on {earlier.actor}"
                    )
                replaced = access.is_write or not earlier.access.is_write
                if not (replaced and _covers(access, earlier.access) and ordered):
                    kept.append(earlier)
            region.touched = [*kept, _Touch(access, actor, clock[actor], what)]


def _join(mine: Clock, other: Mapping[str, int]) -> None:
    for actor, count in other.items():
        if mine.get(actor, 0) < count:
            mine[actor] = count


def _conflict(one: Access, other: Access) -> bool:
    return (one.is_write or other.is_write) and one.start < other.end and other.start < one.end


def _covers(outer: Access, inner: Access) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end
