"""Plots as inline SVG: no scripts, no fonts and no files from elsewhere; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Box", "Line", "bars", "histogram", "lines", "stacked"]

WIDTH = 960


@dataclass(frozen=True)
class Box:
    """A plot's drawing area inside its SVG, and its data ranges from 0 on."""

    x_max: float
    y_max: float
    height: int = 240
    width: int = WIDTH
    left: int = 48
    right: int = 20
    top: int = 14
    bottom: int = 30

    def x(self, value: float) -> float:
        """Where a value lies, in px from the left."""
        return self.left + value / self.x_max * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Where a value lies, in px from the top."""
        return self.height - self.bottom - value / self.y_max * (self.height - self.top - self.bottom)

    def frame(self, body: str, *, x_unit: str, y_unit: str, label: str) -> str:
        """The whole SVG: grid and axes behind the body. `label` is read to those who can't see it."""
        parts = []
        for value in ticks(self.y_max, 4):
            at = self.y(value)
            parts.append(
                f'<line class="grid" x1="{self.left}" x2="{self.width - self.right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
            if at < self.top + 8:
                continue  # the unit stands there
            parts.append(f'<text class="tick" x="{self.left - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in ticks(self.x_max, max(2, self.width // 120)):
            at = self.x(value)
            if at > self.width - self.right - 22:
                continue  # the unit stands there
            parts.append(
                f'<text class="tick" x="{at:.1f}" y="{self.height - 10}" text-anchor="middle">{value:g}</text>'
            )
        low = self.height - self.bottom
        parts.append(f'<line class="axis" x1="{self.left}" x2="{self.width - self.right}" y1="{low}" y2="{low}"/>')
        parts.append(
            f'<text class="unit" x="{self.left - 8}" y="{self.top - 3}" text-anchor="end">{escape(y_unit)}</text>'
        )
        end = f'x="{self.width - self.right}" y="{self.height - 10}" text-anchor="end"'
        parts.append(f'<text class="unit" {end}>{escape(x_unit)}</text>')
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
            f"{''.join(parts)}{body}</svg>"
        )

    def budget(self, value: float, *, upright: bool = False, named: bool = True) -> str:
        """The dashed line of a budget, with its words where `named`; nothing where it lies outside."""
        if not 0 < value <= (self.x_max if upright else self.y_max):
            return ""
        if upright:
            at = self.x(value)
            line = (
                f'<line class="budget" x1="{at:.1f}" x2="{at:.1f}" y1="{self.top}" y2="{self.height - self.bottom}"/>'
            )
            return (
                line + f'<text class="budget-label" x="{at + 6:.1f}" y="{self.top + 10}">budget {value:.1f} ms</text>'
            )
        at = self.y(value)
        line = f'<line class="budget" x1="{self.left}" x2="{self.width - self.right}" y1="{at:.1f}" y2="{at:.1f}"/>'
        words = f'x="{self.width - self.right - 4}" y="{at - 6:.1f}" text-anchor="end"'
        return line + f'<text class="budget-label" {words}>budget {value:.1f} ms</text>'


@dataclass(frozen=True)
class Line:
    """One line of a plot: its class in the style sheet, and (x, y) points; `filled` colours what is under it."""

    name: str
    points: Sequence[tuple[float, float]]
    filled: bool = False


def ticks(high: float, count: int) -> list[float]:
    """About `count` round numbers from 0 to `high`."""
    if high <= 0:
        return [0.0]
    raw = high / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999)
    return [round(at * step, 10) for at in range(int(high / step * 1.0001) + 1)]


def lines(box: Box, drawn: Sequence[Line], *, budget_ms: float, drops: Sequence[tuple[float, int]], label: str) -> str:
    """Lines over time in s, a budget, and a mark under the axis wherever frames were dropped."""
    body = []
    for line in drawn:
        path = _path(box, line.points)
        if line.filled and line.points:
            first, last = box.x(line.points[0][0]), box.x(line.points[-1][0])
            low = box.y(0)
            body.append(f'<path class="area {line.name}" d="{path} L{last:.1f},{low:.1f} L{first:.1f},{low:.1f} Z"/>')
        body.append(f'<path class="line {line.name}" d="{path}"/>')
    body.append(box.budget(budget_ms))
    for at_s, count in drops:
        x, y = box.x(at_s), box.height - box.bottom
        what = f"<title>{count} dropped at {at_s:.1f} s</title>"
        body.append(f'<path class="drop" d="M{x:.1f},{y + 2} l-4,7 h8 Z">{what}</path>')
    return box.frame("".join(body), x_unit="s", y_unit="ms", label=label)


