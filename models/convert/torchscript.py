"""Weights of a TorchScript archive by name, without running it: what Wav2Lip's publisher gives out today.

Such an archive is a program with its data. Only the data is read: objects become bags of attributes, tensors are
taken from the archive's bytes, and any other name that the pickle asks for is refused.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["ARCHIVE_MARK", "is_torchscript", "read_torchscript"]

ARCHIVE_MARK = "/constants.pkl"  # in every archive of torch.jit.save since 1.4, and in none of torch.save
_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class _Bag:
    """Stands for an object of the program: its attributes alone."""


class _Data(pickle.Unpickler):
    """The archive's objects, from inert parts; raises UnpicklingError for a name outside of them."""

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, root: str, torch: Any) -> None:
        super().__init__(file)
        self._archive, self._root, self._torch = archive, root, torch

    def find_class(self, module: str, name: str) -> Any:
        """Only what tensors and bags are made of."""
        if module.startswith("__torch__"):
            return _Bag
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and (name.startswith("build_") or name == "restore_type_tag"):
            return _as_it_is
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """The bytes of a tensor: (storage, type, key, place, count)."""
        _, dtype, key, _, count = pid
        if not count:
            return self._torch.zeros(0, dtype=getattr(self._torch, dtype))
        stored = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        return self._torch.frombuffer(stored, dtype=getattr(self._torch, dtype), count=count)


def _rebuilt(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _as_it_is(value: Any, *_: Any) -> Any:
    return value


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of torch.jit.save."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(ARCHIVE_MARK) for name in archive.namelist())


def read_torchscript(path: Path, torch: Any) -> dict[str, Any]:
    """Every tensor that is an attribute, by its dotted name; raises UnpicklingError, or what a broken file causes."""
    with zipfile.ZipFile(path) as archive:
        root = next(name.partition("/")[0] for name in archive.namelist() if name.endswith(ARCHIVE_MARK))
        data = io.BytesIO(archive.read(f"{root}/data.pkl"))
        top = _Data(data, archive, root, torch).load()
    found: dict[str, Any] = {}
    _gather(top, "", found, torch)
    return found


def _gather(item: Any, name: str, found: dict[str, Any], torch: Any) -> None:
    if isinstance(item, torch.Tensor):
        found[name] = item
    elif isinstance(item, _Bag):
        for key, value in vars(item).items():
            _gather(value, f"{name}.{key}" if name else key, found, torch)
