"""A plan run where it was built for: what it really gives, beside FP32. In a process of its own, by the runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.flavour import BuildError
from build_engines.simulate import Drift, drift_of
from models.model_files import ModelFile
from models.plan_file import Manifest, write_plan

__all__ = ["drift_on_gpu"]

Runs = Sequence[Mapping[str, npt.NDArray[Any]]]
VARIABLE = "FACE_ENGINE_PLANS"


def drift_on_gpu(plan: bytes | memoryview, manifest: Manifest, file: ModelFile, feeds: Runs, exact: Runs) -> Any:
    """Drift by output of a plan against FP32 outputs `exact`, all by the contract's names.

    Raises BuildError in the runtime's own words when the plan does not run. Nothing is put into the user's folder.
    """
    with tempfile.TemporaryDirectory(prefix="face-engine-") as folder, _plans_in(Path(folder) / "plans"):
        write_plan(plan, manifest)
        got = _run(manifest, file, feeds, exact, Path(folder))
    drift: dict[str, Drift] = drift_of(exact, got)
    return drift


def _run(manifest: Manifest, file: ModelFile, feeds: Runs, exact: Runs, folder: Path) -> Runs:
    held: dict[str, Any] = {f"in/{run}/{name}": v for run, feed in enumerate(feeds) for name, v in feed.items()}
    held |= {f"shape/{name}": np.array(value.shape) for name, value in exact[0].items()}
    source, target = folder / "in.npz", folder / "out.npz"
    np.savez(source, **held)
    key = manifest.key
    command = [sys.executable, "-m", "engine.plan_check", key.contract, str(file.path), key.precision]
    done = subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BuildError(
            f"{key.contract}: wanted its plan to run on this machine's GPU, got {words}; python -m engine doctor shows "
            "what is missing, --no-run builds without running"
        )
    found = np.load(target, allow_pickle=False)
    return [{name: found[f"out/{run}/{name}"] for name in exact[0]} for run in range(len(feeds))]


@contextmanager
def _plans_in(folder: Path) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
