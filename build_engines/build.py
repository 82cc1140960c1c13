"""One profile into plans: check, rewrite, type, build, verify, write. Nothing is kept that does not hold."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from build_engines.flavour import BuildError, Flavour
from build_engines.precision import float_nodes, to_fp16
from build_engines.quantise import Quantised, find_int8, quantisable, quantise
from build_engines.samples import Inputs, Samples
from build_engines.sensitivity import Drift, Search, drift_of, find_sensitive, run_model
from build_engines.surgery import prepare, static_shapes
from models.contract import FOLDER as MODELS
from models.model_files import ModelFile, find
from models.plan_file import Manifest, PlanError, PlanKey, load_plan, plan_folder, write_plan
from profiles.profile import Models, Profile

__all__ = ["Row", "build_profile"]

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Row:
    """One plan as the table shows it. `drift_db` is the worst output's PSNR; `state` is built or unchanged."""

    contract: str
    precision: str
    arch: str
    batch: int
    plan_bytes: int
    build_s: float
    peak_memory_mb: float
    drift_db: float
    layers: dict[str, int]
    state: Literal["built", "unchanged"]
    path: Path


@dataclass
class _Model:
    """One model on its way: surgery and search are done once for all architectures."""

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

    def typed(self, batch: int) -> tuple[Any, dict[str, Drift], dict[str, int]]:
        """(graph with its types, drift by output, number of nodes by type) for a batch."""
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
            return graph, verdict.drift, {"int8": layers, "fp32": len(nodes) - layers}
        if self.precision == "fp16":
            graph = to_fp16(graph, verdict.keep_fp32)
        return graph, verdict.drift, {"fp16": len(nodes - verdict.keep_fp32), "fp32": len(verdict.keep_fp32 & nodes)}

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
            search = find_sensitive(graph, feeds, target, say=say)
            kept, worst, reached = f"{len(search.keep_fp32)} nodes in FP32", search.worst_block, search.worst_db
            if reached >= target:
                return search
        raise BuildError(
            f"{contract.name}: wanted {target:.0f} dB or more in {self.precision.upper()}, got {reached:.1f} dB with "
            f"{kept}; {worst} drifts most: use --precision fp32"
        )

    def _feeds(self) -> Inputs:
        inputs = self.samples.inputs(self.role)
        return [{self.file.tensors[name]: value for name, value in feed.items()} for feed in inputs]


def build_profile(
    profile: Profile,
    flavour: Flavour,
    architectures: Sequence[str],
    precision: Precision,
    clip: Path,
    *,
    say: Callable[[str], None],
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Row]:
    """Plans of every model of a profile, for every architecture and face count; yields a row for each.

    What is there already and was built from exactly this is left alone. Raises BuildError where a model can't be
    built or drifts too far; then nothing of it is kept.
    """
    files = {role: find(name) for role, name in _roles(profile.models).items() if name}
    detector_px = _detector_axes(profile, clip, files)
    samples: Samples | None = None
    for role, file in files.items():
        model: _Model | None = None
        for batch in _batches(file, profile):
            for arch in architectures:
                key = _key(file, flavour, arch, precision, batch, detector_px)
                if row := _there(key, batch):
                    yield row
                    continue
                if model is None:
                    samples = samples or Samples(clip, files, size_px=profile.detect.size_px)
                    model = _Model(role, file, precision, samples, say)
                yield _build(model, flavour, key, batch, on_progress)


def _roles(models: Models) -> dict[str, str]:
    return {
        "detector": models.detector,
        "refiner": models.refiner,
        "embedder": models.embedder,
        "swapper": models.swapper,
    }


def _batches(file: ModelFile, profile: Profile) -> list[int]:
    """1, 2, 4, ... up to the profile's faces, where the contract leaves the batch free; else 1."""
    free = any(spec.shape[0] == "n" for spec in file.contract.inputs.values())
    if not free:
        return [1]
    counts, count = [], 1
    while count < profile.track.faces:
        counts.append(count)
        count *= 2
    return [*counts, profile.track.faces]


def _detector_axes(profile: Profile, clip: Path, files: Mapping[str, ModelFile]) -> tuple[int, int]:
    """The detector's input for the clip's frames, from its first frame alone."""
    return Samples(clip, files, count=1, size_px=profile.detect.size_px).detector_px()


def _key(
    file: ModelFile, flavour: Flavour, arch: str, precision: str, batch: int, detector_px: tuple[int, int]
) -> PlanKey:
    contract = file.contract
    text = (MODELS / "contracts" / f"{contract.name}.toml").read_bytes()
    return PlanKey(
        contract=contract.name,
        contract_sha256=sha256(text).hexdigest(),
        onnx_sha256=file.sha256,
        precision=precision,
        shapes=static_shapes(file, {"n": batch, "w": detector_px[0], "h": detector_px[1]}),
        flavour=flavour.name,
        flavour_version=flavour.version,
        arch=arch,
    )


def _there(key: PlanKey, batch: int) -> Row | None:
    try:
        plan, manifest = load_plan(key, "build it again")
    except PlanError:
        return None
    return _row(manifest, batch, len(plan), "unchanged")


def _build(
    model: _Model,
    flavour: Flavour,
    key: PlanKey,
    batch: int,
    on_progress: Callable[[str, int, int], None] | None,
) -> Row:
    graph, drifts, layers = model.typed(batch)
    start = time.perf_counter()
    built = flavour.build(graph.SerializeToString(), key.arch, where=key.contract, on_progress=on_progress)
    drift = {}
    for name, one in drifts.items():
        drift.update({f"{name}.psnr_db": one.psnr_db, f"{name}.cosine": one.cosine, f"{name}.max_abs": one.max_abs})
    manifest = Manifest(
        key=key,
        plan_sha256=sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        tensors=dict(model.file.tensors),
        drift=drift,
        drift_source="simulated",
        layers=layers,
        build_s=round(time.perf_counter() - start, 3),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1),
    )
    write_plan(built.plan, manifest)
    return _row(manifest, batch, len(built.plan), "built")


def _row(manifest: Manifest, batch: int, plan_bytes: int, state: Literal["built", "unchanged"]) -> Row:
    key = manifest.key
    return Row(
        contract=key.contract,
        precision=key.precision,
        arch=key.arch,
        batch=batch,
        plan_bytes=plan_bytes,
        build_s=manifest.build_s,
        peak_memory_mb=manifest.peak_memory_mb,
        drift_db=min(value for name, value in manifest.drift.items() if name.endswith("psnr_db")),
        layers=manifest.layers,
        state=state,
        path=plan_folder() / f"{key.stem}.plan",
    )


def _load(file: ModelFile) -> Any:
    import onnx

    return onnx.load(str(file.path))
