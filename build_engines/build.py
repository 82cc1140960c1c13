"""One profile into plans: check, rewrite, type, build, verify, write. Nothing is kept that does not hold."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import onnx

from build_engines.flavour import BuildError, Flavour, this_machine
from build_engines.judge import Candidate, Precision
from build_engines.media import Reader
from build_engines.on_gpu import drift_on_gpu
from build_engines.peak_memory import peak_memory_mb, reset_peak_memory
from build_engines.samples import Samples, clip_size
from build_engines.sensitivity import Budget
from build_engines.simulate import Drift
from build_engines.speech_samples import SPEECH_ROLES, SpeechSamples, speech_axes
from build_engines.surgery import constants, static_shapes, why_single
from build_engines.timings import keep_timings, load_timings
from models.model_files import ModelFile, find
from models.onnx_file import read_onnx
from models.plan_file import (
    Manifest,
    PlanError,
    PlanKey,
    key_for,
    load_constants,
    load_plan,
    make_folder,
    plan_folder,
    write_plan,
)
from profiles.profile import Models, Profile

__all__ = ["Row", "build_one", "build_profile", "shapes_of"]

_RUNS = 32  # real inputs that a plan is run on where its GPU is


@dataclass(frozen=True)
class Row:
    """One plan as the table shows it. `drift_db` is the worst output's PSNR; `state` is built or unchanged."""

    contract: str
    precision: str
    arch: str
    shapes: dict[str, tuple[int, ...]]
    plan_bytes: int
    build_s: float
    peak_memory_mb: float
    drift_db: float
    layers: dict[str, int]
    notes: dict[str, str | float]
    state: Literal["built", "unchanged"]
    path: Path


def build_profile(
    profile: Profile,
    flavour: Flavour,
    architectures: Sequence[str],
    precision: Precision,
    clip: Path,
    *,
    frame_sizes: Sequence[tuple[int, int]] = (),
    reader: Reader = "pyav",
    budget: Budget | None = None,
    own_tactics: bool = False,
    run: bool = True,
    say: Callable[[str], None],
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Row]:
    """Plans of every model of a profile, for every architecture and shape that it runs in; yields a row for each.

    `frame_sizes` are the (width, height) in px of the videos to come, the clip's own by default: a detector's input
    follows a frame's aspect. What is there already and was built from exactly this, by the same search over the same
    clip, is left alone. Raises BuildError where a model can't be built or drifts too far; then nothing of it is kept.
    """
    for arch in architectures:
        flavour.check(arch, profile.name)
    make_folder()
    searched = "" if precision == "fp32" else _searched(clip, reader, budget or Budget())
    files = {role: find(name) for role, name in _roles(profile.models).items() if name}
    sizes = frame_sizes or [clip_size(clip)]
    samples: Samples | None = None
    gpu_name = this_machine().gpu_name
    for role, file in files.items():
        model: Candidate | None = None
        for shapes in shapes_of(role, file, profile, sizes):
            for arch in architectures:
                key = key_for(
                    file,
                    precision=precision,
                    shapes=shapes,
                    flavour=flavour.name,
                    flavour_version=flavour.version,
                    arch=arch,
                    gpu_name=gpu_name,
                    options={"tactics": "own"} if own_tactics else {},
                )
                if row := _there(key, searched):
                    yield row
                    continue
                if model is None:
                    samples = samples or Samples(clip, files, size_px=profile.detect.size_px, reader=reader)
                    scales, limits = flavour.binds_types, budget or Budget()
                    given: Any = samples
                    if role in SPEECH_ROLES:
                        given = SpeechSamples(role, file, shapes, precision, samples)
                    model = Candidate(role, file, precision, given, say, half_scales=scales, budget=limits)
                yield build_one(model, flavour, key, on_progress, searched=searched, run=run)


def shapes_of(
    role: str, file: ModelFile, profile: Profile, frame_sizes: Sequence[tuple[int, int]]
) -> list[dict[str, tuple[int, ...]]]:
    """The static shapes in which a profile runs one model: a detector's passes, or the face counts of the others.

    Those of the governor's rungs are among them, the profile's own first.
    """
    if role == "detector":
        spec = file.contract.inputs["image"]
        height, width = read_onnx(file.path).inputs[file.tensors["image"]][1][-2:]
        if isinstance(height, int) and isinstance(width, int):
            # such a file runs at its own size only, in one pass
            axes = [{"n": 1, "h": height, "w": width}]
        else:
            rungs = [replace(profile.detect, size_px=rung.detect_size_px) for rung in profile.ladder]
            passes = [detect.inputs_px(size, spec.multiple_of) for detect in rungs for size in frame_sizes]
            unique = dict.fromkeys(size for one in passes for size in one)
            axes = [{"n": 1, "h": rows, "w": columns} for columns, rows in unique]
    elif role in SPEECH_ROLES:
        axes = [{"n": count, **speech_axes(role, file.contract, profile)} for count in _batches(role, file, profile)]
    else:
        axes = [{"n": count} for count in _face_counts(file, profile)]
    return [static_shapes(file, one) for one in axes]


def _roles(models: Models) -> dict[str, str]:
    return {
        "detector": models.detector,
        "refiner": models.refiner,
        "embedder": models.embedder,
        "swapper": models.swapper,
        "restorer": models.restorer,
        "occluder": models.occluder,
        "parser": models.parser,
        "lipsync": models.lipsync,
        "encoder": models.encoder,
    }


