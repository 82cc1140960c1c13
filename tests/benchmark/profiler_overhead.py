"""What profiling costs a frame, and how right its histograms are: python -m tests.benchmark.profiler_overhead

    [--write FILE.json]

A frame is everything that the runner and the pipeline tell of it: packet in, decode, seven stages, the frame, encode,
packet out. The least of many tries, since whatever else runs on these cores is not the profiler's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from engine.timing import Histogram, Timings
from tests.benchmark.conditions import conditions

__all__ = ["measure", "one_profiled_frame"]

STAGES = ("detect", "track", "refine", "crop", "generate", "mask", "paste")
BLOCKS, FRAMES = 200, 50


def one_profiled_frame(timings: Timings, indices: Iterator[int]) -> None:
    """Everything that is told of one frame."""
    index = next(indices)
    timings.arrived(index, index)
    timings.add("decode", 1.0, index)
    timings.on(index, index)
    for stage in STAGES:
        with timings.span(stage):
            pass
    timings.add("frame", 10.0)
    timings.on(index)
    with timings.span("encode"):
        pass
    timings.departed(index)


def measure() -> dict[str, Any]:
    """Microseconds a frame, with and without frames kept for a trace, and errors of percentiles."""
    return {
        "what": "profiling: time a frame, and histograms against sorted samples",
        "frame_us": round(_frame_us(0), 2),
        "frame_with_trace_us": round(_frame_us(3000), 2),
        "spans_a_frame": len(STAGES) + 3,
        "percentile_error": {name: round(error, 5) for name, error in _percentile_errors().items()},
    }


def _frame_us(kept: int) -> float:
    timings, indices = Timings(), count()
    timings.watch({"frame": 40.0})
    timings.keep_frames(kept)
    for _ in range(3000):
        one_profiled_frame(timings, indices)
    least = float("inf")
    for _ in range(BLOCKS):
        start = time.perf_counter()
        for _ in range(FRAMES):
            one_profiled_frame(timings, indices)
        least = min(least, (time.perf_counter() - start) / FRAMES)
    return least * 1e6


def _percentile_errors() -> dict[str, float]:
    """The largest relative error of three draws of 20 000 durations, by percentile."""
    errors: dict[str, float] = {}
    for seed in range(3):
        samples = np.random.default_rng(seed).lognormal(mean=2.5, sigma=0.8, size=20_000)
        histogram = Histogram()
        for sample in samples:
            histogram.add(float(sample))
        exact = np.sort(samples)
        for percent in (50, 95, 99, 99.9):
            wanted = exact[int(np.ceil(len(exact) * percent / 100)) - 1]
            error = abs(histogram.percentile_ms(percent) / wanted - 1)
            errors[f"p{percent:g}"] = max(errors.get(f"p{percent:g}", 0.0), float(error))
    return errors


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    figures = {**measure(), "conditions": conditions()}
    if chosen.write:
        chosen.write.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
