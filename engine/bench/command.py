"""python -m engine bench: the options, what is measured for them, and what is printed and written."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from engine.bench.compare import compare, read_measured
from engine.bench.each_option import OptionCost, each_option
from engine.bench.input import SAMPLE, BenchInput, open_input
from engine.bench.measure import Cell, Measured, cold_start, measure
from engine.bench.twins import twins_in_place
from engine.errors import InputError, explain
from engine.profiler.conditions import conditions
from engine.profiler.summary import json_line
from engine.report import STAGE_ORDER
from engine.timing import BESIDE_STAGES
from engine.video.output_place import OutputPlace
from profiles.profile import FOLDER, Profile, load_profile

__all__ = ["MISSED", "run_bench", "run_compare", "write_measured"]

MISSED = 3

Say = Callable[[str], None]


def run_compare(paths: Sequence[Path], say: Say) -> int:
    """Say of every cell whether the second file is faster, slower or no different; raises InputError if it can't."""
    verdicts = compare(*(read_measured(path) for path in paths))
    for verdict in verdicts:
        say(verdict.line())
    say("intervals: bootstrap of medians over rounds and blocks of 8 frames, 95 %")
    say(json_line({"compare": [{**vars(verdict), "word": verdict.word} for verdict in verdicts]}))
    return 0


