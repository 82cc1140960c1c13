"""One model on its way to a plan: surgery, which precision each layer takes, and what that costs against FP32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from build_engines.flavour import BuildError
from build_engines.precision import float_nodes, to_fp16
from build_engines.quantise import Quantised, find_int8, quantisable, quantise
from build_engines.samples import Inputs, Samples
from build_engines.sensitivity import Search, find_sensitive
from build_engines.simulate import Drift, Simulation, drift_of, run_model
from build_engines.surgery import prepare, static_shapes
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

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Static sizes for this batch."""
        width, height = self.samples.detector_px()
        return static_shapes(self.file, {"n": batch, "h": height, "w": width})

    def typed(self, batch: int) -> Typed:
        """The graph for a batch; raises BuildError past the contract's drift."""
        graph = prepare(self.file, self.shapes(batch))
        if self.verdict is None:
            self.verdict = self._judge(graph if batch == 1 else prepare(self.file, self.shapes(1)))
        verdict, nodes = self.verdict, set(float_nodes(graph))
        if isinstance(verdict, Quantised):
            layers = len(quantisable(graph)) - len(verdict.left_out)
            if batch > 1:
                feeds = [
                    {name: np.repeat(value, batch, axis=0) for name, value in one.items()} for one in self._feeds()
                ]
                graph = quantise(graph, feeds, left_out=verdict.left_out, method=verdict.method)
            else:
                graph = verdict.model
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

    def _feeds(self) -> Inputs:
        inputs = self.samples.inputs(self.role)
        return [{self.file.tensors[name]: value for name, value in feed.items()} for feed in inputs]


def _load(file: ModelFile) -> Any:
    import onnx

    return onnx.load(str(file.path))
