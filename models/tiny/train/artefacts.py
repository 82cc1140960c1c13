"""What a trained network leaves beside its file: its loss curve, a grid of pictures and its figures.

python -m models.tiny.train.artefacts --folder FOLDER --network NAME writes tiny_NAME.curve.png, .grid.png and, last,
.figures.json. Only the exported file is looked at; PyTorch is not needed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.tiny.renderer import LOOKS
from models.tiny.renderer.png import write_png
from models.tiny.train import evaluate, grids, picture_file
from models.tiny.train.folders import PACKAGED, packaged_look, records
from models.tiny.train.recipe import Network, read_recipe


@dataclass(frozen=True)
class Trained:
    """A network in a folder. stands_in: under which name a pack has it (a judge is measured as an embedder)."""

    folder: Path
    name: str
    network: Network
    look: str

    @property
    def stands_in(self) -> str:
        """The module's name: a second embedder is opened where a pack has its first."""
        return self.network.module

    def path(self, ending: str) -> Path:
        """tiny_NAME and an ending, in the folder."""
        return self.folder / f"tiny_{self.name}{ending}"


def why_no_figures(trained: Trained) -> str:
    """What keeps a network from being measured, in words; nothing where it can be.

    A group's other files come from the folder, or are the packaged ones where those know the same look.
    """
    group = trained.network.figures
    if group not in evaluate._GROUPS:
        return f"models.tiny.train.evaluate has no group {group}, only {', '.join(evaluate._GROUPS)}"
    if packaged_look() == trained.look:
        return ""
    lacks = sorted(other for other in _read(trained) if not (trained.folder / f"tiny_{other}.onnx").exists())
    return f"no {' and no '.join(lacks)} of the {trained.look} look there" if lacks else ""


def _read(trained: Trained) -> set[str]:
    """Whose files the network's group of figures reads besides its own."""
    choices = [set(names) for names in evaluate._NEEDS[trained.network.figures] if trained.stands_in in names]
    return set().union(*choices) - {trained.stands_in}


@contextmanager
def beside_the_packaged(trained: Trained) -> Iterator[Path]:
    """A folder for a while: the network and the others that its figures read, packaged ones where it has none.

    What else was trained into the network's folder is not in it: its figures are its own.
    """
    reads = _read(trained) if trained.network.figures in evaluate._NEEDS else set()
    with tempfile.TemporaryDirectory(prefix="tiny-pack-") as name:
        folder = Path(name)
        for other in reads:
            own = trained.folder / f"tiny_{other}.onnx"
            (folder / own.name).symlink_to(own.resolve() if own.exists() else PACKAGED / own.name)
        (folder / f"tiny_{trained.stands_in}.onnx").symlink_to(trained.path(".onnx").resolve())
        judge = trained.folder / "tiny_judge.onnx"
        if trained.network.figures == "swapping" and judge.exists():
            (folder / judge.name).symlink_to(judge.resolve())
        if trained.path(".curve.json").exists():
            (folder / trained.path(".curve.json").name).symlink_to(trained.path(".curve.json").resolve())
        (folder / "card.json").write_text(json.dumps({"look": trained.look}), encoding="utf-8")
        yield folder


def figures(trained: Trained, folder: Path, share: float) -> dict[str, float]:
    """The network's group of figures on held-out drawings, rounded; what too few samples leave open is left out."""
    found = evaluate.group(trained.network.figures, folder, share, trained.look)
    return {name: round(value, 5) for name, value in found.items() if math.isfinite(value)}


def _missed(trained: Trained, found: dict[str, float]) -> list[str]:
    """The bars of the pack's tests, and beyond them what was wanted of it, that the figures miss, in words."""
    own = {trained.network.figures: found}
    held = evaluate.missed(own, evaluate.BARS)
    return [*(f"bar {one}" for one in held), *(f"wish {one}" for one in evaluate.missed(own, evaluate.WANTED))]


def write(trained: Trained, share: float) -> dict[str, float]:
    """Writes curve, grid and figures; returns the figures, none where a pack is not whole enough for them."""
    why = why_no_figures(trained)
    with beside_the_packaged(trained) as folder:
        if trained.path(".curve.json").exists():
            write_png(trained.path(".curve.png"), picture_file.curves(folder))
        write_png(trained.path(".grid.png"), grids.GRIDS[trained.network.module](folder, trained.look))
        found = {} if why else figures(trained, folder, share)
    if why:
        print(f"{trained.name}: no figures: {why}")
    told = {"share": share, trained.network.figures: found, "missed": _missed(trained, found)}
    part = trained.path(".figures.part")
    part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    part.replace(trained.path(".figures.json"))
    return found


def main() -> None:
    """python -m models.tiny.train.artefacts"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.artefacts")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--network", required=True, metavar="NAME")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="the recipe that trained it")
    parser.add_argument("--look", choices=LOOKS, help="default: what its record says")
    parser.add_argument("--share", type=float, default=0.2, help="share of the card's sample counts to draw")
    given = parser.parse_args()
    network = read_recipe(given.config).network(given.network)
    runs = records(given.folder, given.network)
    look = given.look or (str(runs[-1]["look"]) if runs else network.look)
    for name, value in write(Trained(given.folder, given.network, network, look), given.share).items():
        print(f"  {name:<28} {value}")


if __name__ == "__main__":
    main()
