"""Twins with activations scaled to where a blind cast fails: python -m tests.benchmark.twin_fp16 [--write FILE.json]

For inswapper and GFPGAN, each as published and as the build rewrites it: PSNR of the simulated FP16 graph with every
node cast, and with the nodes kept FP32 that our search finds; how many those are, what happens when one kind of them
is cast all the same, and what the search took. One process a row, so that memory is that row's own. Random weights
and random inputs of the contract's ranges: this says that the hazard is found, not how published weights fare.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.benchmark.conditions import conditions

INPUTS = 2
# (twin, activation_scale, dB that is wanted)
CASES = (
    ("inswapper_128", 128.0, 45.0),
    ("inswapper_128", 512.0, 45.0),
    ("gfpgan_1.4", 256.0, 40.0),
    ("gfpgan_1.4", 512.0, 40.0),
)
GRAPHS = ("untouched", "rewritten")


def feeds_of(file: Any, count: int = INPUTS) -> list[dict[str, Any]]:
    """Inputs by the file's names: pixels through the contract's normalisation, identities of unit length."""
    random = np.random.default_rng(7)
    feeds = []
    for _ in range(count):
        feed = {}
        for name, spec in file.contract.inputs.items():
            if spec.colour:
                mean, std = spec.mean_by_channel[0], spec.std_by_channel[0]
                value = (random.random(spec.sizes) * 255 - mean) / std
            else:
                value = random.standard_normal(spec.sizes)
                value /= np.linalg.norm(value, axis=-1, keepdims=True)
            feed[file.tensors[name]] = value.astype(np.float32)
        feeds.append(feed)
    return feeds


def measure(name: str, scale: float, target_db: float, graph: str, path: Path, inputs: int = INPUTS) -> dict[str, Any]:
    """One row, from a twin that lies at `path`."""
    from build_engines.peak_memory import peak_memory_mb, reset_peak_memory
    from build_engines.precision import float_nodes, simulate_fp16
    from build_engines.sensitivity import find_sensitive
    from build_engines.simulate import Simulation, worst_db
    from build_engines.surgery import prepare, static_shapes
    from models.contract import load_contract
    from models.model_files import open_file

    file = open_file(load_contract(name), path)
    model = prepare(file, static_shapes(file, {}), measure=False) if graph == "rewritten" else _named(path)
    feeds = feeds_of(file, inputs)
    reset_peak_memory()
    simulation = Simulation(model, feeds)
    del model
    blind_db = worst_db(simulation.drift(simulate_fp16(simulation.model, ())))
    found = find_sensitive(simulation, target_db)
    peak_mb = peak_memory_mb()
    operators = {node.name: node.op_type for node in simulation.model.graph.node}
    kinds = Counter(operators[node] for node in found.keep_fp32)
    without = {}
    for kind in kinds:
        fewer = {node for node in found.keep_fp32 if operators[node] != kind}
        without[kind] = worst_db(simulation.drift(simulate_fp16(simulation.model, fewer), step=inputs))
    return {
        "model": name,
        "activation_scale": scale,
        "graph": graph,
        "inputs": inputs,
        "blind_db": _decibels(blind_db),
        "ours_db": _decibels(found.worst_db),
        "wanted_db": target_db,
        "fp32_nodes": len(found.keep_fp32),
        "nodes": len(float_nodes(simulation.model)),
        "fp32_nodes_by_range": found.by_range,
        "fp32_nodes_by_effect": found.by_effect,
        "fp32_nodes_by_operator": dict(sorted(kinds.items())),
        "db_without_an_operator_of_them": {kind: _decibels(value) for kind, value in sorted(without.items())},
        "search_s": round(found.search_s, 1),
        "peak_memory_mb": peak_mb,
    }


def _named(path: Path) -> Any:
    """The file as it is, with a name for each node and the shapes of all tensors."""
    model = onnx.load(str(path))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _decibels(value: float) -> float | None:
    """Rounded; None where the output is not finite."""
    return round(value, 1) if np.isfinite(value) else None


def _row(name: str, scale: float, target_db: float, graph: str, path: Path) -> dict[str, Any]:
    """The row of one case, measured in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.benchmark.twin_fp16",
            "--one",
            name,
            str(scale),
            str(target_db),
            graph,
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    """Measure every case, print rows as they come, and write them where asked."""
    from models.twins import write_twin

    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark.twin_fp16",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", type=Path)
    parser.add_argument("--one", nargs=5, metavar=("TWIN", "SCALE", "DB", "GRAPH", "FILE"), help="one row, of a file")
    chosen = parser.parse_args()
    if chosen.one:
        name, scale, target_db, graph, path = chosen.one
        print(json.dumps(measure(name, float(scale), float(target_db), graph, Path(path))))
        return
    rows = []
    for name, scale, target_db in CASES:
        with tempfile.TemporaryDirectory() as folder:
            path = write_twin(name, Path(folder), activation_scale=scale)
            for graph in GRAPHS:
                rows.append(_row(name, scale, target_db, graph, path))
                print(json.dumps(rows[-1]), flush=True)
    measured = {
        "rows": rows,
        "conditions": {**conditions(inputs="random, of the contracts' ranges"), "weights": "twins: random weights"},
    }
    if chosen.write:
        chosen.write.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
