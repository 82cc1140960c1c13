"""The error tree. Every message reads ``<where>: wanted <x>, got <y>; <do this>``.

EngineError
├── InputError        a file, picture, stream or argument that the user gave
│   ├── MediaError    a container or codec: FFmpeg's own words are in it
│   └── NoFaceError   a source picture in which no face, or more than one, was found
├── ModelError        an ONNX file, a contract, a profile or a plan that does not fit
├── DeviceError       a missing or failing GPU, driver or library
│   └── PoisonedError the context is lost: the run ends, what was written is finalised
└── OutputError       an output that can't be opened, written or finished
"""

from __future__ import annotations

__all__ = [
    "DeviceError",
    "EngineError",
    "InputError",
    "MediaError",
    "ModelError",
    "NoFaceError",
    "OutputError",
    "PoisonedError",
    "explain",
]


def explain(where: str, wanted: object, got: object, do: str) -> str:
    """The one form of every message: where, what was wanted, what came, what to do."""
    return f"{where}: wanted {wanted}, got {got}; {do}"


class EngineError(Exception):
    """Anything that a user, a file or a machine can cause."""


class InputError(EngineError):
    """What the user gave can't be used."""


class MediaError(InputError):
    """A container or codec that FFmpeg can't read, or that we refuse by name."""


class NoFaceError(InputError):
    """A source picture must show exactly one face."""


class ModelError(EngineError):
    """A model file, contract, profile or plan does not fit."""


class DeviceError(EngineError):
    """A device, driver or library is missing or failed."""


class PoisonedError(DeviceError):
    """The device context is lost; nothing more can run in this process."""


class OutputError(EngineError):
    """The output can't be opened, written or finished."""
