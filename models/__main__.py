"""python -m models {add,convert,list,train,twin}: which ONNX file serves which contract; checkpoints made into such
files; the tiny pack's networks trained again; random twins for cost and tests.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from models.contract import ROLES, Contract, contract_names, load_contract
from models.convert import PARTS, TOPOLOGIES, ConvertError, convert
from models.model_files import ModelFileError, add, folder, installed
from models.tables import TableError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 2 when the file or the name does not fit, 130 for a paused training."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="check an ONNX file and take it into the model folder")
    adding.add_argument("file", type=Path)
    adding.add_argument("--as", dest="wanted", metavar="CONTRACT", help="the contract, where several fit")
    adding.add_argument("--replace", action="store_true", help="replace the file that serves the contract now")
    _add_convert(commands)
    commands.add_parser("list", help="contracts by role, and the files that serve them")
    _add_train(commands)
    twin = commands.add_parser("twin", help="write a published topology with random weights, for cost and tests only")
    twin.add_argument("rest", nargs=argparse.REMAINDER, help="NAME and options; without any, all are listed")
    chosen = parser.parse_args(arguments)
    if chosen.command == "twin":
        from models.twins.__main__ import main as write_twins  # needs the extra "build"

        return write_twins(chosen.rest)
    if chosen.command == "train":
        return _train(chosen)
    try:
        if chosen.command == "add":
            _add(chosen.file, chosen.wanted, chosen.replace)
        elif chosen.command == "convert":
            _convert(chosen)
        else:
            _list()
    except (ModelFileError, TableError, ConvertError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _add_convert(commands: Any) -> None:
    parser = commands.add_parser("convert", help="make the ONNX file of a contract from a published checkpoint")
    parser.add_argument("checkpoint", type=Path, help=".pth, .pt, .pkl, .ckpt or .safetensors")
    parser.add_argument("--as", dest="wanted", metavar="CONTRACT", required=True, help="which network it holds")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="default: the contract's name, beside CKPT")
    parser.add_argument(
        "--part", default="full", metavar="|".join(PARTS), help="of a network with references: one half"
    )
    parser.add_argument("--prefix", help="what stands before the weights' names, where it is not found by itself")
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a network of the tiny pack on drawn faces; resumable")
    parser.add_argument("name", metavar="NAME", help="a network of the recipe, or all: the pack with its card")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: tiny-trained/LOOK in the user's cache")
    parser.add_argument("--minutes", type=float, help="of training; default: the recipe's. For all: of the whole run")
    parser.add_argument("--steps", type=int, default=0, help="end after so many: the same on every machine")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where PyTorch finds one")
    parser.add_argument("--look", choices=("classic", "film"), help="of the drawings; default: the recipe's")
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="a changed copy of models/tiny/train/pack.toml, the recipe"
    )
    parser.add_argument("--pictures", type=float, default=1.0, help="share of the recipe's number of training pictures")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that draw")
    parser.add_argument("--share", type=float, default=0.2, help="share of the card's sample counts to measure with")
    parser.add_argument("--dry-run", action="store_true", help="say what would be drawn and run, and end")


def _train(chosen: argparse.Namespace) -> int:
    from models.training import TrainingError, train  # draws faces; what the other commands do not need

    try:
        return train(chosen)
    except (TableError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 2


def _convert(chosen: argparse.Namespace) -> None:
    made = convert(
        chosen.checkpoint, chosen.wanted, chosen.out, part=chosen.part, prefix=chosen.prefix, replace=chosen.replace
    )
    worst = made.difference
    beside = f", {made.fit.unused} that no output needs left out" if made.fit.unused else ""
    print(f"{made.path}: {made.contract.name}{'' if made.part == 'full' else f', the half {made.part}'}")
    print(f"  weights     {made.fit.wanted} from {made.fit.place}{beside}; {made.parameters / 1e6:.3f} M parameters")
    print(f"  difference  {worst.value:.2g} between PyTorch and ONNX Runtime on random input, of {worst.largest:.3g}")
    _tell_doubts(made.contract)
    if made.part == "full":
        print(f"take it in: python -m models add {made.path} --as {made.contract.name}")


def _add(file: Path, wanted: str | None, replace: bool) -> None:
    taken = add(file, wanted, replace=replace)
    print(f"{file} serves {taken.contract.name} ({taken.contract.role})")
    print(f"  sha256  {taken.sha256}")
    print(f"  kept as {taken.path}")
    for name, tensor in taken.tensors.items():
        print(f"  {name:<12} {tensor}")
    _tell_doubts(taken.contract)


def _list() -> None:
    held = installed()
    contracts = [load_contract(name) for name in contract_names()]
    print(f"model folder: {folder()}")
    for role in ROLES:
        print(role)
        for contract in contracts:
            if contract.role != role:
                continue
            state = held.get(contract.name)
            print(f"  {contract.name:<24} {state or _missing(contract)}{_drawn(contract)}")
            if state:
                _tell_doubts(contract)


def _missing(contract: Contract) -> str:
    if contract.packaged:
        return "no file"
    if contract.drawn_faces_only:
        return f"no file; python -m models train {contract.name.removeprefix('tiny_')} makes it"
    if contract.checkpoint and contract.name in TOPOLOGIES:
        return f"no file; published as {contract.checkpoint}: python -m models convert CKPT --as {contract.name}"
    if contract.checkpoint:
        return f"no file; published as {contract.checkpoint}, to be exported to ONNX"
    return f"no file; published as {contract.file}"


def _drawn(contract: Contract) -> str:
    return " (drawn faces only)" if contract.drawn_faces_only else ""


def _tell_doubts(contract: Contract) -> None:
    for doubt in contract.uncertain:
        print(f"  uncertain: {doubt}")


if __name__ == "__main__":
    sys.exit(main())
