"""Picture in, picture out: the same pipeline on one still.

The working frame is NV12, which halves the colour's resolution; so the picture that comes out is the one that
came in plus the difference that the pipeline made. Where nothing was pasted it keeps every bit.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.identity import SourceFace
from engine.pipeline import open_pipeline
from engine.result import RunResult
from engine.video.output_place import OutputPlace
from engine.video.pictures import read_picture, write_picture
from kernels.launch import Colour, nv12_to_rgb_into, rgb_to_nv12_into
from models.spec import Spec
from profiles.profile import Profile

__all__ = ["run_picture"]

_SUFFIXES = (".png", ".jpg", ".jpeg")


def run_picture(
    profile: Profile,
    *,
    sources: Sequence[Path],
    input: Path,
    output: Path,
    keep: Sequence[Path],
    faces: Sequence[str],
    source_face: SourceFace,
    say: Callable[[str], None],
) -> RunResult:
    """Put the sources' faces on one picture and write it; `keep` are files that the output must not replace.

    Raises as `engine.run` does; a bad output is refused before any work. RGB is what is carried over: a note
    tells of transparency, colour profile and other data of the file.
    """
    start = time.perf_counter()
    inputs = (str(input), *map(str, keep))
    OutputPlace(output, suffixes=_SUFFIXES, inputs=inputs, overwrite=True).discard()
    before = read_picture(input)
    height, width = before.shape[:2]
    colour = Colour("bt709", full_range=True, siting="center")
    with open_pipeline(
        dataclasses.replace(profile, slots=1),
        sources=sources,
        size=(width, height),
        colour=colour,
        faces=faces,
        source_face=source_face,
        say=say,
    ) as pipeline:
        backend, frame = pipeline.backend, pipeline.frames[0]
        rgb = backend.allocate(Spec("uint8", (height, width, 3)))
        backend.upload(np.ascontiguousarray(before), rgb)
        rgb_to_nv12_into(backend, rgb, frame.view)
        nv12_to_rgb_into(backend, frame.view, rgb)
        unswapped = backend.to_host(rgb).astype(np.int16)
        pipeline.step(frame)
        nv12_to_rgb_into(backend, frame.view, rgb)
        change = backend.to_host(rgb).astype(np.int16) - unswapped
        after = np.clip(before + change, 0, 255).astype(np.uint8)
        result = RunResult(output, frames=1, timings=pipeline.timings, best_score=frame.best_score)
        result.faces = frame.face_count
        result.frames_with_face = int(frame.face_count > 0)
        if not result.faces:
            result.notes.append(f"no face was changed: the best score seen was {frame.best_score:.2f}")
    write_picture(output, after, inputs=inputs)
    result.notes.append("the pixels were carried over; transparency, colour profile and EXIF of the input were not")
    result.wall_s = time.perf_counter() - start
    return result
