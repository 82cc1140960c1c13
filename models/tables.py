"""TOML tables into frozen dataclasses: every key known, every type checked, every message a full sentence."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same module under its older name
    import tomli as tomllib

__all__ = ["TableError", "from_table", "read_toml"]

T = TypeVar("T")


class TableError(ValueError):
    """A TOML file can't be read, or holds a key or a value that its reader does not know."""


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file; raises TableError with the parser's own words."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return table
    except OSError as error:
        raise TableError(f"{path}: wanted a readable TOML file, got {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: wanted TOML, got {error}; mend the file") from error


def from_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """`table` as an instance of the frozen dataclass `kind`; nested dataclasses, tuples and dicts included.

    Raises TableError for an unknown key, a missing key, or a value of another type than the field's.
    """
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise TableError(
            f"{where}: wanted only the keys {', '.join(sorted(fields))}, got {', '.join(unknown)}; "
            "remove or rename what is not known"
        )
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(hints[name], table[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise TableError(f"{where}: wanted the key {name}, got none; add it")
    try:
        return kind(**values)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        _expect(value, (dict,), "a table", where)
        return from_table(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments:
            raise TableError(f"{where}: wanted one of {', '.join(map(str, arguments))}, got {value!r}; correct it")
        return value
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is dict:
        _expect(value, (dict,), "a table", where)
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float:
        _expect(value, (int, float), "a number", where)
        return float(value)
    _expect(value, (hint,), getattr(hint, "__name__", str(hint)), where)
    return value


def _union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    faults = []
    for argument in arguments:
        if argument is type(None):
            continue
        try:
            return _value(argument, value, where)
        except TableError as error:
            faults.append(str(error))
    raise TableError(faults[-1])


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _expect(value, (list,), "a list", where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise TableError(f"{where}: wanted {len(arguments)} values, got {len(value)}; correct the list")
    return tuple(
        _value(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )


def _expect(value: Any, kinds: tuple[type, ...], wanted: str, where: str) -> None:
    # bool is an int to Python, but never to a reader of a configuration
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TableError(f"{where}: wanted {wanted}, got {value!r}; correct the value")
