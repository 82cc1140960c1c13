"""Plans for the GPU at hand, by the TensorRT that the engine itself would take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.backends import Networks, open_backend
from engine.backends.cuda import CudaBackend
from engine.backends.trt_session import TrtSessions

__all__ = ["build_plans"]


def build_plans(profile: str, precision: str, *more: str) -> None:
    """Build what is not there yet. Raises DeviceError without a TensorRT, RuntimeError with the build's own words."""
    backend = open_backend("cuda", threads=2, say=lambda line: None, networks=Networks("tensorrt", precision))
    assert isinstance(backend, CudaBackend)
    sessions = backend._open_session
    backend.close()
    assert isinstance(sessions, TrtSessions)
    runtime = sessions.runtime
    # 8.x's wheel brings no cuBLAS and no cuDNN
    tactics = ["--own-tactics"] if runtime.version.startswith("8") else []
    command = [sys.executable, "-m", "build_engines", profile, "--precision", precision, "--flavour", runtime.name]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, *tactics, *more], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args[1:])}: {(done.stderr or done.stdout)[-2000:]}")
