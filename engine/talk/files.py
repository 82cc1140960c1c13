"""Open everything that lip-sync needs for a profile: template, sound, output, pipeline; then run it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from engine.backends.base import Backend
from engine.errors import InputError, ModelError, explain
from engine.lipsync import LipsyncPipeline, open_lipsync
from engine.pipeline import open_backend_for
from engine.report import budgets_for
from engine.result import Progress, RunResult
from engine.talk.file_run import run_spoken
from engine.talk.lipsync import LipSync, Spoken
from engine.talk.live_run import run_speaking
from engine.talk.origin import TalkOrigin
from engine.talk.sound import Speech, heard_rate_hz, is_live_sound, loudness_of_file, open_speech, parse_raw
from engine.talk.track import CopiedTrack, EncodedTrack, Track, why_not_copied
from engine.template.folder import open_template
from engine.template.frames import TemplateFrames
from engine.template.needs import command_for
from engine.template.prepare import prepare
from engine.template.template import Template
from engine.timing import Timings
from engine.video.address import AddressPlace, is_address
from engine.video.live_clock import TIME_BASE
from engine.video.output_place import OutputPlace
from engine.video.sink import MUXERS, Sink, open_sink
from engine.video.what_is_video import refuse_path
from models.tables import TableError
from profiles.profile import Profile, load_profile

__all__ = ["open_head", "open_ready_template", "speak"]

Say = Callable[[str], None]

_TELL_S = 10.0


def speak(
    profile: str | Path | Profile,
    *,
    template: str | Path | Template,
    audio: str | Path,
    output: str | Path,
    live: bool = False,
    raw_audio: str = "",
    face: str = "",
    output_options: Mapping[str, str] | None = None,
    on_open: Callable[[Timings], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Say = lambda line: None,
) -> RunResult:
    """The template says the audio into the output; see `engine.speak`."""
    profile = _profile(profile)
    uri, target = str(audio), str(output)
    _refuse_mixed(uri, target, live, dict(output_options or {}))
    raw = parse_raw(raw_audio) if raw_audio else None
    rate_hz = heard_rate_hz(profile)
    inputs = tuple(str(one) for one in (template, audio) if not isinstance(one, Template))
    _check_place(target, inputs)
    # a file's sound is opened first: preparing a template may take minutes
    speech = None if live else open_speech(uri, rate_hz=rate_hz, raw=raw)
    backend: Backend | None = None
    try:
        backend = open_backend_for(profile, say=say)
        ready = open_ready_template(template, profile, backend=backend, face=face, say=say)
        # the presenter's video itself, when a prepared folder was named
        _check_place(target, (*inputs, str(ready.path)))
        loudness = None if live else loudness_of_file(profile, uri)
        pipeline = open_lipsync(profile, template=ready, say=say, backend=backend, loudness=loudness)
        _watch(pipeline, live, on_open)
        if live:
            options = dict(output_options or {})
            heard = open_speech(uri, rate_hz=rate_hz, raw=raw)
            return _speak_live(pipeline, heard, uri, target, options, on_progress, say)
        assert speech is not None  # opened above
        return _speak_file(pipeline, speech, uri, target, on_progress, say)
    finally:
        if speech is not None:
            speech.close()
        if backend is not None:
            backend.close()


def open_head(
    profile: str | Path | Profile,
    *,
    template: str | Path | Template,
    rate_hz: int,
    channels: int,
    paced: bool = True,
    face: str = "",
    on_frame: Callable[[Spoken], None] | None = None,
    say: Say = lambda line: None,
) -> LipSync:
    """A LipSync that is ready to be pushed into; see `engine.open_lipsync`."""
    profile = _profile(profile)
    backend = open_backend_for(profile, say=say)
    try:
        ready = open_ready_template(template, profile, backend=backend, face=face, say=say)
        pipeline = open_lipsync(profile, template=ready, say=say, backend=backend)
        return LipSync(pipeline, rate_hz=rate_hz, channels=channels, paced=paced, on_frame=on_frame, say=say)
    except BaseException:
        backend.close()
        raise


def open_ready_template(
    given: str | Path | Template, profile: Profile, *, backend: Backend, face: str, say: Say
) -> Template:
    """A prepared template, of a folder or of a video; a video that is not prepared yet is, and `say` is told so.

    `face` empty: whoever it was prepared for, else the largest.
    """
    if isinstance(given, Template) or Path(given).is_dir():
        if face:
            got = "one that is prepared already, for the face that was asked for then"
            do = f"leave --face out, or prepare the video again with --face {face}"
            raise InputError(explain("--face", "a video as the template", got, do))
        return given if isinstance(given, Template) else open_template(given, profile)
    refuse_path(str(given))
    idle = None
    # none, or one of a video that has changed since: prepare tells what is wrong with the video itself
    with suppress(InputError):
        ready = open_template(given, profile)
        if not face:
            return ready
        if ready.idle:  # another face of it has the same silent stretch
            idle = (ready.idle.start / ready.rate, ready.idle.stop / ready.rate)
    beforehand = command_for(given, profile).removeprefix("prepare it: ")
    say(f"template {given}: prepared now, once for all runs; to do it beforehand: {beforehand}")
    start = told = time.monotonic()

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            say(f"template: {done} of {total or 'unknown'} pictures looked through")

    ready = prepare(given, profile, backend=backend, face=face or "largest", idle=idle, say=say, on_progress=tell)
    say(f"template: {ready.count} frames ready in {time.monotonic() - start:.1f} s")
    for note in ready.notes:
        say(f"note: {note}")
    return ready


def _profile(given: str | Path | Profile) -> Profile:
    try:
        profile = given if isinstance(given, Profile) else load_profile(given)
    except TableError as error:
        raise ModelError(str(error)) from error
    if profile.task != "lipsync":
        do = "name a lip-sync profile, or run it with --source"
        raise InputError(explain(f"profile {profile.name}", "the task lipsync", profile.task, do))
    return profile


def _refuse_mixed(audio: str, target: str, live: bool, options: dict[str, str]) -> None:
    if is_address(target) and not live:
        what = "standard output" if target == "-" else "an address"
        got = "one to a file's end, as fast as it goes"
        raise InputError(explain(target, f"a live run for {what}", got, "add --live, or name a file"))
    if audio.startswith("alsa:") and not live:
        raise InputError(explain(audio, "a live run for a microphone", "one to a file's end", "add --live"))
    if options and not is_address(target):
        got = f"{', '.join(options)} for the file {target}"
        raise InputError(explain("--output-option", "an address", got, "leave it out"))


def _check_place(target: str, inputs: tuple[str, ...]) -> None:
    """Refuse a bad output before anything else takes its time."""
    if is_address(target):
        AddressPlace(target, {})
    else:
        OutputPlace(target, suffixes=tuple(MUXERS), inputs=inputs, overwrite=True).discard()


def _watch(pipeline: LipsyncPipeline, live: bool, on_open: Callable[[Timings], None] | None) -> None:
    timings, budget = pipeline.timings, pipeline.profile.budget_ms
    timings.watch(budgets_for(budget.frame, budget.stages, float(pipeline.fps)))
    timings.history.by_latency = live
    if on_open is not None:
        on_open(timings)


def _speak_file(
    pipeline: LipsyncPipeline,
    speech: Speech,
    uri: str,
    target: str,
    on_progress: Callable[[Progress], None] | None,
    say: Say,
) -> RunResult:
    track = _track(speech, uri, target, say)
    try:
        with TemplateFrames(pipeline.template, threads=_edge_threads(pipeline.profile)) as pictures:
            sink = _open_sink(pipeline, TalkOrigin(uri, pipeline.template, pipeline.fps, track), target)
            told = _tell(sink, say)
            lasts_s = getattr(speech, "duration_s", None)
            total = None if lasts_s is None else max(1, round(lasts_s * pipeline.fps))
            result = run_spoken(pipeline, pictures, speech, track, sink, total=total, on_progress=on_progress)
    finally:
        track.close()
    result.notes = [note for note in result.notes if note not in told]
    return result


def _speak_live(
    pipeline: LipsyncPipeline,
    speech: Speech,
    uri: str,
    target: str,
    options: dict[str, str],
    on_progress: Callable[[Progress], None] | None,
    say: Say,
) -> RunResult:
    with ExitStack() as until_read, ExitStack() as opened:
        until_read.callback(speech.close)
        rate_hz, channels = speech.came
        track = EncodedTrack(rate_hz, channels)
        opened.callback(track.close)
        origin = TalkOrigin(uri, pipeline.template, pipeline.fps, track, TIME_BASE)
        sink = _open_sink(pipeline, origin, target, is_live=True, options=options)
        until_read.callback(sink.abort)
        told = _tell(sink, say)
        head = LipSync(pipeline, rate_hz=rate_hz, channels=channels, owns_pipeline=False, say=say)
        opened.enter_context(head)
        until_read.pop_all()  # from here on both are the run's to close
        result = run_speaking(head, speech, track, sink, on_progress=on_progress)
    result.notes = [note for note in result.notes if note not in told]
    return result


def _track(speech: Speech, uri: str, target: str, say: Say) -> Track:
    """The output's sound: a file's packets as they are where its container takes them, else AAC."""
    if is_live_sound(uri):
        track = EncodedTrack(*speech.came)
    else:
        copied = CopiedTrack(uri)
        why = why_not_copied(copied.stream, MUXERS[Path(target).suffix.lower()])
        if why is None:
            return copied
        copied.close()
        say(f"sound: written as AAC, since {why}")
        track = EncodedTrack(*speech.came)
    speech.tap(track.take)
    return track


def _open_sink(
    pipeline: LipsyncPipeline,
    origin: TalkOrigin,
    target: str,
    *,
    is_live: bool = False,
    options: Mapping[str, str] | None = None,
) -> Sink:
    profile, backend = pipeline.profile, pipeline.backend
    return open_sink(
        target,
        origin,
        threads=_edge_threads(profile),
        codec=profile.encode.codec,
        quality=profile.encode.quality,
        preset=profile.encode.preset,
        is_live=is_live,
        max_kbps=profile.live.max_kbps,
        options=options,
        device_stream=backend.encode_stream if backend.device_io else None,
    )


def _tell(sink: Sink, say: Say) -> tuple[str, ...]:
    for note in sink.notes:
        say(f"note: {note}")
    return sink.notes


def _edge_threads(profile: Profile) -> int:
    return max(1, (profile.threads or len(os.sched_getaffinity(0))) // 4)
