"""What this machine can do at most, measured here: bytes moved and multiply-adds a second, on the threads we use.

Beside every timing stands how near it comes: the share of the ceiling that binds it, the larger of the two times that
its bytes and its multiply-adds would take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime

from models.model_files import ModelFile

__all__ = ["Ceilings", "Work", "ceilings", "network_work"]

COPY_BYTES = 64 * 2**20
# small, so that some of many tries are over before another process takes a core
MATRIX = 384
COPIES, PRODUCTS = 60, 600


@dataclass(frozen=True)
class Work:
    """What a piece of work has to move and to multiply at least."""

    moved_bytes: int
    multiply_adds: int = 0


@dataclass(frozen=True)
class Ceilings:
    """GB/s of reads and writes together, and GMAC/s in FP32; the best of several tries."""

    gbytes_per_s: float
    gmacs_per_s: float
    threads: int

    def least_ms(self, work: Work) -> float:
        """What the work takes at least."""
        return max(work.moved_bytes / self.gbytes_per_s, work.multiply_adds / self.gmacs_per_s) / 1e6

    def beside(self, work: Work, took_ms: float) -> dict[str, Any]:
        """What stands beside a timing."""
        by_bytes = work.moved_bytes / self.gbytes_per_s >= work.multiply_adds / self.gmacs_per_s
        return {
            "moved_kb": round(work.moved_bytes / 1e3, 1),
            "mmacs": round(work.multiply_adds / 1e6, 2),
            "bound_by": "memory" if by_bytes else "multiply-adds",
            "least_ms": round(self.least_ms(work), 4),
            "of_ceiling": round(self.least_ms(work) / took_ms, 4),
        }


@cache
def ceilings(threads: int) -> Ceilings:
    """Measured once a process: a copy of 64 MB in as many parts as threads, and a matrix product by NumPy's BLAS.

    BLAS takes the threads that it likes: on a machine whose cores are all ours that is the same number.
    """
    source, target = (np.ones(COPY_BYTES // 8) for _ in range(2))
    with ThreadPoolExecutor(threads) as pool:
        parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
        copied_s = _best_s(lambda: list(pool.map(lambda pair: np.copyto(*pair), parts)), COPIES)
    one, other = (np.random.default_rng(3).random((MATRIX, MATRIX), dtype=np.float32) for _ in range(2))
    out = np.empty((MATRIX, MATRIX), dtype=np.float32)
    multiplied_s = _best_s(lambda: np.matmul(one, other, out=out), PRODUCTS)
    return Ceilings(2 * COPY_BYTES / copied_s / 1e9, MATRIX**3 / multiplied_s / 1e9, threads)


def network_work(model: ModelFile, inputs: Mapping[str, tuple[int, ...]]) -> Work:
    """Multiply-adds of convolutions and products, and weights with all inputs and outputs once, at these shapes.

    `inputs` has the contract's names. The network runs once with what those layers read and write among its outputs:
    shapes that hang on other tensors are known only then. What lies between layers is not counted as moved: a cache
    may hold it.
    """
    loaded = onnx.load(str(model.path))
    graph = loaded.graph
    weights = {item.name: list(item.dims) for item in graph.initializer}
    counted = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    ends = [value.name for value in graph.output]
    wanted = {node.output[0] for node in counted} | {name for node in counted for name in node.input[:2]}
    fed = {model.tensors[name]: np.zeros(shape, dtype=np.float32) for name, shape in inputs.items()}
    for name in sorted(wanted - set(weights) - set(fed) - set(ends) - {""}):
        graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    shapes = {name: list(array.shape) for name, array in zip(names, session.run(names, fed), strict=True)}
    shapes |= weights | {name: list(array.shape) for name, array in fed.items()}
    stored = sum(int(np.prod(dims)) for dims in weights.values())
    moved = stored + sum(int(np.prod(shapes[name])) for name in (*fed, *ends))
    return Work(4 * moved, sum(_macs(node, shapes) for node in counted))


def _macs(node: Any, shapes: Mapping[str, list[int]]) -> int:
    first, second, result = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type in ("Conv", "ConvTranspose"):
        # each output (of a transposed one: each input) element meets the kernel over the channels of its group
        return int(np.prod(result if node.op_type == "Conv" else first)) * int(np.prod(second[1:]))
    transposed = any(one.name == "transA" and one.i for one in node.attribute)
    return int(np.prod(result)) * first[0 if transposed else -1]


def _best_s(work: Callable[[], Any], tries: int) -> float:
    taken = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
