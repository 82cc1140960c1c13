"""What a measurement was made on: written beside every committed figure."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import av
import cv2
import onnxruntime

__all__ = ["conditions"]


def conditions(**more: Any) -> dict[str, Any]:
    """Machine, versions, commit and what was real; `more` is the measurement's own."""
    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        **more,
        "threads": len(os.sched_getaffinity(0)),
        "weights": "tiny pack (drawn faces only), real, not a twin",
        "processor": lines[0].split(":", 1)[1].strip() if lines else platform.machine(),
        "gpu": "none",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "av": av.__version__,
        "commit": done.stdout.strip() or "not a checkout",
    }
