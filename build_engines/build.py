"""One profile into plans: check, rewrite, type, build, verify, write. Nothing is kept that does not hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from build_engines.flavour import Flavour, this_machine
from build_engines.judge import Candidate, Precision
from build_engines.peak_memory import peak_memory_mb, reset_peak_memory
from build_engines.samples import Samples
from build_engines.surgery import static_shapes
from build_engines.timings import keep_timings, load_timings
from models.model_files import ModelFile, find
from models.plan_file import Manifest, PlanError, PlanKey, key_for, load_plan, plan_folder, write_plan
from profiles.profile import Models, Profile

__all__ = ["Row", "build_profile"]


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


def build_profile(
    profile: Profile,
    flavour: Flavour,
    architectures: Sequence[str],
    precision: Precision,
    clip: Path,
    *,
    own_tactics: bool = False,
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
    gpu_name = this_machine().gpu_name
    for role, file in files.items():
        model: Candidate | None = None
        for batch in _batches(file, profile):
            for arch in architectures:
                key = key_for(
                    file,
                    precision=precision,
                    shapes=static_shapes(file, {"n": batch, "w": detector_px[0], "h": detector_px[1]}),
                    flavour=flavour.name,
                    flavour_version=flavour.version,
                    arch=arch,
                    gpu_name=gpu_name,
                    options={"tactics": "own"} if own_tactics else {},
                )
                if row := _there(key, batch):
                    yield row
                    continue
                if model is None:
                    samples = samples or Samples(clip, files, size_px=profile.detect.size_px)
                    model = Candidate(role, file, precision, samples, say)
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


def _there(key: PlanKey, batch: int) -> Row | None:
    try:
        plan, manifest = load_plan(key, "build it again")
    except PlanError:
        return None
    return _row(manifest, batch, len(plan), "unchanged")


def _build(
    model: Candidate,
    flavour: Flavour,
    key: PlanKey,
    batch: int,
    on_progress: Callable[[str, int, int], None] | None,
) -> Row:
    reset_peak_memory()
    typed = model.typed(batch)
    start = time.perf_counter()
    built = flavour.build(
        typed.graph.SerializeToString(),
        key.arch,
        where=key.contract,
        timings=load_timings(key),
        own_tactics=key.options.get("tactics") == "own",
        on_progress=on_progress,
    )
    keep_timings(key, built.timings)
    drift = {}
    for name, one in typed.drift.items():
        drift.update({f"{name}.psnr_db": one.psnr_db, f"{name}.cosine": one.cosine, f"{name}.max_abs": one.max_abs})
    manifest = Manifest(
        key=key,
        plan_sha256=sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        tensors=dict(model.file.tensors),
        drift=drift,
        drift_source="simulated",
        layers=typed.layers,
        build_s=round(time.perf_counter() - start, 3),
        peak_memory_mb=peak_memory_mb(),
        gpu_name=key.options.get("gpu", ""),
        notes=typed.notes,
    )
    emap = model.file.emap()
    write_plan(built.plan, manifest, {} if emap is None else {"emap": emap})
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
