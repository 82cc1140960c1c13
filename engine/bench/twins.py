"""Twins in the place of published models: written into the cache, then found by name as a user's files are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ModelError, explain
from models.onnx_file import sha256_of
from profiles.profile import Profile

__all__ = ["twins_in_place"]

VARIABLE = "FACE_ENGINE_MODELS"


@contextmanager
def twins_in_place(profile: Profile) -> Iterator[dict[str, str]]:
    """While this is open, the profile's models are twins: published topology and cost, random weights.

    The user's own files are neither used nor touched. Yields the twins' names by role. Raises ModelError for a model
    that has no twin.
    """
    from models.twins import TWINS, TwinError, write_twin
    from models.twins.registry import cache_folder

    names = {role: name for role, name in vars(profile.models).items() if name and isinstance(name, str)}
    folder = cache_folder().parent / "twin-models"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    index = {}
    for role, name in names.items():
        if name not in TWINS:
            got = f"{name}, which has none"
            raise ModelError(
                explain("bench --twins", f"a twin for the {role}", got, "python -m models.twins lists them")
            )
        try:
            path = write_twin(name)
        except TwinError as error:
            raise ModelError(str(error)) from error
        digest = sha256_of(path)
        _link(path, folder / f"{digest}.onnx")
        index[TWINS[name].contract or name] = {"sha256": digest, "name": path.name}
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


def _link(path: Path, target: Path) -> None:
    """A second name for the file: half a gigabyte is not copied."""
    if not target.exists():
        target.unlink(missing_ok=True)
        target.hardlink_to(path)


def _keep(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
