"""Measures the pack on held-out drawings and writes card.json: python -m models.tiny.train.evaluate [--folder F]."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from models.tiny import labelling, measure, restoring, talking
from models.tiny.pack import FOLDER, Pack
from models.tiny.renderer import LOOKS
from models.tiny.train import card as card_text
from models.tiny.train.card import write_whole
from models.tiny.train.card_rows import reached

Bars = Mapping[str, tuple[str, float]]

# The least that the pack must do, on drawings that no training saw. Of groups whose networks a folder lacks, nothing.
BARS: Bars = {
    "detection.recall_32": (">=", 0.98),
    "detection.recall_16_32": (">=", 0.95),
    "detection.precision_32": (">=", 0.97),
    "detection.point_error_48": ("<=", 0.04),
    "embedding.eer": ("<=", 0.015),
    "swapping.nearer_source": (">=", 0.95),
    "swapping.face_psnr_db": (">=", 25.0),
    "swapping.sharpness": (">=", 0.6),
    "swapping.yaw_error_deg": ("<=", 1.0),
    "swapping.mouth_correlation": (">=", 0.93),
    "labelling.mask_iou": (">=", 0.96),
    "labelling.parser_miou": (">=", 0.8),
    "labelling.points68_error": ("<=", 0.045),
    "restoring.soft_gain_db": (">=", 2.0),
    "restoring.swap_gain_db": (">=", 0.8),
    "restoring.changed_cosine_kept": (">=", 0.93),
    "talking.correlation": (">=", 0.85),
    "talking.shut_in_silence": (">=", 0.99),
}
# What we want of it; the card names what is not reached. The detector's recalls count at a precision of 0.98.
WANTED: Bars = {
    "detection.recall_32_at_98": (">=", 0.99),
    "detection.recall_16_32_at_98": (">=", 0.95),
    "detection.precision_16": (">=", 0.98),
    "detection.point_error_48": ("<=", 0.04),
    "embedding.eer": ("<=", 0.01),
    "swapping.judge_source": (">=", 0.6),
    "swapping.judge_nearer_source": (">=", 0.97),
    "swapping.face_psnr_db": (">=", 26.0),
    "swapping.smile_correlation": (">=", 0.65),
    "swapping.mouth_correlation": (">=", 0.9),
    "swapping.sharpness": (">=", 0.7),
    "labelling.mask_iou": (">=", 0.96),
    "labelling.parser_miou": (">=", 0.85),
    "labelling.points68_error": ("<=", 0.04),
    "restoring.soft_gain_db": (">=", 3.0),
}
_GROUPS: dict[str, tuple[Callable[..., dict[str, float]], tuple[int, ...]]] = {
    "detection": (measure.detection, (600,)),
    "filling": (measure.filling, (100,)),
    "embedding": (measure.embedding, (200,)),
    "chain": (measure.chain, (150,)),
    "swapping": (measure.swapping, (400, 150)),
    "labelling": (labelling.labelling, (200,)),
    "restoring": (restoring.restoring, (60,)),
    "talking": (talking.talking, (300,)),
}
# The networks that a group needs: all of one of these sets.
_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "detection": (("detector", "refiner"),),
    "filling": (("detector",),),
    "embedding": (("embedder",),),
    "chain": (("detector", "refiner", "embedder"),),
    "swapping": (("embedder", "swapper"),),
    "labelling": (("occluder",), ("parser",), ("points68",)),
    "restoring": (("restorer", "embedder", "swapper"),),
    "talking": (("lipsync",),),
}
# Networks with an input each, batch 1, in the card's order; the judge measures swaps and is no part of the pack.
_INPUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "detector": {"input.1": (1, 3, 640, 640)},
    "refiner": {"input": (1, 3, 96, 96)},
    "embedder": {"input.1": (1, 3, 112, 112)},
    "swapper": {"target": (1, 3, 128, 128), "source": (1, 512)},
    "occluder": {"input": (1, 256, 256, 3)},
    "parser": {"input": (1, 3, 512, 512)},
    "points68": {"input": (1, 3, 256, 256)},
    "restorer": {"input": (1, 3, 256, 256)},
    "lipsync": {"mel": (1, 1, 80, 16), "image": (1, 6, 96, 96)},
}


def lacking(name: str, folder: Path) -> tuple[str, ...]:
    """Files that a folder has to get before a group can be measured there; empty where it can be."""
    choices = [
        tuple(file for file in (f"tiny_{network}.onnx" for network in needs) if not (folder / file).exists())
        for needs in _NEEDS[name]
    ]
    return min(choices, key=len)


def timings(folder: Path, repeats: int = 30, known: Collection[str] = ()) -> dict[str, float]:
    """Median milliseconds of each network with ONNX Runtime on one CPU thread, batch 1; machine-dependent.

    known: names of timings that are not wanted.
    """
    shapes = {
        name: inputs
        for name, inputs in _INPUTS.items()
        if f"{name}_ms" not in known and (folder / f"tiny_{name}.onnx").exists()
    }
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
    """Figures of the groups named, or of all that the folder has networks for; one process a group where several.

    Raises FileNotFoundError where a named group lacks a network.
    """
    for name in only:
        if missing := lacking(name, folder):
            raise FileNotFoundError(
                f"evaluate: wanted {' and '.join(missing)} in {folder} for {name}, got none; train it there first"
            )
    names = [name for name in _GROUPS if (name in only if only else not lacking(name, folder))]
    if processes <= 1:
        return {name: group(name, folder, share, look) for name in names}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(processes, len(names))), mp_context=context) as pool:
        jobs = {name: pool.submit(group, name, folder, share, look) for name in names}
        return {name: job.result() for name, job in jobs.items()}


def missed(found: Mapping[str, Mapping[str, float]], bars: Bars) -> list[str]:
    """What a card's figures miss of a table of bars, in words; figures that nobody measured miss nothing."""
    out = []
    for name, (sign, bar) in bars.items():
        part, key = name.split(".")
        if key not in found.get(part, {}):
            continue  # a pack without that network, or without a judge
        value = found[part][key]
        if not reached(value, f"{sign} {bar}"):
            out.append(f"{name}: wanted {sign} {bar}, got {value}")
    return out


