"""From input to output: a video or a live input through its runner, a picture as a single frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from engine.errors import InputError, ModelError, explain
from engine.identity import SourceFace
from engine.live import run_live
from engine.pipeline import open_pipeline, parse_faces
from engine.report import budgets_for
from engine.result import Progress, RunResult
from engine.runner import run_video
from engine.still import run_picture
from engine.timing import Timings
from engine.video.address import is_address
from engine.video.info import VideoInfo
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions, is_live
from engine.video.pictures import is_picture
from engine.video.sink import open_sink
from engine.video.source import Source, open_source
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
    output: str | Path,
    faces: Sequence[str],
    source_face: SourceFace,
    deinterlace: bool = False,
    live: bool = False,
    input_options: Mapping[str, str] | None = None,
    output_options: Mapping[str, str] | None = None,
    on_open: Callable[[Timings], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """One video, live input or picture, from `input` to `output`; see `engine.run`."""
    try:
        profile = profile if isinstance(profile, Profile) else load_profile(profile)
    except TableError as error:
        raise ModelError(str(error)) from error
    uri, target = str(input), str(output)
    live = live or is_live(uri)
    _refuse_mixed(uri, target, live, input_options, output_options)
    keep = [*sources, *parse_faces(faces).like]
    if not live and is_picture(uri):
        result = run_picture(
            profile,
            sources=sources,
            input=Path(uri),
            output=Path(target),
            keep=keep,
            faces=faces,
            source_face=source_face,
            say=say,
        )
        if on_progress is not None:
            on_progress(Progress(1, 1, 1.0 / result.wall_s, 0.0))
        return result
    # decoding and encoding overlap with the networks, on a quarter of the budget each and never on none
    edge = max(1, (profile.threads or len(os.sched_getaffinity(0))) // 4)
    source: Source | LiveInput
    if live:
        source = LiveInput(
            uri,
            threads=edge,
            options=_live_options(profile, input_options),
            deinterlace=deinterlace,
            paced=not is_live(uri),
            say=say,
        )
    else:
        source = open_source(uri, threads=edge, deinterlace=deinterlace)
    with source:
        encode = profile.encode
        # opened first: a bad output is refused before a model is loaded
        sink = open_sink(
            target,
            source,
            threads=edge,
            codec=encode.codec,
            quality=encode.quality,
            preset=encode.preset,
            is_live=live,
            max_kbps=profile.live.max_kbps,
            options=output_options,
        )
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
        timings, budget = pipeline.timings, profile.budget_ms
        timings.watch(budgets_for(budget.frame, budget.stages, float(source.info.rate or 0)))
        timings.history.by_latency = live
        if on_open is not None:
            on_open(timings)
        with pipeline:
            if isinstance(source, LiveInput):
                result = run_live(pipeline, source, sink, on_progress=on_progress)
            else:
                result = run_video(pipeline, source, sink, on_progress=on_progress)
    result.notes = [note for note in result.notes if note not in told]
    return result


def _refuse_mixed(
    uri: str,
    target: str,
    live: bool,
    input_options: Mapping[str, str] | None,
    output_options: Mapping[str, str] | None,
) -> None:
    """What only a live run has, asked of a run from file to file."""
    if is_address(target) and not live:
        got = f"the file {uri}, which is read as fast as it goes"
        raise InputError(explain(target, "a live input for an address", got, "add --live to play it at its own pace"))
    if input_options and not live:
        got = f"{', '.join(input_options)} for the file {uri}"
        raise InputError(explain("--input-option", "a live input", got, "leave it out, or add --live"))
    if output_options and not is_address(target):
        got = f"{', '.join(output_options)} for the file {target}"
        raise InputError(explain("--output-option", "an address", got, "leave it out"))


def _live_options(profile: Profile, ffmpeg: Mapping[str, str] | None) -> LiveOptions:
    live = profile.live
    return LiveOptions(live.open_timeout_s, live.read_timeout_s, live.reconnect_s, dict(ffmpeg or {}))


def _upright_size(info: VideoInfo) -> tuple[int, int]:
    lies = upright_turn_deg(info) in (90, 270)
    return (info.height_px, info.width_px) if lies else (info.width_px, info.height_px)


def _colour(info: VideoInfo) -> Colour:
    siting: Literal["left", "center"] = "center" if info.colour.chroma_location == "center" else "left"
    return Colour(info.colour.matrix, info.colour.full_range, siting)
