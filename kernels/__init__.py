"""Pixels and points: CUDA C++ kernels for GPUs and, built by a C++ compiler, for CPUs. Knows no model.

launch.py is what callers use, compile.py builds, reference.py is the oracle of the tests.
"""
