"""One kernel source, two compilers: NVRTC for a GPU, the system's C++ compiler for the CPU.

``HostTarget(threads)`` runs the kernels on the CPU; ``compile_cubin(arch)`` gives the bytes that a CUDA backend
loads. Both are cached on disk.
"""

from kernels.compile_cuda import ARCHITECTURES, KernelUse, compile_cubin, kernel_uses, refuse_spills
from kernels.compile_host import HostTarget, HostTensor, build_library, find_compiler, kernel_names
from kernels.sources import KernelBuildError, cache_folder

__all__ = [
    "ARCHITECTURES",
    "HostTarget",
    "HostTensor",
    "KernelBuildError",
    "KernelUse",
    "build_library",
    "cache_folder",
    "compile_cubin",
    "find_compiler",
    "kernel_names",
    "kernel_uses",
    "refuse_spills",
]
