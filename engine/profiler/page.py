"""A run's report as one HTML file that opens anywhere, offline: plots, table, worst frames, machine, conditions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from engine.frame_history import FrameRecord, SeriesPoint
from engine.profiler.page_style import STYLE
from engine.profiler.plots import Box, Line, bars, histogram, lines, stacked
from engine.profiler.sampler import Sample
from engine.report import STAGE_ORDER
from engine.timing import BESIDE_STAGES, StageRow, Timings

__all__ = ["Page"]

STACKED = tuple(stage for stage in STAGE_ORDER if stage not in BESIDE_STAGES)
_COLUMNS = 160


@dataclass
class Page:
    """What a report shows. `facts` are the tiles at its top, (what, value, unit); `by_latency` is for live runs."""

    title: str
    says: str
    timings: Timings
    budgets_ms: Mapping[str, float]
    facts: Sequence[tuple[str, str, str]] = ()
    samples: Sequence[Sample] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    by_latency: bool = False

    def html(self) -> str:
        """The whole file."""
        history, rows = self.timings.settle(), self.timings.rows(STAGE_ORDER, self.budgets_ms)
        sections = [
            self._over_time(history.series),
            self._stages(history.series, rows),
            self._histogram(),
            _table(rows),
            self._worst(history.worst_first()),
            _machine(self.samples),
            self._conditions(),
        ]
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>\n{STYLE}{_fills()}</style></head><body><main>\n"
            f"{self._head(rows)}\n{chr(10).join(sections)}\n{_FOOT}\n</main></body></html>\n"
        )

    @property
    def _main(self) -> str:
        return "latency" if self.by_latency else "frame"

    @property
    def _budget_ms(self) -> float:
        return self.budgets_ms.get(self._main, 0.0)

    def _head(self, rows: Sequence[StageRow]) -> str:
        row = next((row for row in rows if row.stage == self._main), None)
        tiles = "".join(
            f"<div><dt>{escape(what)}</dt><dd>{escape(value)} <small>{escape(unit)}</small></dd></div>"
            for what, value, unit in self.facts
        )
        when = time.strftime("%d %B %Y, %H:%M UTC", time.gmtime())
        return (
            f'<header><p class="kicker">face-engine &middot; {escape(self.title)}</p><h1>{self._verdict(row)}</h1>'
            f"<p>{escape(self.says)}</p><p>{when}</p></header>"
            f'<dl class="tiles">{tiles}</dl>'
        )

    def _verdict(self, row: StageRow | None) -> str:
        if row is None:
            return "No frame went through."
        what = "From packet in to packet out, a frame" if self.by_latency else "A frame&rsquo;s work"
        if not row.budget_ms:
            return f"{what} takes {row.p50_ms:.1f}&nbsp;ms, and 99 of 100 stay below {row.p99_ms:.1f}&nbsp;ms."
        kept = '<span class="ok">keeps</span>' if row.verdict == "ok" else '<span class="over">misses</span>'
        missed = (
            f"{row.misses} of {row.calls} frames missed it" if row.misses else f"none of {row.calls} frames missed it"
        )
        return f"{what} {kept} its budget of {row.budget_ms:.1f}&nbsp;ms: p99 is {row.p99_ms:.1f}&nbsp;ms; {missed}."

    def _over_time(self, series: Sequence[SeriesPoint]) -> str:
        if not series:
            return ""
        mean = [(point.at_s, _mean_ms(point, self.by_latency)) for point in series]
        most = [(point.at_s, point.latency_max_ms if self.by_latency else point.frame_max_ms) for point in series]
        drops = [(point.at_s, point.drops) for point in series if point.drops]
        box = Box(max(series[-1].at_s, 1e-3), max(max(y for _, y in most) * 1.06, self._budget_ms * 1.15, 1e-3))
        each = series[0].frames
        drawn = [Line("mean", mean, filled=True), *([Line("most", most)] if each > 1 else [])]
        label = "packet in to packet out over the run" if self.by_latency else "work on a frame over the run"
        total = sum(self.timings.drops.values())
        dropped = ", ".join(f"{count} {escape(reason)}" for reason, count in self.timings.drops.items() if count)
        key = _key("--accent", "mean" if each > 1 else "each frame", thin=True)
        key += _key("--soft", "longest", thin=True) if each > 1 else ""
        key += (
            f"<span>{total} dropped ({dropped}), marked below the axis</span>" if total else "<span>none dropped</span>"
        )
        plot = lines(box, drawn, budget_ms=self._budget_ms, drops=drops, label=label)
        words = (
            "From packet in to packet out."
            if self.by_latency
            else "Stages 2 to 9 of each frame: find faces, change them."
        )
        words += f" A point holds {each} frames; no spike is averaged away." if each > 1 else " A point is a frame."
        return _section("Latency over time", words, f"<figure>{plot}<figcaption>{key}</figcaption></figure>")

    def _stages(self, series: Sequence[SeriesPoint], rows: Sequence[StageRow]) -> str:
        told = {row.stage: row for row in rows}
        names = [stage for stage in STACKED if stage in told]
        if self.by_latency and "queue" in told:
            names.append("queue")
        if not names or not series:
            return ""
        columns = []
        for group in _grouped(series, _COLUMNS):
            frames = sum(point.frames for point in group)
            sums = [sum(point.stages_sum_ms.get(name, 0.0) for point in group) / frames for name in names]
            if names[-1] == "queue":
                # not a span of its own: what is left of the latency
                work = sum(point.stages_sum_ms.get(o, 0.0) for point in group for o in ("decode", "frame", "encode"))
                sums[-1] = max(sum(point.latency_sum_ms for point in group) - work, 0.0) / frames
            columns.append((group[0].at_s, sums))
        highest = max(sum(values) for _, values in columns)
        box = Box(max(columns[-1][0], 1e-3), max(highest * 1.08, 1e-3))
        plot = stacked(
            box, names, columns, budget_ms=self._budget_ms if self.by_latency else 0.0, label="stages over time"
        )
        key = "".join(_key(f"--{name}", f"{name} {told[name].mean_ms:.2f} ms") for name in names)
        words = "Mean milliseconds a frame spends in each stage. Decode and encode run beside the others."
        return _section("Where the time goes", words, f"<figure>{plot}<figcaption>{key}</figcaption></figure>")

    def _histogram(self) -> str:
        held = self.timings.stages.get(self._main)
        if held is None:
            return ""
        marks = [(name, held.percentile_ms(percent)) for name, percent in (("p50", 50.0), ("p95", 95.0), ("p99", 99.0))]
        reach = max(held.percentile_ms(99.9) * 1.15, self._budget_ms * 1.2, 1e-3)
        plot = histogram(Box(reach, 1.0), held.buckets(), budget_ms=self._budget_ms, marks=marks)
        beyond = held.over(reach)
        words = f"All {held.count} frames; bars that cross the budget are red."
        words += f" The last bar holds {beyond} that took longer, up to {held.max_ms:.1f} ms." if beyond else ""
        return _section("How the frames spread", words, f"<figure>{plot}</figure>")

    def _worst(self, records: Sequence[FrameRecord]) -> str:
        rows = []
        for record in records:
            stages = record.stages_ms()
            parts = [(stage, stages[stage]) for stage in STACKED if stage in stages]
            if self.by_latency and record.latency_ms:
                parts.append(("queue", max(record.latency_ms - record.work_ms, 0.0)))
            if parts:
                rows.append((f"frame {record.index}", parts))
        if not rows:
            return ""
        plot = bars(rows, budget_ms=self._budget_ms if self.by_latency else 0.0)
        kind = "latency" if self.by_latency else "work"
        return _section(
            "The worst frames", f"Kept with all their stages; by {kind}, worst first.", f"<figure>{plot}</figure>"
        )

    def _conditions(self) -> str:
        facts = "".join(
            f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd></div>"
            for name, value in self.conditions.items()
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        body = f'<dl class="facts">{facts}</dl>' + (f'<ul class="notes">{notes}</ul>' if notes else "")
        return _section("Conditions", "What the figures were measured on; others hold elsewhere.", body)


_FOOT = (
    "<footer>Durations are of the host&rsquo;s monotonic clock or, on a GPU, of its own events. Percentiles come from "
    "buckets 1&thinsp;% wide; longest times and misses are exact. <b>frame</b> is the work of stages 2 to 9; "
    "<b>latency</b> goes from packet in to packet out, and <b>queue</b> is the waiting in it.</footer>"
)


def _fills() -> str:
    return "".join(f".fill-{name} {{ fill: var(--{name}); }}" for name in (*STACKED, "queue"))


def _section(title: str, words: str, body: str) -> str:
    return f"<section><h2>{title}</h2><p>{words}</p>{body}</section>"


def _key(colour: str, words: str, *, thin: bool = False) -> str:
    kind = "key thin" if thin else "key"
    return f'<span><i class="{kind}" style="background:var({colour})"></i>{escape(words)}</span>'


def _mean_ms(point: SeriesPoint, by_latency: bool) -> float:
    return (point.latency_sum_ms if by_latency else point.stages_sum_ms.get("frame", 0.0)) / point.frames


def _grouped(series: Sequence[SeriesPoint], most: int) -> list[Sequence[SeriesPoint]]:
    step = -(-len(series) // most)
    return [series[at : at + step] for at in range(0, len(series), step)]


def _table(rows: Sequence[StageRow]) -> str:
    heads = ("stage", "calls", "p50", "p95", "p99", "p99.9", "longest", "share", "budget", "missed")
    body = []
    for row in rows:
        kind = {"frame": ' class="sum-row"', "queue": ' class="beside"', "latency": ' class="beside"'}.get(
            row.stage, ""
        )
        mark = (
            ""
            if row.stage in ("frame", "latency")
            else f'<i class="key" style="background:var(--{escape(row.stage)})"></i>'
        )
        bar = f'<i class="share" style="width:{row.share * 70:.0f}px;background:var(--{escape(row.stage)})"></i>'
        colour = "over" if row.verdict == "over" else "" if row.misses else "ok"
        verdict = f'<span class="{colour}">{row.misses}</span>' if row.budget_ms else ""
        cells = (
            f"{mark}{escape(row.stage)}",
            str(row.calls),
            *(f"{ms:.2f}" for ms in (row.p50_ms, row.p95_ms, row.p99_ms, row.p999_ms, row.max_ms)),
            f"{bar} {row.share:.0%}" if row.share else "",
            f"{row.budget_ms:.1f}" if row.budget_ms else "",
            verdict,
        )
        body.append(f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    return _section("Stages", "Milliseconds; share is of the busy time of all stages.", table)


def _machine(samples: Sequence[Sample]) -> str:
    """CPU, memory and GPU over time, where they were read."""
    if len(samples) < 2:
        return ""
    shown = (
        ("cpu", "CPU, cores busy", 1.0),
        ("memory_mb", "memory, MB", 50.0),
        ("gpu_percent", "GPU, % busy", 100.0),
        ("gpu_memory_mb", "GPU memory, MB", 100.0),
        ("gpu_clock_mhz", "SM clock, MHz", 100.0),
        ("gpu_watt", "GPU, W", 10.0),
    )
    plots = []
    for name, words, least in shown:
        points = [(sample.at_s, value) for sample in samples if (value := getattr(sample, name)) is not None]
        if len(points) < 2:
            continue
        box = Box(points[-1][0], max(max(y for _, y in points) * 1.15, least), height=150, width=340, left=44, right=8)
        plot = lines(box, [Line("mean", points, filled=True)], budget_ms=0.0, drops=(), label=words)
        plots.append(f"<figure>{plot.replace('>ms</text>', '></text>', 1)}<figcaption>{words}</figcaption></figure>")
    return _section("The machine", "Read twice a second beside the run.", f'<div class="trio">{"".join(plots)}</div>')
