"""Two yardsticks and we, on the same frames, faces, weights and threads, in one process, step by step.

    python -m tests.benchmark.yardstick [--twins] [--sizes 1280x720,1920x1080] [--faces 1,4] [--frames N] [--write FILE]

(a) the way of roop and facefusion: OpenCV on the host, one network call a face with arrays handed over, masks and
    merges over the whole frame, everything waits for everything.
(b) the best open way known: outputs and inputs bound to fixed memory, warps and an 8-bit blend inside the face's
    rectangle only, an alpha template made once.

NV12 goes in and NV12 comes out, as decoders and encoders have it; so both pay for their BGR, which is a row of its own.
In their favour: neither runs the landmark, gender and recognition networks that the real ones run for every face, nor a
refiner, nor tracking; both detect once at 640 px, we twice; and their sessions do not spin, as ours do not.

Turns of up to four frames alternate; where a turn has more than one, its first is thrown away, so that caches hold its
own. A row is the least of all frames, for all three alike: on shared cores a median tells what else was going on.
"whole_cpu" is the time that all threads of the process worked on a frame, which other processes hardly change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.bench.input import SAMPLE, BenchInput, sample_input
from engine.bench.measure import Cell, open_cell
from engine.bench.twins import twins_in_place
from profiles.profile import Profile, load_profile
from tests.benchmark.conditions import conditions
from tests.benchmark.reference_flow import Clock
from tests.benchmark.ways import BestOpenWay, Ours, RoopWay, Way

__all__ = ["Case", "measure"]

TURN_FRAMES = 4

# what the steps of the three are called side by side
ROWS = ("in and out", "detect", "track", "refine", "crop", "generate", "paste")


@dataclass(frozen=True)
class Case:
    """One size and face count, and what was measured there."""

    size_px: tuple[int, int]
    faces: int
    ms: dict[str, dict[str, dict[str, float]]]
    cpu_ms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Rows, their sums, and how many times as long (a) and (b) take."""
        told: dict[str, Any] = {"size_px": list(self.size_px), "faces": self.faces}
        sums = {}
        for way, parts in self.ms.items():
            around, networks = (sum(parts[part].values()) for part in ("around", "networks"))
            colour = parts["around"].get("in and out", 0.0)
            sums[way] = {"around": around, "around_without_in_and_out": around - colour, "whole": around + networks}
            sums[way]["whole_cpu"] = self.cpu_ms[way]
            told[way] = {
                part: {name: round(ms, 3) for name, ms in values.items()}
                for part, values in (*parts.items(), ("sum", sums[way]))
            }
        for way in ("a", "b"):
            told[f"ours_faster_than_{way}"] = {
                name: round(ms / sums["ours"][name], 2) for name, ms in sums[way].items()
            }
        return told


def measure(profile: Profile, source: BenchInput, faces: int, frames: int, *, with_truth: bool) -> Case:
    """All three on one input, in turns."""
    threads = profile.threads or len(os.sched_getaffinity(0))
    room = dataclasses.replace(profile, track=dataclasses.replace(profile.track, faces=faces))
    cell = Cell("yardstick", room, source, SAMPLE / "source_1.png", with_truth=with_truth)
    with open_cell(cell, lambda line: None) as pipeline:
        latent = pipeline.backend.to_host(pipeline.generate.latents)[:1]
        ours = Ours(pipeline, source)
        ways: dict[str, Way] = {"ours": ours}
        for name, kind in (("a", RoopWay), ("b", BestOpenWay)):
            ways[name] = kind(room, source, latent, threads, with_truth=with_truth)
        turn = _turn_frames(frames)
        for way in ways.values():
            _uncounted(way, 0)
        cpu_ms: dict[str, list[float]] = {name: [] for name in ways}
        for start in range(0, frames, turn):
            for name, way in ways.items():
                _turn(way, start, turn, cpu_ms[name])
        if ours.faces != faces:
            raise SystemExit(
                f"yardstick: wanted {faces} faces, got {ours.faces}; the sample or the detector has changed"
            )
        ms = {
            name: {"around": _by_frame(way.around, frames), "networks": _by_frame(way.networks, frames)}
            for name, way in ways.items()
        }
    return Case(source.size_px, faces, ms, {name: min(taken) for name, taken in cpu_ms.items()})


