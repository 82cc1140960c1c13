"""Reads the weights of a checkpoint without running code: PyTorch's formats old and new, TorchScript, safetensors."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from models.convert.errors import ConvertError
from models.convert.keys import state_dicts
from models.convert.torchscript import is_torchscript, read_torchscript

__all__ = ["read_checkpoint", "require"]


def require(package: str, purpose: str, install: str) -> Any:
    """An optional package; raises ConvertError that names what to install."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConvertError(
            f"models.convert: wanted the package {package} to {purpose}, got none ({error}); "
            f"install it with pip install '{install}'"
        ) from error


def read_checkpoint(path: Path) -> dict[str, dict[str, Any]]:
    """Every state dict of a file by its place in it: name -> tensor on the CPU; raises ConvertError.

    Only weights are unpickled, of a TorchScript archive too: a file that would call a function when it is opened is
    refused.
    """
    if path.suffix.lower() == ".onnx":
        raise ConvertError(f"{path}: wanted a checkpoint, got an ONNX file; take it in: python -m models add {path}")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ConvertError(f"{path}: wanted a readable checkpoint, got {error.strerror}; check the path") from error
    _refuse_text(path, head)
    loaded = _safetensors(path) if path.suffix.lower() == ".safetensors" else _torch(path)
    found = state_dicts(loaded)
    if not found:
        raise ConvertError(
            f"{path}: wanted a checkpoint with named weights, got {type(loaded).__name__} without any; "
            "save the network's state_dict()"
        )
    return found


def _refuse_text(path: Path, head: bytes) -> None:
    """What a download leaves in place of a file that it did not get."""
    start = head.lstrip().lower()
    if not head:
        raise ConvertError(f"{path}: wanted a checkpoint, got an empty file; download it again")
    if start.startswith((b"<!doctype", b"<html")):
        raise ConvertError(f"{path}: wanted a checkpoint, got a web page; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise ConvertError(f"{path}: wanted a checkpoint, got a pointer of Git LFS; fetch it: git lfs pull")


def _safetensors(path: Path) -> Any:
    library = require("safetensors.torch", f"read {path.name}", "safetensors")
    try:
        return library.load_file(str(path), device="cpu")
    except Exception as error:  # its error is a bare Exception of its own
        raise ConvertError(f"{path}: wanted a safetensors file, got {error}; download it again") from error


def _torch(path: Path) -> Any:
    torch = require("torch", f"read {path.name}", "face-engine[train]")
    try:
        if is_torchscript(path):
            return read_torchscript(path, torch)
        with warnings.catch_warnings():
            # of an older TorchScript archive it warns before it raises
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _names_code(str(error)):
            got = "one that is damaged, or no checkpoint at all"
            raise ConvertError(f"{path}: wanted a checkpoint of PyTorch, got {got}; download it again") from error
        raise ConvertError(_why_refused(path, str(error))) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if "TorchScript" in str(error):
            raise ConvertError(_why_refused(path, str(error))) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConvertError(f"{path}: wanted a checkpoint of PyTorch, got {first}; download it again") from error


def _names_code(said: str) -> bool:
    """Whether PyTorch's words name a function or class that the file asks for, rather than bytes that make no sense.

    A file that was cut within the name of one of PyTorch's own is damaged.
    """
    found = re.search(r"GLOBAL (\S+)", said)
    if found is None:
        return "TorchScript" in said
    name = found.group(1).rstrip(".,")
    own = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict")
    return not any(one != name and one.startswith(name) for one in own)


def _why_refused(path: Path, said: str) -> str:
    if "TorchScript" in said:
        return (
            f"{path}: wanted weights alone, got an old TorchScript archive, which is a program; where you trust it, "
            "save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    what = next((line for line in said.splitlines() if "GLOBAL" in line or "class" in line), said.splitlines()[0])
    return (
        f"{path}: wanted weights alone, got a file that runs code when it is opened, so it was not opened "
        f"({what.strip()[:160]}); where you trust it, save its weights: "
        "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW), or the entry of its dict that has them"
    )
