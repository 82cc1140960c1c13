"""From file to file: a video through the runner, a picture through the same pipeline as a single frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from engine.errors import ModelError
from engine.identity import SourceFace
from engine.pipeline import open_pipeline, parse_faces
from engine.result import Progress, RunResult
from engine.runner import run_video
from engine.still import run_picture
from engine.video.info import VideoInfo
from engine.video.pictures import is_picture
from engine.video.sink import open_sink
from engine.video.source import open_source
from engine.video.turn import upright_turn_deg
from kernels.launch import Colour
from models.tables import TableError
from profiles.profile import Profile, load_profile

__all__ = ["run"]


def run(
    profile: str | Path | Profile,
    *,
    sources: Sequence[Path],
    input: str | Path,
    output: Path,
    faces: Sequence[str],
    source_face: SourceFace,
    deinterlace: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """One video or picture from file to file; see `engine.run`."""
    try:
        profile = profile if isinstance(profile, Profile) else load_profile(profile)
    except TableError as error:
        raise ModelError(str(error)) from error
    keep = [*sources, *parse_faces(faces).like]
    if is_picture(input):
        result = run_picture(
            profile,
            sources=sources,
            input=Path(input),
            output=output,
            keep=keep,
            faces=faces,
            source_face=source_face,
            say=say,
        )
        if on_progress is not None:
            on_progress(Progress(1, 1, 1.0 / result.wall_s, 0.0))
        return result
    # decoding and encoding overlap with the networks, on a quarter of the budget each and never on none
    threads = profile.threads or len(os.sched_getaffinity(0))
    edge = max(1, threads // 4)
    with open_source(input, threads=edge, deinterlace=deinterlace) as source:
        encode = profile.encode
        # opened first: a bad output is refused before a model is loaded
        sink = open_sink(output, source, threads=edge, codec=encode.codec, quality=encode.quality, preset=encode.preset)
        try:
            told = (*source.notes, *sink.notes)
            for note in told:
                say(f"note: {note}")
            pipeline = open_pipeline(
                profile,
                sources=sources,
                size=_upright_size(source.info),
                colour=_colour(source.info),
                faces=faces,
                source_face=source_face,
                say=say,
            )
        except BaseException:
            sink.abort()
            raise
        with pipeline:
            result = run_video(pipeline, source, sink, on_progress=on_progress)
    result.notes = [note for note in result.notes if note not in told]
    return result


def _upright_size(info: VideoInfo) -> tuple[int, int]:
    lies = upright_turn_deg(info) in (90, 270)
    return (info.height_px, info.width_px) if lies else (info.width_px, info.height_px)


def _colour(info: VideoInfo) -> Colour:
    siting: Literal["left", "center"] = "center" if info.colour.chroma_location == "center" else "left"
    return Colour(info.colour.matrix, info.colour.full_range, siting)
