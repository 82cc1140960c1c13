"""Measures the pack on held-out drawings and writes card.json: python -m models.tiny.train.evaluate [--folder F]."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from models.tiny import measure, restoring, talking
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
    "restoring.soft_gain_db": (">=", 1.2),
    "restoring.swap_gain_db": (">=", 0.8),
    "restoring.changed_cosine_kept": (">=", 0.93),
    "talking.correlation": (">=", 0.85),
    "talking.shut_in_silence": (">=", 0.99),
}
_GROUPS: dict[str, tuple[Callable[..., dict[str, float]], tuple[int, ...]]] = {
    "detection": (measure.detection, (600,)),
    "filling": (measure.filling, (100,)),
    "embedding": (measure.embedding, (200,)),
    "chain": (measure.chain, (150,)),
    "swapping": (measure.swapping, (400, 150)),
    "restoring": (restoring.restoring, (60,)),
    "talking": (talking.talking, (300,)),
}
_FILES = {"restoring": "tiny_restorer.onnx", "talking": "tiny_lipsync.onnx"}  # of groups that a folder may lack


def _has(name: str, folder: Path) -> bool:
    """Whether a folder holds what a group measures."""
    return (folder / _FILES.get(name, "tiny_detector.onnx")).exists()


def timings(folder: Path, repeats: int = 30) -> dict[str, float]:
    """Median milliseconds of each network with ONNX Runtime on one CPU thread, batch 1; machine-dependent."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "detector": {"input.1": (1, 3, 640, 640)},
        "refiner": {"input": (1, 3, 96, 96)},
        "embedder": {"input.1": (1, 3, 112, 112)},
        "swapper": {"target": (1, 3, 128, 128), "source": (1, 512)},
        "restorer": {"input": (1, 3, 256, 256)},
        "lipsync": {"mel": (1, 1, 80, 16), "image": (1, 6, 96, 96)},
    }
    shapes = {name: inputs for name, inputs in shapes.items() if (folder / f"tiny_{name}.onnx").exists()}
    out = {}
    for name, inputs in shapes.items():
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(str(folder / f"tiny_{name}.onnx"), options, providers=["CPUExecutionProvider"])
        feed = {key: np.full(shape, 0.1, np.float32) for key, shape in inputs.items()}
        taken = []
        for _ in range(repeats + 3):
            began = time.process_time()  # of one thread: what else runs on the cores does not count
            session.run(None, feed)
            taken.append((time.process_time() - began) * 1e3)
        out[f"{name}_ms"] = float(np.median(taken[3:]))
    return out


def group(name: str, folder: Path, share: float, look: str) -> dict[str, float]:
    """One group of figures; share scales the number of samples (1 = the card's)."""
    run, counts = _GROUPS[name]
    return run(Pack(folder), *(max(8, round(count * share)) for count in counts), look=look)


def figures(
    folder: Path, share: float, look: str, processes: int = 1, only: Collection[str] = ()
) -> dict[str, dict[str, float]]:
    """Figures of the card, all groups by default, one process a group where there are several."""
    names = [name for name in only or _GROUPS if _has(name, folder)]
    if processes <= 1:
        return {name: group(name, folder, share, look) for name in names}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(names)), mp_context=context) as pool:
        jobs = {name: pool.submit(group, name, folder, share, look) for name in names}
        return {name: job.result() for name, job in jobs.items()}


def _missed(rounded: dict[str, dict[str, float]]) -> list[str]:
    out = []
    for name, (sign, bar) in BARS.items():
        part, key = name.split(".")
        if part not in rounded:
            continue  # a pack without that network
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
    parser.add_argument("--only", action="append", choices=tuple(_GROUPS), default=[], help="keep the card's others")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    measured = figures(given.folder, given.share, given.look, given.processes, given.only)
    rounded = {part: {k: round(v, 5) for k, v in values.items()} for part, values in measured.items()}
    earlier = given.folder / "card.json"  # a checkout has no run records: keep what the card says of the training
    told = json.loads(earlier.read_text()) if earlier.exists() else {"training": {}, "figures": {}}
    training = told["training"]
    if given.only:
        rounded = {**told["figures"], **rounded}
    kept = told["timings_1_thread"] if given.only else {}
    missed = _missed(rounded)
    for name in ("detector", "refiner", "embedder", "swapper", "restorer", "lipsync"):
        record = given.folder / f"tiny_{name}.json"
        if record.exists():
            training[name] = json.loads(record.read_text())
    card = {
        "what": "drawn faces only; held-out drawings of the same renderer",
        "bars": {name: f"{sign} {bar}" for name, (sign, bar) in BARS.items()},
        "figures": rounded,
        "timings_1_thread": {k: round(v, 2) for k, v in timings(given.folder).items()} | kept,
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
