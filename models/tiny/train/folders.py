"""Where training keeps its files: pictures and trained networks in the user's cache, never in the repository."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).resolve().parents[1]  # the committed weights, which no training writes over


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "face-engine"


def cache_folder() -> Path:
    """Where drawn samples live, and what is derived from them."""
    return _cache() / "tiny-data"


def trained_folder(look: str) -> Path:
    """Where trained networks of a look go by default; not created here."""
    return _cache() / "tiny-trained" / look


def packaged_look() -> str:
    """The look that the committed weights know, from their card; a card without the word is of the first look."""
    card: dict[str, Any] = json.loads((PACKAGED / "card.json").read_text(encoding="utf-8"))
    return str(card.get("look", "classic"))


def record_path(folder: Path, name: str) -> Path:
    """The record of the runs that led to a network's file; written last, so what has one is trained."""
    return folder / f"tiny_{name}.json"


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    """The runs that led to a network's file in a folder, oldest first; none where it is not trained there."""
    path = record_path(folder, name)
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found
