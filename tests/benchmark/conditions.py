"""What a measurement was made on: the engine's own conditions, and the version of OpenCV that the yardsticks use."""

from __future__ import annotations

from typing import Any

import cv2

from engine.profiler import conditions as of_the_engine

__all__ = ["conditions"]


def conditions(**more: Any) -> dict[str, Any]:
    """Machine, versions, commit and what was real; `more` is the measurement's own."""
    real = {"weights": "tiny pack (drawn faces only), real, not a twin"}
    return {**of_the_engine.conditions(**{**real, **more}), "opencv": cv2.__version__}
