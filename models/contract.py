"""Contract: what one model accepts and returns, where that is known from, and how far it may drift.

Read from `models/contracts/*.toml`; tensors bind by name; no number that a model expects stands anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from models.facts import (
    AttributeFacts,
    AudioFacts,
    AutoencoderFacts,
    DetectorFacts,
    EmapFacts,
    LandmarkFacts,
    LipsyncFacts,
    MaskFacts,
    RestorerFacts,
    SwapperFacts,
)
from models.onnx_file import Initializer, OnnxFile, Tensor
from models.spec import Spec
from models.tables import TableError, from_table, read_toml

__all__ = [
    "ROLES",
    "Contract",
    "DetectorFacts",
    "EmapFacts",
    "Match",
    "Role",
    "Template",
    "bind",
    "contract_names",
    "find_emap",
    "load_contract",
    "load_template",
]

FOLDER = Path(__file__).parent
Role = Literal[
    "detector",
    "refiner",
    "landmarks",
    "attributes",
    "embedder",
    "identity_map",
    "swapper",
    "restorer",
    "mask",
    "audio_encoder",
    "lipsync",
    "autoencoder",
]
ROLES: tuple[Role, ...] = get_args(Role)
# the table that a role needs, by the name of its field
_TABLES = {
    "detector": "detector",
    "landmarks": "landmarks",
    "attributes": "attributes",
    "swapper": "swapper",
    "restorer": "restorer",
    "mask": "mask",
    "audio_encoder": "audio",
    "lipsync": "lipsync",
    "autoencoder": "autoencoder",
}


@dataclass(frozen=True)
class Template:
    """Where five points (left eye, right eye, nose, left and right mouth corner; image order) stand in a crop.

    `points_px` are pixels of a crop of `size_px` x `size_px`. A template that was published as fractions of the
    side keeps its exact numbers: its `size_px` is 1. Either scales to a crop of S px by S / `size_px`.
    """

    size_px: int
    points_px: tuple[tuple[float, float], ...]
    origin: str = ""

    def __post_init__(self) -> None:
        if len(self.points_px) != 5 or any(len(point) != 2 for point in self.points_px):
            raise ValueError(f"points_px: wanted five pairs, got {len(self.points_px)} entries; correct the list")


@dataclass(frozen=True)
class Drift:
    """What a reduced precision may cost: PSNR of the outputs against FP32 over the contract's value range."""

    fp16_psnr_db: float = 40.0
    int8_psnr_db: float = 30.0


@dataclass(frozen=True)
class Contract:
    """One model's contract. `inputs` and `outputs` map our names to Specs; Spec.names are the file's names.

    `file` is the published file's name, `also_named` other names of it (`*` stands for any letters); where no
    ONNX is published, `checkpoint` is the published file and `file` the name that an export of it takes.
    `uncertain`: facts that nobody checked on the real file, in words. `weights`: the type that most of them have,
    any where both are in use or nobody said. `packaged`: path in this package. `template`: how the picture is
    aligned; `embedder`: contracts whose identity it takes. `constants`: inputs that every run holds at one value.
    The other tables: what the role needs, see models/facts.py.
    """

    name: str
    role: Role
    file: str
    origin: str
    inputs: dict[str, Spec]
    outputs: dict[str, Spec]
    also_named: tuple[str, ...] = ()
    checkpoint: str = ""
    used_by: tuple[str, ...] = ()
    licence: str = ""
    uncertain: tuple[str, ...] = ()
    weights: Literal["float32", "float16", "any"] = "float32"
    packaged: str = ""
    drawn_faces_only: bool = False
    template: str = ""
    embedder: tuple[str, ...] = ()
    constants: dict[str, float] = field(default_factory=dict)
    detector: DetectorFacts | None = None
    landmarks: LandmarkFacts | None = None
    attributes: AttributeFacts | None = None
    emap: EmapFacts | None = None
    swapper: SwapperFacts | None = None
    restorer: RestorerFacts | None = None
    mask: MaskFacts | None = None
    audio: AudioFacts | None = None
    lipsync: LipsyncFacts | None = None
    autoencoder: AutoencoderFacts | None = None
    drift: Drift = field(default_factory=Drift)

    def __post_init__(self) -> None:
        table = _TABLES.get(self.role)
        if table and getattr(self, table) is None:
            raise ValueError(f"{table}: wanted a table for the role {self.role}, got none; add it")
        if self.role in ("refiner", "embedder", "swapper", "restorer") and not self.template:
            raise ValueError(f"template: wanted a name for the role {self.role}, got none; name one of templates.toml")
        takes_identity = self.swapper is not None and self.swapper.source == "embedding"
        if (takes_identity or self.role == "identity_map") and not self.embedder:
            raise ValueError("embedder: wanted the contracts whose identity it takes, got none; name them")
        for side, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            for name, spec in specs.items():
                if spec.colour and not (spec.mean and spec.std and spec.layout):
                    raise ValueError(
                        f"{side}.{name}: wanted mean, std and layout of a picture, got a colour alone; add them"
                    )
                if len(specs) > 1 and not (spec.names or spec.by_shape):
                    raise ValueError(f"{side}.{name}: wanted names or by_shape, got neither; add one")
        if both := set(self.inputs) & set(self.outputs):
            raise ValueError(f"outputs: wanted other names than the inputs', got {', '.join(both)}; rename one")
        for name in self.constants:
            if name not in self.inputs:
                raise ValueError(f"constants: wanted one of {', '.join(self.inputs)}, got {name}; correct the name")


