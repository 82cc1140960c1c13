"""The summary of a run: one dictionary, from which the JSON line, the report and the benchmark's files are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engine.frame_history import FrameRecord
from engine.report import STAGE_ORDER
from engine.timing import StageRow, Timings

__all__ = ["json_line", "stages_json", "worst_json"]


def stages_json(timings: Timings, budgets_ms: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """By stage: calls, percentiles, mean and max in ms, share of the busy time and, with a budget, its misses."""
    return {row.stage: _row_json(row) for row in timings.rows(STAGE_ORDER, budgets_ms)}


def worst_json(timings: Timings) -> list[dict[str, Any]]:
    """The worst frames, worst first, each with its index, pts and all its stages in ms."""
    return [_record_json(record) for record in timings.history.worst_first()]


def json_line(summary: Mapping[str, Any]) -> str:
    """The summary on one line of strict JSON: what is not a number is null."""
    return json.dumps(_finite(summary), separators=(", ", ": "), allow_nan=False)


def _row_json(row: StageRow) -> dict[str, Any]:
    told = {name: round(value, 4) for name, value in asdict(row).items() if isinstance(value, float)}
    out: dict[str, Any] = {"calls": row.calls, **told}
    if row.budget_ms:
        return {**out, "misses": row.misses, "verdict": row.verdict}
    del out["budget_ms"]
    return out


def _record_json(record: FrameRecord) -> dict[str, Any]:
    told: dict[str, Any] = {"index": record.index, "pts": record.pts, "work_ms": round(record.work_ms, 3)}
    if record.latency_ms:
        told["latency_ms"] = round(record.latency_ms, 3)
    return {**told, "stages_ms": {stage: round(ms, 3) for stage, ms in record.stages_ms().items()}}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0.0:
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
