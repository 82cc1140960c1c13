"""Layers that RTX lists for the tiny pack's plans: python -m tests.benchmark.plan_layers [--write FILE.json]

For FP16 and INT8, SM89 and SM120: how many layers of each kind, how many convolutions and products take which type,
and how many would with Q/DQ on no side of a residual Add. No GPU is asked, so nothing here is a speed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from build_engines.flavour import find_flavour
from build_engines.judge import Candidate, Precision
from build_engines.meaning import ROLES
from build_engines.plan_layers import PlanLayer, plan_layers, products_by_type
from build_engines.precision import to_fp16
from build_engines.quantise import arrays_of, layers_of, quantise, store
from build_engines.samples import Samples, sample_clip
from build_engines.surgery import prepare
from models.model_files import find
from tests.benchmark.conditions import conditions

ARCHITECTURES = ("sm_89", "sm_120")
PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")


def rows() -> list[dict[str, Any]]:
    """One for each model, precision and architecture."""
    files = {role: find(f"tiny_{role}") for role in ROLES}
    samples, flavour = Samples(sample_clip(), files), find_flavour("tensorrt_rtx")
    found = []
    for role, file in files.items():
        shapes = {name: value.shape for name, value in samples.inputs(role)[0].items()}
        for precision in PRECISIONS:
            candidate = Candidate(role, file, precision, samples, print)
            typed = candidate.typed(shapes)
            for arch in ARCHITECTURES:
                layers = plan_layers(flavour, typed.graph.SerializeToString(), arch, where=file.contract.name)
                row = {"model": file.contract.name, "precision": precision, "arch": arch, **_counted(layers)}
                if precision == "int8":
                    plain = _without_residuals(candidate, shapes)
                    other = plan_layers(flavour, plain.SerializeToString(), arch, where=file.contract.name)
                    row |= {"residual_adds": typed.notes["residual_adds"], "without_residual_qdq": _counted(other)}
                found.append(row)
                print(json.dumps(row), flush=True)
    return found


def _counted(layers: list[PlanLayer]) -> dict[str, Any]:
    return {
        "layers": len(layers),
        "kinds": dict(sorted(Counter(layer.kind for layer in layers).items())),
        "products_by_type": products_by_type(layers),
    }


def _without_residuals(candidate: Candidate, shapes: dict[str, Any]) -> Any:
    """The same INT8 graph with residual Adds as they are."""
    verdict: Any = candidate.verdict
    graph = prepare(candidate.file, shapes)
    layers = {
        name: replace(layer, add="", other="") for name, layer in layers_of(graph).items() if name in verdict.layers
    }
    plain = quantise(graph, layers, verdict.scales, store(layers, arrays_of(graph, layers)))
    return to_fp16(plain, verdict.keep_fp32, half_scales=candidate.half_scales)


def main() -> None:
    """Print the rows, and write them where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.plan_layers", description=__doc__)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    flavour = find_flavour("tensorrt_rtx")
    measured = {"rows": rows(), "conditions": conditions(tensorrt_rtx=flavour.version)}
    if chosen.write:
        chosen.write.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