@dataclass(frozen=True)
class Match:
    """An ONNX file against a contract. `tensors`: our name -> the file's; no `misfits` means that it fits.

    `alike` counts the tensors that have one of the contract's names, and the emap, once more where it has its
    name: of several contracts that fit, or that all misfit, the one with more is nearer.
    """

    contract: Contract
    tensors: dict[str, str]
    misfits: tuple[str, ...]
    alike: int


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
        raise TableError(f"template {name}: wanted one of {', '.join(sorted(tables))}, got {name!r}; correct the name")
    return from_table(Template, tables[name], f"models/templates.toml: {name}")


def bind(contract: Contract, onnx: OnnxFile) -> Match:
    """An ONNX file's tensors under a contract, and every way in which it does not fit.

    A tensor is found by one of its Spec's names; by its shape where the Spec says so and one alone fits; and a
    contract with a single input (or output) takes a file's only one, whatever its name. Positions are never used.
    """
    tensors: dict[str, str] = {}
    misfits: list[str] = []
    for side, specs, found in (
        ("input", contract.inputs, onnx.inputs),
        ("output", contract.outputs, onnx.outputs),
    ):
        bound, faults = _bind_side(side, specs, found)
        tensors.update(bound)
        misfits += faults
    misfits += _axes_that_differ(contract, onnx, tensors)
    specs = {**contract.outputs, **contract.inputs}
    alike = sum(found in specs[name].names for name, found in tensors.items())
    if contract.emap is not None:
        emap = find_emap(contract.emap, onnx)
        if emap is None:
            size = contract.emap.size
            misfits.append(f"emap: wanted an initializer of {size} x {size} that no node uses, got none")
        else:
            alike += 1 + (emap.name in contract.emap.names)
    weights = _weight_type(onnx)
    if weights and contract.weights not in ("any", weights):
        misfits.append(f"weights: wanted {contract.weights}, got mostly {weights}")
    return Match(contract, tensors, tuple(misfits), alike)


def _bind_side(side: str, specs: dict[str, Spec], tensors: dict[str, Tensor]) -> tuple[dict[str, str], list[str]]:
    bound: dict[str, str] = {}
    faults: list[str] = []
    for name, spec in specs.items():
        found = next((candidate for candidate in spec.names if candidate in tensors), None)
        if found is None and len(specs) == len(tensors) == 1:
            found = next(iter(tensors))
        if found is not None:
            bound[name] = found
    for name, spec in specs.items():
        if name in bound:
            misfit = spec.misfit(*tensors[bound[name]])
            # an output whose shape the exporter left out is checked when the file is run
            if misfit and not (side == "output" and not tensors[bound[name]][1]):
                faults.append(f"{side} {bound[name]}: {misfit}")
            continue
        free = [tensor for tensor in tensors if tensor not in bound.values()]
        fits = [tensor for tensor in free if spec.by_shape and not spec.misfit(*tensors[tensor])]
        if len(fits) == 1:
            bound[name] = fits[0]
            continue
        wanted = f"a tensor named {' or '.join(spec.names)}" if spec.names else f"no other {side}"
        faults.append(
            f"{side} {name}: wanted {wanted}{f', or one alone of {spec}' * spec.by_shape}, got {_list(tensors)}"
        )
    if side == "input" and len(tensors) > len(specs):
        faults.append(f"inputs: wanted {len(specs)}, got {_list(tensors)}")
    return bound, faults


def _axes_that_differ(contract: Contract, onnx: OnnxFile, tensors: dict[str, str]) -> list[str]:
    """Named axes to which a file gives several sizes."""
    sizes: dict[str, set[int]] = {}
    for specs, found in ((contract.inputs, onnx.inputs), (contract.outputs, onnx.outputs)):
        for name, spec in specs.items():
            shape = found[tensors[name]][1] if name in tensors else ()
            if len(shape) != len(spec.shape):
                continue
            for axis, size in zip(spec.shape, shape, strict=True):
                if isinstance(axis, str) and isinstance(size, int):
                    sizes.setdefault(axis, set()).add(size)
    return [
        f"axis {axis}: wanted one size, got {' and '.join(map(str, sorted(several)))}"
        for axis, several in sizes.items()
        if len(several) > 1
    ]


def find_emap(facts: EmapFacts, onnx: OnnxFile) -> Initializer | None:
    """The identity map of a swapper: by name, or as the square initializer of its size that no node uses.

    Of several, the last: that is the one that its users take, whatever its name.
    """
    square = [item for item in onnx.initializers if item.shape == (facts.size, facts.size)]
    named = [item for item in square if item.name in facts.names]
    unused = [item for item in square if item.name not in onnx.consumed]
    if named:
        return named[0]
    return unused[-1] if unused else None


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


def _list(tensors: dict[str, Tensor]) -> str:
    return ", ".join(tensors) or "none"
