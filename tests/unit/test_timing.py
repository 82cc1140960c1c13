"""Histograms are right to 1 % against sorted samples and keep a fixed size; spans find their frame, also late ones."""

from __future__ import annotations

import sys
import threading
import time
import types

import numpy as np
import pytest

from engine.frame_history import OPEN_FRAMES, SERIES_POINTS, WORST_FRAMES
from engine.report import budgets_for, verdict_line
from engine.timing import Histogram, Timings


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_percentiles_are_right_to_one_percent(seed: int) -> None:
    samples = np.random.default_rng(seed).lognormal(mean=1.0, sigma=1.2, size=5000)
    histogram = Histogram()
    size = sys.getsizeof(histogram.counts)
    for sample in samples:
        histogram.add(float(sample))
    for percent in (50, 95, 99, 99.9, 100):
        exact = np.sort(samples)[int(np.ceil(len(samples) * percent / 100)) - 1]
        assert histogram.percentile_ms(percent) == pytest.approx(exact, rel=0.0101)
    assert histogram.max_ms == samples.max()
    assert sys.getsizeof(histogram.counts) == size
    assert sum(count for _, _, count in histogram.buckets()) == 5000
    assert all(high <= low * 1.0101 for low, high, _ in histogram.buckets() if low > 0.001)


def test_durations_beyond_both_ends_are_counted() -> None:
    histogram = Histogram()
    for ms in (0.0, 1e-6, 1e9):
        histogram.add(ms)
    assert histogram.count == 3
    assert histogram.percentile_ms(100) <= histogram.max_ms


def test_misses_are_exact_for_the_budget_that_was_set_and_right_to_a_bucket_for_others() -> None:
    timings = Timings()
    timings.watch({"crop": 2.0, "paste": 0.0})
    for ms in (1.0, 2.0, 2.000001, 2.5, 7.0):
        timings.add("crop", ms)
    crop = timings.stages["crop"]
    assert crop.misses == crop.over(2.0) == 3
    assert crop.over(5.0) == 1
    assert crop.over(0.0) == 0
    assert timings.budgets_ms == {"crop": 2.0}


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
    for stage, ms in (("paste", 1.0), ("detect", 3.0), ("frame", 4.0), ("latency", 90.0)):
        timings.add(stage, ms)
    budgets = budgets_for(0.0, {"detect": 2.0}, 25.0)
    rows = timings.rows(("detect", "paste", "frame"), budgets)
    assert [row.stage for row in rows] == ["detect", "paste", "frame", "latency"]
    assert rows[0].share == pytest.approx(0.75)
    assert rows[3].share == 0.0
    assert [row.verdict for row in rows] == ["over", "", "ok", ""]
    assert [row.misses for row in rows] == [1, 0, 0, 0]
    assert verdict_line(rows) == "a frame's work (stages 2 to 9) keeps its budget: p99 4.0 ms of 40.0 ms"


def one_frame(timings: Timings, index: int, work_ms: float, *, arrived_ns: int, departed_ns: int) -> None:
    """A frame as the runner tells it: decoded by one thread, changed and encoded by others."""
    timings.arrived(index, 1000 + index, arrived_ns)
    timings.add("decode", 1.0, frame=index)
    timings.on(index)
    timings.add("detect", work_ms - 2.0)
    timings.add("frame", work_ms - 2.0)
    timings.add("encode", 1.0)
    timings.departed(index, departed_ns)


def test_queueing_is_what_is_left_of_the_way_from_packet_to_packet() -> None:
    timings = Timings()
    one_frame(timings, 7, 10.0, arrived_ns=5_000_000, departed_ns=55_000_000)
    assert timings.stages["latency"].max_ms == pytest.approx(50.0)
    assert timings.stages["queue"].max_ms == pytest.approx(40.0)
    (record,) = timings.history.worst_first()
    assert (record.index, record.pts) == (7, 1007)
    assert record.stages_ms() == {"decode": 1.0, "detect": 8.0, "frame": 8.0, "encode": 1.0}
    timings.departed(7)
    assert timings.stages["latency"].count == 1


def test_the_worst_frames_are_kept_with_all_their_stages_in_fixed_memory() -> None:
    timings = Timings()
    works = np.random.default_rng(4).permutation(np.arange(3000)) / 100 + 3.0
    for index, work_ms in enumerate(works):
        one_frame(timings, index, float(work_ms), arrived_ns=1 + index, departed_ns=2 + index)
    assert len(timings.history._open) == OPEN_FRAMES
    worst = timings.history.worst_first()
    assert [record.index for record in worst] == np.argsort(works)[::-1][:WORST_FRAMES].tolist()
    history = timings.settle()
    assert [record.index for record in history.worst_first()] == [record.index for record in worst]
    assert all(set(record.stages_ms()) == {"decode", "detect", "frame", "encode"} for record in worst)
    assert len(history.series) <= SERIES_POINTS
    assert len(history.kept) == 0


