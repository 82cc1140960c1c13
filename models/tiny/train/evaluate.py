"""Measures the pack on held-out drawings and writes card.json: python -m models.tiny.train.evaluate [--folder F]."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from models.tiny import measure
from models.tiny.pack import FOLDER, Pack
from models.tiny.renderer import LOOKS
from models.tiny.train import card as card_text

# The least that the pack must do, on drawings that no training saw.
BARS = {
    "detection.recall_32": (">=", 0.98),
    "detection.precision_32": (">=", 0.97),
    "detection.point_error_48": ("<=", 0.08),
    "embedding.eer": ("<=", 0.02),
    "swapping.nearer_source": (">=", 0.85),
    "swapping.yaw_error_deg": ("<=", 1.0),
    "swapping.mouth_correlation": (">=", 0.75),
}
_GROUPS: dict[str, tuple[Callable[..., dict[str, float]], tuple[int, ...]]] = {
    "detection": (measure.detection, (600,)),
    "filling": (measure.filling, (100,)),
    "embedding": (measure.embedding, (200,)),
    "chain": (measure.chain, (150,)),
    "swapping": (measure.swapping, (400, 150)),
}


def timings(folder: Path, repeats: int = 30) -> dict[str, float]:
    """Median milliseconds of each network with ONNX Runtime on one CPU thread, batch 1; machine-dependent."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "detector": {"input.1": (1, 3, 640, 640)},
        "refiner": {"input": (1, 3, 96, 96)},
        "embedder": {"input.1": (1, 3, 112, 112)},
        "swapper": {"target": (1, 3, 128, 128), "source": (1, 512)},
    }
    out = {}
    for name, inputs in shapes.items():
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(str(folder / f"tiny_{name}.onnx"), options, providers=["CPUExecutionProvider"])
        feed = {key: np.full(shape, 0.1, np.float32) for key, shape in inputs.items()}
        taken = []
        for _ in range(repeats + 3):
            began = time.perf_counter()
            session.run(None, feed)
            taken.append((time.perf_counter() - began) * 1e3)
        out[f"{name}_ms"] = float(np.median(taken[3:]))
    return out


def group(name: str, folder: Path, share: float, look: str) -> dict[str, float]:
    """One group of figures; share scales the number of samples (1 = the card's)."""
    run, counts = _GROUPS[name]
    return run(Pack(folder), *(max(8, round(count * share)) for count in counts), look=look)


def figures(folder: Path, share: float, look: str, processes: int = 1) -> dict[str, dict[str, float]]:
    """All figures of the card, one process a group where there are several."""
    if processes <= 1:
        return {name: group(name, folder, share, look) for name in _GROUPS}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(_GROUPS)), mp_context=context) as pool:
        jobs = {name: pool.submit(group, name, folder, share, look) for name in _GROUPS}
        return {name: job.result() for name, job in jobs.items()}


def _missed(rounded: dict[str, dict[str, float]]) -> list[str]:
    out = []
    for name, (sign, bar) in BARS.items():
        part, key = name.split(".")
        value = rounded[part][key]
        if not (value >= bar if sign == ">=" else value <= bar):
            out.append(f"{name}: wanted {sign} {bar}, got {value}")
    return out


def main() -> None:
    """python -m models.tiny.train.evaluate"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.evaluate")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the tiny_*.onnx files are")
    parser.add_argument("--share", type=float, default=1.0, help="share of the card's sample counts to draw")
    parser.add_argument("--look", choices=LOOKS, default="classic")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    measured = figures(given.folder, given.share, given.look, given.processes)
    rounded = {part: {k: round(v, 5) for k, v in values.items()} for part, values in measured.items()}
    missed = _missed(rounded)
    earlier = given.folder / "card.json"  # a checkout has no run records: keep what the card says of the training
    training = json.loads(earlier.read_text())["training"] if earlier.exists() else {}
    for name in ("detector", "refiner", "embedder", "swapper"):
        record = given.folder / f"tiny_{name}.json"
        if record.exists():
            training[name] = json.loads(record.read_text())
    card = {
        "what": "drawn faces only; held-out drawings of the same renderer",
        "bars": {name: f"{sign} {bar}" for name, (sign, bar) in BARS.items()},
        "figures": rounded,
        "timings_1_thread": {k: round(v, 2) for k, v in timings(given.folder).items()},
        "training": training,
    }
    if given.look != "classic":
        card["look"] = given.look
    (given.folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    card_text.write(given.folder)
    print(json.dumps(card["figures"], indent=1))
    print("\n".join(missed) or "all bars met")


if __name__ == "__main__":
    main()
