"""What an ONNX file says of itself, read from its bytes without the onnx package and without its weights.

Field numbers are those of onnx.proto3 (ONNX 1.x); the file is mapped, never read whole, so that a model of
500 MB is looked at in milliseconds.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Initializer", "OnnxFile", "OnnxFileError", "read_onnx", "sha256_of"]

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
Tensor = tuple[str, tuple[int | str | None, ...]]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class OnnxFileError(ValueError):
    """A file is no ONNX model, or is cut short."""


@dataclass(frozen=True)
class Initializer:
    """A stored weight: its place in the file, not its values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: tuple[int, int] | None
    float_data: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class OnnxFile:
    """The interface of one ONNX file. A free axis is a name, or None where it has none."""

    path: Path
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    initializers: tuple[Initializer, ...]
    consumed: frozenset[str]
    opset: int
    nodes: int = 0
    operators: frozenset[str] = field(default_factory=frozenset)

    def values(self, initializer: Initializer) -> npt.NDArray[np.float32]:
        """A stored float weight as float32 of its shape; raises OnnxFileError for other types."""
        with self.path.open("rb") as file:
            if initializer.raw is not None and initializer.dtype in ("float32", "float16"):
                start, end = initializer.raw
                file.seek(start)
                array = np.frombuffer(file.read(end - start), dtype=initializer.dtype)
            elif initializer.float_data:
                parts = []
                for start, end in initializer.float_data:
                    file.seek(start)
                    parts.append(np.frombuffer(file.read(end - start), dtype="<f4"))
                array = np.concatenate(parts)
            else:
                raise OnnxFileError(
                    f"{self.path}: wanted the weight {initializer.name} as float data in the file, got "
                    f"{initializer.dtype} or external data; export it with its weights inside"
                )
        return array.reshape(initializer.shape).astype(np.float32)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_onnx(path: Path) -> OnnxFile:
    """The interface of an ONNX file; raises OnnxFileError when it is none, and OSError when it can't be read."""
    if path.stat().st_size == 0:
        raise OnnxFileError(f"{path}: wanted an ONNX model, got an empty file; export or copy it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _model(path, data)
        except (IndexError, ValueError, UnicodeDecodeError) as error:
            raise OnnxFileError(
                f"{path}: wanted an ONNX model, got other or truncated content ({error}); export or copy it again"
            ) from error


def _model(path: Path, data: mmap.mmap) -> OnnxFile:
    graph: tuple[int, int] | None = None
    opset = 0
    for number, wire, start, end, _ in _fields(data, 0, len(data)):
        if number == 7 and wire == _BYTES:
            graph = (start, end)
        elif number == 8 and wire == _BYTES:
            opset = max(opset, _opset(data, start, end))
    if graph is None:
        raise ValueError("no graph in it")
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    initializers: list[Initializer] = []
    consumed: set[str] = set()
    operators: set[str] = set()
    nodes = 0
    for number, wire, start, end, _ in _fields(data, *graph):
        if wire != _BYTES:
            continue
        if number == 1:
            nodes += 1
            names, operator = _node(data, start, end)
            consumed.update(names)
            operators.add(operator)
        elif number == 5:
            initializers.append(_initializer(data, start, end))
        elif number in (11, 12):
            name, dtype, shape = _value_info(data, start, end)
            (inputs if number == 11 else outputs)[name] = (dtype, shape)
    if not nodes or not outputs:
        raise ValueError("no nodes or no outputs in its graph")
    stored = {item.name for item in initializers}
    inputs = {name: value for name, value in inputs.items() if name not in stored}
    consumed.update(outputs)
    return OnnxFile(path, inputs, outputs, tuple(initializers), frozenset(consumed), opset, nodes, frozenset(operators))


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= end or shift > 63:
            raise ValueError("a number runs past its field")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(field number, wire type, start, end, value) of each field of one message."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        value, start = 0, at
        if wire == _VARINT:
            value, at = _varint(data, at, end)
        elif wire == _BYTES:
            size, start = _varint(data, at, end)
            at = start + size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("a field runs past the end")
        yield number, wire, start, at, value


def _text(data: mmap.mmap, start: int, end: int) -> str:
    return data[start:end].decode("utf-8")


def _opset(data: mmap.mmap, start: int, end: int) -> int:
    domain, version = "", 0
    for number, wire, first, last, value in _fields(data, start, end):
        if number == 1 and wire == _BYTES:
            domain = _text(data, first, last)
        elif number == 2:
            version = value
    return version if domain in ("", "ai.onnx") else 0


def _node(data: mmap.mmap, start: int, end: int) -> tuple[list[str], str]:
    names, operator = [], ""
    for number, wire, first, last, _ in _fields(data, start, end):
        if number == 1 and wire == _BYTES:
            names.append(_text(data, first, last))
        elif number == 4 and wire == _BYTES:
            operator = _text(data, first, last)
    return names, operator


def _initializer(data: mmap.mmap, start: int, end: int) -> Initializer:
    name, dtype, shape = "", "", []
    raw: tuple[int, int] | None = None
    floats: list[tuple[int, int]] = []
    for number, wire, first, last, value in _fields(data, start, end):
        if number == 1 and wire == _VARINT:
            shape.append(value)
        elif number == 1 and wire == _BYTES:
            at = first
            while at < last:
                size, at = _varint(data, at, last)
                shape.append(size)
        elif number == 2:
            dtype = _DTYPES.get(value, f"type {value}")
        elif number == 4:
            floats.append((first, last))
        elif number == 8 and wire == _BYTES:
            name = _text(data, first, last)
        elif number == 9 and wire == _BYTES:
            raw = (first, last)
    return Initializer(name, dtype, tuple(shape), raw, tuple(floats))


def _value_info(data: mmap.mmap, start: int, end: int) -> tuple[str, str, tuple[int | str | None, ...]]:
    name, dtype = "", ""
    shape: list[int | str | None] = []
    for number, wire, first, last, _ in _fields(data, start, end):
        if number == 1 and wire == _BYTES:
            name = _text(data, first, last)
        elif number == 2 and wire == _BYTES:
            for kind, _, a, b, _ in _fields(data, first, last):
                if kind == 1:  # tensor_type
                    dtype, shape = _tensor_type(data, a, b)
    return name, dtype, tuple(shape)


def _tensor_type(data: mmap.mmap, start: int, end: int) -> tuple[str, list[int | str | None]]:
    dtype = ""
    shape: list[int | str | None] = []
    for number, wire, first, last, value in _fields(data, start, end):
        if number == 1:
            dtype = _DTYPES.get(value, f"type {value}")
        elif number == 2 and wire == _BYTES:
            for _, _, a, b, _ in _fields(data, first, last):
                shape.append(_axis(data, a, b))
    return dtype, shape


def _axis(data: mmap.mmap, start: int, end: int) -> int | str | None:
    for number, wire, first, last, value in _fields(data, start, end):
        if number == 1 and wire == _VARINT:
            return value
        if number == 2 and wire == _BYTES:
            return _text(data, first, last) or None
    return None
