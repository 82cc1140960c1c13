"""Looking through a whole video: every picture that counts, resumable, at some hundred bytes of memory a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from engine.template.chunks import CHUNK_PICTURES, Found, FoundBuilder, joined, load_found, save_chunk
from engine.template.find import FaceFinder
from engine.template.retime import Retiming
from engine.video.decoded import DecodedFrame
from engine.video.source import Source

__all__ = ["survey"]

#: Called with pictures done, and how many there are (None: not known).
OnProgress: TypeAlias = Callable[[int, int | None], None]


def survey(
    source: Source,
    folder: Path,
    key: str,
    rate: Fraction,
    open_finder: Callable[[], FaceFinder],
    on_progress: OnProgress,
) -> Found:
    """What is found in all pictures of a freshly opened source, in chunks that are saved in `folder`.

    Chunks that are there already, found with the same `key`, are read instead; the result is the same wherever an
    earlier survey was broken off. The finder is opened only if something is left to do.
    """
    chunks = load_found(folder, key)
    if not (chunks and chunks[-1].is_last):
        for number, chunk in _missing(source, len(chunks), rate, open_finder, on_progress):
            save_chunk(folder, number, chunk, key)
            chunks.append(chunk)
    return joined(chunks)


def _missing(
    source: Source, done: int, rate: Fraction, open_finder: Callable[[], FaceFinder], on_progress: OnProgress
) -> Iterator[tuple[int, Found]]:
    """The chunks from number `done` on."""
    finder = open_finder()
    total = source.info.frame_count
    before: DecodedFrame | None = None  # the last picture that was looked at earlier
    builder = FoundBuilder(done * CHUNK_PICTURES)
    for frame, is_shown, last_ticks in _shown(source, rate):
        if frame.index < builder.first:
            before = frame if is_shown else before
            continue
        if frame.index == builder.first:
            if before is not None:
                finder.look(before)
                before = None
            finder.forget_faces()
        builder.add(frame, finder(frame) if is_shown else None)
        on_progress(frame.index + 1, total)
        if builder.is_full or last_ticks is not None:
            yield builder.first // CHUNK_PICTURES, builder.build(last_ticks)
            builder = FoundBuilder(frame.index + 1)


def _shown(source: Source, rate: Fraction) -> Iterator[tuple[DecodedFrame, bool, int | None]]:
    """Every picture, whether it is shown at the model's rate, and how long it lasts if it is the last."""
    timing = Retiming(source.info.time_base, rate)
    first_pts, shown_until = 0, -1
    held: DecodedFrame | None = None
    for item in source:
        if not isinstance(item, DecodedFrame):
            continue
        if held is None:
            first_pts = item.pts
        else:
            until = timing.between(first_pts, held.pts, item.pts)
            yield held, until > shown_until, None
            shown_until = max(until, shown_until)
        held = item
    if held is not None:
        ticks = held.duration or max(1, round(1 / (source.info.rate * source.info.time_base)))
        yield held, timing.count(first_pts, held.pts, ticks) - 1 > shown_until, ticks
