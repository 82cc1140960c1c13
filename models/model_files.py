"""The user's own model files: taken in by hash, found by contract, never guessed.

The folder is `$FACE_ENGINE_MODELS`, else `$XDG_DATA_HOME/face-engine/models`, else `~/.local/share/...`.
One file serves a contract at a time; `index.json` says which.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract, Match, bind, contract_names, find_emap, load_contract
from models.onnx_file import OnnxFile, OnnxFileError, read_onnx, sha256_of

__all__ = ["ModelFile", "ModelFileError", "add", "find", "folder", "installed", "open_file", "recognise"]

NEAREST = 5  # contracts whose misfits are written out for a file that fits none


class ModelFileError(ValueError):
    """A model file is missing, fits no contract, or fits several."""


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file that serves a contract. `tensors` maps the contract's names to the file's."""

    contract: Contract
    path: Path
    sha256: str
    tensors: dict[str, str]

    def emap(self) -> npt.NDArray[np.float32] | None:
        """The identity map stored in a swapper's file, float32 [size, size]; None for other models."""
        if self.contract.emap is None:
            return None
        onnx = read_onnx(self.path)
        initializer = find_emap(self.contract.emap, onnx)
        return None if initializer is None else onnx.values(initializer)


def folder() -> Path:
    """Where the user's model files are kept; not created here."""
    if own := os.environ.get("FACE_ENGINE_MODELS"):
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "face-engine" / "models"


def recognise(path: Path, wanted: str | None = None) -> tuple[Contract, dict[str, str]]:
    """The contract that a file serves, and its tensors' names; raises ModelFileError with what differs.

    Of several contracts that fit, the one that publishes a file of this name; else the one whose names the file's
    tensors have; else the caller must name one.
    """
    onnx = _read(path)
    contracts = [load_contract(name) for name in ((wanted,) if wanted else contract_names())]
    matches = [bind(contract, onnx) for contract in contracts if wanted or not contract.drawn_faces_only]
    fits = [match for match in matches if not match.misfits]
    if not fits:
        raise ModelFileError(_fits_none(path, matches, wanted))
    fits = [match for match in fits if _publishes(match.contract, path.name)] or fits
    most = max(match.alike for match in fits)
    fits = [match for match in fits if match.alike == most]
    if len(fits) == 1:
        return fits[0].contract, fits[0].tensors
    candidates = ", ".join(match.contract.name for match in fits)
    raise ModelFileError(
        f"{path}: wanted a file that fits one contract, got one that fits {candidates}; "
        f"say which: python -m models add {path.name} --as {fits[0].contract.name}"
    )


def _publishes(contract: Contract, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (contract.file, *contract.also_named))


def _fits_none(path: Path, matches: list[Match], wanted: str | None) -> str:
    """The sentence for a file that fits nothing: the nearest contracts with their misfits, then how many are left."""

    def distance(match: Match) -> tuple[bool, int, int, str]:
        return not _publishes(match.contract, path.name), len(match.misfits), -match.alike, match.contract.name

    nearest = sorted(matches, key=distance)
    lines = [f"  {match.contract.name}: " + "; ".join(match.misfits) for match in nearest[:NEAREST]]
    if len(nearest) > NEAREST:
        lines.append(f"  and {len(nearest) - NEAREST} other contracts, further off: python -m models list")
    return (
        f"{path}: wanted an ONNX file that fits {'the contract ' + wanted if wanted else 'a contract'}, got one "
        "that fits none; see what differs:\n" + "\n".join(lines)
    )


def add(path: Path, wanted: str | None = None, *, replace: bool = False) -> ModelFile:
    """Check a file against the contracts and take a copy into the model folder under its hash."""
    contract, tensors = recognise(path, wanted)
    digest = sha256_of(path)
    index = _index()
    held = index.get(contract.name)
    if held and held["sha256"] != digest and not replace:
        raise ModelFileError(
            f"{path}: wanted no other file for {contract.name}, got {held['name']} (sha256 {held['sha256'][:12]}) "
            "already there; add --replace to put this one in its place"
        )
    home = folder()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = home / f"{digest}.onnx"
    if not target.exists():
        handle, temporary = tempfile.mkstemp(dir=home, suffix=".part")
        os.close(handle)
        try:
            shutil.copyfile(path, temporary)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)
    index[contract.name] = {"sha256": digest, "name": path.name}
    _write_index(index)
    if held and held["sha256"] != digest and held["sha256"] not in {item["sha256"] for item in index.values()}:
        (home / f"{held['sha256']}.onnx").unlink(missing_ok=True)
    return ModelFile(contract, target, digest, tensors)


def find(contract_name: str) -> ModelFile:
    """The one file that serves a contract: the user's, or else the packaged one; raises ModelFileError without one."""
    contract = load_contract(contract_name)
    held = _index().get(contract_name)
    if held is None and contract.packaged:
        return open_file(contract, Path(__file__).parent / contract.packaged)
    if held is None:
        first = f"train it: python -m models train {contract_name.removeprefix('tiny_')}, and then "
        raise ModelFileError(
            f"model {contract_name}: wanted a file for this contract in {folder()}, got none; "
            f"{first if contract.drawn_faces_only else ''}add yours: python -m models add {contract.file}"
        )
    found = open_file(contract, folder() / f"{held['sha256']}.onnx")
    if found.sha256 != held["sha256"]:
        raise ModelFileError(
            f"{found.path}: wanted the SHA-256 {held['sha256'][:12]}, got {found.sha256[:12]}; the file has changed: "
            f"add it again: python -m models add {contract.file} --replace"
        )
    return found


def open_file(contract: Contract, path: Path) -> ModelFile:
    """A file under a contract that is known; raises ModelFileError where it does not fit."""
    match = bind(contract, _read(path))
    if match.misfits:
        raise ModelFileError(
            f"{path}: wanted a file that fits the contract {contract.name}, got misfits; replace the file:\n  "
            + "\n  ".join(match.misfits)
        )
    return ModelFile(contract, path, sha256_of(path), match.tensors)


def installed() -> dict[str, str]:
    """Contract name -> file name, for every contract that has a file now."""
    held = {}
    for name in contract_names():
        contract = load_contract(name)
        if contract.packaged and (Path(__file__).parent / contract.packaged).is_file():
            held[name] = contract.file
    return held | {name: item["name"] for name, item in _index().items()}


def _read(path: Path) -> OnnxFile:
    try:
        return read_onnx(path)
    except OnnxFileError as error:
        raise ModelFileError(str(error)) from error
    except OSError as error:
        raise ModelFileError(f"{path}: wanted a readable ONNX file, got {error.strerror}; check the path") from error


def _index() -> dict[str, dict[str, str]]:
    path = folder() / "index.json"
    if not path.exists():
        return {}
    try:
        loaded: Any = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {"sha256": str(item["sha256"]), "name": str(item["name"])} for name, item in loaded.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: wanted the index of the model folder, got unreadable content ({error}); "
            "remove it and add the files again"
        ) from error


def _write_index(index: dict[str, dict[str, str]]) -> None:
    path = folder() / "index.json"
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(index, indent=1, sort_keys=True), encoding="utf-8")
    temporary.replace(path)
