"""What every command does around its work: the bar while it runs, the table after it, errors as sentences and codes."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from engine.errors import EngineError, InputError
from engine.profiler.live_table import LiveTable
from engine.profiler.session import ProfilerSession
from engine.report import STAGE_ORDER, budgets_for, open_log, print_table, verdict_line
from engine.result import Progress as RunProgress
from engine.result import RunResult
from models.tables import TableError
from profiles.profile import Profile

__all__ = ["finish", "guarded", "run_with_bar", "say", "tell", "with_changes"]

log = logging.getLogger("engine.commands")
T = TypeVar("T")


def finish(console: Console, session: ProfilerSession, profile: Profile, result: RunResult, what: str) -> None:
    """The profiler's files, then its line of JSON, which is the last one."""
    line = session.finish(profile, result, what=what, is_terminal=console.is_terminal)
    for path in (session.options.report, session.options.trace):
        if path is not None:
            say(console, f"wrote   {path}")
    if line:
        say(console, line)


def run_with_bar(
    console: Console,
    work: Callable[[Callable[[RunProgress], None]], RunResult],
    table: LiveTable | None = None,
    *,
    what: str = "swap",
) -> RunResult:
    """Do `work` with a bar that is called `what`, and a table of the stages under it where one is given."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}{task.fields[of]} frames"),
        TextColumn("{task.fields[fps]:.1f} fps{task.fields[drops]}"),
        TimeRemainingColumn(),
    )
    shown = _BarAndTable if table else Progress
    with shown(*columns, console=console, transient=True) as bar:
        if isinstance(bar, _BarAndTable):
            bar.table = table
        task = bar.add_task(what, total=None, fps=0.0, of="", drops="")

        def report(progress: RunProgress) -> None:
            of = f"/{progress.total}" if progress.total else ""
            drops = f", {progress.dropped} dropped" if progress.dropped else ""
            bar.update(task, completed=progress.done, total=progress.total, fps=progress.fps, of=of, drops=drops)

        return work(report)


class _BarAndTable(Progress):
    """The bar with the stages under it."""

    table: LiveTable | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.table is not None:
            yield self.table


def tell(console: Console, profile: Profile, result: RunResult) -> int:
    """What a run did: notes, stages, figures; returns the exit code."""
    for note in result.notes:
        say(console, f"note: {note}")
    # a still has no rate, and so no deadline
    is_still = not result.rate
    budgets = {} if is_still else budgets_for(profile.budget_ms.frame, profile.budget_ms.stages, result.rate)
    rows = result.timings.rows(STAGE_ORDER, budgets)
    print_table(console, rows, f"profile {profile.name}: {profile.says}")
    for row in rows:
        log.info("%s", row)
    log.info("%d frames to %s in %.2f s, %d failed", result.frames, result.output, result.wall_s, result.failed)
    fps = result.frames / result.wall_s if result.wall_s else 0.0
    done = f"{result.frames} frames in {result.wall_s:.1f} s ({fps:.1f} fps)"
    if result.speech is None:
        console.print(f"{done}, {result.faces} faces changed in {result.frames_with_face} frames, {result.cuts} cuts")
    else:
        console.print(done)
        for line in result.speech.lines():
            say(console, line)
            log.info("%s", line)
    if result.live is not None:
        for line in result.live.lines(result.wall_s):
            say(console, line)
            log.info("%s", line)
    if line := verdict_line(rows):
        console.print(line)
    if result.failed:
        say(console, f"{result.failed} frames went out unchanged; the first: {result.first_failure}")
    if result.live is not None and result.live.was_lost:
        return 1
    return 4 if result.failed else 0


def guarded(name: str, console: Console, work: Callable[[], int]) -> int:
    """Run a command; every failure becomes a sentence, the log's path and an exit code."""
    path = open_log(name)
    log.info("%s: %s", name, " ".join(sys.argv))
    if threading.current_thread() is threading.main_thread():
        # docker stop and systemd end a run like Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except KeyboardInterrupt as error:
        say(console, "interrupted" + _partial(error))
        return 130
    except (EngineError, TableError) as error:
        log.exception("the run failed")
        print(f"{error}{_partial(error)}\nlog: {path}", file=sys.stderr)
        return 1 if getattr(error, "frames_written", 0) else 2
    except Exception as error:
        log.exception("the run failed")
        print(f"unexpected {type(error).__name__}: {error}{_partial(error)}\nlog: {path}", file=sys.stderr)
        return 1


def say(console: Console, line: str) -> None:
    """One line as it is: paths and FFmpeg's words may hold brackets, and are not to be wrapped."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _partial(error: BaseException) -> str:
    path = getattr(error, "partial_path", None)
    return f"; what was written so far is {path}" if path else ""


def with_changes(options: T, **changes: Any) -> T:
    """A profile or a part of it with those changes that are not None; raises InputError."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return dataclasses.replace(options, **given)  # type: ignore[type-var]
    except ValueError as error:
        raise InputError(f"options: {error}") from error
