"""python -m engine.plan_check CONTRACT FILE.onnx PRECISION IN.npz OUT.npz: run a plan once for whoever built it.

A process of its own: a plan that spoils the GPU's context ends this one and no other. IN.npz holds `in/<run>/<input>`
and `shape/<output>`, by the contract's names; OUT.npz gets `out/<run>/<output>`. Plans are looked up as always.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import models  # noqa: F401 - first: it keeps ONNX Runtime off the network
from engine.backends import Networks, open_backend
from engine.backends.base import Backend
from engine.errors import EngineError
from models.contract import load_contract
from models.model_files import ModelFile, ModelFileError, open_file
from models.spec import Spec

__all__ = ["main", "run_plan"]

Arrays = dict[str, npt.NDArray[Any]]


def run_plan(
    backend: Backend, model: ModelFile, feeds: Sequence[Arrays], shapes: Mapping[str, tuple[int, ...]]
) -> list[Arrays]:
    """Outputs of every feed, all of the same shapes; `shapes` are the outputs'. Raises ModelError without a plan."""
    session = backend.open_session(model)
    inputs = {name: backend.allocate(Spec(str(value.dtype), value.shape)) for name, value in feeds[0].items()}  # type: ignore[arg-type]
    outputs = {name: backend.allocate(Spec("float32", shape)) for name, shape in shapes.items()}
    session.prepare(inputs, outputs)
    results = []
    for feed in feeds:
        for name, value in feed.items():
            backend.upload(np.ascontiguousarray(value), inputs[name])
        session.run(inputs, outputs)
        results.append({name: backend.to_host(buffer) for name, buffer in outputs.items()})
    return results


def main(contract: str, file: str, precision: str, source: str, target: str) -> int:
    """Run what IN.npz holds; 0 done, 2 with a sentence on standard error."""
    held = np.load(source, allow_pickle=False)
    feeds: dict[int, Arrays] = {}
    for key in held.files:
        kind, _, rest = key.partition("/")
        if kind == "in":
            run, _, name = rest.partition("/")
            feeds.setdefault(int(run), {})[name] = held[key]
    shapes = {key.partition("/")[2]: tuple(map(int, held[key])) for key in held.files if key.startswith("shape/")}
    try:
        model = open_file(load_contract(contract), Path(file))
        backend = open_backend("cuda", threads=1, say=lambda line: None, networks=Networks("tensorrt", precision))
        try:
            results = run_plan(backend, model, [feeds[run] for run in sorted(feeds)], shapes)
        finally:
            backend.close()
    except (EngineError, ModelFileError) as error:
        print(error, file=sys.stderr)
        return 2
    flat: dict[str, Any] = {f"out/{run}/{name}": v for run, one in enumerate(results) for name, v in one.items()}
    np.savez(target, **flat)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
