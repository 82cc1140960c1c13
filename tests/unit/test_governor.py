"""The governor: its decisions on a simulated clock, and what a live run does with them."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import engine
from engine.frame import Frame
from engine.governor import Governor, LiveGovernor, Step, p99_ms
from engine.pipeline import Pipeline
from engine.profiler.live_table import LiveTable
from engine.profiler.metrics import metrics_text
from engine.profiler.run_page import run_page
from engine.profiler.trace import trace_json
from engine.result import GovernorFacts, LiveFacts, RunResult
from engine.timing import Timings
from profiles.ladder import Governor as Options
from profiles.ladder import Rung
from profiles.profile import load_profile
from tests.benchmark.governor_response import measure
from tests.live_peer import send

SOURCE = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "source_1.png"

BUDGET_MS, RATE = 40.0, 25.0
LADDER = load_profile("tiny").ladder
# what a frame of two faces costs on each rung of the tiny profile's ladder: (with the detector, without), measured
COSTS_MS = ((24.6, 16.8), (24.6, 16.8), (20.3, 16.8), (20.3, 16.8), (12.6, 9.1))


class Simulated:
    """A governor over frames that come every 40 ms and cost what their rung costs, times a load."""

    def __init__(self, noise: float = 0.0, costs: tuple[tuple[float, float], ...] = COSTS_MS, **options: Any) -> None:
        self.governor = Governor(Options(rungs=tuple(LADDER[1:]), **options), LADDER, BUDGET_MS)
        self.costs, self.noise = costs, noise
        self.rng = np.random.default_rng(7)
        self.frame = 0
        self.steps: list[Step] = []
        self.work: list[float] = []

    @property
    def now_s(self) -> float:
        return self.frame / RATE

    def run(self, seconds: float, load: float | Callable[[float], float] = 1.0, **told: Any) -> list[Step]:
        """The steps that were taken in this time."""
        known = len(self.steps)
        for _ in range(round(seconds * RATE)):
            rung = self.governor.rung
            is_dear = self.frame % LADDER[rung].detect_every == 0
            ms = self.costs[rung][0 if is_dear else 1] * (load(self.now_s) if callable(load) else load)
            ms *= 1 + self.noise * float(self.rng.standard_normal())
            step = self.governor.frame(self.frame, self.now_s, ms, **told)
            self.work.append(ms)
            self.frame += 1
            if step is not None:
                self.steps.append(step)
        return self.steps[known:]


# -- decisions --------------------------------------------------------------------------------------------


def test_p99_forgives_one_spike_in_a_hundred() -> None:
    assert p99_ms([30.0] * 99 + [500.0]) == 30.0
    assert p99_ms([30.0] * 98 + [500.0, 60.0]) == 60.0
    assert p99_ms([30.0, 500.0]) == 30.0
    assert p99_ms([30.0]) == p99_ms([]) == 0.0
    assert p99_ms([*range(1, 301)]) == 297


def test_a_run_within_its_budget_takes_no_step() -> None:
    run = Simulated(noise=0.05)
    assert run.run(120) == []
    assert run.governor.rung == 0


def test_a_single_spike_is_no_reason() -> None:
    run = Simulated()
    run.run(10)
    assert run.governor.frame(run.frame, run.now_s, 400.0) is None
    assert run.run(10) == []


def test_a_doubled_load_is_answered_in_a_second_and_given_back_after_it() -> None:
    """The figure: from the doubling to the last step down, and to the p99 back under the budget."""
    run = Simulated(noise=0.02)
    run.run(20)
    begun = run.frame
    down = run.run(20, load=2.0)
    assert [(step.before, step.after) for step in down] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert down[0].frame - begun <= 2
    # meant over the three frames of a cycle: under the budget from rung 2 on, which stands after 8 frames, 0.3 s
    assert down[1].frame - begun <= 10
    meant = np.convolve(run.work[down[1].frame + 3 :], np.ones(3) / 3, "valid")
    assert float(np.percentile(meant, 99)) < BUDGET_MS
    # the last steps are for the distance from it: 36 of 40 ms is near
    assert down[-1].frame - begun <= 80
    assert float(np.percentile(run.work[down[-1].frame + 1 :], 99)) < 0.9 * BUDGET_MS
    assert all("p99 " in step.reason and " of 40.0 ms" in step.reason for step in down)
    up = run.run(60)
    assert [(step.before, step.after) for step in up] == [(4, 3), (3, 2), (2, 1), (1, 0)]
    waits_s = np.diff([20 + 20, *(step.at_s for step in up)])
    assert all(4.9 < wait < 9 for wait in waits_s), "a dwell of 5 s each, and the window's for the first"
    assert run.run(300) == []


def test_the_way_up_ends_at_the_profiles_own() -> None:
    cheap = tuple((one * 0.8, two * 0.8) for one, two in COSTS_MS)
    run = Simulated(noise=0.02, costs=cheap)
    run.run(10)
    assert run.run(10, load=2.6)[-1].after == 4
    up = run.run(60)
    assert [step.after for step in up] == [3, 2, 1, 0]
    assert run.run(600) == []


@pytest.mark.parametrize("share", [0.62, 0.7, 0.8, 0.88])
def test_between_the_two_fractions_nothing_moves(share: float) -> None:
    flat = ((share * BUDGET_MS,) * 2,) * 5
    run = Simulated(costs=flat)
    run.governor.rung = 2
    assert run.run(300) == []


def test_noise_at_the_edge_does_not_make_it_swing() -> None:
    """Rung 0 is a little too dear and rung 1 cheap enough to try again: each try that fails doubles the wait."""
    costs = ((37.0, 37.0), (18.0, 18.0), (10.0, 10.0), (9.0, 9.0), (8.0, 8.0))
    run = Simulated(noise=0.02, costs=costs)
    steps = run.run(600)
    tries = [step for step in steps if step.after == 0]
    assert max(step.after for step in steps) == 1
    gaps_s = np.diff([step.at_s for step in tries])
    # 5, 10, 20, 40, and then 80 s: in ten minutes 11 tries, where without back-off there would be 100
    assert len(tries) <= 11
    assert all(later >= 0.95 * earlier for earlier, later in itertools.pairwise(gaps_s))
    assert gaps_s[-1] > 75
    over = sum(ms > 0.9 * BUDGET_MS for ms in run.work)
    assert over / len(run.work) < 0.005


def test_a_load_that_swings_is_followed_more_and_more_slowly() -> None:
    run = Simulated(noise=0.02)
    run.run(1800, load=lambda at_s: 2.0 if at_s % 20 < 4 else 0.5)
    ups = [sum(step.after < step.before and step.at_s // 300 == part for step in run.steps) for part in range(6)]
    assert ups[-1] <= ups[0] / 2, ups


def test_a_step_up_that_held_forgives_the_ones_that_did_not() -> None:
    costs = ((37.0, 37.0), (18.0, 18.0), (10.0, 10.0), (9.0, 9.0), (8.0, 8.0))
    run = Simulated(noise=0.02, costs=costs)
    run.run(300)
    slow_s = run.governor._wait_s[0]
    assert slow_s > 30
    run.run(600, load=0.7)
    assert run.governor.rung == 0
    back = run.run(2, load=1.0)
    assert [step.after for step in back][:1] == [1]
    assert run.governor._wait_s[0] == 5.0


def test_drops_that_go_on_count_only_with_work_near_the_budget() -> None:
    busy = Simulated(costs=((30.0, 30.0),) * 5)
    steps = busy.run(2, drops=1)
    assert steps[0].reason.startswith("drops before ")
    assert steps[0].reason.endswith(", p99 30.0 of 40.0 ms")
    assert Simulated(costs=((20.0, 20.0),) * 5).run(10, drops=1) == [], "not for the frames' work"


def test_an_input_that_catches_up_after_a_stall_is_no_overload() -> None:
    """A hundred pictures at once: all but a few are dropped, within a third of a second."""
    run = Simulated(costs=((30.0, 30.0),) * 5)
    run.run(10)
    run.frame += 100
    assert run.run(0.4, drops=12) == []
    assert run.run(20) == []


def test_pictures_that_wait_for_an_interval_are_a_reason() -> None:
    run = Simulated(costs=((30.0, 30.0),) * 5)
    steps = run.run(1, waited_ms=55.0)
    assert steps[0].reason == "pictures waited 55.0 ms, p99 30.0 of 40.0 ms"


def test_at_the_bottom_of_the_ladder_it_stays() -> None:
    run = Simulated()
    steps = run.run(60, load=10.0)
    assert [step.after for step in steps] == [1, 2, 3, 4]


def test_a_dear_frame_is_paid_for_by_the_cheap_ones_of_its_cycle() -> None:
    """On rung 2 the detector runs on every third frame: 60, 20, 20 ms are 33 a frame."""
    run = Simulated(costs=((60.0, 20.0),) * 5)
    run.governor.rung = 2
    run.governor._enter()
    assert run.run(60) == []
    dearer = Simulated(costs=((75.0, 20.0),) * 5)
    dearer.governor.rung = 2
    dearer.governor._enter()
    assert dearer.run(2)[0].reason == "p99 38.3 of 40.0 ms"


def test_a_restorer_that_runs_once_in_a_while_does_not_make_it_slow() -> None:
    ladder = (Rung(30, 1, 640, 4), Rung(1000, 1, 640, 4), Rung(1000, 1, 320, 4))
    governor = Governor(Options(rungs=ladder[1:]), ladder, BUDGET_MS)
    steps = [governor.frame(at, at / RATE, 55.0) for at in range(80)]
    assert [(step.frame, step.after) for step in steps if step] == [(25, 1), (51, 2)]


def test_a_break_of_the_input_is_not_time_that_was_calm() -> None:
    run = Simulated(costs=((30.0, 30.0), *((15.0, 15.0),) * 4))
    assert [step.after for step in run.run(1, load=1.5)] == [1]
    run.frame += round(60 * RATE)
    assert run.run(1.5) == [], "a minute passed, but no frames that showed anything"
    assert [step.after for step in run.run(8)] == [0], "the window of 4 s, and the dwell"


# -- what a live run does with them -----------------------------------------------------------------------


class Fake:
    """As much of a pipeline as the governor looks at."""

    def __init__(self, device_io: bool = False) -> None:
        self.profile = load_profile("tiny")
        self.ladder, self.rung, self.timings = self.profile.ladder, 3, Timings()
        self.backend = SimpleNamespace(device_io=device_io)
        self.timings.watch({"frame": BUDGET_MS})

    def frame(self, index: int) -> Frame:
        blank: Any = None
        return Frame(0, blank, blank, blank, index=index, rung=self.rung)


def told(fake: Fake, rate: float = 25.0) -> tuple[LiveGovernor, GovernorFacts]:
    facts = GovernorFacts()
    return LiveGovernor(fake, rate, facts), facts  # type: ignore[arg-type]


def test_a_step_sets_the_rung_is_counted_logged_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake()
    governor, facts = told(fake)
    assert fake.rung == 0
    with caplog.at_level(logging.INFO, logger="engine.governor"):
        for index in range(6):
            fake.timings.arrived(index, index, time.perf_counter_ns())
            with fake.timings.span("detect"):
                pass
            fake.timings.on(index)
            fake.timings.add("frame", 50.0, index, time.perf_counter_ns())
            governor.finished(fake.frame(index), 50.0, 0.0, 0)
    assert fake.rung == 1
    assert (facts.down, facts.up, facts.rung, facts.lowest) == (1, 0, 1, 1)
    (step,) = facts.steps
    assert step["reason"] == "p99 50.0 of 40.0 ms"
    assert (step["frame"], step["from"], step["to"]) == (3, 0, 1)
    assert [record.message for record in caplog.records] == [
        "frame 3: down to rung 1 (detect every 2): p99 50.0 of 40.0 ms"
    ]
    governor.close()
    assert fake.rung == 0
    assert 0 < sum(facts.seconds) < 5
    text = metrics_text(fake.timings, None)
    assert "face_engine_governor_rung 1\n" in text
    assert 'face_engine_governor_steps_total{direction="down"} 1\n' in text
    assert 'face_engine_governor_steps_total{direction="up"} 0\n' in text
    assert LiveTable(cast(Any, SimpleNamespace(timings=fake.timings))).__rich__().title == "governor: rung 1"
    trace = json.loads(trace_json(fake.timings.history.newest(), {}, fake.timings.rung_changes))
    (instant,) = [event for event in trace["traceEvents"] if event["ph"] == "i"]
    assert instant["args"] == {"rung": 1, "why": "down to rung 1 (detect every 2): p99 50.0 of 40.0 ms"}
    assert instant["ts"] > 0
    result = RunResult("out", timings=fake.timings, live=LiveFacts(governor=facts))
    assert result.to_json()["live"]["governor"]["steps"] == facts.steps
    assert json.loads(json.dumps(result.to_json()["live"]["governor"]))["down"] == 1
    assert result.live is not None
    lines = result.live.lines(1.0)
    assert lines[1].startswith("governor: 1 steps down, 0 up; ")
    assert lines[1].endswith("below the profile's own, at the lowest on rung 1 (detect every 2)")
    page = run_page(fake.profile, result, what="test", samples=(), conditions={}).html()
    assert "frame 3: rung 0 to 1 (detect every 2): p99 50.0 of 40.0 ms" in page
    assert "governor, steps down and up" in page


def test_a_run_without_a_governor_shows_none() -> None:
    assert "governor" not in metrics_text(Timings(), None)
    assert not any("governor" in line for line in LiveFacts().lines(1.0))


def test_steps_without_end_take_no_memory_without_end() -> None:
    facts = GovernorFacts(rungs=["own", "less"], seconds=[1.0, 2.0])
    for at in range(2000):
        facts.add(float(at), at, at % 2, 1 - at % 2, "a test")
    assert (facts.down, facts.up, len(facts.steps)) == (1000, 1000, facts.STEPS_KEPT)
    assert (facts.steps[-1]["frame"], facts.steps[-2]["frame"]) == (1999, facts.STEPS_KEPT - 2)
    assert facts.lines()[1].endswith("the last at 1999.0 s to rung 0 (a test)")


def test_the_inputs_interval_is_a_budget_too() -> None:
    assert told(Fake(), rate=50.0)[0].budget_ms == 20.0
    assert told(Fake(), rate=10.0)[0].budget_ms == 40.0
    governor, _ = told(Fake(), rate=0.0)
    assert governor.budget_ms == 40.0


def test_what_a_device_was_busy_with_counts_where_the_host_did_not_wait_for_it() -> None:
    fake = Fake(device_io=True)
    governor, facts = told(fake)
    for index in range(8):
        fake.timings.on(index)
        fake.timings.add("frame", 3.0, index, 1)
        governor.finished(fake.frame(index), 3.0, 0.0, 0)
        # told late, as a device's events are
        fake.timings.add("generate", 30.0, index)
        fake.timings.add("detect", 12.0, index)
    assert [step["reason"] for step in facts.steps] == ["p99 42.0 of 40.0 ms"]


def test_a_frame_begun_on_another_rung_is_not_the_present_ones() -> None:
    fake = Fake()
    governor, facts = told(fake)
    for index in range(20):
        frame = fake.frame(index)
        frame.rung = 2
        governor.finished(frame, 90.0, 0.0, 0)
    assert facts.steps == []


# -- with real frames -------------------------------------------------------------------------------------


def numbered(path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A transport stream of numbered pictures with sound, written faster than it plays."""
    with monkeypatch.context() as quick:
        quick.setattr("tests.live_peer.time.sleep", lambda seconds: None)
        quick.setattr("tests.live_peer.format_of", lambda url: ("mpegts", {}))
        send(str(path), seconds=seconds)
    return path