def run_bench(chosen: argparse.Namespace, console: Console, say: Say) -> int:
    """Measure what was asked for; returns 0, or 3 when a budget was asked for and missed."""
    if chosen.twins and chosen.input != "sample":
        got = f"--input {chosen.input}"
        raise InputError(explain("bench --twins", "an input whose faces are known", got, "leave --input out"))
    place = _place(chosen.write)
    profiles = _profiles(chosen)
    with ExitStack() as stack:
        if place is not None:
            stack.callback(place.discard)
        weights = _weights(profiles, chosen, stack)
        cells = [_cell(profile, _input(chosen, faces), faces, chosen) for profile in profiles for faces in chosen.faces]
        measured: dict[str, Any] = {"what": "bench", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if chosen.each_option:
            costs = each_option(cells[0], chosen.frames, chosen.rounds, say)
            _print_options(console, cells[0], costs)
            measured |= {"cell": cells[0].name, "options": [cost.to_json() for cost in costs]}
            results: list[Measured] = []
        else:
            results = measure(cells, chosen.frames, chosen.rounds, say=say)
            _refuse_on_cpu(chosen, results[0].backend)
            _print_cells(console, results)
            measured["cells"] = [result.to_json() for result in results]
        if chosen.cold and not chosen.twins:
            measured["cold"] = _cold(profiles, chosen, say)
    measured["conditions"] = conditions(
        profiles[0] if len(profiles) == 1 else None,
        weights=weights,
        frames=chosen.frames,
        rounds=chosen.rounds,
        backend=results[0].backend if results else profiles[0].backend,
    )
    if place is not None:
        write_measured(place, measured)
        say(f"wrote   {place.final}")
    missed = _missed(results, chosen.budget_ms, say)
    short = [{name: value for name, value in cell.items() if name != "rounds_ms"} for cell in measured.get("cells", ())]
    say(json_line({**measured, **({"cells": short} if short else {}), "missed": missed}))
    return MISSED if missed else 0


def write_measured(place: OutputPlace, measured: dict[str, Any]) -> None:
    """Keep measurements as JSON that is easy to read and to diff: a list of numbers stays on one line."""
    text = json.dumps(measured, indent=1)
    text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    place.temporary.write_text(text + "\n", encoding="utf-8")
    place.complete()


def _place(name: str | None) -> OutputPlace | None:
    """profiles/measured/NAME.json for a bare name, else the path."""
    if name is None:
        return None
    path = Path(name) if name.endswith(".json") or "/" in name else FOLDER / "measured" / f"{name}.json"
    return OutputPlace(path, suffixes=(".json",), inputs=(), overwrite=True)


def _profiles(chosen: argparse.Namespace) -> list[Profile]:
    """Every profile at every precision and session that was asked for."""
    made = []
    for name in chosen.profile or ["tiny"]:
        profile = load_profile(name)
        changes = {"backend": chosen.backend, "threads": chosen.threads}
        profile = dataclasses.replace(profile, **{key: value for key, value in changes.items() if value is not None})
        for precision in chosen.precision or [profile.precision]:
            for session in chosen.session or [profile.session]:
                made.append(dataclasses.replace(profile, precision=precision, session=session))
    _refuse_on_cpu(chosen, chosen.backend)
    return made


def _cold(profiles: Sequence[Profile], chosen: argparse.Namespace, say: Say) -> dict[str, dict[str, float]]:
    """The cold start of every profile, by name; also said."""
    told = {}
    for name in chosen.profile or ["tiny"]:
        profile = next(one for one in profiles if one.name == load_profile(name).name)
        marks = told[profile.name] = cold_start(profile, name, chosen.size, chosen.cold)
        parts = (f"{key.removesuffix('_ms').replace('_', ' ')} {ms:.0f} ms" for key, ms in marks.items())
        say(f"cold start, {profile.name}: {', '.join(parts)}")
    return told


def _refuse_on_cpu(chosen: argparse.Namespace, backend: str | None) -> None:
    """What only a GPU can do, asked of a CPU: measured there it would be something else under that name."""
    wrong = [one for one in chosen.precision or () if one != "fp32"] + (chosen.session or [])
    if backend == "cpu" and wrong:
        do = "leave --precision and --session out, or measure on cuda"
        raise InputError(explain("bench", "fp32 in ONNX Runtime on the cpu backend", ", ".join(wrong), do))


def _weights(profiles: Sequence[Profile], chosen: argparse.Namespace, stack: ExitStack) -> str:
    """What the networks' weights are, as the conditions tell it; twins are put in place."""
    if not chosen.twins:
        if all(profile.models.detector.startswith("tiny_") for profile in profiles):
            return "tiny pack (drawn faces only), real, not a twin"
        return "the user's own files"
    if len(profiles) > 1:
        raise InputError(explain("bench --twins", "one profile", str(len(profiles)), "measure them one by one"))
    names = stack.enter_context(twins_in_place(profiles[0]))
    return f"twins of {', '.join(names.values())}: random weights; faces are the input's truth"


def _input(chosen: argparse.Namespace, faces: int) -> BenchInput:
    return open_input(chosen.input, chosen.size, faces, min(chosen.frames, 48))


def _cell(profile: Profile, source: BenchInput, faces: int, chosen: argparse.Namespace) -> Cell:
    """A profile at a face count: at most so many faces are changed, whatever the input shows."""
    if profile.track.faces != faces:
        profile = dataclasses.replace(profile, track=dataclasses.replace(profile.track, faces=faces))
    width, height = source.size_px
    variant = [
        one for one, asked in ((profile.precision, chosen.precision), (profile.session, chosen.session)) if asked
    ]
    name = " ".join([profile.name, f"{width}x{height}", f"k={faces}", *variant, *(["twins"] if chosen.twins else [])])
    return Cell(name, profile, source, chosen.source or SAMPLE / "source_1.png", with_truth=chosen.twins)


def _missed(results: Sequence[Measured], budget_ms: float | None, say: Say) -> list[str]:
    """The cells whose p99 passes the budget."""
    missed = []
    for result in results:
        p99_ms = result.to_json()["frame_ms"]["p99"]
        if budget_ms is not None and p99_ms > budget_ms:
            missed.append(result.cell.name)
            say(f"{result.cell.name}: misses the budget: p99 {p99_ms:.1f} ms of {budget_ms:.1f} ms")
    return missed


def _print_cells(console: Console, results: Sequence[Measured]) -> None:
    """A column for each cell: the whole frame, then the median of every stage."""
    table = Table(title="ms a frame; stages at their median", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("")
    for result in results:
        table.add_column(result.cell.name, justify="right", overflow="fold")
    told = [result.to_json() for result in results]
    table.add_row("faces changed", *(f"{result.faces:.1f}" for result in results))
    for name in ("min", "p50", "p95", "p99"):
        table.add_row(f"frame, {name}", *(f"{one['frame_ms'][name]:.1f}" for one in told))
    table.add_section()
    for stage in (name for name in STAGE_ORDER if name not in BESIDE_STAGES):
        if any(stage in result.stages for result in results):
            table.add_row(stage, *(_median(result, stage) for result in results))
    console.print(table)


def _median(result: Measured, stage: str) -> str:
    return f"{result.stages[stage]['p50_ms']:.2f}" if stage in result.stages else ""


def _print_options(console: Console, cell: Cell, costs: Sequence[OptionCost]) -> None:
    """A row for each option; what is told from no difference is bold."""
    title = f"{cell.name}, one option at a time: cost with 95 % interval, cosine to source, dB to base"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("option", no_wrap=True)
    for heading in ("ms", "costs ms", "cosine", "dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    refused = []
    for cost in costs:
        if cost.verdict is None or cost.quality is None:
            refused.append(f"{cost.option}: does not run: {cost.refused}")
            continue
        told, quality = cost.to_json(), cost.quality
        low, high = told["interval_ms"]
        costs_ms = f"{told['costs_ms']:+.1f} ({low:+.1f} to {high:+.1f})"
        table.add_row(
            cost.option,
            f"{told['frame_ms']:.1f}",
            costs_ms if cost.verdict.word == "no difference" else f"[bold]{costs_ms}[/]",
            "" if quality.to_source is None else f"{quality.to_source:.2f}",
            "same" if quality.psnr_db is None else f"{quality.psnr_db:.1f}",
        )
    console.print(table)
    for line in refused:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
