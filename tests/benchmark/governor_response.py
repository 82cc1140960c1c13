"""How soon the governor answers a doubled load: python -m tests.benchmark.governor_response [--write NAME]

The tiny profile's pipeline on the sample clip, held to 1.5 times what its frames take; then every part of it takes as
long again, by work that is really done, and after a while it does not. Frames are timed by this process's own CPU time,
so that what else runs on the cores is not the load; seconds are frames at the clip's rate. With --write the figures go
to profiles/measured/NAME.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.frame import Frame
from engine.governor import LiveGovernor
from engine.pipeline import Pipeline, open_pipeline
from engine.result import GovernorFacts
from kernels.launch import Colour
from profiles.profile import Profile, load_profile
from tests.benchmark.conditions import conditions
from tests.clips import U8, decoded

__all__ = ["Loaded", "measure", "quick"]

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "tiny" / "sample"
RATE = 25
ROOM = 1.5  # budget over what 9 of 10 frames take


class Loaded:
    """A pipeline whose parts take `times` as long while it is 2 or more, in CPU time of this process."""

    def __init__(self, pipeline: Pipeline, frames: Sequence[U8]) -> None:
        self.pipeline, self.frames, self.times = pipeline, frames, 1
        self._whole = pipeline.backend.replay
        pipeline.backend.replay = self._replay  # type: ignore[method-assign]

    def step(self) -> float:
        """One frame; returns its CPU ms."""
        start = time.process_time()
        self.pipeline.step(self.frames[self.pipeline.steps % len(self.frames)])
        return (time.process_time() - start) * 1e3

    def _replay(self, key: tuple[str, int, int], body: Callable[[], None], frame: Frame) -> None:
        start = time.process_time()
        self._whole(key, body, frame)
        took = time.process_time() - start
        while time.process_time() < start + self.times * took:
            continue


def quick(dwell_s: float) -> Profile:
    """The tiny profile with a shorter dwell: what is measured is the way down."""
    profile = load_profile("tiny")
    return dataclasses.replace(profile, governor=dataclasses.replace(profile.governor, dwell_s=dwell_s))


def measure(loaded_frames: int = 150, most_frames_up: int = 800) -> dict[str, Any]:
    """Frames from the doubling to the first step, to the work within its budget, and to the last step; and back."""
    frames = decoded(SAMPLE / "clip.mp4", 20)
    with open_pipeline(
        quick(1.0), sources=[SAMPLE / "source_1.png"], size=(1280, 720), colour=Colour(), governed=True
    ) as pipeline:
        load = Loaded(pipeline, frames)
        own_ms = sorted(load.step() for _ in range(40))[35]
        pipeline.timings.watch({"frame": ROOM * own_ms})
        facts = GovernorFacts()
        governor = LiveGovernor(pipeline, 0.0, facts)
        work: list[tuple[int, float]] = []

        def drive(until: Callable[[], bool], at_most: int) -> None:
            for _ in range(at_most):
                ms = load.step()
                frame = pipeline.frames[(pipeline.steps - 1) % len(pipeline.frames)]
                work.append((frame.rung, ms))
                governor.finished(frame, ms, 0.0, 0)
                if until():
                    return

        load.times, begun = 2, pipeline.steps
        drive(lambda: False, loaded_frames)
        lowest, down, ended = pipeline.rung, [step["frame"] - begun for step in facts.steps], pipeline.steps
        on_it = [ms for rung, ms in work[-60:] if rung == lowest]
        settled = _settled(pipeline, work, ROOM * own_ms)
        load.times = 1
        drive(lambda: pipeline.rung == 0, most_frames_up)
        up = [step["frame"] - ended for step in facts.steps if step["to"] < step["from"]]
        governor.close()
    return {
        "what": "the governor's answer to a doubled load, tiny profile, 1280x720, two faces",
        "own_ms": round(own_ms, 2),
        "budget_ms": round(ROOM * own_ms, 2),
        "doubled_p90_ms": round(float(np.percentile([ms for rung, ms in work[:10] if rung == 0], 90)), 2),
        "steps_down_after_frames": down,
        "within_budget_after_frames": settled,
        "within_budget_after_s": round(settled / RATE, 2),
        "lowest_rung": lowest,
        "p90_on_it_ms": round(float(np.percentile(on_it, 90)), 2),
        "steps_up_after_frames": up,
        "rung_at_the_end": facts.rung,
        "dwell_s": 1.0,
    }


def _settled(pipeline: Pipeline, work: Sequence[tuple[int, float]], budget_ms: float) -> int:
    """After how many frames the work, meant over a rung's cycle, was within its budget for good but for 1 in 100."""
    meant = []
    for at, (rung, _) in enumerate(work):
        cycle = pipeline.ladder[rung].cycle
        meant.append(float(np.mean([ms for _, ms in work[max(at - cycle + 1, 0) : at + 1]])))
    over = np.array(meant) > budget_ms
    allowed = len(over) // 100
    return next(at for at in range(len(over) + 1) if over[at:].sum() <= allowed)


def main() -> None:
    """Print the figures; with --write also keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", default="", metavar="NAME")
    chosen = parser.parse_args()
    measured = measure() | {"conditions": conditions()}
    if chosen.write:
        path = ROOT / "profiles" / "measured" / f"{chosen.write}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