def test_a_live_run_goes_down_its_ladder_and_a_run_of_a_file_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, rungs = numbered(tmp_path / "in.ts", 3.0, monkeypatch), []
    whole = Pipeline.finish

    def slow(self: Pipeline, frame: Frame) -> Frame:
        rungs.append(frame.rung)
        time.sleep(0.06 if frame.rung < 2 else 0.0)
        return whole(self, frame)

    monkeypatch.setattr(Pipeline, "finish", slow)
    said: list[str] = []
    result = engine.run("tiny", SOURCE, clip, tmp_path / "live.mkv", live=True, say=said.append)
    assert any(line.startswith("governor: 4 rungs below the profile's own (") for line in said)
    assert result.live is not None
    facts = result.live.governor
    assert facts is not None
    assert facts.down >= 2
    assert rungs[:3] == [0, 0, 0]
    # a frame is worked on by the rung that the last step went to
    first = facts.steps[0]
    assert (first["from"], first["to"], rungs[rungs.index(1)]) == (0, 1, 1)
    assert max(rungs) == facts.lowest >= 2
    assert result.timings.rung_steps["down"] == facts.down
    assert sum(facts.seconds) == pytest.approx(result.wall_s, abs=1.0)
    monkeypatch.undo()
    said.clear()
    plain = engine.run("tiny", SOURCE, clip, tmp_path / "file.mkv", say=said.append)
    assert plain.live is None
    assert plain.timings.rung is None
    assert not any("governor" in line for line in said)


@pytest.mark.full
@pytest.mark.timeout(240)
def test_a_doubled_load_in_real_time_on_the_cpu() -> None:
    """Every part of the pipeline takes as long again, by work that is really done."""
    told = measure()
    assert told["doubled_p90_ms"] > told["budget_ms"]
    assert told["steps_down_after_frames"][0] <= 10
    assert told["within_budget_after_frames"] <= 40
    assert told["lowest_rung"] >= 2
    assert told["p90_on_it_ms"] < told["budget_ms"]
    assert told["rung_at_the_end"] < told["lowest_rung"]
    assert len(told["steps_up_after_frames"]) >= 1
