"""A checkpoint becomes the ONNX file of a contract: read, fit by name, exported, checked, run beside PyTorch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.contract import Contract, load_contract
from models.convert.checkpoint import read_checkpoint, require
from models.convert.errors import ConvertError
from models.convert.export import BOUND, OTHERS, TRACED, Array, Difference, difference, random_inputs, write_onnx
from models.convert.keys import Fit, Shapes, best_fit
from models.convert.topologies import TOPOLOGIES, Topology, topology_of
from models.model_files import ModelFileError, open_file
from models.onnx_file import sha256_of
from models.spec import Spec

__all__ = ["Converted", "convert"]


@dataclass(frozen=True)
class Converted:
    """What was written, from which weights, and how far ONNX Runtime is from PyTorch on random input."""

    path: Path
    contract: Contract
    part: str
    fit: Fit
    parameters: int
    difference: Difference


def convert(
    checkpoint: Path,
    wanted: str,
    out: Path | None = None,
    *,
    part: str = "full",
    prefix: str | None = None,
    replace: bool = False,
) -> Converted:
    """Writes the ONNX file of the contract `wanted` from a published checkpoint of it; raises ConvertError.

    `out` defaults to the contract's file name beside the checkpoint. `part` cuts a network where its users cache:
    "ref" runs once for a person, "frame" for every picture. `prefix` is what stands before the weights' names, where
    it is not found by itself. The file appears under its name only when all checks have passed.
    """
    topology, contract = topology_of(wanted, part), load_contract(wanted)
    target = _target(checkpoint, contract, part, out, replace)
    found = read_checkpoint(checkpoint)
    network, fitted = _filled(checkpoint, contract, topology, found, prefix)
    full = random_inputs(contract, TRACED)
    notes = {
        "contract": wanted,
        "part": part,
        "checkpoint_sha256": sha256_of(checkpoint),
        "torch": str(require("torch", "convert", "face-engine[train]").__version__),
    }
    # made by whoever writes it, so that others may read it as they may any file of the user's
    temporary = target.parent / f".{target.stem}-{os.getpid()}.part"
    try:
        if part == "full":
            worst = _write_full(network, contract, full, temporary, notes)
        else:
            worst = _write_part(network, topology, part, full, temporary, notes)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    parameters = sum(int(value.numel()) for value in network.parameters())
    return Converted(target, contract, part, fitted, parameters, worst)


def _target(checkpoint: Path, contract: Contract, part: str, out: Path | None, replace: bool) -> Path:
    name = contract.file if part == "full" else f"{Path(contract.file).stem}_{part}.onnx"
    target = out if out is not None else checkpoint.with_name(name)
    if target.suffix.lower() != ".onnx":
        raise ConvertError(f"--out: wanted a file that ends in .onnx, got {target}; correct the name")
    if not target.parent.is_dir():
        raise ConvertError(f"--out: wanted an existing folder, got {target.parent}; create it")
    if target.exists() and not replace:
        raise ConvertError(f"{target}: wanted a new file, got one that is there; name another by --out, or --replace")
    return target


def _filled(
    checkpoint: Path,
    contract: Contract,
    topology: Topology,
    found: Mapping[str, Mapping[str, Any]],
    prefix: str | None,
) -> tuple[Any, Fit]:
    """The network with the file's weights, ready to run, and where they were."""
    torch = require("torch", "rebuild the network", "face-engine[train]")
    parts = {place: {name: tuple(value.shape) for name, value in arrays.items()} for place, arrays in found.items()}
    fitted = best_fit(parts, lambda shapes: _wanted(topology, shapes), topology.unused, prefix)
    if fitted is None or fitted.faults:
        raise ConvertError(_misfit(checkpoint, contract, topology, parts, fitted))
    network = _built(topology, parts[fitted.part])
    names = _wanted(topology, parts[fitted.part])
    arrays = found[fitted.part]
    values = {name: arrays[fitted.prefix + name] for name in names if fitted.prefix + name in arrays}
    broken = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ConvertError(
            f"{checkpoint}: wanted finite weights, got NaN or infinity in {broken[0]}; download or train it again"
        )
    network.load_state_dict(values, strict=False)  # the names were compared above; counters may be left out
    return network.eval().requires_grad_(False), fitted


