"""What a run tells: the table of stages, the last lines, and the log file beside them."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from engine.timing import StageRow

__all__ = ["STAGE_ORDER", "budgets_for", "log_folder", "open_log", "print_table", "stage_table", "verdict_line"]

STAGE_ORDER = (
    "decode",
    "listen",
    "detect",
    "track",
    "identify",
    "refine",
    "crop",
    "generate",
    "enhance",
    "mask",
    "paste",
    "fade",
    "encode",
    "frame",
    "queue",
    "latency",
)


def log_folder() -> Path:
    """Where runs write their logs: `$XDG_STATE_HOME/face-engine/logs` or `~/.local/state/face-engine/logs`."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "face-engine" / "logs"


def open_log(name: str) -> Path:
    """Start this run's log file and return its path; the last 20 logs are kept."""
    folder = log_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        # a container or a service may have no home that can be written to; the path is printed either way
        folder = Path(tempfile.mkdtemp(prefix="face-engine-"))
    for old in sorted(folder.glob("*.log"))[:-19]:
        old.unlink(missing_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{name}.log"
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("engine")
    for held in list(logger.handlers):
        logger.removeHandler(held)
        held.close()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return path


def budgets_for(frame_ms: float, stages_ms: dict[str, float], rate: float) -> dict[str, float]:
    """Budgets by stage; the frame's own is the profile's, else what the input's rate leaves for a frame."""
    frame = frame_ms or (1000.0 / rate if rate else 0.0)
    return {**stages_ms, "frame": frame}


def print_table(console: Console, rows: Sequence[StageRow], title: str) -> None:
    """Stage, calls, p50 / p95 / p99 / max in ms, share of the busy time, budget, verdict."""
    console.print(stage_table(rows, title))


def stage_table(rows: Sequence[StageRow], title: str) -> Table:
    """The same as a table, for a display that changes."""
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("stage", no_wrap=True)
    for heading in ("calls", "p50", "p95", "p99", "max ms", "share", "budget"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        if row.stage == "frame":
            table.add_section()
        style = {"ok": "green", "over": "red"}.get(row.verdict, "")
        table.add_row(
            row.stage,
            str(row.calls),
            *(_short(ms) for ms in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)),
            f"{row.share:.0%}" if row.share else "",
            f"{row.budget_ms:.1f}" if row.budget_ms else "",
            f"[{style}]{row.verdict}[/]" if style else "",
        )
    return table


def _short(ms: float) -> str:
    """Three digits that count: on a busy machine the table still fits 80 columns."""
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def verdict_line(rows: Sequence[StageRow]) -> str:
    """One sentence: whether p99 of a frame's work keeps its budget."""
    frame = next((row for row in rows if row.stage == "frame"), None)
    if frame is None or not frame.budget_ms:
        return ""
    kept = "keeps" if frame.verdict == "ok" else "misses"
    missed = f", {frame.misses} of {frame.calls} frames over it" if frame.misses else ""
    figures = f"p99 {frame.p99_ms:.1f} ms of {frame.budget_ms:.1f} ms{missed}"
    return f"a frame's work (stages 2 to 9) {kept} its budget: {figures}"
