"""TOML into dataclasses: unknown, missing and mistyped keys are refused in one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from models.tables import TableError, from_table, read_toml


@dataclass(frozen=True)
class Inner:
    size: int = 3


@dataclass(frozen=True)
class Outer:
    name: str
    ratio: float = 1.0
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, int] = (1, 2)
    many: tuple[str | int, ...] = ()
    inner: Inner = field(default_factory=Inner)
    table: dict[str, Inner] = field(default_factory=dict)


def test_nested_values_arrive_with_their_types() -> None:
    made = from_table(
        Outer,
        {"name": "x", "ratio": 2, "pair": [3, 4], "many": ["n", 3], "inner": {"size": 5}, "table": {"k": {"size": 6}}},
        "here",
    )
    assert made == Outer("x", 2.0, "a", (3, 4), ("n", 3), Inner(5), {"k": Inner(6)})
    assert isinstance(made.ratio, float)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({}, "here: wanted the key name, got none; add it"),
        ({"name": 3}, "here.name: wanted str, got 3; correct the value"),
        ({"name": "x", "ratio": True}, "here.ratio: wanted a number, got True; correct the value"),
        ({"name": "x", "kind": "c"}, "here.kind: wanted one of a, b, got 'c'; correct it"),
        ({"name": "x", "pair": [1]}, "here.pair: wanted 2 values, got 1; correct the list"),
        ({"name": "x", "inner": {"sise": 1}}, "here.inner: wanted only the keys size, got sise; remove or rename"),
        ({"name": "x", "inner": 4}, "here.inner: wanted a table, got 4; correct the value"),
        ({"name": "x", "table": {"k": {"size": "1"}}}, "here.table.k.size: wanted int, got '1'; correct the value"),
    ],
)
def test_what_does_not_fit_is_named(table: dict[str, object], sentence: str) -> None:
    with pytest.raises(TableError) as caught:
        from_table(Outer, table, "here")
    assert str(caught.value).startswith(sentence)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("name = ")
    with pytest.raises(TableError, match=r"broken\.toml: wanted TOML, got .*; mend the file"):
        read_toml(path)
    with pytest.raises(TableError, match="wanted a readable TOML file, got No such file or directory; check the path"):
        read_toml(tmp_path / "none.toml")
