"""Unit tests run on the CPU, on machines with a GPU too: what needs one is in tests/gpu and tests/parity."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide it from "auto", here and in the processes that a test starts; the tests of opening one look themselves."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if request.module.__name__.rpartition(".")[2] != "test_open_backend":
        monkeypatch.setattr("engine.backends._what_is_missing", lambda: "unit tests run on the CPU")
