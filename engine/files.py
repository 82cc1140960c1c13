"""From input to output: a video or a live input through its runner, a picture as a single frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.backends.base import Backend
from engine.errors import InputError, ModelError, explain
from engine.identity import SourceFace
from engine.live import run_live
from engine.pipeline import open_backend_for, open_pipeline, parse_faces
from engine.report import budgets_for
from engine.result import Progress, RunResult
from engine.runner import run_video
from engine.still import run_picture
from engine.timing import Timings
from engine.video.address import is_address
from engine.video.dali import open_dali
from engine.video.info import VideoInfo
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions, is_live
from engine.video.pictures import is_picture
from engine.video.sink import Sink, open_sink
from engine.video.source import Source, open_source
from engine.video.turn import upright_turn_deg
from kernels.launch import Colour
from models.tables import TableError
from profiles.profile import Profile, load_profile

__all__ = ["Decoder", "run"]

#: auto: the GPU's where the run is on one; host: FFmpeg's own; dali: NVIDIA DALI's, by way of RGB.
Decoder = Literal["auto", "host", "dali"]


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
    decoder: Decoder = "auto",
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
    ends = _Ends(uri, target, live, deinterlace, decoder, dict(input_options or {}), dict(output_options or {}))
    ends.refuse_mixed()
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
    backend = open_backend_for(profile, say=say)
    try:
        with ends.open_input(profile, backend, say) as source:
            # opened first: a bad output is refused before a model is loaded
            sink = ends.open_output(profile, backend, source)
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
                    backend=backend,
                    governed=live,
                )
            except BaseException:
                sink.abort()
                raise
            timings, budget = pipeline.timings, profile.budget_ms
            timings.watch(budgets_for(budget.frame, budget.stages, float(source.info.rate or 0)))
            timings.history.by_latency = live
            if on_open is not None:
                on_open(timings)
            if isinstance(source, LiveInput):
                result = run_live(pipeline, source, sink, on_progress=on_progress)
            else:
                result = run_video(pipeline, source, sink, on_progress=on_progress)
    finally:
        # the pipeline's too; it holds nothing beside it
        backend.close()
    result.notes = [note for note in result.notes if note not in told]
    return result


@dataclass(frozen=True)
class _Ends:
    """Where pictures come from and go to, as asked for."""

    uri: str
    target: str
    live: bool
    deinterlace: bool
    decoder: Decoder
    input_options: Mapping[str, str]
    output_options: Mapping[str, str]

    def refuse_mixed(self) -> None:
        """What only a live run has, asked of a run from file to file."""
        uri, target = self.uri, self.target
        if is_address(target) and not self.live:
            got = f"the file {uri}, which is read as fast as it goes"
            raise InputError(
                explain(target, "a live input for an address", got, "add --live to play it at its own pace")
            )
        if self.input_options and not self.live:
            got = f"{', '.join(self.input_options)} for the file {uri}"
            raise InputError(explain("--input-option", "a live input", got, "leave it out, or add --live"))
        if self.output_options and not is_address(target):
            got = f"{', '.join(self.output_options)} for the file {target}"
            raise InputError(explain("--output-option", "an address", got, "leave it out"))
        if self.decoder == "dali" and self.live:
            raise InputError(explain("--decoder dali", "a whole file", f"the live input {uri}", "leave it out"))

    def open_input(self, profile: Profile, backend: Backend, say: Callable[[str], None]) -> Source | LiveInput:
        """The source or live input, on the device where both ends can."""
        on_device = backend.device_io and self.decoder == "auto"
        if self.decoder == "dali":
            return open_dali(self.uri, threads=_edge_threads(profile))
        if not self.live:
            return open_source(
                self.uri, threads=_edge_threads(profile), deinterlace=self.deinterlace, on_device=on_device
            )
        live = profile.live
        return LiveInput(
            self.uri,
            threads=_edge_threads(profile),
            options=LiveOptions(live.open_timeout_s, live.read_timeout_s, live.reconnect_s, self.input_options),
            deinterlace=self.deinterlace,
            paced=not is_live(self.uri),
            on_device=on_device,
            say=say,
        )

    def open_output(self, profile: Profile, backend: Backend, source: Source | LiveInput) -> Sink:
        """The sink, on the device where it can."""
        encode = profile.encode
        return open_sink(
            self.target,
            source,
            threads=_edge_threads(profile),
            codec=encode.codec,
            quality=encode.quality,
            preset=encode.preset,
            is_live=self.live,
            max_kbps=profile.live.max_kbps,
            options=self.output_options,
            device_stream=backend.encode_stream if backend.device_io else None,
        )


def _edge_threads(profile: Profile) -> int:
    """Decoding and encoding overlap with the networks: a quarter of the budget each, and never none."""
    return max(1, (profile.threads or len(os.sched_getaffinity(0))) // 4)


def _upright_size(info: VideoInfo) -> tuple[int, int]:
    lies = upright_turn_deg(info) in (90, 270)
    return (info.height_px, info.width_px) if lies else (info.width_px, info.height_px)


def _colour(info: VideoInfo) -> Colour:
    siting: Literal["left", "center"] = "center" if info.colour.chroma_location == "center" else "left"
    return Colour(info.colour.matrix, info.colour.full_range, siting)