def _turn(way: Way, start: int, count: int, cpu_ms: list[float]) -> None:
    """`count` frames that are counted; where there are several, after one that is not."""
    if count > 1:
        _uncounted(way, start)
    for index in range(start, start + count):
        begun = time.process_time()
        way.frame(index)
        cpu_ms.append((time.process_time() - begun) * 1e3)


def _uncounted(way: Way, index: int) -> None:
    """A frame whose times are thrown away."""
    counted = way.around.steps, way.networks.steps
    way.around.steps, way.networks.steps = {}, {}
    way.frame(index)
    way.around.steps, way.networks.steps = counted


def _turn_frames(frames: int) -> int:
    return max(1, min(TURN_FRAMES, frames // 10))


def _by_frame(clock: Clock, frames: int) -> dict[str, float]:
    """Ms a frame by row, the least of all frames; a row that is timed several times in a frame is added up first."""
    found = {}
    for name in ROWS:
        values = np.array(clock.steps.get(name, ()))
        if values.size:
            by_frame = values.reshape(-1, values.size // _counted(values.size, frames)).sum(axis=1)
            found[name] = float(by_frame.min())
    return found


def _counted(size: int, frames: int) -> int:
    turn = _turn_frames(frames)
    counted = -(-frames // turn) * turn
    if size % counted:
        raise SystemExit(f"yardstick: wanted a multiple of {counted} timings, got {size}; a frame lost a face")
    return counted


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twins", action="store_true", help="det_10g and inswapper_128 twins at the clip's truth")
    parser.add_argument("--sizes", default="1280x720,1920x1080")
    parser.add_argument("--faces", default="1,4")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    profile = dataclasses.replace(load_profile("swap_720p30" if chosen.twins else "tiny"), backend="cpu")
    sizes = [tuple(int(side) for side in size.split("x")) for size in chosen.sizes.split(",")]
    cases: list[Case] = []
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        weights = "tiny pack (drawn faces only), real, not a twin"
        if chosen.twins:
            stack.enter_context(twins_in_place(profile))
            weights = "twins of det_10g and inswapper_128 (random weights), faces from the clip's truth"
        for width, height in sizes:
            for faces in (int(one) for one in chosen.faces.split(",")):
                source = sample_input((width, height), faces, 24)
                cases.append(measure(profile, source, faces, chosen.frames, with_truth=chosen.twins))
                _print(cases[-1])
                figures = {
                    "what": "ours, (a) as roop and facefusion do, (b) the best open way; least ms of all frames",
                    "cases": [case.to_json() for case in cases],
                    "conditions": conditions(frames=chosen.frames, weights=weights),
                }
                # a long measurement keeps what it has
                if chosen.write:
                    part = chosen.write.with_suffix(".part")
                    part.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
                    part.replace(chosen.write)
    print(json.dumps(figures))


def _print(case: Case) -> None:
    told = case.to_json()
    print(
        f"{case.size_px[0]}x{case.size_px[1]}, {case.faces} faces" + " " * 4 + "ours        (a)        (b)   ms a frame"
    )
    for part, rows in (("around", ROWS), ("networks", ("detect", "refine", "generate"))):
        for name in rows:
            values = [told[way][part].get(name) for way in ("ours", "a", "b")]
            if any(value is not None for value in values):
                label = name if part == "around" else f"network: {name}"
                print(
                    f"  {label:<20}" + "".join(f"{value:>11.2f}" if value is not None else " " * 11 for value in values)
                )
    for name in ("around", "around_without_in_and_out", "whole", "whole_cpu"):
        sums = [told[way]["sum"][name] for way in ("ours", "a", "b")]
        ratios = [told[f"ours_faster_than_{way}"][name] for way in ("a", "b")]
        print(f"  {name:<26}{sums[0]:>5.1f}{sums[1]:>11.1f}{sums[2]:>11.1f}   ours x {ratios[0]:.1f}, {ratios[1]:.1f}")


if __name__ == "__main__":
    main()