def test_the_series_loses_no_spike_no_drop_and_no_frame() -> None:
    timings = Timings()
    timings.watch({"frame": 30.0})
    for index in range(5000):
        one_frame(timings, index, 62.0 if index == 3210 else 12.0, arrived_ns=1 + index * 10**6, departed_ns=10**10)
        if index % 100 == 50:
            timings.dropped("late")
    series = timings.settle().series
    assert sum(point.frames for point in series) == 5000
    assert sum(point.drops for point in series) == timings.drops["late"] == 50
    # frame 2550 is the 26th after which one was dropped; a point holds 16 frames
    assert sum(point.drops for point in series if point.index <= 2550) == 26
    assert sum(point.drops for point in series if point.index <= 2550 - 16) == 25
    assert sum(point.over for point in series) == timings.stages["frame"].misses == 1
    assert max(point.frame_max_ms for point in series) == 60.0
    assert sum(point.stages_sum_ms["detect"] for point in series) == pytest.approx(timings.stages["detect"].total_ms)
    assert series[-1].at_s == pytest.approx(5.0, rel=0.01)


def test_pictures_whose_packets_came_in_another_order_are_shown_in_time() -> None:
    timings = Timings()
    timings.dropped("late")
    for index, arrived_ms in enumerate((100, 180, 140, 160, 260)):
        one_frame(timings, index, 5.0, arrived_ns=arrived_ms * 10**6, departed_ns=10**9)
    series = timings.settle().series
    assert [round(point.at_s, 3) for point in series] == [0.0, 0.08, 0.08, 0.08, 0.16]
    assert [point.drops for point in series] == [1, 0, 0, 0, 0]


def test_a_duration_told_late_reaches_its_frame_from_any_thread() -> None:
    timings = Timings()
    timings.on(1)
    timings.add("frame", 1.0)
    timings.on(2)
    timings.add("detect", 3.0, frame=1)
    timings.add("detect", 4.0)
    timings.add("detect", 5.0, frame=99)
    first, second = timings.history.find(1), timings.history.find(2)
    assert first is not None
    assert second is not None
    assert first.stages_ms() == {"frame": 1.0, "detect": 3.0}
    assert second.stages_ms() == {"detect": 4.0}
    assert timings.stages["detect"].count == 3
    other = threading.Thread(target=timings.add, args=("encode", 1.0), name="encode")
    other.start()
    other.join()
    assert "encode" not in second.stages_ms()


def test_frames_are_kept_whole_only_when_asked_for_and_not_more() -> None:
    timings = Timings()
    timings.keep_frames(10)
    for index in range(100):
        one_frame(timings, index, 5.0, arrived_ns=1, departed_ns=2)
    timings.settle()
    assert [record.index for record in timings.history.newest()] == list(range(90, 100))
    timings.clear()
    assert not timings.stages
    assert not list(timings.history.newest())
    assert timings.history.kept.maxlen == 10


def test_spans_are_nvtx_ranges_where_the_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Domain:
        def get_event_attributes(self, message: str) -> str:
            return message

        def push_range(self, attributes: str) -> None:
            told.append(attributes)

        def pop_range(self) -> None:
            told.append("end")

    module = types.ModuleType("nvtx")
    module.get_domain = {"face-engine": Domain()}.__getitem__  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvtx", module)
    timings = Timings()
    with timings.span("crop"), timings.span("paste"):
        pass
    with pytest.raises(KeyError), timings.span("crop"):
        raise KeyError
    assert told == ["crop", "paste", "end", "end", "crop", "end"]
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with Timings().span("crop"):
        pass
    assert len(told) == 6


def test_a_span_measures_the_hosts_clock() -> None:
    timings = Timings()
    timings.on(3)
    with timings.span("crop"):
        time.sleep(0.02)
    record = timings.history.find(3)
    assert record is not None
    ((stage, start_ns, ms, thread),) = record.spans
    assert (stage, thread) == ("crop", threading.current_thread().name)
    assert 20.0 <= ms == timings.stages["crop"].max_ms
    assert start_ns <= time.perf_counter_ns() - 20_000_000
