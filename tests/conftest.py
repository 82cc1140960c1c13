"""What the tests share: the sample, a folder of their own for everything that is written, a GPU or a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[1] / "models" / "tiny" / "sample"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's models or writes into the user's logs. The kernel cache is shared: it is keyed."""
    monkeypatch.setenv("FACE_ENGINE_MODELS", str(tmp_path / "face-engine-models"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def sample() -> Path:
    """The folder of the sample clip and pictures."""
    return SAMPLE


@pytest.fixture
def gpu() -> None:
    """A CUDA device; without one a skip, or a failure under REQUIRE_GPU=1."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        found = False
    if not found:
        message = "needs a CUDA device: libcuda.so.1 or a device was not found"
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(message)
        pytest.skip(message)
