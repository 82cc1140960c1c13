"""Report, trace, metrics, JSON line and sampler: whole, bounded, valid for those who read them, and offline."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import socket
import subprocess
import sys
import threading
import time
import types
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engine.errors import InputError
from engine.frame_history import SERIES_POINTS
from engine.profiler.conditions import conditions, differing, profile_digest
from engine.profiler.metrics import MetricsServer, metrics_text, parse_address
from engine.profiler.page import Page
from engine.profiler.plots import Box, histogram, ticks
from engine.profiler.sampler import SAMPLES_MAX, Gpu, Sample, Sampler
from engine.profiler.summary import json_line, stages_json, worst_json
from engine.profiler.trace import trace_events, trace_json
from engine.timing import Timings
from profiles.profile import load_profile

STAGES = {"detect": 9.0, "track": 0.2, "crop": 0.4, "generate": 12.0, "mask": 0.1, "paste": 1.3}


def a_run(frames: int = 400, *, by_latency: bool = False, keep: int = 0) -> Timings:
    """Timings as a run fills them: one frame in 100 takes twice as long, one in 50 is followed by a drop."""
    timings = Timings()
    timings.history.by_latency = by_latency
    timings.watch({"frame": 40.0, "latency": 90.0, "detect": 8.0})
    timings.keep_frames(keep)
    now_ns = 10**9
    for index in range(frames):
        now_ns += 40_000_000
        slow = 2.0 if index % 100 == 99 else 1.0
        timings.arrived(index, index * 512, now_ns)
        timings.add("decode", 2.0, index, now_ns)
        timings.on(index)
        at_ns = now_ns + 2_000_000
        for stage, ms in STAGES.items():
            timings.add(stage, ms * slow, None, at_ns)
            at_ns += round(ms * slow * 1e6)
        timings.add("frame", sum(STAGES.values()) * slow)
        timings.add("encode", 5.0, index, at_ns)
        timings.departed(index, at_ns + 12_000_000)
        if index % 50 == 49:
            timings.dropped("late")
    return timings


def page(timings: Timings, **more: Any) -> str:
    budgets = timings.budgets_ms
    return Page("run <of> tiny", "words & more", timings, budgets, notes=["a <note>"], **more).html()


class _Links(HTMLParser):
    """Tags that are not closed, and everything that could reach outside of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.depth: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "img", "object"):
            self.outside.append(tag)
        self.outside += [name for name, value in attributes if name in ("src", "href", "onclick", "onload")]
        if tag not in ("meta",):
            self.depth.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag


