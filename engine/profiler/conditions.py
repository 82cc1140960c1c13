"""What a measurement was made on: written beside every figure, and compared before two figures are."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.profiler.sampler import Gpu
from profiles.profile import Profile

__all__ = ["conditions", "differing", "profile_digest"]

ROOT = Path(__file__).parents[2]

# what two measurements may differ in and still be compared: what was changed between them
FREE = ("commit", "load", "at")


def conditions(profile: Profile | None = None, **more: Any) -> dict[str, Any]:
    """Machine, versions, commit and, with a profile, what it says; `more` is the measurement's own."""
    said: dict[str, Any] = dict(more)
    if profile is not None:
        said |= {"profile": profile.name, "profile_digest": profile_digest(profile)}
        said.setdefault("threads", profile.threads or len(os.sched_getaffinity(0)))
    said.setdefault("threads", len(os.sched_getaffinity(0)))
    return {**said, **_machine(), "load": round(os.getloadavg()[0], 2), "commit": _commit()}


def profile_digest(profile: Profile) -> str:
    """16 hex digits that change with anything that a profile says, but its words."""
    told = {name: value for name, value in asdict(profile).items() if name != "says"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Which conditions differ, as "name: a, b"; commit, load and time are free to."""
    names = sorted({*one, *other} - set(FREE))
    return [f"{name}: {one.get(name)}, {other.get(name)}" for name in names if one.get(name) != other.get(name)]


@cache
def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = Gpu()
    found, driver = gpu.found, gpu.driver
    gpu.close()
    said = {"processor": models[0] if models else platform.machine(), "gpu": found or "none"}
    if driver:
        said["driver"] = driver
    said |= {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version()}
    for name in ("numpy", "onnxruntime", "av"):
        said[name] = _version(name)
    if found:
        for name in ("cuda-bindings", "tensorrt-rtx", "tensorrt"):
            said[name] = _version(name)
    return said


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@cache
def _commit() -> str:
    """The checkout's commit, with "+" where files differ from it; else the version that is installed."""
    if not (ROOT / ".git").exists():
        return f"version {_version('face-engine')}"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"version {_version('face-engine')}"
    return f"{head}+" if changed.strip() else head
