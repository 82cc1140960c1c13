"""The table of stages while a run goes on."""

from __future__ import annotations

from rich.table import Table

from engine.profiler.session import ProfilerSession
from engine.report import STAGE_ORDER, stage_table

__all__ = ["LiveTable"]


class LiveTable:
    """Drawn anew, from the run's timings, whenever the display is."""

    def __init__(self, session: ProfilerSession) -> None:
        self._session = session

    def __rich__(self) -> Table:
        timings = self._session.timings
        title = "" if timings.rung is None else f"governor: rung {timings.rung}"
        return stage_table(timings.rows(STAGE_ORDER, timings.budgets_ms), title)
