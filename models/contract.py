"""Contract: what one model accepts and returns, where that is known from, and how far it may drift.

Read from `models/contracts/*.toml`; tensors bind by name; no number that a model expects stands anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from models.onnx_file import Initializer, OnnxFile
from models.spec import Spec
from models.tables import TableError, from_table, read_toml

__all__ = [
    "Contract",
    "DetectorFacts",
    "EmapFacts",
    "Template",
    "bind",
    "contract_names",
    "find_emap",
    "load_contract",
    "load_template",
]

FOLDER = Path(__file__).parent
Role = Literal["detector", "refiner", "embedder", "swapper"]


@dataclass(frozen=True)
class Template:
    """Where five points (left eye, right eye, nose, left and right mouth corner; image order) stand in a crop.

    `points_px` are pixels of a crop of `size_px` x `size_px`.
    """

    size_px: int
    points_px: tuple[tuple[float, float], ...]
    origin: str = ""

    def __post_init__(self) -> None:
        if len(self.points_px) != 5 or any(len(point) != 2 for point in self.points_px):
            raise ValueError(f"points_px: wanted five pairs, got {len(self.points_px)} entries; correct the list")


@dataclass(frozen=True)
class DetectorFacts:
    """How a detector's rows become faces (SCRFD: anchor-free distances from cell corners, in stride units)."""

    kind: Literal["scrfd"]
    strides: tuple[int, ...]
    anchors: int
    score_threshold: float
    iou_threshold: float
    pad_value: float
    input_sizes_px: tuple[int, ...]


@dataclass(frozen=True)
class EmapFacts:
    """How an identity becomes a swapper's latent: unit embedding x emap, made unit length again or not."""

    names: tuple[str, ...]
    size: int
    normalise_latent: bool


@dataclass(frozen=True)
class Drift:
    """What a reduced precision may cost: PSNR of the outputs against FP32 over the contract's value range."""

    fp16_psnr_db: float = 40.0
    int8_psnr_db: float = 30.0


@dataclass(frozen=True)
class Contract:
    """One model's contract. `inputs` and `outputs` map our names to Specs; Spec.names are the file's names."""

    name: str
    role: Role
    file: str
    origin: str
    inputs: dict[str, Spec]
    outputs: dict[str, Spec]
    used_by: tuple[str, ...] = ()
    licence: str = ""
    uncertain: tuple[str, ...] = ()
    weights: Literal["float32", "float16"] = "float32"
    packaged: str = ""
    drawn_faces_only: bool = False
    template: str = ""
    embedder: tuple[str, ...] = ()
    detector: DetectorFacts | None = None
    emap: EmapFacts | None = None
    drift: Drift = field(default_factory=Drift)

    def __post_init__(self) -> None:
        if self.role == "detector" and self.detector is None:
            raise ValueError("detector: wanted a table for a detector, got none; add it")
        if self.role in ("refiner", "embedder", "swapper") and not self.template:
            raise ValueError(f"template: wanted a name for a {self.role}, got none; name one of templates.toml")
        if self.role == "swapper" and not self.embedder:
            raise ValueError("embedder: wanted the contracts whose identity it takes, got none; name them")


def contract_names() -> tuple[str, ...]:
    """The names of all contracts, sorted."""
    return tuple(sorted(path.stem for path in (FOLDER / "contracts").glob("*.toml")))


@cache
def load_contract(name: str) -> Contract:
    """The contract of this name; raises TableError when there is none or it does not read."""
    if name not in contract_names():
        raise TableError(
            f"contract {name}: wanted one of {', '.join(contract_names())}, got {name!r}; correct the name"
        )
    path = FOLDER / "contracts" / f"{name}.toml"
    contract = from_table(Contract, read_toml(path), f"models/contracts/{name}.toml")
    if contract.name != name:
        raise TableError(f"models/contracts/{name}.toml: wanted the name {name}, got {contract.name!r}; rename one")
    return contract


@cache
def load_template(name: str) -> Template:
    """The landmark template of this name, from `templates.toml`."""
    tables = read_toml(FOLDER / "templates.toml")
    if name not in tables:
        raise TableError(
            f"template {name}: wanted one of {', '.join(sorted(tables))}, got {name!r}; correct the name"
        )
    return from_table(Template, tables[name], f"models/templates.toml: {name}")


def bind(contract: Contract, onnx: OnnxFile) -> tuple[dict[str, str], list[str]]:
    """(our tensor name -> the file's name, faults) of an ONNX file under a contract; no faults means that it fits.

    A tensor is found by one of its Spec's names; a contract with a single input (or output) also takes a file's
    only one, whatever its name. Positions are never used.
    """
    bound: dict[str, str] = {}
    faults: list[str] = []
    for side, specs, tensors in (
        ("input", contract.inputs, onnx.inputs),
        ("output", contract.outputs, onnx.outputs),
    ):
        for name, spec in specs.items():
            found = next((candidate for candidate in spec.names if candidate in tensors), None)
            if found is None and len(specs) == len(tensors) == 1:
                found = next(iter(tensors))
            if found is None:
                faults.append(f"{side} {name}: wanted a tensor named {' or '.join(spec.names)}, got {_list(tensors)}")
                continue
            bound[name] = found
            misfit = spec.misfit(*tensors[found])
            # an output whose shape the exporter left out is checked when the file is run
            if misfit and not (side == "output" and not tensors[found][1]):
                faults.append(f"{side} {found}: {misfit}")
        extra = len(tensors) - len(specs)
        if side == "input" and extra > 0:
            faults.append(f"inputs: wanted {len(specs)}, got {_list(tensors)}")
    if contract.emap is not None and find_emap(contract.emap, onnx) is None:
        size = contract.emap.size
        faults.append(f"emap: wanted an initializer of {size} x {size} that no node uses, got none")
    weights = _weight_type(onnx)
    if weights and weights != contract.weights:
        faults.append(f"weights: wanted {contract.weights}, got mostly {weights}")
    return bound, faults


def find_emap(facts: EmapFacts, onnx: OnnxFile) -> Initializer | None:
    """The identity map of a swapper: by name, or as the only square initializer of its size that no node uses."""
    square = [item for item in onnx.initializers if item.shape == (facts.size, facts.size)]
    named = [item for item in square if item.name in facts.names]
    unused = [item for item in square if item.name not in onnx.consumed]
    if named:
        return named[0]
    return unused[0] if len(unused) == 1 else None


def _weight_type(onnx: OnnxFile) -> str:
    """The float type that most of the consumed weights have; empty when the file holds none of its own."""
    counts = {"float32": 0, "float16": 0}
    for item in onnx.initializers:
        if item.dtype in counts and item.name in onnx.consumed and item.shape:
            size = 1
            for axis in item.shape:
                size *= axis
            counts[item.dtype] += size
    return max(counts, key=lambda dtype: counts[dtype]) if any(counts.values()) else ""


def _list(tensors: dict[str, tuple[str, tuple[int | str | None, ...]]]) -> str:
    return ", ".join(tensors) or "none"
