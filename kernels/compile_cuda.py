"""The kernels as cubins, by NVRTC: needs no GPU and no driver. cuda.core is imported on first use."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from kernels.sources import KernelBuildError, building, cache_folder, device_source, digest, explain, used

# Turing, A100, GeForce 30, Orin, Ada, Hopper, B200, Thor, GeForce 50: what the engine supports.
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_110", "sm_120")
_OPTIONS = ("std=c++17", "fma=false", "ptxas=-v")
_USE = re.compile(
    r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class KernelUse:
    """What one kernel takes of a multiprocessor, as ptxas reports it."""

    kernel: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int

    @property
    def local_bytes(self) -> int:
        """Bytes a thread keeps in device memory for want of registers; must be 0."""
        return self.stack_bytes + self.spill_bytes


def compile_cubin(arch: str) -> bytes:
    """All kernels for one architecture, e.g. ``sm_90``; cached by source, options, architecture and compiler.

    Contraction of multiply and add is off, as in the host build, so both round alike. Raises KernelBuildError
    with NVRTC's own words.
    """
    return _build(arch)[0]


def kernel_uses(arch: str) -> list[KernelUse]:
    """Registers, shared and local memory of every kernel for one architecture."""
    return parse_uses(_build(arch)[1])


def parse_uses(log: str) -> list[KernelUse]:
    """Read ptxas's verbose log."""
    uses = []
    for part in log.split("Compiling ")[1:]:
        match = _USE.search(part)
        if match:
            name, stack, stores, loads, registers, rest = match.groups()
            shared = re.search(r"(\d+) bytes smem", rest)
            spilled = int(stores) + int(loads)
            uses.append(KernelUse(name, int(registers), int(shared[1]) if shared else 0, int(stack), spilled))
    return uses


def refuse_spills(arch: str, uses: list[KernelUse]) -> None:
    """Raise KernelBuildError when a kernel keeps anything in local memory."""
    bad = [f"{use.kernel} {use.local_bytes} bytes" for use in uses if use.local_bytes]
    if bad:
        raise KernelBuildError(
            explain(f"kernels for {arch}", "no local memory", ", ".join(bad), "give the kernel fewer live values")
        )


def _build(arch: str) -> tuple[bytes, str]:
    if not re.fullmatch(r"sm_\d{2,3}[af]?", arch):
        raise KernelBuildError(
            explain("compile_cubin", f"one of {', '.join(ARCHITECTURES)}", repr(arch), "name the GPU's architecture")
        )
    try:
        from cuda.bindings import nvrtc
        from cuda.core import Program, ProgramOptions
    except ImportError as error:
        raise KernelBuildError(
            explain("compile_cubin", "cuda-core and NVRTC", error, "pip install 'face-engine[cuda13]'")
        ) from error
    source = device_source()
    version = ".".join(str(part) for part in nvrtc.nvrtcVersion()[1:])
    path = cache_folder() / f"{arch}-{digest(source, *_OPTIONS, arch, version)[:32]}.cubin"
    log_path = path.with_suffix(".log")
    if path.exists() and log_path.exists():
        used(path)
        used(log_path)
        return path.read_bytes(), log_path.read_text()
    words = io.StringIO()
    options = ProgramOptions(arch=arch, std="c++17", fma=False, ptxas_options=["-v"])
    try:
        cubin = bytes(Program(source, "c++", options).compile("cubin", logs=words).code)
    except Exception as error:  # cuda.core raises its own types, which change between releases
        raise KernelBuildError(
            explain("compile_cubin", f"the kernels compiled for {arch}", type(error).__name__, f"read:\n{error}")
        ) from error
    with building(path) as folder:
        # The log first: a cubin that is there has its log.
        for target, data in ((log_path, words.getvalue().encode()), (path, cubin)):
            temporary = folder / target.name
            temporary.write_bytes(data)
            temporary.replace(target)
    return cubin, words.getvalue()
