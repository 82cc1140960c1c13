"""Our stages against the reference flow: same weights, same frame, same face, same process and thread budget.

    python -m tests.benchmark.reference_flow [--frames N] [--write FILE.json]

A 1080p frame with one face of about 300 px, from the sample clip (drawn faces, the tiny pack). Networks are timed
apart on both sides: what is compared is everything around them. Prints a table; --write keeps it with its
conditions. Medians, since other work may share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

import engine
from engine.backends.base import Session
from engine.frame import Buffer
from engine.pipeline import Pipeline
from models.contract import load_template
from models.model_files import find
from tests import oracle
from tests.benchmark.conditions import conditions
from tests.clips import decoded

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
SIZE = (1920, 1080)


@dataclass
class Clock:
    """Milliseconds by step, one entry a frame."""

    steps: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def span(self, step: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        yield
        self.steps.setdefault(step, []).append((time.perf_counter() - start) * 1e3)

    def medians(self) -> dict[str, float]:
        """Median ms of every step."""
        return {step: float(np.median(values)) for step, values in self.steps.items()}


class TimedSession:
    """A session whose runs are timed."""

    def __init__(self, session: Session) -> None:
        self.session, self.contract, self.total_ms = session, session.contract, 0.0

    def fit(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the session says."""
        return self.session.fit(name, shape)

    def prepare(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """As the session does."""
        self.session.prepare(inputs, outputs)

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Run and add the time."""
        start = time.perf_counter()
        self.session.run(inputs, outputs)
        self.total_ms += (time.perf_counter() - start) * 1e3


def scene() -> U8:
    """NV12 [1620, 1920]: a close-up of one person, from the sample's second half, in a grey 1080p frame."""
    nv12 = decoded(SAMPLE / "clip.mp4", 231)[230]
    close = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)[:, :660]
    close = cv2.resize(close, None, fx=1.16, fy=1.16, interpolation=cv2.INTER_CUBIC)
    bgr = np.full((SIZE[1], SIZE[0], 3), 96, dtype=np.uint8)
    bgr[100 : 100 + close.shape[0], 400 : 400 + close.shape[1]] = close
    yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    height, width = SIZE[1], SIZE[0]
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    return np.ascontiguousarray(np.vstack([yuv[:height], np.stack(chroma, axis=-1).reshape(height // 2, width)]))


def time_ours(pipeline: Pipeline, nv12: U8, frames: int) -> tuple[dict[str, float], dict[str, float]]:
    """(ms of every stage without its network, ms of the networks), medians."""
    stages: dict[str, Any] = {"detect": pipeline.detect, "refine": pipeline.refine, "generate": pipeline.generate}
    timed: dict[str, TimedSession] = {}
    for name, stage in stages.items():
        timed[name] = stage.session = TimedSession(stage.session)
    clock, networks = Clock(), Clock()
    for _ in range(frames):
        before = {name: session.total_ms for name, session in timed.items()}
        totals = {name: held.total_ms for name, held in pipeline.timings.stages.items()}
        pipeline.step(nv12)
        for name, held in pipeline.timings.stages.items():
            spent = held.total_ms - totals.get(name, 0.0)
            if name in timed:
                network = timed[name].total_ms - before[name]
                networks.steps.setdefault(name, []).append(network)
                spent -= network
            if name != "frame":
                clock.steps.setdefault(name, []).append(spent)
    return clock.medians(), networks.medians()


def time_reference(nv12: U8, latent: F32, threads: int, frames: int) -> tuple[dict[str, float], dict[str, float]]:
    """(ms of every step of the reference flow without its network, ms of the networks), medians."""
    cv2.setNumThreads(threads)
    run = {name: _session(name, threads) for name in ("tiny_detector", "tiny_swapper")}
    template = np.array(load_template("arcface_128").points_px, dtype=np.float32)
    bgr = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)
    clock, networks = Clock(), Clock()
    for _ in range(frames):
        with clock.span("detect: letterbox"):
            blob, scale = oracle.letterbox(bgr, (640, 640))
        with networks.span("detect"):
            outputs = run["tiny_detector"]({"image": blob})
        with clock.span("detect: decode, NMS"):
            found = oracle.suppress(oracle.decode_scrfd(outputs, (640, 640), scale, 0.5), 0.4)
        with clock.span("crop"):
            matrix = oracle.similarity(found.points[0], template)
            crop = oracle.blob(oracle.aligned(bgr, matrix, 128), 0.0, 255.0)
        with networks.span("generate"):
            swapped = run["tiny_swapper"]({"target": crop, "source": latent})["output"][0]
        with clock.span("mask, paste"):
            oracle.paste(bgr, swapped, matrix)
    return clock.medians(), networks.medians()


def _session(name: str, threads: int) -> Callable[[dict[str, F32]], dict[str, F32]]:
    model = find(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    names = list(model.contract.outputs)

    def run(inputs: dict[str, F32]) -> dict[str, F32]:
        fed = {model.tensors[key]: value for key, value in inputs.items()}
        return dict(zip(names, session.run([model.tensors[key] for key in names], fed), strict=True))

    return run


def measure(frames: int) -> dict[str, Any]:
    """All figures with their conditions."""
    nv12 = scene()
    threads = len(os.sched_getaffinity(0))
    with engine.open_pipeline("tiny", source=SAMPLE / "source_1.png", size=SIZE) as pipeline:
        for _ in range(5):
            frame = pipeline.step(nv12)
        box = pipeline.backend.to_host(frame.faces.boxes)[0]  # type: ignore[arg-type]
        ours, our_networks = time_ours(pipeline, nv12, frames)
        latent = pipeline.backend.to_host(pipeline.generate.latents)
    theirs, their_networks = time_reference(nv12, latent, threads, max(10, frames // 4))
    total, reference = sum(ours.values()), sum(theirs.values())
    return {
        "what": "stages 2 to 9 without the networks, one face, 1920x1080, medians in ms",
        "ours_ms": {key: round(value, 3) for key, value in ours.items()},
        "reference_ms": {key: round(value, 3) for key, value in theirs.items()},
        "our_networks_ms": {key: round(value, 3) for key, value in our_networks.items()},
        "reference_networks_ms": {key: round(value, 3) for key, value in their_networks.items()},
        "ours_total_ms": round(total, 3),
        "reference_total_ms": round(reference, 3),
        "ratio": round(reference / total, 2),
        "conditions": conditions(face_px=round(float(box[3] - box[1])), faces=frame.face_count, frames=frames),
    }


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    figures = measure(chosen.frames)
    print(f"{'ours':<24} ms      {'reference flow':<24} ms")
    ours, theirs = list(figures["ours_ms"].items()), list(figures["reference_ms"].items())
    for row in range(max(len(ours), len(theirs))):
        left = f"{ours[row][0]:<24} {ours[row][1]:>6.2f}" if row < len(ours) else " " * 31
        right = f"{theirs[row][0]:<24} {theirs[row][1]:>6.2f}" if row < len(theirs) else ""
        print(f"{left}  {right}")
    print(f"{'total':<24} {figures['ours_total_ms']:>6.2f}  {'total':<24} {figures['reference_total_ms']:>6.2f}")
    print(f"networks: ours {figures['our_networks_ms']}, reference {figures['reference_networks_ms']}")
    print(f"{figures['ratio']} times faster around the networks; {figures['conditions']}")
    if chosen.write:
        chosen.write.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
