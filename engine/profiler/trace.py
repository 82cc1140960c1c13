"""The newest frames as a trace for Perfetto or chrome://tracing: one row a thread, a slice a span, frames as flows.

The format is the trace-event format in its JSON object form; times are microseconds since the first event.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from engine.frame_history import FrameRecord, Span
from engine.timing import BESIDE_STAGES, RungChange

__all__ = ["TRACE_FRAMES", "trace_events", "trace_json"]

TRACE_FRAMES = 3000

_PID = 1
_FRAMES_TID = 1
_UNPLACED = "device (order known, start not)"


def trace_json(records: Iterable[FrameRecord], conditions: dict[str, Any], changes: Iterable[RungChange] = ()) -> str:
    """The trace as text."""
    events = trace_events(records, changes)
    return json.dumps({"displayTimeUnit": "ms", "otherData": conditions, "traceEvents": events})


def trace_events(records: Iterable[FrameRecord], changes: Iterable[RungChange] = ()) -> list[dict[str, Any]]:
    """Metadata first, then a slice for every frame (packet in to packet out) and for every span of it.

    A governor's steps are instants across all rows, as far as they lie within the frames. A span whose start was not
    told is laid after the one before it, in a row of its own.
    """
    frames = [record for record in records if record.spans]
    starts = [start for record in frames for _, start, _, _ in record.spans if start]
    starts += [record.arrived_ns for record in frames if record.arrived_ns]
    first_ns = min(starts, default=0)
    tids: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    for record in frames:
        if record.arrived_ns and record.departed_ns:
            events += _frame_events(record, first_ns)
        cursor_ns = next((start for _, start, _, _ in record.spans if start), record.arrived_ns or first_ns)
        for span in record.spans:
            if span[0] in BESIDE_STAGES:
                continue
            place = span[3] if span[1] else _UNPLACED
            start_ns = span[1] or cursor_ns
            cursor_ns = start_ns + round(span[2] * 1e6)
            events.append(_slice(record, span, start_ns - first_ns, tids.setdefault(place, len(tids) + 2)))
    events += [_instant(change, first_ns) for change in changes if frames and change.at_ns >= first_ns]
    names = {"frames": _FRAMES_TID, **tids} if frames else {}
    return [_name("process_name", 0, "face-engine"), *(_name("thread_name", t, n) for n, t in names.items()), *events]


def _frame_events(record: FrameRecord, first_ns: int) -> list[dict[str, Any]]:
    """A frame overlaps the next one, so it is an asynchronous slice with an id of its own."""
    both = {"name": f"frame {record.index}", "cat": "frame", "id": record.index, "pid": _PID, "tid": _FRAMES_TID}
    begin = {**both, "ph": "b", "ts": (record.arrived_ns - first_ns) / 1e3, "args": {"pts": record.pts}}
    return [begin, {**both, "ph": "e", "ts": (record.departed_ns - first_ns) / 1e3}]


def _slice(record: FrameRecord, span: Span, start_ns: int, tid: int) -> dict[str, Any]:
    return {
        "name": span[0],
        "cat": "stage",
        "ph": "X",
        "ts": start_ns / 1e3,
        "dur": span[2] * 1e3,
        "pid": _PID,
        "tid": tid,
        "args": {"frame": record.index, "pts": record.pts},
    }


def _instant(change: RungChange, first_ns: int) -> dict[str, Any]:
    place = {"ph": "i", "s": "g", "ts": (change.at_ns - first_ns) / 1e3, "pid": _PID, "tid": _FRAMES_TID}
    return {"name": "governor", "cat": "governor", **place, "args": {"rung": change.rung, "why": change.words}}


def _name(kind: str, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": _PID, "tid": tid, "ts": 0, "args": {"name": name}}
