"""Write the names of one wheel's bindings; see the package's docstring. Needs nothing but Python and the .so."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from tests.tensorrt_names import names_of


def main(bindings: str, out: str, module_name: str = "tensorrt") -> None:
    """`module_name` is the one compiled into the .so: tensorrt or tensorrt_rtx."""
    spec = importlib.util.spec_from_file_location(module_name, bindings)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{bindings}: wanted a module of bindings, got none; name the wheel's tensorrt*.so")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    Path(out).write_text(json.dumps(names_of(module), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
