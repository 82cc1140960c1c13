"""Speech with exact phonemes and times from espeak-ng, by its C library. For training and its figures only.

The library is GPL software that nothing here contains or needs at run time; see loaded().
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_UTF8, _ENDPAUSE = 1, 0x1000
_CHARACTERS = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Voice:
    """A language's code and a variant of espeak-ng ("en-us", "f2"), words a minute, pitch and its range (0..99)."""

    language: str
    variant: str = ""
    words_per_min: int = 165
    pitch: int = 50
    pitch_range: int = 50

    @property
    def name(self) -> str:
        """As espeak-ng names it."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


@dataclass(frozen=True)
class Spoken:
    """Sound [samples] in -1..1 at rate_hz, and its phonemes (name, begin in seconds) in order of time."""

    sound: Floats
    rate_hz: int
    phonemes: list[tuple[str, float]]


class Library:
    """The loaded library; one for the process, as its state is global."""

    def __init__(self, path: str, data: str | None) -> None:
        self._lib = ctypes.CDLL(path)
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.rate_hz = int(self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data.encode() if data else None, options))
        if self.rate_hz <= 0:
            raise OSError(f"espeak: wanted {path} to start with the data of {data}, got a refusal; install both")
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._phonemes: list[tuple[str, float]] = []
        self._callback = _CALLBACK(self._heard)
        self._lib.espeak_SetSynthCallback(self._callback)

    def _heard(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                text = bytes(events[i].id.string).decode("utf-8", "ignore")
                self._phonemes.append((text, events[i].audio_position / 1000.0))
            i += 1
        return 0

    def say(self, text: str, voice: Voice) -> Spoken:
        """One utterance. Raises ValueError for a voice that the library does not have."""
        if self._lib.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak: wanted a voice of the library, got {voice.name}; see espeak-ng --voices")
        for parameter, value in ((_RATE, voice.words_per_min), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._pieces, self._phonemes = [], []
        raw = text.encode()
        self._lib.espeak_Synth(raw, len(raw) + 1, 0, _CHARACTERS, 0, _UTF8 | _ENDPAUSE, None, None)
        self._lib.espeak_Synchronize()
        sound = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return Spoken(sound.astype(np.float32) / 32768.0, self.rate_hz, sorted(self._phonemes, key=lambda at: at[1]))


@functools.cache
def loaded() -> Library:
    """The library: of ESPEAK_NG_LIBRARY, of the package espeakng_loader, or the system's own (libespeak-ng.so.1)."""
    if path := os.environ.get("ESPEAK_NG_LIBRARY"):
        return Library(path, os.environ.get("ESPEAK_NG_DATA"))
    try:
        loader = importlib.import_module("espeakng_loader")
    except ImportError:
        found = ctypes.util.find_library("espeak-ng")
        if found is None:
            raise OSError(
                "espeak: wanted libespeak-ng for training voices, got none; install your system's package espeak-ng "
                "or the Python package espeakng-loader"
            ) from None
        return Library(found, None)
    return Library(str(loader.get_library_path()), str(loader.get_data_path()))