def _batches(role: str, file: ModelFile, profile: Profile) -> list[int]:
    """1, and the powers of two up to the frames that a generator is given at once, where a batch can be made of it."""
    most = profile.lipsync.batch if role == "lipsync" and not why_single(file) else 1
    return sorted({1, most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})


def _face_counts(file: ModelFile, profile: Profile) -> list[int]:
    """1, 2, 4, ... up to the profile's faces, and what its rungs have, where a batch can be made of the file, whatever
    its exporter baked in."""
    if why_single(file):
        return [1]
    counts, count = [], 1
    while count < profile.track.faces:
        counts.append(count)
        count *= 2
    return sorted({*counts, *(rung.faces for rung in profile.ladder)})


def _searched(clip: Path, reader: str, budget: Budget) -> str:
    """What types and ranges were found on, in short: the clip by its size and beginning, and how far to look."""
    try:
        with clip.open("rb") as file:
            start = sha256(file.read(4 << 20)).hexdigest()
        size = clip.stat().st_size
    except OSError as error:
        raise BuildError(f"{clip}: wanted a video to calibrate and verify on, got {error}; name another") from error
    return sha256(f"{start} {size} {reader} {budget}".encode()).hexdigest()[:16]


def _there(key: PlanKey, searched: str) -> Row | None:
    try:
        plan, manifest = load_plan(key, "build it again")
        load_constants(manifest, "build it again")
    except PlanError:
        return None
    if manifest.notes.get("searched", "") != searched:
        return None
    return _row(manifest, len(plan), "unchanged")


def build_one(
    model: Candidate,
    flavour: Flavour,
    key: PlanKey,
    on_progress: Callable[[str, int, int], None] | None = None,
    *,
    searched: str = "",
    run: bool = True,
) -> Row:
    """One plan with its manifest, written; raises BuildError, and then nothing is.

    With `run`, a plan for this machine's own GPU is run there before it is kept.
    """
    reset_peak_memory()
    typed = model.typed(key.shapes)
    bound = {item.name for item in (*typed.graph.graph.input, *typed.graph.graph.output)}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="face-engine-") as folder:
        typed, path = replace(typed, graph=None), _to_file(typed.graph, Path(folder))
        built = flavour.build(
            path,
            key.arch,
            where=key.contract,
            timings=load_timings(key),
            own_tactics=key.options.get("tactics") == "own",
            on_progress=on_progress,
        )
    keep_timings(key, built.timings)
    manifest = Manifest(
        key=key,
        plan_sha256=sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        tensors={name: there for name, there in model.file.tensors.items() if there in bound},
        drift=_figures(typed.drift),
        drift_source="simulated",
        layers=typed.layers,
        build_s=round(time.perf_counter() - start, 3),
        peak_memory_mb=peak_memory_mb(),
        gpu_name=key.options.get("gpu", ""),
        notes={**typed.notes, "searched": searched},
    )
    if run and key.arch == this_machine().arch:
        manifest = _run_here(model, built.plan, manifest)
    write_plan(built.plan, manifest, constants(model.file))
    return _row(manifest, len(built.plan), "built")


def _run_here(model: Candidate, plan: memoryview, manifest: Manifest) -> Manifest:
    """The manifest with the drift of the plan itself; raises BuildError past the contract's."""
    key, allowed = manifest.key, model.file.contract.drift
    feeds, exact = model.reference(key.shapes, _RUNS)
    drift = drift_on_gpu(plan, manifest, model.file, feeds, exact)
    wanted_db = allowed.int8_psnr_db if key.precision == "int8" else allowed.fp16_psnr_db
    worst = min(drift, key=lambda name: drift[name].psnr_db)
    if drift[worst].psnr_db < wanted_db:
        raise BuildError(
            f"{key.contract}: wanted {wanted_db:.0f} dB or more of its {key.precision.upper()} plan on this machine's "
            f"GPU, got {drift[worst].psnr_db:.1f} dB at {worst}, where the simulation gave "
            f"{min(v for name, v in manifest.drift.items() if name.endswith('psnr_db')):.1f} dB: use --precision fp32"
        )
    return replace(manifest, drift=_figures(drift), drift_source="plan", notes={**manifest.notes, "ran_on": len(feeds)})


def _figures(drift: Mapping[str, Drift]) -> dict[str, float]:
    figures = {}
    for name, one in drift.items():
        figures.update({f"{name}.psnr_db": one.psnr_db, f"{name}.cosine": one.cosine, f"{name}.max_abs": one.max_abs})
    return figures


def _to_file(graph: Any, folder: Path) -> Path:
    """The graph as a file with its weights beside it; what it held in memory is given back before TensorRT reads it."""
    path = folder / "model.onnx"
    onnx.save(graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=1024)
    graph.Clear()
    gc.collect()
    return path


def _row(manifest: Manifest, plan_bytes: int, state: Literal["built", "unchanged"]) -> Row:
    key = manifest.key
    return Row(
        contract=key.contract,
        precision=key.precision,
        arch=key.arch,
        shapes=key.shapes,
        plan_bytes=plan_bytes,
        build_s=manifest.build_s,
        peak_memory_mb=manifest.peak_memory_mb,
        drift_db=min(value for name, value in manifest.drift.items() if name.endswith("psnr_db")),
        layers=manifest.layers,
        notes=manifest.notes,
        state=state,
        path=plan_folder() / f"{key.stem}.plan",
    )
