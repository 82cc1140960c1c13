"""Plans on disk: a built engine and the manifest that says exactly what it was built from.

A plan is native code. It is only handed out when it lies in a folder that nobody else can write, when its bytes
hash to what its manifest says, and when every field of the manifest is the one asked for. The manifest is written
after the plan and under a temporary name first, so a build that is killed leaves nothing that loads.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import FOLDER as CONTRACTS
from models.model_files import ModelFile
from models.tables import TableError, from_table

__all__ = [
    "Manifest",
    "PlanError",
    "PlanKey",
    "check_folder",
    "discard",
    "key_for",
    "listed",
    "load_constants",
    "load_plan",
    "make_folder",
    "plan_folder",
    "read_manifest",
    "read_own",
    "sweep",
    "write_plan",
    "write_whole",
]

FORMAT = 2
_TEMPORARY = ".face-engine-"


class PlanError(ValueError):
    """A plan is missing, is not what its manifest says, or was built for something else."""


@dataclass(frozen=True)
class PlanKey:
    """What a plan is looked up by: all of it must be the same.

    `shapes` maps the contract's tensor names to static sizes; `arch` is a compute capability such as sm_89.
    `options` holds what else changes the plan: "gpu", the model of GPU that a flavour other than RTX tuned for.
    """

    contract: str
    contract_sha256: str
    onnx_sha256: str
    precision: str
    shapes: dict[str, tuple[int, ...]]
    flavour: str
    flavour_version: str
    arch: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The file name without suffix: readable, and different for every key."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{self.contract}-{self.precision}-{self.arch}-{self.flavour}-{digest}"


@dataclass(frozen=True)
class Manifest:
    """What one plan was built from, and how it compares with FP32.

    `drift` holds figures by tensor ("output.psnr_db", ...); `drift_source` says where rounding was seen:
    in a simulation, in ONNX Runtime on CUDA, or in the plan itself. `constants` maps what the file holds beside
    its network (a swapper's emap) to the SHA-256 of its array, stored as `<stem>.<name>.npy`. `notes` says how it was
    made: the method of calibration, the share of multiply-adds in INT8, how many real inputs were seen.
    """

    key: PlanKey
    plan_sha256: str
    plan_bytes: int
    tensors: dict[str, str]
    drift: dict[str, float]
    drift_source: str
    constants: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str | float] = field(default_factory=dict)
    build_s: float = 0.0
    peak_memory_mb: float = 0.0
    gpu_name: str = ""
    format: int = FORMAT


def key_for(
    file: ModelFile,
    *,
    precision: str,
    shapes: Mapping[str, tuple[int, ...]],
    flavour: str,
    flavour_version: str,
    arch: str,
    gpu_name: str,
    options: Mapping[str, str] | None = None,
) -> PlanKey:
    """The key of one model file's plan: the one place that says what makes two plans different.

    `gpu_name` is the driver's name of the GPU; it counts for every flavour but RTX, whose plans fit any GPU of
    their `arch`.
    """
    text = (CONTRACTS / "contracts" / f"{file.contract.name}.toml").read_bytes()
    others = dict(options or {})
    if flavour != "tensorrt_rtx":
        others["gpu"] = gpu_name
    return PlanKey(
        contract=file.contract.name,
        contract_sha256=hashlib.sha256(text).hexdigest(),
        onnx_sha256=file.sha256,
        precision=precision,
        shapes=dict(shapes),
        flavour=flavour,
        flavour_version=flavour_version,
        arch=arch,
        options=others,
    )


def plan_folder() -> Path:
    """`$FACE_ENGINE_PLANS`, else `$XDG_CACHE_HOME/face-engine/plans`, or under `~/.cache`; not created here."""
    if own := os.environ.get("FACE_ENGINE_PLANS"):
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "face-engine" / "plans"


def make_folder() -> Path:
    """The folder of plans, made where it is not there; raises PlanError where it can't be, or is not ours alone."""
    folder = plan_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PlanError(f"{folder}: wanted a folder for plans, got {error.strerror}; name another") from error
    check_folder(folder, "build again")
    return folder


def check_folder(folder: Path, rebuild: str) -> None:
    """Raise PlanError unless the folder is this user's and nobody else can write into it."""
    try:
        state = folder.stat()
    except OSError as error:
        raise PlanError(f"{folder}: wanted a folder of plans, got {error.strerror}; {rebuild}") from error
    if state.st_uid != os.getuid():
        raise PlanError(
            f"{folder}: wanted a folder owned by user {os.getuid()}, got one of user {state.st_uid}; "
            "plans are native code: build your own into a folder of yours"
        )
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PlanError(
            f"{folder}: wanted a folder that only you can write, got mode {stat.S_IMODE(state.st_mode):o}; "
            f"plans are native code: chmod 700 it, remove the plans in it, and {rebuild}"
        )


def write_plan(
    plan: bytes | memoryview, manifest: Manifest, constants: Mapping[str, npt.NDArray[np.float32]] | None = None
) -> Path:
    """Put a plan and its manifest into the folder, each under a temporary name first; returns the plan's path.

    `constants` go beside them as .npy files; their hashes are put into the manifest here.
    """
    arrays = {name: _npy(array) for name, array in (constants or {}).items()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in arrays.items()}
    manifest = dataclasses.replace(manifest, constants=hashes)
    folder = make_folder()
    path = folder / f"{manifest.key.stem}.plan"
    text = json.dumps(dataclasses.asdict(manifest), indent=1, sort_keys=True) + "\n"
    with (folder / ".lock").open("w") as lock:
        # two builds of one key must not mix their plan and manifest; the lock ends with its process
        fcntl.flock(lock, fcntl.LOCK_EX)
        # the manifest of an older plan of this name must not vouch for the new bytes, not even for a moment
        path.with_suffix(".json").unlink(missing_ok=True)
        write_whole(path, plan)
        for name, data in arrays.items():
            write_whole(path.with_suffix(f".{name}.npy"), data)
        write_whole(path.with_suffix(".json"), text.encode())
    return path


def load_plan(key: PlanKey, rebuild: str) -> tuple[bytes, Manifest]:
    """The bytes of the plan for a key, checked, and its manifest; nothing is deserialised here.

    `rebuild` is the command that a refusal names. Raises PlanError with the first field that differs.
    """
    folder = plan_folder()
    check_folder(folder, rebuild)
    path = folder / f"{key.stem}.plan"
    if not path.with_suffix(".json").exists():
        raise PlanError(_missing(key, folder, rebuild))
    manifest = read_manifest(path.with_suffix(".json"), rebuild)
    difference = _difference(key, manifest.key)
    if difference:
        raise PlanError(f"{path}: wanted {difference}; {rebuild}")
    try:
        plan = read_own(path, rebuild)
    except OSError as error:
        raise PlanError(f"{path}: wanted the plan of its manifest, got {error.strerror}; {rebuild}") from error
    if len(plan) != manifest.plan_bytes:
        raise PlanError(f"{path}: wanted {manifest.plan_bytes} bytes, got {len(plan)}; {rebuild}")
    digest = hashlib.sha256(plan).hexdigest()
    if digest != manifest.plan_sha256:
        raise PlanError(f"{path}: wanted the SHA-256 {manifest.plan_sha256[:12]}, got {digest[:12]}; {rebuild}")
    return plan, manifest


def load_constants(manifest: Manifest, rebuild: str) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays beside a plan, by name, checked against its manifest; raises PlanError for one that differs."""
    found = {}
    for name, wanted in manifest.constants.items():
        path = plan_folder() / f"{manifest.key.stem}.{name}.npy"
        try:
            data = read_own(path, rebuild)
        except OSError as error:
            raise PlanError(f"{path}: wanted the {name} of its plan, got {error.strerror}; {rebuild}") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != wanted:
            raise PlanError(f"{path}: wanted the SHA-256 {wanted[:12]}, got {digest[:12]}; {rebuild}")
        found[name] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def read_own(path: Path, rebuild: str) -> bytes:
    """A file's bytes, if it is a regular one of this user's that nobody else can write; raises PlanError, OSError."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        mode = stat.S_IMODE(state.st_mode)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.getuid() or mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PlanError(
                f"{path}: wanted a file of user {os.getuid()} that nobody else can write, got mode {mode:o} of user "
                f"{state.st_uid}; plans are native code: remove it, and {rebuild}"
            )
        return file.read()