@pytest.mark.parametrize("by_latency", [False, True])
def test_the_report_is_one_file_that_reaches_nowhere_and_says_what_was_measured(by_latency: bool) -> None:
    timings = a_run(by_latency=by_latency)
    samples = [Sample(at / 2, 1.5, 300.0 + at, 1.0, gpu_percent=50.0 if by_latency else None) for at in range(30)]
    text = page(timings, samples=samples, conditions={"gpu": "none"}, by_latency=by_latency)
    links = _Links()
    links.feed(text)
    assert links.outside == []
    assert links.depth == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert "run &lt;of&gt; tiny" in text
    assert "<note>" not in text
    if by_latency:
        # 2 + 23 + 5 ms of work and 7 of waiting, doubled work in one of 100
        assert "p99 is 37." in text
        assert "none of 400 frames missed it" in text
        assert "GPU, % busy" in text
    else:
        assert "4 of 400 frames missed it" in text
        assert "GPU, % busy" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        drawn = ET.fromstring(svg.replace("&middot;", "").replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
        assert not [value for node in drawn.iter() for value in node.attrib.values() if "nan" in value.split()]
    assert len(re.findall(r'<path class="drop"', text)) == 8
    assert text.count("frame 399") == 1
    assert len(text) < 400_000


def test_the_reports_plots_hold_every_frame_of_a_long_run_in_bounded_size() -> None:
    timings = a_run(20_000)
    text = page(timings)
    assert len(timings.history.series) <= SERIES_POINTS
    assert "All 20000 frames" in text
    assert "A point holds 64 frames" in text
    assert len(text) < 400_000


def test_a_report_of_nothing_and_of_one_frame_still_opens() -> None:
    assert "No frame went through." in page(Timings())
    timings = a_run(1)
    timings.watch({})
    assert "A frame&rsquo;s work takes 23.0&nbsp;ms" in page(timings)


def test_histogram_bars_stand_for_their_counts_and_turn_red_past_the_budget() -> None:
    drawn = histogram(Box(80.0, 1.0), [(10.0, 10.1, 60), (40.0, 40.4, 3), (200.0, 202.0, 1)], budget_ms=30.0, marks=[])
    told = re.findall(r'class="(bar[^"]*)".*?<title>(\d+) between ([\d.]+)', drawn)
    assert told == [("bar", "60", "10.0"), ("bar over", "3", "40.0"), ("bar over", "1", "79.0")]
    heights = [float(value) for value in re.findall(r'<rect.*?height="([\d.]+)"', drawn)]
    assert heights[0] / heights[1] == pytest.approx(20.0, rel=0.02)


@pytest.mark.parametrize(("high", "count"), [(0.003, 4), (1.0, 5), (39.9, 4), (41.0, 4), (12345.0, 6)])
def test_ticks_are_round_rise_evenly_and_stay_inside(high: float, count: int) -> None:
    found = ticks(high, count)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert found[0] == 0.0
    assert high - steps[0] < found[-1] <= high * 1.001
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - one) for one in (1, 2, 2.5, 5)) < 1e-6


def test_a_trace_has_the_fields_that_its_readers_need_and_slices_that_nest() -> None:
    timings = a_run(60, keep=40)
    timings.on(1000)
    timings.add("detect", 3.0)
    timings.settle()
    loaded = json.loads(trace_json(timings.history.newest(), {"gpu": "none"}))
    events = loaded["traceEvents"]
    assert loaded["otherData"] == {"gpu": "none"}
    assert {event["ph"] for event in events} == {"M", "X", "b", "e"}
    for event in events:
        assert {"name", "ph", "ts", "pid", "tid"} <= set(event)
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] > 0
            assert isinstance(event["args"]["frame"], int)
    begun = {event["id"]: event["ts"] for event in events if event["ph"] == "b"}
    ended = {event["id"]: event["ts"] for event in events if event["ph"] == "e"}
    assert list(begun) == list(range(21, 60))
    assert all(ended[index] > begun[index] for index in begun)
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert threads[1] == "frames"
    by_thread: dict[int, list[dict[str, Any]]] = {}
    for event in (event for event in events if event["ph"] == "X"):
        by_thread.setdefault(event["tid"], []).append(event)
    assert set(by_thread) <= set(threads)
    unplaced = [events for tid, events in by_thread.items() if threads[tid].startswith("device")]
    assert [[event["args"]["frame"] for event in events] for events in unplaced] == [[1000]]
    placed = sorted((e for e in events if e["ph"] == "X" and e["args"]["frame"] < 1000), key=lambda e: e["ts"])
    assert all(one["ts"] + one["dur"] <= other["ts"] + 1e-3 for one, other in pairwise(placed))
    first = [event for event in placed if event["args"]["frame"] == 21]
    assert [event["name"] for event in first] == ["decode", *STAGES, "encode"]
    assert first[1]["ts"] - first[0]["ts"] == pytest.approx(2000.0, abs=1e-3)
    assert first[0]["ts"] == pytest.approx(begun[21], abs=1e-3)
    assert trace_events([]) == [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "ts": 0, "args": {"name": "face-engine"}}
    ]


