"""What the mouth does for each phoneme of the International Phonetic Alphabet: phonemes become visemes in time."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from models.tables import read_toml
from models.tiny.renderer.speech import Sound

_SHORT_S = 0.02
# A synthesiser counts a stop from its release on; the lips or the tongue have closed before, in silence.
_STOPS, _CLOSED_S = frozenset("ptkcq"), 0.04


@functools.cache
def _viseme_of() -> dict[str, str]:
    """The viseme of every sign that is known."""
    table: dict[str, str] = read_toml(Path(__file__).with_name("sentences.toml"))["signs"]
    return {sign: viseme for viseme, signs in table.items() for sign in signs}


def visemes(phoneme: str) -> list[str]:
    """The visemes of one phoneme as a synthesiser names it; signs of length, tone and stress say nothing of its own.

    A diphthong has two; an affricate has that of its second half. A pause, or a sign that nobody knows, has none.
    """
    found: list[str] = []
    for at, sign in enumerate(unicodedata.normalize("NFD", phoneme)):
        viseme = None if at and sign == "h" else _viseme_of().get(sign)  # th, kh: a breath behind a stop
        if viseme is not None and (not found or found[-1] != viseme):
            found.append(viseme)
    if len(found) > 1 and found[0] == "tdn" and found[1] in ("sz", "sh"):
        found = found[1:]
    return found


def sounds(phonemes: Sequence[tuple[str, float]], end_s: float) -> list[Sound]:
    """Sounds of (phoneme, begin in seconds) in order; the last one ends at end_s."""
    out: list[Sound] = []
    begins = [max(0.0, begin_s - _CLOSED_S) if phoneme[:1] in _STOPS else begin_s for phoneme, begin_s in phonemes]
    for (phoneme, _), begin_s, until_s in zip(phonemes, begins, [*begins[1:], end_s], strict=True):
        shown = visemes(phoneme) or ["rest"]
        each_s = max(until_s - begin_s, _SHORT_S) / len(shown)
        out += [Sound(viseme, begin_s + k * each_s, each_s) for k, viseme in enumerate(shown)]
    return out
