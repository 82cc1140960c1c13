"""What TensorRT learned of this GPU's timings, kept between builds: kernels timed once are not timed again."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from models.plan_file import PlanError, PlanKey, check_folder, make_folder, plan_folder, write_whole

__all__ = ["keep_timings", "load_timings"]


def load_timings(key: PlanKey) -> bytes:
    """The bytes of the timing cache for a plan's flavour and GPU; empty without one, or in a folder of others."""
    try:
        check_folder(plan_folder(), "build again")
        return _path(key).read_bytes()
    except (PlanError, OSError):
        return b""


def keep_timings(key: PlanKey, timings: bytes) -> None:
    """Store it; of two builds at once the later one's is kept."""
    if timings:
        make_folder()
        write_whole(_path(key), timings)


def _path(key: PlanKey) -> Path:
    gpu = sha256(key.options.get("gpu", "").encode()).hexdigest()[:8]
    return plan_folder() / f"{key.flavour}-{key.flavour_version}-{key.arch}-{gpu}.timings"
