"""One model on its way to a plan: surgery, which precision each layer takes, and what that costs against FP32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from build_engines.flavour import BuildError
from build_engines.precision import float_nodes, to_fp16
from build_engines.quantise import Quantised, find_int8, quantisable, quantise
from build_engines.samples import Inputs, Samples
from build_engines.sensitivity import Search, find_sensitive
from build_engines.simulate import Drift, Simulation, drift_of, run_model
from build_engines.surgery import prepare
from models.model_files import ModelFile

__all__ = ["Candidate", "Precision", "Typed"]

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Typed:
    """A graph with its types, ready for TensorRT.

    `drift` by output; `layers`: how many nodes compute in which type; `notes`: what a manifest should tell besides
    (text and numbers by name).
    """

    graph: Any
    drift: dict[str, Drift]
    layers: dict[str, int]
    notes: dict[str, str | float] = field(default_factory=dict)


@dataclass
class Candidate:
    """One model on its way: the search is done once, for batch 1, and holds for all batches and architectures."""

    role: str
    file: ModelFile
    precision: Precision
    samples: Samples
    say: Callable[[str], None]
    verdict: Search | Quantised | None = None

    def typed(self, shapes: Mapping[str, tuple[int, ...]]) -> Typed:
        """The graph for static shapes by the contract's names; raises BuildError past the contract's drift."""
        graph = prepare(self.file, shapes)
        if self.verdict is None:
            own = self._own_shapes()
            self.verdict = self._judge(graph if dict(shapes) == own else prepare(self.file, own))
        verdict, nodes = self.verdict, set(float_nodes(graph))
        if isinstance(verdict, Quantised):
            layers = len(quantisable(graph)) - len(verdict.left_out)
            if dict(shapes) == self._own_shapes():
                graph = verdict.model
            else:
                graph = quantise(graph, self._feeds(shapes), left_out=verdict.left_out, method=verdict.method)
            return Typed(graph, verdict.drift, {"int8": layers, "fp32": len(nodes) - layers})
        if self.precision == "fp16":
            graph = to_fp16(graph, verdict.keep_fp32)
        layer_types = {"fp16": len(nodes - verdict.keep_fp32), "fp32": len(verdict.keep_fp32 & nodes)}
        return Typed(graph, verdict.drift, layer_types)

    def _judge(self, graph: Any) -> Search | Quantised:
        """Which nodes stay in which type, and what that costs; raises BuildError past the contract's drift."""
        feeds, contract = self._feeds(), self.file.contract

        def say(line: str) -> None:
            self.say(f"{contract.name}: {line}")

        if self.precision == "fp32":
            untouched = run_model(_load(self.file), feeds)
            return Search(frozenset(float_nodes(graph)), drift_of(untouched, run_model(graph, feeds)), 0, 0)
        if self.precision == "int8":
            target = contract.drift.int8_psnr_db
            found = find_int8(graph, feeds, target, say=say)
            kept = f"{len(found.left_out)} layers left out"
            worst = sorted(found.left_out)[0] if found.left_out else "no single layer"
            if found.worst_db >= target:
                return found
            reached = found.worst_db
        else:
            target = contract.drift.fp16_psnr_db
            search = find_sensitive(Simulation(graph, feeds), target, say=say)
            kept, worst, reached = (
                f"{len(search.keep_fp32)} nodes in FP32",
                search.worst or "no single block",
                search.worst_db,
            )
            if reached >= target:
                return search
        raise BuildError(
            f"{contract.name}: wanted {target:.0f} dB or more in {self.precision.upper()}, got {reached:.1f} dB with "
            f"{kept}; {worst} drifts most: use --precision fp32"
        )

    def _own_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the samples: batch 1, and the detector's first pass."""
        return {name: value.shape for name, value in self.samples.inputs(self.role)[0].items()}

    def _feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Inputs:
        """Samples by the file's names; with `shapes`, repeated to their batch, or letterboxed to their size."""
        samples = self.samples
        if shapes and self.role == "detector":
            samples = samples.sized(max(shapes["image"][-2:]))
        feeds = []
        for feed in samples.inputs(self.role):
            batched = {
                name: np.repeat(value, shapes[name][0], axis=0) if shapes else value for name, value in feed.items()
            }
            feeds.append({self.file.tensors[name]: value for name, value in batched.items()})
        return feeds


def _load(file: ModelFile) -> Any:
    import onnx

    return onnx.load(str(file.path))