def stacked(
    box: Box, names: Sequence[str], columns: Sequence[tuple[float, Sequence[float]]], *, budget_ms: float, label: str
) -> str:
    """Areas on top of each other: each column is (s, one ms for each name)."""
    base = [0.0] * len(columns)
    body = []
    for row, name in enumerate(names):
        top = [low + column[1][row] for low, column in zip(base, columns, strict=True)]
        upper = [(column[0], value) for column, value in zip(columns, top, strict=True)]
        lower = [(column[0], value) for column, value in zip(columns, base, strict=True)]
        path = f"{_path(box, upper)} {_path(box, lower[::-1]).replace('M', 'L', 1)} Z"
        body.append(f'<path class="fill-{escape(name)}" d="{path}"><title>{escape(name)}</title></path>')
        base = top
    return box.frame("".join(body) + box.budget(budget_ms), x_unit="s", y_unit="ms", label=label)


def histogram(
    box: Box, buckets: Sequence[tuple[float, float, int]], *, budget_ms: float, marks: Sequence[tuple[str, float]]
) -> str:
    """Bars of how many took how long, over linear bins up to `box.x_max`; what lies beyond is in the last bar."""
    bins = 80
    counts = [0] * bins
    for low, high, count in buckets:
        counts[min(int((low + high) / 2 / box.x_max * bins), bins - 1)] += count
    fitted = Box(box.x_max, max(counts) * 1.55 or 1.0, box.height, box.width)
    step = box.x_max / bins
    body = []
    for at, count in enumerate(counts):
        if not count:
            continue
        x, right = fitted.x(at * step), fitted.x((at + 1) * step)
        # one frame among thousands is still to be seen
        top = min(fitted.y(count), fitted.y(0) - 2)
        kind = "bar over" if 0 < budget_ms <= at * step + step / 2 else "bar"
        what = f"<title>{count} between {at * step:.1f} and {(at + 1) * step:.1f} ms</title>"
        size = f'width="{right - x - 1:.1f}" height="{fitted.y(0) - top:.1f}"'
        body.append(f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" {size}>{what}</rect>')
    for row, (name, value) in enumerate(marks):
        if value <= box.x_max:
            x, y = fitted.x(value), fitted.top + 25 + 15 * row
            body.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 4}" y2="{fitted.y(0):.1f}"/>')
            body.append(f'<text class="mark-label" x="{x:.1f}" y="{y}" text-anchor="middle">{name} {value:.1f}</text>')
    body.append(fitted.budget(budget_ms, upright=True))
    return fitted.frame("".join(body), x_unit="ms", y_unit="frames", label="how many frames took how long")


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, budget_ms: float) -> str:
    """One row a frame: its stages end to end, with the stage's name where it fits."""
    widest = max((sum(ms for _, ms in parts) for _, parts in rows), default=1.0)
    box = Box(max(widest * 1.08, budget_ms * 1.02, 1e-6), 1.0, height=30 * len(rows) + 44, left=150)
    body = []
    for row, (name, parts) in enumerate(rows):
        y, at = box.top + 30 * row, 0.0
        body.append(f'<text class="row" x="{box.left - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        for stage, ms in parts:
            x, width = box.x(at), box.x(at + ms) - box.x(at)
            what = f"<title>{escape(stage)} {ms:.2f} ms</title>"
            shape = f'x="{x:.1f}" y="{y}" width="{max(width - 0.8, 0.2):.1f}" height="22"'
            body.append(f'<rect class="fill-{escape(stage)}" {shape}>{what}</rect>')
            if width > 7.5 * len(stage) + 34:
                place = f'class="inside on-{escape(stage)}" x="{x + 6:.1f}" y="{y + 15}"'
                body.append(f"<text {place}>{escape(stage)} {ms:.1f}</text>")
            at += ms
        body.append(f'<text class="sum" x="{box.x(at) + 6:.1f}" y="{y + 15}">{at:.1f}</text>')
    body.append(box.budget(budget_ms, upright=True, named=False))
    drawn = box.frame("".join(body), x_unit="ms", y_unit="", label="the worst frames by stage")
    # rows stand where a vertical axis would have its numbers
    return drawn.replace('<text class="tick" x="142"', '<text class="tick hidden" x="142"')


def _path(box: Box, points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{box.x(x):.1f},{box.y(min(y, box.y_max)):.1f}" for x, y in points) if points else "M0,0"