def _built(topology: Topology, shapes: Shapes) -> Any:
    module, _, function = topology.build.partition(":")
    return getattr(importlib.import_module(f"models.convert.nets.{module}"), function)(shapes, **topology.fixed)


def _wanted(topology: Topology, shapes: Shapes) -> Shapes:
    """Names and shapes of a network's weights, without the memory for them."""
    torch = require("torch", "rebuild the network", "face-engine[train]")
    with torch.device("meta"):
        network = _built(topology, shapes)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _misfit(
    checkpoint: Path, contract: Contract, topology: Topology, parts: Mapping[str, Shapes], fitted: Fit | None
) -> str:
    got = "a file without weights" if fitted is None else f"in {fitted.place}: {fitted.describe()}"
    others = [
        name
        for name, other in TOPOLOGIES.items()
        if other is not topology
        and (one := best_fit(parts, lambda shapes, other=other: _wanted(other, shapes), other.unused)) is not None  # type: ignore[misc]
        and not one.faults
    ]
    do = f"it has the weights of {others[0]}: --as {others[0]}" if others else f"wanted is {topology.of}"
    count = "" if fitted is None else f"{fitted.wanted} "
    return f"{checkpoint}: wanted the {count}weights of {contract.name}, got {got}; {do}"


def _write_full(
    network: Any, contract: Contract, full: dict[str, Array], path: Path, notes: Mapping[str, str]
) -> Difference:
    specs = {**contract.inputs, **contract.outputs}
    outputs = [spec.names[0] for spec in contract.outputs.values()]
    axes = {spec.names[0]: free for spec in specs.values() if (free := _free(spec))}
    write_onnx(network, full, outputs, axes, path, notes)
    try:
        open_file(contract, path)
    except ModelFileError as error:
        raise ConvertError(str(error)) from error
    runs = [full, random_inputs(contract, OTHERS, seed=1)] if axes else [full]
    return max((_checked(network, path, run, outputs) for run in runs), key=lambda one: one.share)


def _write_part(
    network: Any, topology: Topology, part: str, full: dict[str, Array], path: Path, notes: Mapping[str, str]
) -> Difference:
    """A half has no contract; it is held to the same half in PyTorch."""
    torch = require("torch", "cut the network", "face-engine[train]")
    cut = topology.parts[part]
    kept = topology.parts["ref"]
    with torch.no_grad():
        made = getattr(network, kept.method)(*(torch.from_numpy(full[name]) for name in kept.inputs))
    made = made if isinstance(made, tuple) else (made,)
    known = {**full, **{name: value.numpy() for name, value in zip(kept.outputs, made, strict=True)}}
    inputs = {name: known[name] for name in cut.inputs}
    from models.convert.nets.blocks import Method  # needs PyTorch

    half = Method(network, cut.method).eval()
    axes = {name: {0: "n"} for name in (*cut.inputs, *cut.outputs)}
    write_onnx(half, inputs, cut.outputs, axes, path, notes)
    # two samples at once: a tracer may have frozen the batch
    pair = {name: np.concatenate([array, np.flip(array, -1)]) for name, array in inputs.items()}
    runs = (inputs, pair)
    return max((_checked(half, path, run, cut.outputs) for run in runs), key=lambda one: one.share)


def _free(spec: Spec) -> dict[int, str]:
    return {number: axis for number, axis in enumerate(spec.shape) if isinstance(axis, str)}


def _checked(network: Any, path: Path, inputs: Mapping[str, Array], outputs: Any) -> Difference:
    found = difference(network, path, inputs, outputs)
    if not found.share <= BOUND:
        raise ConvertError(
            f"{path}: output {found.output}: wanted ONNX Runtime within {BOUND:g} of PyTorch's largest value, got "
            f"{found.value:.3g} of {found.largest:.3g}; report it with the versions of torch and onnxruntime"
        )
    return found
