"""Which weights of a checkpoint are the network's: parts, prefixes, and what is missing, extra or of another shape.

Names and shapes only: nothing here needs PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Fit", "Shape", "Shapes", "axis_size", "best_fit", "fit", "prefixes", "state_dicts"]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

DEPTH = 4  # how deep a file nests its state dicts: {"state_dict": {"net_g": {...}}} is two
SHOWN = 3  # names written out of each kind of fault
# where a file holds several states of one network, the averaged one is what its users run
PREFERRED = ("params_ema", "ema", "params", "net_g", "netG", "generator", "state_dict", "model")
# what norms count while they train, synchronised ones (DINet's) too
_COUNTERS = re.compile(r"(^|\.)(num_batches_tracked|_tmp_running_(mean|var)|_running_iter)$")


@dataclass(frozen=True)
class Fit:
    """One state dict of a file against the names and shapes of a network.

    `part` is where it lies in the file, "" at the top; `prefix` stands before every name. `unused` counts weights
    that the published file holds besides and that no output depends on. `reshaped`: name, wanted and found shape.
    """

    part: str
    prefix: str
    wanted: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: tuple[tuple[str, Shape, Shape], ...]
    unused: int

    @property
    def faults(self) -> int:
        """How many names do not fit."""
        return len(self.missing) + len(self.extra) + len(self.reshaped)

    @property
    def place(self) -> str:
        """Where in the file the weights were found, in words."""
        return f"{self.part or 'the top'}{f' behind the prefix {self.prefix}' if self.prefix else ''}"

    def describe(self) -> str:
        """The faults: how many of each kind, and the first few by name."""
        kinds = (
            ("missing", self.missing),
            ("extra", self.extra),
            (
                "of another shape",
                [f"{name}: wanted {_text(mine)}, got {_text(its)}" for name, mine, its in self.reshaped],
            ),
        )
        return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names)


def state_dicts(loaded: Any) -> dict[str, dict[str, Any]]:
    """Every state dict of a loaded file: its place ("state_dict.net_g", "" at the top) -> name -> array.

    A state dict is a mapping of names to things with a shape; what stands between them (a step count) is left out.
    """
    found: dict[str, dict[str, Any]] = {}

    def look(item: Any, place: str, depth: int) -> None:
        if not isinstance(item, Mapping) or depth > DEPTH:
            return
        arrays = {name: value for name, value in item.items() if isinstance(name, str) and hasattr(value, "shape")}
        if arrays:
            found[place] = arrays
        for name, value in item.items():
            if isinstance(name, str) and isinstance(value, Mapping):
                look(value, f"{place}.{name}" if place else name, depth + 1)

    look(loaded, "", 0)
    return found


def prefixes(found: Iterable[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """What may stand before the names: nothing, and all that stands before the longest wanted one ("module.")."""
    anchor = max(wanted, key=lambda name: (len(name), name))
    before = {name[: -len(anchor)] for name in found if name.endswith(f".{anchor}")}
    return ("", *sorted(before))


def fit(part: str, prefix: str, found: Shapes, wanted: Shapes, unused: Iterable[str] = ()) -> Fit:
    """A state dict behind one prefix against the wanted names; `unused` are patterns of names that may be there too.

    What stands outside the prefix is extra, unless a pattern knows it. Counters of batch norms are in neither count.
    """
    known = [re.compile(pattern) for pattern in unused]
    counted = {name: shape for name, shape in found.items() if not _COUNTERS.search(name)}
    inside = {name[len(prefix) :]: shape for name, shape in counted.items() if name.startswith(prefix)}
    beside = {name: name for name in counted if not name.startswith(prefix)}
    beside |= {prefix + name: name for name in inside if name not in wanted}
    extra = [name for name, short in beside.items() if not any(pattern.match(short) for pattern in known)]
    missing = [name for name in wanted if not _COUNTERS.search(name) and name not in inside]
    reshaped = [
        (name, tuple(shape), tuple(inside[name]))
        for name, shape in wanted.items()
        if name in inside and tuple(inside[name]) != tuple(shape)
    ]
    size = sum(not _COUNTERS.search(name) for name in wanted)
    return Fit(part, prefix, size, tuple(missing), tuple(extra), tuple(reshaped), len(beside) - len(extra))


def best_fit(
    parts: Mapping[str, Shapes],
    wanted_for: Callable[[Shapes], Shapes],
    unused: Iterable[str] = (),
    prefix: str | None = None,
) -> Fit | None:
    """The state dict and prefix that fit best, None where a file holds no state dict.

    `wanted_for` gives the wanted names for a state dict: widths may hang on it. `prefix` fixes what stands before the
    names. Of several that fit equally, the one whose place comes first in PREFERRED.
    """
    fits = []
    for part, found in parts.items():
        wanted = wanted_for(found)
        for start in prefixes(found, wanted) if prefix is None else (prefix,):
            fits.append(fit(part, start, found, wanted, unused))
    return min(fits, key=lambda one: (one.faults, _rank(one.part), one.part, one.prefix)) if fits else None


def axis_size(found: Shapes, name: str, axis: int) -> int | None:
    """The size of one axis of the weight of this name, whatever stands before it; None where there is none."""
    for key, shape in found.items():
        if (key == name or key.endswith(f".{name}")) and len(shape) > axis:
            return shape[axis]
    return None


def _rank(part: str) -> int:
    last = part.rpartition(".")[2]
    return PREFERRED.index(last) if last in PREFERRED else len(PREFERRED)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _text(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
