"""python -m models.twins [NAME]: write a twin into the cache, or list them all with their cost."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.twins.builder import NOTICE, TwinError
from models.twins.registry import TWINS, cache_folder, count_twin, write_twin


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when it succeeded, 2 when a name or an option does not fit."""
    parser = argparse.ArgumentParser(prog="python -m models.twins", description=__doc__)
    parser.add_argument("name", nargs="?", help="the twin to write; without it, all are listed")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="e.g. batch=4, half=true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help=f"default {cache_folder()}")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.name is None:
            _list()
        else:
            _write(chosen.name, chosen.folder, chosen.seed, _pairs(chosen.option))
    except TwinError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key in ("name", "folder", "seed"):
            raise TwinError(f"--option: wanted KEY=VALUE of the twin's options, got {text!r}; list them without NAME")
        pairs[key] = value
    return pairs


def _write(name: str, folder: Path | None, seed: int, options: dict[str, str]) -> None:
    path = write_twin(name, folder, seed=seed, **options)
    cost = count_twin(name, **options)
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    print(f"  twin of {TWINS[name].of}; {NOTICE}")
    print(f"  {cost.parameters / 1e6:.3f} M parameters, {cost.macs / 1e9:.4g} GMACs")


def _list() -> None:
    print(f"{NOTICE}; kept in {cache_folder()}")
    for name, twin in TWINS.items():
        cost = count_twin(name)
        options = ", ".join(f"{key}={value}" for key, value in twin.defaults.items())
        print(f"  {name:<20} {cost.parameters / 1e6:8.3f} M {cost.macs / 1e9:9.4g} GMACs  {options}")


if __name__ == "__main__":
    sys.exit(main())
