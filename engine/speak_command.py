"""What `run` does with a lip-sync profile, and the demo of it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console

import engine
from engine.console import finish, guarded, run_with_bar, say, tell, with_changes
from engine.errors import ModelError, explain
from engine.profiler.live_table import LiveTable
from engine.profiler.options import Options
from engine.profiler.session import ProfilerSession
from engine.video.live_open import parse_options
from profiles.profile import Profile, load_profile

__all__ = ["demo_speak", "speak"]

SAMPLE = Path(__file__).parent.parent / "models" / "tiny" / "sample"


def speak(console: Console, session: ProfilerSession, profile: Profile, chosen: argparse.Namespace) -> int:
    """Say the audio with the template, and tell how it went."""
    result = run_with_bar(
        console,
        lambda report: engine.speak(
            profile,
            chosen.template,
            chosen.audio,
            chosen.paths[0],
            live=chosen.live,
            raw_audio=chosen.raw_audio or "",
            face=chosen.face or "",
            output_options=parse_options(chosen.output_option, "--output-option"),
            on_open=session.watch,
            on_progress=report,
            say=partial(say, console),
        ),
        LiveTable(session) if chosen.stages else None,
        what="speak",
    )
    code = tell(console, profile, result)
    say(console, f"result  {result.output}")
    finish(console, session, profile, result, f"{Path(chosen.audio).name}, profile {profile.name}")
    return code


def demo_speak(out: Path, backend: str | None, threads: int | None) -> int:
    """The sample presenter says the sample speech, with the tiny pack."""
    console = Console()
    console.print("[bold]demo[/]: the tiny pack, drawn faces only")

    def work() -> int:
        template, audio = SAMPLE / "presenter.mp4", _sample_speech()
        with ProfilerSession(Options()) as session:
            profile = with_changes(load_profile("tiny_lipsync"), backend=backend, threads=threads)
            out.mkdir(parents=True, exist_ok=True)
            target = out / "demo_talking.mp4"
            result = run_with_bar(
                console,
                lambda report: engine.speak(
                    profile,
                    template,
                    audio,
                    target,
                    on_open=session.watch,
                    on_progress=report,
                    say=partial(say, console),
                ),
                what="speak",
            )
            code = tell(console, profile, result)
            for label, path in (("template", template), ("audio", audio), ("result", target)):
                say(console, f"{label:<14}{path}")
            finish(console, session, profile, result, "demo, lipsync")
            return code

    return guarded("demo", console, work)


def _sample_speech() -> Path:
    found = sorted(one for one in SAMPLE.glob("speech.*") if one.suffix not in (".py", ".json"))
    if not found or not (SAMPLE / "presenter.mp4").is_file():
        got = "no presenter.mp4 or speech.*"
        raise ModelError(explain(str(SAMPLE), "the sample of lip-sync", got, "install the package again"))
    return found[0]
