"""The report of what kernels take of a GPU; it needs NVRTC and no GPU."""

from __future__ import annotations

import pytest

from kernels import usage
from kernels.compile import kernel_names
from kernels.compile_cuda import KernelUse


def test_every_kernel_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage.main(["sm_90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"sm_90: {len(kernel_names())} kernels, at most ")
    assert sorted(line.split()[0] for line in lines[2:]) == sorted(kernel_names())


def test_a_spill_and_an_unknown_architecture_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert usage.main(["sm_9"]) == 1
    spilled = [KernelUse("crop", registers=40, shared_bytes=256, stack_bytes=16, spill_bytes=12)]
    monkeypatch.setattr(usage, "kernel_uses", lambda arch: spilled)
    assert usage.main(["sm_90"]) == 1
    said = capsys.readouterr()
    assert "wanted no local memory, got crop 28 bytes" in said.err
    assert said.out.splitlines()[-1].split() == ["crop", "40", "256", "28", "1632"]
