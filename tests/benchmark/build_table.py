"""Every contract that a tiny model or a twin serves, built: python -m tests.benchmark.build_table [NAME ...]

For each, in FP32, FP16 and INT8, for SM89 and SM120: whether it builds, simulated drift, plan size, build seconds and
the most memory that its build held. One process a model and precision, so that memory is that build's own. Twins have
random weights and get random inputs of the contract's ranges: their drift says that the types hold, not how the
published weights fare. Tiny models get frames of the sample clip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmark.conditions import conditions

ROOT = Path(__file__).parents[2]
OUT = ROOT / "profiles" / "measured" / "build_table.json"
TINY = {"tiny_detector": "detector", "tiny_refiner": "refiner", "tiny_embedder": "embedder", "tiny_swapper": "swapper"}
PRECISIONS = ("fp32", "fp16", "int8")
ARCHITECTURES = ("sm_89", "sm_120")
INPUTS = 2  # random inputs a twin: what differs between two of them is only noise
DETECTOR_PX = (640, 384)  # a 16:9 frame, trimmed


class RandomSamples:
    """Inputs of a contract's shapes and ranges, the same for a seed: pixels where it normalises, else N(0, 1)."""

    apart = False

    def __init__(self, file: Any, count: int = INPUTS) -> None:
        self.file, self.count = file, count

    def inputs(self, role: str) -> list[dict[str, Any]]:
        """Feeds by the contract's names, batch 1."""
        from build_engines.surgery import static_shapes

        axes = {"n": 1, "w": DETECTOR_PX[0], "h": DETECTOR_PX[1], "t": 1}
        shapes = static_shapes(self.file, {**axes, **_other_axes(self.file.contract)})
        random = np.random.default_rng(7)
        feeds = []
        for _ in range(self.count):
            feed = {}
            for name, spec in self.file.contract.inputs.items():
                if name in self.file.contract.constants:
                    feed[name] = np.full(shapes[name], self.file.contract.constants[name], dtype=spec.dtype)
                elif spec.mean or spec.std:
                    mean, std = spec.mean_by_channel[0], spec.std_by_channel[0]
                    feed[name] = ((random.random(shapes[name]) * 255 - mean) / std).astype(np.float32)
                else:
                    feed[name] = random.standard_normal(shapes[name]).astype(np.float32)
            feeds.append(feed)
        return feeds

    def calibration(self, role: str) -> list[dict[str, Any]]:
        """The same: other noise would say no more."""
        return self.inputs(role)


def _other_axes(contract: Any) -> dict[str, int]:
    """Named axes besides batch and picture: the video frames of an audio encoder's step, two as its twin has."""
    names = {axis for spec in contract.inputs.values() for axis in spec.shape if isinstance(axis, str)}
    return dict.fromkeys(names - {"n", "h", "w"}, 2)


def build_one_model(name: str, precision: Any) -> list[dict[str, Any]]:
    """Rows of one model in one precision, for every architecture; a refusal is a row with its sentence."""
    from build_engines.build import build_one
    from build_engines.flavour import BuildError, find_flavour
    from build_engines.judge import Candidate
    from build_engines.samples import Samples, sample_clip
    from models.contract import load_contract
    from models.model_files import find, open_file
    from models.plan_file import key_for
    from models.twins import TWINS, write_twin
    from profiles.profile import load_profile

    flavour = find_flavour("tensorrt_rtx")
    if name in TINY:
        file, role = find(name), TINY[name]
        files = {one: find(contract) for contract, one in TINY.items()}
        samples: Any = Samples(sample_clip(), files, size_px=load_profile("tiny").detect.size_px)
    else:
        file = open_file(load_contract(TWINS[name].contract or name), write_twin(name))
        role, samples = file.contract.role, RandomSamples(file)
    shapes = {key: value.shape for key, value in samples.inputs(role)[0].items()}
    said: list[str] = []
    candidate = Candidate(role, file, precision, samples, said.append)
    rows = []
    for arch in ARCHITECTURES:
        key = key_for(
            file,
            precision=precision,
            shapes=shapes,
            flavour=flavour.name,
            flavour_version=flavour.version,
            arch=arch,
            gpu_name="",
        )
        row: dict[str, Any] = {"model": name, "weights": "tiny" if name in TINY else "twin", "arch": arch}
        try:
            done = build_one(candidate, flavour, key)
        except BuildError as error:
            rows.append({**row, "precision": precision, "built": False, "why": str(error), "said": said})
            break
        rows.append(
            {
                **row,
                "precision": precision,
                "built": True,
                "drift_db": round(done.drift_db, 1),
                "plan_mb": round(done.plan_bytes / 1e6, 2),
                "build_s": done.build_s,
                "peak_memory_mb": done.peak_memory_mb,
                "layers": done.layers,
                "notes": done.notes,
            }
        )
    return rows


def main() -> None:
    """Build what was named, or everything, one process each; merge into the committed file."""
    from models.twins import TWINS

    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.build_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="tiny models and twins; default: all")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--one", action="store_true", help="build in this process and print the rows")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(build_one_model(chosen.names[0], chosen.precision[0])))
        return
    rows = {}
    if OUT.exists():
        rows = {(r["model"], r["precision"], r["arch"]): r for r in json.loads(OUT.read_text())["rows"]}
    for name in chosen.names or [*TINY, *TWINS]:
        for precision in chosen.precision or PRECISIONS:
            for row in _in_its_own_process(name, precision):
                row["commit"] = conditions()["commit"]  # rows may be measured at different times
                rows[row["model"], row["precision"], row["arch"]] = row
                print({key: value for key, value in row.items() if key not in ("said", "layers", "notes")}, flush=True)
            at = conditions(flavour="tensorrt_rtx", architectures=list(ARCHITECTURES), random_inputs_a_twin=INPUTS)
            at["weights"] = "tiny pack (drawn faces only) and twins (random weights), as each row says"
            OUT.write_text(json.dumps({"conditions": at, "rows": list(rows.values())}, indent=1) + "\n")


def _in_its_own_process(name: str, precision: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as plans:
        environment = {**os.environ, "FACE_ENGINE_PLANS": plans}
        command = [sys.executable, "-m", "tests.benchmark.build_table", name, "--precision", precision, "--one"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [{"model": name, "precision": precision, "arch": "any", "built": False, "why": why}]
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


if __name__ == "__main__":
    main()
