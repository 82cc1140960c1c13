"""How each network of the pack is trained, from a TOML file: pack.toml beside this module, or a user's own copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.tables import TableError, from_table, read_toml

PACK = Path(__file__).with_name("pack.toml")

Look = Literal["classic", "film"]
Module = Literal[
    "detector", "refiner", "embedder", "swapper", "parser", "occluder", "points68", "restorer", "lipsync"
]  # fmt: skip
Kind = Literal[
    "embed", "refine", "swap", "scene", "room", "part", "boxed_part", "mouth", "voice", "restore"
]  # fmt: skip
_OTHER: dict[Look, Look] = {"classic": "film", "film": "classic"}
_LEAST = 64  # pictures of a kind that a scaled-down run still has, where the run has as many


@dataclass(frozen=True)
class Pictures:
    """Drawn samples of one kind. look: the network's own, the other one, or one that the kind alone has."""

    kind: Kind
    count: int
    look: Literal["own", "other", "film"] = "own"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count: wanted at least one sample, got {self.count}; correct it")


@dataclass(frozen=True)
class Drawn:
    """Samples as the store keeps them: a kind, a look, a count and a seed name a folder."""

    kind: str
    look: str
    count: int
    seed: int


@dataclass(frozen=True)
class Setting:
    """What depends on the device: minutes of training from nothing, samples a step, samples to draw."""

    minutes: float
    batch: int
    pictures: tuple[Pictures, ...]

    def __post_init__(self) -> None:
        if not self.minutes > 0.0:
            raise ValueError(f"minutes: wanted more than 0, got {self.minutes}; correct it")
        if self.batch < 1:
            raise ValueError(f"batch: wanted at least 1, got {self.batch}; correct it")
        if not self.pictures:
            raise ValueError("pictures: wanted at least one kind, got none; name what the network sees")


@dataclass(frozen=True)
class Network:
    """One network. after: whose files it learns from; share: of a whole pack's minutes; figures: evaluate's group."""

    module: Module
    look: Look
    seed: int
    learning_rate: float
    share: float
    figures: str
    cpu: Setting
    cuda: Setting
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate: wanted more than 0, got {self.learning_rate}; correct it")
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share: wanted more than 0 and at most 1, got {self.share}; correct it")
        if self.look not in self.looks:
            raise ValueError(f"look: wanted {', '.join(self.looks)}, which its pictures have, got {self.look}")

    @property
    def looks(self) -> tuple[Look, ...]:
        """The looks that it can be trained in: some labels are drawn in one alone."""
        alone = {part.look for setting in (self.cpu, self.cuda) for part in setting.pictures} & {"film"}
        return ("film",) if alone else ("classic", "film")

    def on(self, device: str) -> Setting:
        """The setting for a device: cpu, cuda, cuda:1 and so on."""
        return self.cuda if device.startswith("cuda") else self.cpu

    def drawn(self, device: str, look: Look, seed: int, first: int = 0) -> tuple[Drawn, ...]:
        """Its samples, in the file's order. first: how many of the first kind instead; the others keep their ratio."""
        parts = self.on(device).pictures
        first = first or parts[0].count
        least = min(_LEAST, first)
        counts = [first, *(max(least, round(first * part.count / parts[0].count)) for part in parts[1:])]
        looks = {"own": look, "other": _OTHER[look], "film": "film"}
        return tuple(Drawn(part.kind, looks[part.look], count, seed) for part, count in zip(parts, counts, strict=True))


@dataclass(frozen=True)
class Recipe:
    """All networks of a file, in its order: each stands below those it learns from."""

    path: Path
    networks: dict[str, Network]

    def network(self, name: str) -> Network:
        """One network; raises TableError with the names that there are."""
        if name not in self.networks:
            raise TableError(f"{self.path}: wanted one of {', '.join(self.networks)}, got {name!r}; correct the name")
        return self.networks[name]

    def with_needed(self, name: str) -> tuple[str, ...]:
        """A network and all that have to be trained before it, in the order of training."""
        needed, open_names = {name}, [name]
        while open_names:
            fresh = set(self.network(open_names.pop()).after) - needed
            needed |= fresh
            open_names.extend(fresh)
        return tuple(known for known in self.networks if known in needed)


def read_recipe(path: Path | None = None) -> Recipe:
    """The recipe of a file, the pack's own by default. Raises TableError in one sentence for what does not fit."""
    path = path or PACK
    networks: dict[str, Network] = {}
    for name, table in read_toml(path).items():
        where = f"{path.name}: {name}"
        if not isinstance(table, dict):
            raise TableError(f"{where}: wanted the table of a network, got {table!r}; write [NAME] above its keys")
        network = from_table(Network, table, where)
        for before in network.after:
            if before not in networks:
                raise TableError(
                    f"{where}.after: wanted networks that stand above it, got {before!r}; move or remove it"
                )
        networks[name] = network
    if not networks:
        raise TableError(f"{path}: wanted at least one network, got an empty file; copy {PACK.name} and change it")
    return Recipe(path, networks)
