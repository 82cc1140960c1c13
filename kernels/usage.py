"""python -m kernels.usage [ARCH ...]: registers, shared and local memory of every kernel. Exit status 1 on a spill.

Needs NVRTC and no GPU. Without an ARCH, every one that the engine supports.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kernels.compile_cuda import ARCHITECTURES, KernelUse, kernel_uses, refuse_spills
from kernels.sources import KernelBuildError

__all__ = ["main", "table"]

REGISTERS = 65536  # of a multiprocessor, on every GPU since Kepler


def table(uses: Sequence[KernelUse]) -> list[str]:
    """A line for each kernel, the one with most registers first; the last column is what registers leave room for."""
    lines = [f"  {'kernel':20s} {'registers':>9s} {'shared B':>9s} {'local B':>8s} {'lanes a SM':>10s}"]
    for use in sorted(uses, key=lambda use: (-use.registers, use.kernel)):
        # registers are given to warps of 32 lanes in portions of 8 a lane
        lanes = min(REGISTERS // (-(-use.registers // 8) * 8) // 32 * 32, 2048)
        lines.append(f"  {use.kernel:20s} {use.registers:9d} {use.shared_bytes:9d} {use.local_bytes:8d} {lanes:10d}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Print the table for each architecture."""
    failed = 0
    for arch in arguments or ARCHITECTURES:
        try:
            uses = kernel_uses(arch)
            print(f"{arch}: {len(uses)} kernels, at most {max(use.registers for use in uses)} registers")
            print("\n".join(table(uses)))
            refuse_spills(arch, uses)
        except KernelBuildError as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
