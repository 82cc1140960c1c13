"""The sanitizers find what they are for, and find nothing in the kernels. In full: make sanitize."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.sanitize import BUILDS, run
from kernels.sources import FOLDER

LANES, BLOCKS, ADDRESSES = BUILDS
QUICK = ("device.cuh", "host.h", "detect.cu", "track.cu", "cut.cu")


def copy(folder: Path, edits: dict[str, tuple[str, str]]) -> Path:
    """The sources of the quick cases with one replacement a file, which must be there to replace."""
    for name in QUICK:
        text = (FOLDER / name).read_text()
        if name in edits:
            old, new = edits[name]
            assert text.count(old) >= 1, f"{name} no longer holds {old!r}"
            text = text.replace(old, new, 1)
        (folder / name).write_text(text)
    return folder


def test_the_kernels_with_barriers_are_clean(tmp_path: Path) -> None:
    outcome = run(LANES, quick=True, folder=copy(tmp_path, {}))
    assert outcome.status == 0, outcome.output
    assert "7 kernels ran" in outcome.output


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("detect.cu", "dead[j] = 1;\n        __syncthreads();", "dead[j] = 1;"),
        (
            "track.cu",
            "row_of[s] = slot_of[s] = -1;\n    }\n    __syncthreads();",
            "row_of[s] = slot_of[s] = -1;\n    }",
        ),
    ],
)
def test_a_missing_barrier_is_found(tmp_path: Path, name: str, old: str, new: str) -> None:
    outcome = run(LANES, quick=True, folder=copy(tmp_path, {name: (old, new)}))
    assert outcome.status == 66, outcome.output
    assert "ThreadSanitizer: data race" in outcome.output
    assert name in outcome.output


def test_a_write_past_the_end_is_found(tmp_path: Path) -> None:
    edit = {
        "detect.cu": (
            "i < room; i += blockDim.x) {\n        const bool some",
            "i <= room; i += blockDim.x) {\n        const bool some",
        )
    }
    outcome = run(ADDRESSES, quick=True, folder=copy(tmp_path, edit))
    assert outcome.status != 0, outcome.output
    assert "AddressSanitizer: heap-buffer-overflow" in outcome.output


def test_blocks_that_write_the_same_bytes_are_found(tmp_path: Path) -> None:
    edit = {"track.cu": ("shift(t, slot, dx, dy);\n    t.velocities", "shift(t, 0, dx, dy);\n    t.velocities")}
    outcome = run(BLOCKS, quick=True, folder=copy(tmp_path, edit))
    assert outcome.status == 66, outcome.output
    assert "ThreadSanitizer: data race" in outcome.output
