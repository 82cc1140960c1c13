"""One model on its way to a plan: surgery, which precision each layer takes, and what that costs against FP32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from build_engines.flavour import BuildError
from build_engines.int8 import Quantised, calibrate, find_int8
from build_engines.precision import float_nodes, simulate_fp16, to_fp16
from build_engines.quantise import arrays_of, layers_of, quantise, store
from build_engines.samples import Inputs, Samples
from build_engines.sensitivity import Budget, Search, find_sensitive
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
    """One model on its way: the search is done once, on the samples' own shapes, and holds for all shapes.

    `half_scales`: Q/DQ takes FP16 scales beside FP16 layers, as strongly typed builders do; TensorRT 8 does not.
    `budget` is that of a search.
    """

    role: str
    file: ModelFile
    precision: Precision
    samples: Samples
    say: Callable[[str], None]
    half_scales: bool = True
    budget: Budget = field(default_factory=Budget)
    verdict: Search | Quantised | None = None
    _found: dict[Any, Search | Quantised] = field(default_factory=dict)

    def typed(self, shapes: Mapping[str, tuple[int, ...]]) -> Typed:
        """The graph for static shapes by the contract's names; raises BuildError past the contract's drift."""
        if self.precision == "fp32":
            return self._untyped(prepare(self.file, shapes), shapes)
        graph, layers, verdict = self._quantised(shapes)
        nodes = set(float_nodes(graph))
        kept = len((verdict.keep_fp32 & nodes) - layers)
        count = {"int8": len(layers), "fp16": len(nodes) - kept - len(layers), "fp32": kept}
        typed = to_fp16(graph, verdict.keep_fp32, half_scales=self.half_scales)
        return Typed(typed, verdict.drift, count, self._notes(verdict))

    def reference(self, shapes: Mapping[str, tuple[int, ...]], most: int) -> tuple[Inputs, Inputs]:
        """(inputs, FP32 outputs) by the contract's names, for static shapes, of at most so many samples."""
        names = {there: name for name, there in self.file.tensors.items()}
        feeds = self._feeds(shapes)[:most]
        outputs = run_model(prepare(self.file, shapes, measure=False), feeds)
        held = self.file.contract.constants
        given = [{names[there]: value for there, value in feed.items() if names[there] not in held} for feed in feeds]
        return given, [{names[there]: value for there, value in one.items()} for one in outputs]

    def simulated(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """What `typed` gives, computed in FP32 with every rounding of it in its place: for a CPU to run."""
        if self.precision == "fp32":
            return prepare(self.file, shapes)
        graph, _, verdict = self._quantised(shapes)
        return simulate_fp16(graph, verdict.keep_fp32, half_scales=self.half_scales)

    def _quantised(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, set[str], Search | Quantised]:
        """(the graph with Q/DQ where layers are INT8, names of those layers, what was found)."""
        graph = prepare(self.file, shapes)
        if self.verdict is None:
            own = self._own_shapes()
            self.verdict = self._judge(graph if dict(shapes) == own else prepare(self.file, own), None)
        key = tuple(sorted(shapes.items()))
        if key not in self._found:  # once for all architectures
            self._found[key] = self._verdict_at(graph, shapes, self.verdict)
        verdict = self._found[key]
        return *_with_int8(graph, verdict), verdict

    def _verdict_at(
        self, graph: Any, shapes: Mapping[str, tuple[int, ...]], verdict: Search | Quantised
    ) -> Search | Quantised:
        """What was found on the samples' own shapes, where it holds for these; else what is found on these."""
        if not _names(verdict) <= {node.name for node in graph.graph.node}:
            # rewritten in another way for this batch: what was found by name says nothing about it
            return self._judge(graph, shapes)
        if self.role != "detector" or dict(shapes) == self._own_shapes():
            return verdict
        feeds = self._feeds(shapes)
        rounded = simulate_fp16(_with_int8(graph, verdict)[0], verdict.keep_fp32, half_scales=self.half_scales)
        drift = drift_of(run_model(graph, feeds), run_model(rounded, feeds))
        allowed = self.file.contract.drift
        wanted_db = allowed.int8_psnr_db if self.precision == "int8" else allowed.fp16_psnr_db
        if min(one.psnr_db for one in drift.values()) < wanted_db:
            return self._judge(graph, shapes)
        return replace(verdict, drift=drift)

    def _untyped(self, graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> Typed:
        """FP32: what surgery alone changed against the untouched file, on its own shapes."""
        if self.verdict is None:
            feeds, own = self._feeds(), self._own_shapes()
            rewritten = graph if dict(shapes) == own else prepare(self.file, own)
            got = run_model(rewritten, feeds)
            whole = run_model(_load(self.file), feeds)
            # heads that the contract does not name are not in the plan
            drift = drift_of([{name: one[name] for name in two} for one, two in zip(whole, got, strict=True)], got)
            self.verdict = Search(frozenset(), drift, 0, 0)
        count = len(float_nodes(graph))
        return Typed(graph, self.verdict.drift, {"fp32": count}, self._notes(self.verdict))

    def _judge(self, graph: Any, shapes: Mapping[str, tuple[int, ...]] | None) -> Search | Quantised:
        """Which nodes compute in which type, and what that costs; raises BuildError past the contract's drift."""
        contract = self.file.contract

        def say(line: str) -> None:
            self.say(f"{contract.name}: {line}")

        simulation = Simulation(graph, self._feeds(shapes))
        allowed = contract.drift
        search = find_sensitive(simulation, allowed.fp16_psnr_db, budget=self.budget, say=say)
        if self.precision == "fp16":
            if search.worst_db >= allowed.fp16_psnr_db:
                return search
            kept, other = f"{len(search.keep_fp32)} nodes in FP32", "fp32"
            wanted_db, reached_db, worst = allowed.fp16_psnr_db, search.worst_db, search.worst
        else:
            calibrated = calibrate(simulation, self._feeds(shapes, self.samples.calibration(self.role)))
            found = find_int8(
                simulation,
                calibrated,
                allowed.int8_psnr_db,
                keep_fp32=search.keep_fp32,
                half_scales=self.half_scales,
                budget=self.budget,
                say=say,
            )
            if found.worst_db >= allowed.int8_psnr_db:
                return found
            kept, other = f"{len(found.left_out)} of {len(calibrated.layers)} layers left out", "fp16"
            wanted_db, reached_db, worst = allowed.int8_psnr_db, found.worst_db, found.worst
        raise BuildError(
            f"{contract.name}: wanted {wanted_db:.0f} dB or more in {self.precision.upper()}, got {reached_db:.1f} dB "
            f"with {kept}; {worst or 'no single layer'} drifts most: use --precision {other}"
        )

    def _notes(self, verdict: Search | Quantised) -> dict[str, str | float]:
        """What a manifest should tell of a search."""
        notes: dict[str, str | float] = {"verified_on": len(self._to_verify_on)}
        if isinstance(verdict, Search):
            return {**notes, "search_s": round(verdict.search_s, 3)}
        return {
            **notes,
            "calibrated_on": verdict.calibrated_on,
            "calibrated_on_others": "yes" if self.samples.apart else "no: the clip is too short",
            "calibration": verdict.method,
            "int8_share_of_macs": round(verdict.macs_share, 4),
            "left_out": ", ".join(verdict.left_out),
            "residual_adds": verdict.residuals,
            "scales": "fp16" if self.half_scales else "fp32",
            "search_s": round(verdict.search_s, 3),
        }

    def _own_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the samples: batch 1, and the detector's first pass."""
        return {name: value.shape for name, value in self._to_verify_on[0].items()}

    @cached_property
    def _to_verify_on(self) -> Inputs:
        return self.samples.inputs(self.role)

    def _feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None, inputs: Inputs | None = None) -> Inputs:
        """Samples by the file's names; with `shapes`, repeated to their batch, or letterboxed to their size."""
        given = inputs or self._to_verify_on
        if shapes and self.role == "detector":
            sized = self.samples.sized(max(shapes["image"][-2:]))
            given = sized.calibration(self.role) if inputs else sized.inputs(self.role)
        feeds = []
        for feed in given:
            batched = {
                name: np.repeat(value, shapes[name][0], axis=0) if shapes else value for name, value in feed.items()
            }
            feeds.append({self.file.tensors[name]: value for name, value in batched.items()})
        return feeds


def _with_int8(graph: Any, verdict: Search | Quantised) -> tuple[Any, set[str]]:
    """(the graph with Q/DQ around the layers that were found, their names)."""
    if isinstance(verdict, Search):
        return graph, set()
    layers = {name: layer for name, layer in layers_of(graph).items() if name in verdict.layers}
    return quantise(graph, layers, verdict.scales, store(layers, arrays_of(graph, layers))), set(layers)


def _names(verdict: Search | Quantised) -> frozenset[str]:
    return verdict.keep_fp32 | (verdict.layers if isinstance(verdict, Quantised) else frozenset())


def _load(file: ModelFile) -> Any:
    import onnx

    return onnx.load(str(file.path))