def read_manifest(path: Path, rebuild: str) -> Manifest:
    """A manifest from its file; raises PlanError where it does not read or is of another format."""
    try:
        table: Any = json.loads(read_own(path, rebuild))
        if not isinstance(table, dict):
            raise PlanError(f"{path}: wanted a manifest, got {type(table).__name__}; {rebuild}")
        manifest = from_table(Manifest, table, str(path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TableError) as error:
        raise PlanError(f"{path}: wanted a manifest, got {error}; {rebuild}") from error
    if manifest.format != FORMAT:
        raise PlanError(f"{path}: wanted manifest format {FORMAT}, got {manifest.format}; {rebuild}")
    if path.stem != manifest.key.stem:
        raise PlanError(f"{path}: wanted the name {manifest.key.stem}, got {path.stem}; {rebuild}")
    return manifest


def listed() -> list[tuple[Path, Manifest | PlanError]]:
    """Every plan of the folder with its manifest, or with what is wrong with it; the bytes are hashed."""
    folder = plan_folder()
    if not folder.is_dir():
        return []
    found: list[tuple[Path, Manifest | PlanError]] = []
    for path in sorted(folder.glob("*.plan")):
        rebuild = "build it again"
        try:
            check_folder(folder, rebuild)
            manifest = read_manifest(path.with_suffix(".json"), rebuild)
            digest = hashlib.sha256(read_own(path, rebuild)).hexdigest()
            if digest != manifest.plan_sha256:
                raise PlanError(f"{path}: wanted the SHA-256 {manifest.plan_sha256[:12]}, got {digest[:12]}; {rebuild}")
            load_constants(manifest, rebuild)
            found.append((path, manifest))
        except PlanError as error:
            found.append((path, error))
        except OSError as error:
            found.append((path, PlanError(f"{path}: wanted a readable plan, got {error.strerror}; {rebuild}")))
    return found


def discard(path: Path) -> None:
    """Remove a plan, its manifest and its constants, the manifest first."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    for constant in path.parent.glob(f"{path.stem}.*.npy"):
        constant.unlink(missing_ok=True)


def sweep() -> int:
    """Remove what killed builds left under temporary names; waits for builds that are writing. Returns how many."""
    folder = plan_folder()
    if not folder.is_dir():
        return 0
    check_folder(folder, "prune again")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        left = [path for path in folder.glob(f"{_TEMPORARY}*") if path.is_file() and not path.is_symlink()]
        for path in left:
            path.unlink(missing_ok=True)
    return len(left)


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    return held.getvalue()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """A file that appears under its name only when all of it is on the disk."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{_TEMPORARY}{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _missing(key: PlanKey, folder: Path, rebuild: str) -> str:
    """Why there is none: the nearest plan of the same contract, and the field in which it differs."""
    broken = ""
    for path in sorted(folder.glob(f"{key.contract}-*.json")):
        try:
            difference = _difference(key, read_manifest(path, rebuild).key)
        except PlanError as error:
            broken = broken or str(error)
            continue
        return f"{path.with_suffix('.plan')}: wanted {difference}; {rebuild}"
    none = f"plan for {key.contract}: wanted one for {key.precision} on {key.arch}, got none in {folder}; {rebuild}"
    return broken or none


def _difference(wanted: PlanKey, got: PlanKey) -> str:
    for item in dataclasses.fields(PlanKey):
        mine, theirs = getattr(wanted, item.name), getattr(got, item.name)
        if mine != theirs:
            short = item.name.endswith("sha256")
            return f"{item.name} {mine[:12] if short else mine}, got {theirs[:12] if short else theirs}"
    return ""
