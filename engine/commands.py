"""What the commands do and print; `__main__` only parses."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import engine
from engine.console import finish, guarded, run_with_bar, say, tell, with_changes
from engine.errors import InputError, explain
from engine.profiler.live_table import LiveTable
from engine.profiler.options import Options, profiler_options
from engine.profiler.session import ProfilerSession
from engine.run_options import check_run_options
from engine.speak_command import demo_speak, speak
from engine.video.live_open import parse_options
from profiles.profile import Profile, load_profile

__all__ = ["bench", "demo", "doctor", "prepare", "run"]

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


def demo(task: str, out: Path, backend: str | None, threads: int | None) -> int:
    """Run the sample of a task with the tiny pack."""
    return demo_speak(out, backend, threads) if task == "lipsync" else _demo_swap(out, backend, threads)


def _demo_swap(out: Path, backend: str | None, threads: int | None) -> int:
    """Swap the sample clip with the tiny pack; write the result and a side-by-side comparison."""
    console = Console()
    console.print("[bold]demo[/]: the tiny pack, drawn faces only")

    def work() -> int:
        with ProfilerSession(Options()) as session:
            return swap(session)

    def swap(session: ProfilerSession) -> int:
        profile = with_changes(load_profile("tiny_sharp"), backend=backend, threads=threads)
        out.mkdir(parents=True, exist_ok=True)
        clip, source = SAMPLE / "clip.mp4", SAMPLE / "source_1.png"
        target = out / "demo.mp4"
        result = run_with_bar(
            console,
            lambda report: engine.run(
                profile,
                source,
                clip,
                target,
                faces=f"like={SAMPLE / 'person_1.png'}",
                on_open=session.watch,
                on_progress=report,
                say=partial(say, console),
            ),
        )
        from engine.video.compare import write_side_by_side

        compared = out / "demo_side_by_side.mp4"
        write_side_by_side(clip, target, compared, picture=source, threads=threads or len(os.sched_getaffinity(0)))
        code = tell(console, profile, result)
        for label, path in (("input", clip), ("source", source), ("result", target), ("side by side", compared)):
            say(console, f"{label:<14}{path}")
        finish(console, session, profile, result, "demo")
        return code

    return guarded("demo", console, work)


def run(chosen: argparse.Namespace) -> int:
    """python -m engine run: the task is the profile's."""
    # a stream on standard output is not to be mixed with words
    console = Console(stderr=chosen.paths[-1] in ("-", "pipe:1", "pipe:"))

    def work() -> int:
        with ProfilerSession(profiler_options(chosen)) as session:
            profile = with_changes(load_profile(chosen.profile), backend=chosen.backend, threads=chosen.threads)
            check_run_options(chosen, profile)
            encode = with_changes(profile.encode, codec=chosen.codec, quality=chosen.quality, preset=chosen.preset)
            profile = with_changes(profile, encode=encode)
            return (speak if profile.task == "lipsync" else _swap)(console, session, profile, chosen)

    return guarded("run", console, work)


def _swap(console: Console, session: ProfilerSession, profile: Profile, chosen: argparse.Namespace) -> int:
    given, output = chosen.paths
    profile = _with_restorer(with_changes(profile, opacity=chosen.opacity), chosen)
    profile = with_changes(profile, detect=with_changes(profile.detect, score_threshold=chosen.score_threshold))
    result = run_with_bar(
        console,
        lambda report: engine.run(
            profile,
            chosen.source,
            given,
            output,
            faces=chosen.faces or "all",
            source_face=chosen.source_face or "only",
            deinterlace=chosen.deinterlace,
            live=chosen.live,
            input_options=parse_options(chosen.input_option, "--input-option"),
            output_options=parse_options(chosen.output_option, "--output-option"),
            decoder=chosen.decoder or "auto",
            on_open=session.watch,
            on_progress=report,
            say=partial(say, console),
        ),
        LiveTable(session) if chosen.stages else None,
    )
    code = tell(console, profile, result)
    say(console, f"result  {result.output}")
    finish(console, session, profile, result, f"{Path(str(given)).name}, profile {profile.name}")
    return code


def prepare(chosen: argparse.Namespace) -> int:
    """python -m engine prepare."""
    from engine.template.command import prepare_command

    return guarded("prepare", Console(), lambda: prepare_command(chosen))


def bench(chosen: argparse.Namespace) -> int:
    """python -m engine bench."""
    from engine.bench.command import run_bench, run_compare

    console = Console()

    if chosen.compare:
        return guarded("bench", console, lambda: run_compare(chosen.compare, partial(say, console)))
    return guarded("bench", console, lambda: run_bench(chosen, console, partial(say, console)))


def _with_restorer(profile: Profile, chosen: argparse.Namespace) -> Profile:
    """The profile with the restorer that was asked for, if one was."""
    profile = with_changes(
        profile,
        models=with_changes(profile.models, restorer=chosen.restorer),
        enhance=with_changes(profile.enhance, every=chosen.enhance_every, blend=chosen.enhance_blend),
    )
    for flag, value in (("--enhance-every", chosen.enhance_every), ("--enhance-blend", chosen.enhance_blend)):
        if value is not None and not profile.models.restorer:
            got = f"profile {profile.name} without one"
            raise InputError(explain(flag, "a restorer", got, "name one with --restorer"))
    return profile
