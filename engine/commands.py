"""What the commands do and print; `__main__` only parses."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import engine
from engine.errors import EngineError, InputError, explain
from engine.profiler.live_table import LiveTable
from engine.profiler.options import Options, profiler_options
from engine.profiler.session import ProfilerSession
from engine.report import STAGE_ORDER, budgets_for, open_log, print_table, verdict_line
from engine.result import Progress as RunProgress
from engine.result import RunResult
from engine.video.live_open import parse_options
from models.tables import TableError
from profiles.profile import Profile, load_profile

__all__ = ["bench", "demo", "doctor", "run"]

log = logging.getLogger("engine.commands")
T = TypeVar("T")

SAMPLE = Path(__file__).parent.parent / "models" / "tiny" / "sample"


def doctor() -> int:
    """Print every finding; 1 when something that each run needs is missing."""
    from engine.doctor import examine

    console = Console()
    table = Table(header_style="bold")
    for heading in ("what", "state", "found", "do"):
        table.add_column(heading, overflow="fold")
    findings = examine()
    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(finding.what, state, escape(finding.found), escape(finding.do))
    console.print(table)
    return int(any(finding.needed and finding.state != "ok" for finding in findings))


def demo(out: Path, backend: str | None, threads: int | None) -> int:
    """Swap the sample clip with the tiny pack; write the result and a side-by-side comparison."""
    console = Console()
    console.print("[bold]demo[/]: the tiny pack, drawn faces only")

    def work() -> int:
        with ProfilerSession(Options()) as session:
            return swap(session)

    def swap(session: ProfilerSession) -> int:
        profile = _with(load_profile("tiny"), backend=backend, threads=threads)
        out.mkdir(parents=True, exist_ok=True)
        clip, source = SAMPLE / "clip.mp4", SAMPLE / "source_1.png"
        target = out / "demo.mp4"
        result = _run_with_bar(
            console,
            lambda report: engine.run(
                profile,
                source,
                clip,
                target,
                faces=f"like={SAMPLE / 'person_1.png'}",
                on_open=session.watch,
                on_progress=report,
                say=lambda line: _say(console, line),
            ),
        )
        from engine.video.compare import write_side_by_side

        compared = out / "demo_side_by_side.mp4"
        write_side_by_side(clip, target, compared, picture=source, threads=threads or len(os.sched_getaffinity(0)))
        code = _tell(console, profile, result)
        for label, path in (("input", clip), ("source", source), ("result", target), ("side by side", compared)):
            _say(console, f"{label:<14}{path}")
        _finish(console, session, profile, result, "demo")
        return code

    return _guarded("demo", console, work)


def run(chosen: argparse.Namespace) -> int:
    """python -m engine run."""
    # a stream on standard output is not to be mixed with words
    console = Console(stderr=chosen.output in ("-", "pipe:1", "pipe:"))

    def work() -> int:
        with ProfilerSession(profiler_options(chosen)) as session:
            return swap(session)

    def swap(session: ProfilerSession) -> int:
        profile = _with(load_profile(chosen.profile), backend=chosen.backend, threads=chosen.threads)
        profile = _with_restorer(_with(profile, opacity=chosen.opacity), chosen)
        profile = _with(
            profile,
            detect=_with(profile.detect, score_threshold=chosen.score_threshold),
            encode=_with(profile.encode, codec=chosen.codec, quality=chosen.quality, preset=chosen.preset),
        )
        result = _run_with_bar(
            console,
            lambda report: engine.run(
                profile,
                chosen.source,
                chosen.input,
                chosen.output,
                faces=chosen.faces or "all",
                source_face=chosen.source_face,
                deinterlace=chosen.deinterlace,
                live=chosen.live,
                input_options=parse_options(chosen.input_option, "--input-option"),
                output_options=parse_options(chosen.output_option, "--output-option"),
                decoder=chosen.decoder,
                on_open=session.watch,
                on_progress=report,
                say=lambda line: _say(console, line),
            ),
            LiveTable(session) if chosen.stages else None,
        )
        code = _tell(console, profile, result)
        _say(console, f"result  {result.output}")
        _finish(console, session, profile, result, f"{Path(str(chosen.input)).name}, profile {profile.name}")
        return code

    return _guarded("run", console, work)


def bench(chosen: argparse.Namespace) -> int:
    """python -m engine bench."""
    from engine.bench.command import run_bench, run_compare

    console = Console()

    def say(line: str) -> None:
        _say(console, line)

    if chosen.compare:
        return _guarded("bench", console, lambda: run_compare(chosen.compare, say))
    return _guarded("bench", console, lambda: run_bench(chosen, console, say))


def _finish(console: Console, session: ProfilerSession, profile: Profile, result: RunResult, what: str) -> None:
    """The profiler's files, then its line of JSON, which is the last one."""
    line = session.finish(profile, result, what=what, is_terminal=console.is_terminal)
    for path in (session.options.report, session.options.trace):
        if path is not None:
            _say(console, f"wrote   {path}")
    if line:
        _say(console, line)