def parse_metrics(text: str) -> dict[str, float]:
    """Prometheus' text format, read strictly: every family typed once, before its samples, and in one piece."""
    typed: dict[str, str] = {}
    values: dict[str, float] = {}
    order: list[str] = []
    sample = re.compile(r'^([a-z_]+)(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? ([-+0-9.e]+)$')
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed
            typed[name] = kind
        elif not line.startswith("# HELP "):
            found = sample.match(line)
            assert found, line
            family = re.sub(r"_(sum|count)$", "", found[1]) if found[1] not in typed else found[1]
            assert family in typed, line
            if not order or order[-1] != family:
                assert family not in order, f"{family} is told in two pieces"
                order.append(family)
            key = line.rpartition(" ")[0]
            assert key not in values
            values[key] = float(found[4])
    return values


def test_metrics_are_prometheus_text_with_the_runs_numbers() -> None:
    timings = a_run()
    timings.dropped('odd "reason"')
    values = parse_metrics(metrics_text(timings, Sample(1.0, 1.5, 300.0, 1.0, gpu_percent=50.0)).replace('\\"', "'"))
    assert values['face_engine_stage_seconds_count{stage="frame"}'] == 400
    assert values['face_engine_stage_seconds{stage="frame",quantile="0.5"}'] == pytest.approx(0.023, rel=0.011)
    assert values['face_engine_stage_seconds_max{stage="generate"}'] == pytest.approx(0.024)
    assert values['face_engine_stage_budget_misses_total{stage="frame"}'] == 4
    assert values['face_engine_stage_budget_misses_total{stage="detect"}'] == 400
    assert values['face_engine_frames_dropped_total{reason="late"}'] == 8
    assert values["face_engine_process_resident_bytes"] == 3e8
    assert values["face_engine_gpu_use_ratio"] == 0.5
    assert parse_metrics(metrics_text(Timings(), None)) == {}


def test_the_endpoint_answers_while_the_run_counts_and_ends_cleanly() -> None:
    timings = Timings()
    before = threading.active_count()
    with MetricsServer("127.0.0.1", 0, lambda: metrics_text(timings, None)) as server:
        for index in range(50):
            timings.on(index)
            timings.add("frame", 1.0)
            timings.dropped(f"reason {index}")
            with urllib.request.urlopen(server.address) as answer:
                assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                values = parse_metrics(answer.read().decode())
            assert values['face_engine_stage_seconds_count{stage="frame"}'] == index + 1
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(server.address.replace("/metrics", "/"))
        refused.value.close()
        taken = int(server.address.split(":")[2].split("/")[0])
        with pytest.raises(InputError, match=r"^--metrics: wanted an address to listen on, got 127\.0\.0\.1:\d+, .*"):
            MetricsServer("127.0.0.1", taken, lambda: "")
    end = time.monotonic() + 5.0
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", taken), timeout=1.0):
        pass


def test_addresses_are_read_or_refused_with_a_sentence() -> None:
    assert parse_address("127.0.0.1:9100") == ("127.0.0.1", 9100)
    assert parse_address(":0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:9100") == ("::1", 9100)
    for wrong in ("9100", "host:", "host:http", "host:70000", "host:-1"):
        with pytest.raises(InputError) as refused:
            parse_address(wrong)
        wanted = "--metrics: wanted HOST:PORT with a port of 0 to 65535, got {!r}; write it as 127.0.0.1:9100"
        assert str(refused.value) == wanted.format(wrong)


def test_the_json_line_is_one_line_of_strict_json() -> None:
    timings = a_run()
    told = {"stages": stages_json(timings, timings.budgets_ms), "worst": worst_json(timings), "ratio": float("nan")}
    line = json_line(told)
    assert "\n" not in line
    loaded = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert loaded["ratio"] is None
    assert loaded["stages"]["frame"]["misses"] == 4
    assert loaded["stages"]["frame"]["verdict"] == "ok"
    assert loaded["stages"]["detect"]["verdict"] == "over"
    assert "misses" not in loaded["stages"]["crop"]
    assert [frame["index"] for frame in loaded["worst"]][:4] == [99, 199, 299, 399]
    assert loaded["worst"][0]["stages_ms"]["generate"] == 24.0
    assert loaded["worst"][0]["pts"] == 99 * 512


