"""python -m models {add,list}: which ONNX file serves which contract."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.contract import contract_names, load_contract
from models.library import ModelFileError, add, folder, installed
from models.tables import TableError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 2 when the file or the name does not fit."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="check an ONNX file and take it into the model folder")
    adding.add_argument("file", type=Path)
    adding.add_argument("--as", dest="wanted", metavar="CONTRACT", help="the contract, where several fit")
    adding.add_argument("--replace", action="store_true", help="replace the file that serves the contract now")
    commands.add_parser("list", help="contracts, the files that serve them, and what each is for")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "add":
            _add(chosen.file, chosen.wanted, chosen.replace)
        else:
            _list()
    except (ModelFileError, TableError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _add(file: Path, wanted: str | None, replace: bool) -> None:
    taken = add(file, wanted, replace=replace)
    print(f"{file} serves {taken.contract.name} ({taken.contract.role})")
    print(f"  sha256  {taken.sha256}")
    print(f"  kept as {taken.path}")
    for name, tensor in taken.tensors.items():
        print(f"  {name:<12} {tensor}")


def _list() -> None:
    held = installed()
    print(f"model folder: {folder()}")
    for name in contract_names():
        contract = load_contract(name)
        state = held.get(name)
        shown = f"{state}{' (drawn faces only)' if contract.drawn_faces_only else ''}" if state else "no file"
        print(f"  {name:<20} {contract.role:<9} {shown}")
        for doubt in contract.uncertain:
            print(f"  {'':<20} uncertain: {doubt}")


if __name__ == "__main__":
    sys.exit(main())