def _trained(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Records of the runs that led to each network: those beside it, or what the card says where there are none."""
    records = {name: folder / f"tiny_{name}.json" for name in (*_INPUTS, "judge")}
    found = {name: json.loads(path.read_text()) for name, path in records.items() if path.exists()}
    return {**told, **found}


def card(folder: Path, measured: Mapping[str, Mapping[str, float]], look: str, keep: bool) -> dict[str, Any]:
    """The whole of card.json. keep: figures and timings of an earlier card stay where there are no new ones."""
    earlier = folder / "card.json"  # a checkout has no run records: keep what the card says of the training
    told = json.loads(earlier.read_text()) if earlier.exists() else {}
    rounded = {part: {key: round(value, 5) for key, value in values.items()} for part, values in measured.items()}
    kept = {key: told.get(key, {}) if keep else {} for key in ("figures", "timings_1_thread")}
    all_figures, timed = kept["figures"] | rounded, kept["timings_1_thread"]
    timed = timed | {key: round(value, 2) for key, value in timings(folder, known=timed).items()}
    files = {name: folder / f"tiny_{name}.onnx" for name in _INPUTS}
    return {
        "what": "drawn faces only; held-out drawings of the same renderer",
        "look": look,
        "bars": {name: f"{sign} {bar}" for name, (sign, bar) in BARS.items()},
        "wanted": {name: f"{sign} {bar}" for name, (sign, bar) in WANTED.items()},
        "figures": {name: all_figures[name] for name in _GROUPS if name in all_figures},
        "timings_1_thread": timed,
        "sizes_bytes": {name: path.stat().st_size for name, path in files.items() if path.exists()},
        "training": _trained(folder, told.get("training", {})),
    }


def main() -> None:
    """python -m models.tiny.train.evaluate"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.evaluate")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the tiny_*.onnx files are")
    parser.add_argument("--share", type=float, default=1.0, help="share of the card's sample counts to draw")
    parser.add_argument("--look", choices=LOOKS, default="film")
    parser.add_argument("--only", action="append", choices=tuple(_GROUPS), default=[], help="keep the card's others")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    measured = figures(given.folder, given.share, given.look, given.processes, given.only)
    told = card(given.folder, measured, given.look, bool(given.only))
    write_whole(given.folder / "card.json", (json.dumps(told, indent=1) + "\n").encode())
    card_text.write(given.folder)
    print(json.dumps(told["figures"], indent=1))
    print("\n".join(f"bar missed: {line}" for line in missed(told["figures"], BARS)) or "all bars met")
    print(
        "\n".join(f"not reached: {line}" for line in missed(told["figures"], WANTED)) or "all that is wanted is reached"
    )


if __name__ == "__main__":
    main()
