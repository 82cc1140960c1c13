"""Twins in the place of published models: written into the cache, then found by name as a user's files are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ModelError, explain
from models.onnx_file import sha256_of
from profiles.profile import Profile

__all__ = ["twins_in_place"]

ROOT = Path(__file__).parents[2]
VARIABLE = "FACE_ENGINE_MODELS"


@contextmanager
def twins_in_place(profile: Profile) -> Iterator[dict[str, str]]:
    """While this is open, the profile's models are twins: published topology and cost, random weights.

    The user's own files are neither used nor touched. Yields the twins' names by role. Raises ModelError for a model
    that has no twin.
    """
    names = {role: name for role, name in vars(profile.models).items() if name}
    index = {}
    for name in names.values():
        path = _write(name)
        folder = path.parent.parent / "twin-models"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = sha256_of(path)
        _link(path, folder / f"{digest}.onnx")
        index[name] = {"sha256": digest, "name": path.name}
    _keep(folder / "index.json", json.dumps(index, indent=1, sort_keys=True))
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield names
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _write(name: str) -> Path:
    """The twin's file in the cache; in a process of its own, since the runtime does not import what builds models."""
    command = [sys.executable, "-m", "models.twins", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(explain("bench --twins", f"a twin of {name}", why, "python -m models.twins lists them"))
    return Path(done.stdout.splitlines()[0].rpartition("  (")[0])


def _link(path: Path, target: Path) -> None:
    """A second name for the file: half a gigabyte is not copied."""
    if not target.exists():
        target.unlink(missing_ok=True)
        target.hardlink_to(path)


def _keep(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