def _run_with_bar(
    console: Console,
    work: Callable[[Callable[[RunProgress], None]], RunResult],
    table: LiveTable | None = None,
) -> RunResult:
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
        task = bar.add_task("swap", total=None, fps=0.0, of="", drops="")

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


def _tell(console: Console, profile: Profile, result: RunResult) -> int:
    for note in result.notes:
        _say(console, f"note: {note}")
    # a still has no rate, and so no deadline
    is_still = not result.rate
    budgets = {} if is_still else budgets_for(profile.budget_ms.frame, profile.budget_ms.stages, result.rate)
    rows = result.timings.rows(STAGE_ORDER, budgets)
    print_table(console, rows, f"profile {profile.name}: {profile.says}")
    for row in rows:
        log.info("%s", row)
    log.info("%d frames to %s in %.2f s, %d failed", result.frames, result.output, result.wall_s, result.failed)
    fps = result.frames / result.wall_s if result.wall_s else 0.0
    console.print(
        f"{result.frames} frames in {result.wall_s:.1f} s ({fps:.1f} fps), {result.faces} faces changed in "
        f"{result.frames_with_face} frames, {result.cuts} cuts"
    )
    if result.live is not None:
        for line in result.live.lines(result.wall_s):
            _say(console, line)
            log.info("%s", line)
    if line := verdict_line(rows):
        console.print(line)
    if result.failed:
        _say(console, f"{result.failed} frames went out unchanged; the first: {result.first_failure}")
    if result.live is not None and result.live.was_lost:
        return 1
    return 4 if result.failed else 0


def _guarded(name: str, console: Console, work: Callable[[], int]) -> int:
    """Run a command; every failure becomes a sentence, the log's path and an exit code."""
    path = open_log(name)
    log.info("%s: %s", name, " ".join(sys.argv))
    if threading.current_thread() is threading.main_thread():
        # docker stop and systemd end a run like Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except KeyboardInterrupt as error:
        _say(console, "interrupted" + _partial(error))
        return 130
    except (EngineError, TableError) as error:
        log.exception("the run failed")
        print(f"{error}{_partial(error)}\nlog: {path}", file=sys.stderr)
        return 1 if getattr(error, "frames_written", 0) else 2
    except Exception as error:
        log.exception("the run failed")
        print(f"unexpected {type(error).__name__}: {error}{_partial(error)}\nlog: {path}", file=sys.stderr)
        return 1


def _say(console: Console, line: str) -> None:
    """One line as it is: paths and FFmpeg's words may hold brackets, and are not to be wrapped."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _partial(error: BaseException) -> str:
    path = getattr(error, "partial_path", None)
    return f"; what was written so far is {path}" if path else ""


def _with_restorer(profile: Profile, chosen: argparse.Namespace) -> Profile:
    """The profile with the restorer that was asked for, if one was."""
    profile = _with(
        profile,
        models=_with(profile.models, restorer=chosen.restorer),
        enhance=_with(profile.enhance, every=chosen.enhance_every, blend=chosen.enhance_blend),
    )
    for flag, value in (("--enhance-every", chosen.enhance_every), ("--enhance-blend", chosen.enhance_blend)):
        if value is not None and not profile.models.restorer:
            got = f"profile {profile.name} without one"
            raise InputError(explain(flag, "a restorer", got, "name one with --restorer"))
    return profile


def _with(options: T, **changes: Any) -> T:
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return dataclasses.replace(options, **given)  # type: ignore[type-var]
    except ValueError as error:
        raise InputError(f"options: {error}") from error
