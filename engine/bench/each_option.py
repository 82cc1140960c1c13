"""What every option of a profile costs, and what it changes in the picture: one at a time, beside the profile as it is.

All variants run in the same rounds as the profile itself, so their ratio has an interval as `compare` makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.bench.compare import Verdict, compare_cells
from engine.bench.measure import Cell, measure, open_cell
from engine.errors import EngineError
from engine.pipeline import Pipeline
from engine.stages.identify import Embed
from models.model_files import find
from profiles.profile import Profile

__all__ = ["OptionCost", "each_option", "variants"]

QUALITY_FRAMES = 12

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Quality:
    """What is seen: faces changed over frames, mean cosine to the source, and PSNR in dB against the profile as it is.

    `psnr_db` is of luma inside the faces' rectangles of either; None where the pictures are the same, or none changed.
    """

    faces: float
    to_source: float | None
    psnr_db: float | None


@dataclass(frozen=True)
class OptionCost:
    """One option at another value: what it costs and changes, or why it does not run here."""

    option: str
    verdict: Verdict | None
    quality: Quality | None
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file of measurements."""
        if self.verdict is None or self.quality is None:
            return {"option": self.option, "refused": self.refused}
        verdict = self.verdict
        return {
            "option": self.option,
            "frame_ms": round(verdict.b_ms, 3),
            "costs_ms": round(verdict.b_ms - verdict.a_ms, 3),
            "interval_ms": [round((edge - 1) * verdict.a_ms, 3) for edge in (verdict.low, verdict.high)],
            "word": verdict.word,
            **{name: value if value is None else round(value, 3) for name, value in vars(self.quality).items()},
        }


def variants(profile: Profile) -> dict[str, Profile | str]:
    """The profile with one option at another value, by name; or the sentence that refuses it."""
    made: dict[str, Profile | str] = {}

    def add(name: str, change: Callable[[], Profile]) -> None:
        try:
            changed = change()
        except ValueError as error:
            made[name] = str(error)
        else:
            if changed != profile:
                made[name] = changed

    def replaced(**changes: Any) -> Callable[[], Profile]:
        return lambda: dataclasses.replace(profile, **changes)

    def part(name: str, **changes: Any) -> Callable[[], Profile]:
        return lambda: dataclasses.replace(profile, **{name: dataclasses.replace(getattr(profile, name), **changes)})

    for size_px in (320, 480, 640):
        add(f"detect.size_px = {size_px}", part("detect", size_px=size_px))
    for size_px in (0, 128):
        add(f"detect.second_pass_px = {size_px}", part("detect", second_pass_px=size_px))
    for every in (1, 2, 4):
        add(f"detect.every = {every}", part("detect", every=every))
    if profile.models.refiner:
        add("models.refiner = none", part("models", refiner=""))
    for kinds in (("ellipse",), ("box",), ("erode_blur",), ("ellipse", "erode_blur")):
        add(f"mask = {' + '.join(kinds)}", part("mask", kinds=kinds))
    if profile.models.restorer:
        add("models.restorer = none", part("models", restorer=""))
        for every in (1, 2, 5):
            add(f"enhance.every = {every}", part("enhance", every=every))
        add("enhance.every = 5, reuse = false", part("enhance", every=5, reuse=False))
    add("opacity = 0.5", replaced(opacity=0.5))
    add("track.min_cutoff = 1", part("track", min_cutoff=1.0))
    for threads in (1, 2, 4):
        add(f"threads = {threads}", replaced(threads=threads))
    return made


def each_option(cell: Cell, frames: int, rounds: int, say: Callable[[str], None]) -> list[OptionCost]:
    """Every variant of the cell's profile, measured beside it; a variant that does not open is told with its reason."""
    runnable, refused = [], []
    for name, changed in variants(cell.profile).items():
        if isinstance(changed, str):
            refused.append(OptionCost(name, None, None, changed))
            continue
        one = dataclasses.replace(cell, name=name, profile=changed)
        try:
            open_cell(one, say=lambda line: None).close()
        except EngineError as error:
            refused.append(OptionCost(name, None, None, str(error)))
            continue
        runnable.append(one)
    say(f"{len(runnable)} options, {frames} frames each")
    base, *others = measure([cell, *runnable], frames, rounds)
    pictures, _ = _look(cell, None)
    costs = []
    for other in others:
        verdict = compare_cells(other.cell.name, base.rounds_ms, other.rounds_ms, paired=True)
        costs.append(OptionCost(other.cell.name, verdict, _look(other.cell, pictures)[1]))
    return costs + refused


def _look(
    cell: Cell, before: list[tuple[U8, list[list[int]]]] | None
) -> tuple[list[tuple[U8, list[list[int]]]], Quality]:
    """(luma and rectangles of the first frames, their quality) of a fresh pipeline."""
    pictures: list[tuple[U8, list[list[int]]]] = []
    cosines: list[float] = []
    faces, squares, pixels = 0, 0.0, 0
    with open_cell(cell, say=lambda line: None) as pipeline:
        embed = _embedder(pipeline)
        wanted = pipeline.identities[0].embedding
        for index in range(QUALITY_FRAMES):
            frame = pipeline.step(cell.input.frames[cell.input.at(index)])
            k = frame.face_count
            faces += k
            luma = np.array(frame.planes()[0])
            rectangles = pipeline.backend.to_host(pipeline.paste.rectangles[k]).tolist() if k else []
            pictures.append((luma, rectangles))
            if k:
                cosines += (embed(frame, k) @ wanted).tolist()
            if before is not None:
                then, there = before[index]
                for x0, y0, x1, y1 in (*there, *rectangles):
                    error = luma[y0:y1, x0:x1].astype(np.float64) - then[y0:y1, x0:x1]
                    squares, pixels = squares + float((error**2).sum()), pixels + error.size
    psnr_db = 10 * float(np.log10(255.0**2 * pixels / squares)) if squares else None
    to_source = float(np.mean(cosines)) if cosines else None
    return pictures, Quality(faces / QUALITY_FRAMES, to_source, psnr_db)


def _embedder(pipeline: Pipeline) -> Embed:
    session = pipeline.backend.open_session(find(pipeline.profile.models.embedder))
    return Embed(pipeline.backend, session, pipeline.profile.track.faces)
