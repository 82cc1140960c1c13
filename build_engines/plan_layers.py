"""What a plan is made of, in TensorRT's own words: the layers that the builder lists when it is asked for detail.

The inspector of a finished plan needs a GPU; the builder's own list does not. It shows which layers take integers
and which kernels stand between them. Which code a GPU then runs for a listed layer is chosen there (RTX compiles it
on the machine), so this is no measurement of speed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from build_engines.flavour import BuildError, Flavour

__all__ = ["PlanLayer", "parse_layers", "plan_layers", "products_by_type"]

# what RTX calls a convolution and a matrix product
_PRODUCTS = {"correlation", "convolution", "deconvolution", "gemm", "conv", "matmul"}
_LINE = re.compile(r"Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: (?P<rest>.*)")
_METADATA = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_DATATYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class PlanLayer:
    """One layer of a plan: what TensorRT calls it, the types that go in and come out, the ONNX nodes it came from."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def is_product(self) -> bool:
        """A convolution or matrix product, which is what INT8 is for."""
        return self.kind in _PRODUCTS


def plan_layers(flavour: Flavour, onnx: bytes, arch: str, *, where: str) -> list[PlanLayer]:
    """Build for `arch`, one of the flavour's `architectures`, and return the list; nothing of the plan is kept.

    Raises BuildError where it can't be built, or where this flavour lists nothing without a GPU.
    """
    trt, lines, wrong = flavour.module, list[str](), list[str]()
    log = _log(trt, lines, wrong)
    builder = trt.Builder(log)
    flags = trt.NetworkDefinitionCreationFlag
    bits = sum(1 << int(getattr(flags, name)) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, name))
    network = builder.create_network(bits)
    if not trt.OnnxParser(network, log).parse(onnx):
        raise BuildError(f"{where}: wanted a graph that {flavour.name} reads, got {'; '.join(wrong)}; rewrite it")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if arch not in flavour.architectures:
        known = ", ".join(flavour.architectures) or "none without a GPU"
        raise BuildError(f"{where}: wanted an architecture of {flavour.name} ({known}), got {arch}; name one of them")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{arch.removeprefix('sm_')}"), 0)
    if builder.build_serialized_network(network, config) is None:
        raise BuildError(f"{where}: wanted a plan for {arch}, got {'; '.join(wrong)}; simplify the graph")
    layers = [layer for line in lines for layer in parse_layers(line)]
    if not layers:
        raise BuildError(f"{where}: wanted a list of layers from {flavour.name}, got none; inspect the plan on a GPU")
    return layers


def parse_layers(text: str) -> Iterator[PlanLayer]:
    """The layers in a builder's list, a line each; nothing for any other text."""
    if not text.startswith("Layers:"):
        return
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            taken, _, given = found["rest"].partition("Outputs: ")
            taken = taken.partition("Constants: ")[0]
            yield PlanLayer(
                found["name"],
                found["kind"],
                tuple(kind.lower() for kind in _DATATYPE.findall(taken)),
                tuple(kind.lower() for kind in _DATATYPE.findall(given)),
                tuple(_METADATA.findall(given)),
            )


def products_by_type(layers: Sequence[PlanLayer]) -> dict[str, int]:
    """How many convolutions and matrix products take which type as their first input."""
    return dict(sorted(Counter(layer.inputs[0] for layer in layers if layer.is_product and layer.inputs).items()))


def _log(trt: Any, lines: list[str], wrong: list[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the list of layers, which comes with the least severity, and errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if message.startswith("Layers:"):
                lines.append(message)
            elif severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                wrong.append(message.strip())

    return Log()
