"""What the rungs of a governor's ladder ask of a pipeline, found when it opens: every body that find may run as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InputError
from profiles.ladder import Rung
from profiles.profile import Profile

__all__ = ["Find", "find_for", "finds_of", "ladder_of", "what_it_holds"]


@dataclass(frozen=True)
class Find:
    """One body of the find half: the detector at this size in px (0: it does not run), and room for so many faces."""

    size_px: int
    faces: int


def ladder_of(profile: Profile, *, governed: bool) -> tuple[Rung, ...]:
    """Every rung, or without a governor the profile's own; raises InputError for one that can't be there."""
    if not governed:
        return (profile.own,)
    try:
        return profile.ladder
    except ValueError as error:
        raise InputError(f"profile {profile.name}: {error}") from error


def find_for(rung: Rung, *, detected: bool) -> Find:
    """The body that a rung runs on a frame with or without the detector."""
    return Find(rung.detect_size_px if detected else 0, rung.faces)


def finds_of(ladder: Sequence[Rung]) -> dict[Find, int]:
    """Every body of the find half that a ladder asks for, numbered."""
    finds = [find_for(rung, detected=True) for rung in ladder]
    finds += [find_for(rung, detected=False) for rung in ladder if rung.detect_every > 1]
    return {find: variant for variant, find in enumerate(dict.fromkeys(finds))}


def what_it_holds(ladder: Sequence[Rung], slots: int, buffer_bytes: int) -> str:
    """The line that a governed run opens with: its rungs, and what is held ready so that a step costs nothing."""
    own, *rungs = ladder
    more = len(finds_of(ladder)) - len(finds_of([own]))
    return (
        f"governor: {len(rungs)} rungs below the profile's own ({'; '.join(rung.words(own) for rung in rungs)}); held "
        f"ready: {buffer_bytes / 1e6:.1f} MB of detector inputs and outputs, {more} more ways to find in each of "
        f"{slots} slots"
    )
