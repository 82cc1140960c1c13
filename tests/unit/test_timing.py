"""Histograms are right to 1 % against sorted samples, and keep a fixed size."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine.report import budgets_for, verdict_line
from engine.timing import Histogram, Timings


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_percentiles_are_right_to_one_percent(seed: int) -> None:
    samples = np.random.default_rng(seed).lognormal(mean=1.0, sigma=1.2, size=5000)
    histogram = Histogram()
    size = histogram.counts.nbytes
    for sample in samples:
        histogram.add(float(sample))
    for percent in (50, 95, 99, 99.9, 100):
        exact = np.sort(samples)[int(np.ceil(len(samples) * percent / 100)) - 1]
        assert histogram.percentile_ms(percent) == pytest.approx(exact, rel=0.0101)
    assert histogram.max_ms == samples.max()
    assert histogram.counts.nbytes == size


def test_durations_beyond_both_ends_are_counted() -> None:
    histogram = Histogram()
    for ms in (0.0, 1e-6, 1e9):
        histogram.add(ms)
    assert histogram.count == 3
    assert histogram.percentile_ms(100) <= histogram.max_ms


def test_a_span_that_raises_is_not_counted_and_threads_share_a_stage() -> None:
    timings = Timings()
    with pytest.raises(KeyError), timings.span("crop"):
        raise KeyError
    assert "crop" not in timings.stages

    def count() -> None:
        for _ in range(500):
            timings.add("crop", 1.0)

    workers = [threading.Thread(target=count) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert timings.stages["crop"].count == 2000


def test_rows_have_shares_budgets_and_verdicts() -> None:
    timings = Timings()
    for stage, ms in (("paste", 1.0), ("detect", 3.0), ("frame", 4.0)):
        timings.add(stage, ms)
    budgets = budgets_for(0.0, {"detect": 2.0}, 25.0)
    rows = timings.rows(("detect", "paste", "frame"), budgets)
    assert [row.stage for row in rows] == ["detect", "paste", "frame"]
    assert rows[0].share == pytest.approx(0.75)
    assert [row.verdict for row in rows] == ["over", "", "ok"]
    assert verdict_line(rows) == "a frame's work (stages 2 to 9) keeps its budget: p99 4.0 ms of 40.0 ms"
