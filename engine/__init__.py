"""A low-latency inference engine for face video: frames in, frames out.

The public API; nothing heavy is imported until a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import models  # noqa: F401 - first: it keeps ONNX Runtime off the network

if TYPE_CHECKING:
    from engine.pipeline import Pipeline
    from engine.result import Progress, RunResult
    from engine.talk.lipsync import LipSync, Spoken
    from engine.template.template import Template
    from engine.timing import Timings
    from profiles.profile import Profile

__all__ = ["open_lipsync", "open_pipeline", "run", "speak"]

Paths = str | Path | Sequence[str | Path]


def open_pipeline(
    profile: str | Path | Profile,
    *,
    source: Paths,
    size: tuple[int, int],
    faces: str | Sequence[str] = "all",
    source_face: Literal["only", "largest", "leftmost"] = "only",
    matrix: Literal["bt601", "bt709", "bt2020"] = "bt709",
    full_range: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Pipeline:
    """A pipeline for NV12 frames of `size` = (width, height) px, with the face of `source` ready to be put on.

    `pipeline.step(nv12)` takes uint8 [height + ceil(height / 2), pitch >= width], NumPy or anything with DLPack (on
    a GPU `__cuda_array_interface__` too), under the colour `matrix` and range given here, and returns a Frame whose
    `.planes()` (on a GPU `.nv12.memory`, without a copy) hold the result until `profile.slots` more steps. `faces`
    is all, largest, leftmost or like=PICTURE; `say` gets one line for each thing a user should know. Everything is
    allocated here; close it, or use it as a context manager.

    Raises ModelError without the profile's models, DeviceError without the device asked for, NoFaceError for a
    source picture that does not show exactly one face (or the one that `source_face` names).
    """
    from engine import pipeline
    from kernels.launch import Colour

    return pipeline.open_pipeline(
        profile,
        sources=_paths(source),
        size=size,
        colour=Colour(matrix, full_range),
        faces=[faces] if isinstance(faces, str) else list(faces),
        source_face=source_face,
        say=say,
    )


def run(
    profile: str | Path | Profile,
    source: Paths,
    input: str | Path,
    output: str | Path,
    *,
    faces: str | Sequence[str] = "all",
    source_face: Literal["only", "largest", "leftmost"] = "only",
    deinterlace: bool = False,
    live: bool = False,
    input_options: Mapping[str, str] | None = None,
    output_options: Mapping[str, str] | None = None,
    decoder: Literal["auto", "host", "dali"] = "auto",
    on_open: Callable[[Timings], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Put the face of `source` on the faces of a video, live input or picture `input` and write `output`.

    A file: every frame, in order; sound and other streams are carried over. `output` appears only when it is
    complete; a run that ends early leaves a playable `OUT.partial.*`. `on_progress` is called after every frame,
    `on_open` before the first, with the timings that the run fills.

    A camera (`/dev/video0`), an address (`rtsp: rtmp: udp: tcp:`), or a file with `live`, which is then played at its
    own pace: the newest picture wins, drops are counted in `RunResult.live`, and the run lasts until the input ends or
    KeyboardInterrupt, after which a file is finished under its name. `output` may then be an address too, or `-`. The
    options are FFmpeg's, for the two ends.

    `decoder`: auto is the GPU's where the run is on one; dali is DALI's, of files, by way of RGB and not bit-exact.

    Raises what `open_pipeline` raises, MediaError for input that can't be read, OutputError for output that
    can't be written.
    """
    from engine import files

    return files.run(
        profile,
        sources=_paths(source),
        input=input,
        output=output,
        faces=[faces] if isinstance(faces, str) else list(faces),
        source_face=source_face,
        deinterlace=deinterlace,
        live=live,
        input_options=input_options,
        output_options=output_options,
        decoder=decoder,
        on_open=on_open,
        on_progress=on_progress,
        say=say,
    )


def speak(
    profile: str | Path | Profile,
    template: str | Path | Template,
    audio: str | Path,
    output: str | Path,
    *,
    live: bool = False,
    raw_audio: str = "",
    face: str = "",
    output_options: Mapping[str, str] | None = None,
    on_open: Callable[[Timings], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Make the presenter of the video `template` say `audio`, and write `output` with that sound.

    The template may be prepared (`python -m engine prepare`), as a video or as the folder that was named; else it is
    prepared first, which `say` is told. `face`, largest, leftmost or like=PICTURE, is who talks; empty: whoever it was
    prepared for, or the largest. It goes to and fro for as long as the sound lasts: frame n
    shows the mouth of the sound's instant n / rate. The sound is copied where the container takes its codec, else it
    is AAC. `output` appears only when it is complete; a run that ends early leaves a playable `OUT.partial.*`.

    `audio` is a file, `-` or a pipe (a wav stream, or samples as `raw_audio` says: RATE[:CHANNELS[:FORMAT]]), an
    address, or `alsa:NAME`. With `live` it is heard at its own pace, frames that come late are dropped and counted,
    sound never is, silence is filled in where none comes, and `output` may be an address.

    Raises InputError and MediaError for a template or a sound that can't be used, ModelError without the profile's
    models, OutputError for output that can't be written.
    """
    from engine.talk import files

    return files.speak(
        profile,
        template=template,
        audio=audio,
        output=output,
        live=live,
        raw_audio=raw_audio,
        face=face,
        output_options=output_options,
        on_open=on_open,
        on_progress=on_progress,
        say=say,
    )


def open_lipsync(
    profile: str | Path | Profile,
    *,
    template: str | Path | Template,
    rate_hz: int = 16000,
    channels: int = 1,
    paced: bool = True,
    face: str = "",
    on_frame: Callable[[Spoken], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> LipSync:
    """A presenter to push sound into, for embedding: `push(pcm)`, `reset()` to break off, `finish()`, `frames()`.

    `frames()` yields pictures at the template's rate, each with the sound that belongs to it, in float32 at `rate_hz`
    with `channels`; without speech the presenter is idle and the sound silence. With `on_frame` a thread of its own
    calls it with each instead. `paced`: at the wall's pace, which follows the sound's; else as fast as sound is
    pushed, with nothing filled in and nothing dropped, for hosts that keep the time. `push` may give another rate
    or other channels. Close it, or use it as a context manager.

    Raises as `speak` does, and InputError for a profile whose encoder hears whole sounds only.
    """
    from engine.talk import files

    return files.open_head(
        profile,
        template=template,
        rate_hz=rate_hz,
        channels=channels,
        paced=paced,
        face=face,
        on_frame=on_frame,
        say=say,
    )


def _paths(given: Paths) -> list[Path]:
    return [Path(given)] if isinstance(given, (str, Path)) else [Path(one) for one in given]