def test_the_sampler_reads_cpu_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, busy = [0.0], [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: busy[0])
    sampler = Sampler()
    clock[0], busy[0] = 2.0, 3.0
    sampler._take()
    clock[0], busy[0] = 4.0, 4.0
    sampler._take()
    assert [sample.cpu for sample in sampler.samples] == [1.5, 0.5]
    told = sampler.to_json()
    assert (told["samples"], told["cpu_mean"], told["cpu_max"]) == (2, 1.0, 1.5)
    assert told["memory_mb_max"] == pytest.approx(told["peak_memory_mb"], abs=0.1)
    assert "gpu_percent_max" not in told


_GROWS = """
import time
import numpy as np
from engine.profiler.sampler import Sampler
sampler = Sampler(every_s=0.01)
time.sleep(0.06)
sampler._take()
ballast = np.ones(80_000_000 // 8)
time.sleep(0.06)
sampler._take()
print(sampler.samples[1].memory_mb - sampler.samples[0].memory_mb)
"""


def test_the_sampler_sees_memory_grow() -> None:
    """In a process of its own: what earlier tests left behind may be freed meanwhile."""
    done = subprocess.run([sys.executable, "-c", _GROWS], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(80.0, rel=0.2)


def test_the_sampler_works_while_it_is_open_and_takes_a_last_sample() -> None:
    with Sampler(every_s=0.06) as sampler:
        end = time.monotonic() + 10.0
        while len(sampler.samples) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(sampler.samples) >= 3
        time.sleep(0.055)
    count = len(sampler.samples)
    time.sleep(0.15)
    assert len(sampler.samples) == count


def test_the_sampler_halves_its_rate_when_its_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    sampler = Sampler(every_s=0.5)
    for _ in range(3 * SAMPLES_MAX):
        clock[0] += 1.0
        sampler._take()
    assert len(sampler.samples) <= SAMPLES_MAX
    assert sampler.every_s == 0.5 * 2**4
    assert sampler.samples[-1].at_s == 3 * SAMPLES_MAX


def test_a_gpu_is_read_through_nvml_and_what_it_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def refuse(*_: Any) -> None:
        raise NVMLError

    module = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"A card",
        nvmlSystemGetDriverVersion=lambda: "599.1",
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=42),
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=2_000_000_000),
        nvmlDeviceGetClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetTemperature=lambda handle, kind: 61,
        nvmlDeviceGetPowerUsage=refuse,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    gpu, sample = Gpu(), Sample(0.0, 0.0, 0.0, 0.0)
    gpu.read_into(sample)
    assert (gpu.found, gpu.driver) == ("A card", "599.1")
    assert (sample.gpu_percent, sample.gpu_memory_mb, sample.gpu_clock_mhz) == (42.0, 2000.0, 1980.0)
    assert (sample.gpu_celsius, sample.gpu_watt) == (61.0, None)
    monkeypatch.setattr(module, "nvmlInit", refuse)
    assert Gpu().found == ""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpu().found == ""


def test_conditions_differ_in_what_matters_and_a_digest_in_anything_but_words() -> None:
    profile = load_profile("tiny")
    one = conditions(profile, faces=1)
    assert {"processor", "gpu", "python", "onnxruntime", "commit", "threads", "profile_digest"} <= set(one)
    assert differing(one, {**one, "commit": "other", "load": 9.0}) == []
    assert differing(one, {**one, "faces": 4}) == ["faces: 1, 4"]
    assert profile_digest(dataclasses.replace(profile, says="other")) == profile_digest(profile)
    assert profile_digest(dataclasses.replace(profile, opacity=0.5)) != profile_digest(profile)
