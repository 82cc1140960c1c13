"""Every kernel compiles for every GPU the engine supports and keeps its values in registers. Needs no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.compile import ARCHITECTURES, KernelBuildError, compile_cubin, kernel_names, kernel_uses, refuse_spills
from kernels.compile_cuda import KernelUse, parse_uses

# An SM holds 65536 registers: 128 a thread still leave room for two blocks of 256 lanes.
REGISTERS_MAX = 128
# What every GPU since Turing gives a block without asking.
SHARED_MAX_BYTES = 48 * 1024


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_kernels_compile_without_spills(arch: str) -> None:
    """Run with -s to read the table."""
    cubin = compile_cubin(arch)
    assert cubin[:4] == b"\x7fELF"
    uses = kernel_uses(arch)
    for use in sorted(uses, key=lambda use: use.kernel):
        print(
            f"{arch} {use.kernel}: {use.registers} registers, {use.shared_bytes} shared, {use.local_bytes} local bytes"
        )
    assert sorted(use.kernel for use in uses) == sorted(kernel_names())
    refuse_spills(arch, uses)
    assert max(use.registers for use in uses) <= REGISTERS_MAX
    assert max(use.shared_bytes for use in uses) <= SHARED_MAX_BYTES


def test_a_spill_in_the_log_is_found_and_refused() -> None:
    log = """ptxas info    : Compiling entry function 'crop' for 'sm_90'
ptxas info    : Function properties for crop
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 256 bytes smem
"""
    uses = parse_uses(log)
    assert uses == [KernelUse("crop", registers=40, shared_bytes=256, stack_bytes=16, spill_bytes=12)]
    with pytest.raises(
        KernelBuildError, match="kernels for sm_90: wanted no local memory, got crop 28 bytes; give the kernel fewer"
    ):
        refuse_spills("sm_90", uses)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(KernelBuildError, match=r"compile_cubin: wanted one of sm_75, .*, got 'sm_9'; name the GPU's"):
        compile_cubin("sm_9")


def test_an_error_in_a_kernel_carries_nvrtcs_words_and_the_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = '#line 7 "broken.cu"\nextern "C" __global__ void k(float* a) { a[0] = nothing; }\n'
    monkeypatch.setattr("kernels.compile_cuda.device_source", lambda: broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KernelBuildError, match=r'(?s)compiled for sm_90, got \w+; read:.*broken.cu.*7.*"nothing"'):
        compile_cubin("sm_90")
