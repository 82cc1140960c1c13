"""What each TensorRT's bindings are called, read from the wheels: <flavour>-<version>.json, {class: {name: value}}.

A value is the number of an enum's member, null for anything else. Written by

    python -m tests.tensorrt_names BINDINGS.so OUT.json [MODULE]

under the wheel's own Python, with its libraries (or empty ones of their names: nothing is called) on
LD_LIBRARY_PATH. `stand_in` makes a module of such a file: it has these names and no others.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

__all__ = ["CLASSES", "NAMES", "names_of", "stand_in"]

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# what a builder and a runtime touch; the rest (150 layer classes and their attributes) is left out
CLASSES = (
    "Builder", "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "DataType",
    "DynamicShapesKernelSpecializationStrategy", "EngineInspector", "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILayer",
    "ILogger", "INetworkDefinition", "IProfiler", "IProgressMonitor", "IRuntimeConfig", "ITensor", "ITimingCache",
    "LayerInformationFormat", "LayerType", "MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser",
    "OnnxParserFlag", "ParserError", "ProfilingVerbosity", "Runtime", "TacticSource", "TensorIOMode",
)  # fmt: skip
# pybind11's own, on every class
_OWN = ("name", "value", "_pybind11_conduit_v1_")


def names_of(module: Any) -> dict[str, dict[str, int | None]]:
    """The names of CLASSES in one module of bindings."""
    found = {}
    for name in CLASSES:
        kind = getattr(module, name, None)
        if kind is not None:
            listed = (k for k in dir(kind) if not k.startswith("__") and k not in _OWN)
            found[name] = {k: _number(vars(kind).get(k)) for k in sorted(listed)}
    return found


def stand_in(name: str) -> Any:
    """A module that has the names of one file and no others: enums have their values, classes do nothing."""
    table: dict[str, dict[str, int | None]] = json.loads((FOLDER / f"{name}.json").read_text())
    module: Any = types.ModuleType("stand_in_" + name.replace(".", "_").replace("-", "_"))
    module.__version__ = name.rpartition("-")[2]
    for kind, names in table.items():
        setattr(module, kind, type(kind, (), {k: v if v is not None else None for k, v in names.items()}))
    return module


def _number(value: Any) -> int | None:
    """The number of an enum's member, wherever it is exported; None for methods and properties."""
    number = getattr(value, "value", None)
    return number if isinstance(number, int) else None
