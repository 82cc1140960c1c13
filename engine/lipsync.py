"""The second pipeline: a template's mouth driven by speech. `LipsyncPipeline.begin` is the map of a frame's life.

Nothing is looked for in a frame: where the mouth is stands in the prepared template. So a frame needs no answer from
the device and nothing waits for it: one upload (where, how much, what was heard), then crop, generate and paste, one
graph for each slot of the ring. The one wait, at the beginning, is for what was done to the slot a whole ring ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.conditions import Conditions
from engine.audio.encoders import Encoder, Loudness, Span
from engine.audio.shapes import ShapeFilter
from engine.backends.base import Backend
from engine.errors import InputError, ModelError, explain
from engine.frame import Frame, held_buffer
from engine.pipeline import load_decoded, open_backend_for
from engine.request import check_encoder, find_encoder, find_lipsync_models
from engine.stages.listen import Heard, Listen
from engine.stages.mouth import Mouth, Places, places_of
from engine.stages.mouth_layout import MouthLayout, layout_of
from engine.stages.track import allocate_faces
from engine.template.frames import TemplateFrames
from engine.template.needs import command_for
from engine.template.template import Template
from engine.timing import Timings
from kernels.launch import fade_nv12_into
from models.contract import Contract, load_contract
from models.model_files import ModelFile
from models.tables import TableError
from profiles.profile import Lipsync, Profile, load_profile

__all__ = ["Heard", "LipsyncPipeline", "Listen", "open_lipsync", "open_listen"]

F32 = npt.NDArray[np.float32]


@dataclass
class LipsyncPipeline:
    """The stages of one generator on one template, over a ring of frame slots. One thread begins and finishes.

    Frames are finished in the order of their beginning; up to `lookahead` may be begun before the one before them is
    finished. `listen` makes what `begin` takes. `face_count` of a finished frame: 1 where its mouth was made, else 0.
    """

    profile: Profile
    backend: Backend
    frames: list[Frame]
    template: Template
    listen: Listen
    mouth: Mouth
    steps: int = 0
    _begun: list[Frame] = field(default_factory=list)

    @property
    def fps(self) -> Fraction:
        """Frames a second, of picture and sound alike."""
        return self.template.rate

    @property
    def timings(self) -> Timings:
        """Durations by stage."""
        return self.backend.timings

    @property
    def lookahead(self) -> int:
        """How many frames may be begun before the one before them is finished: those that share a batch."""
        return self.mouth.batch - 1

    def begin(self, frame: Frame, row: int, condition: F32 | None, opacity: float = 1.0) -> Frame:
        """Start on a loaded frame, which holds template picture `row`; returns it for `finish`.

        `condition` is a Heard's. `opacity` 0, no condition, or a picture without the face: the frame goes out as it
        came in, and nothing runs. Raises InputError for a row, a condition or an opacity that does not fit.
        """
        start = time.perf_counter_ns()
        self.steps += 1
        self.timings.on(frame.index, frame.pts)
        self._check(row, condition, opacity)
        frame.face_count = int(opacity > 0.0 and condition is not None and bool(self.template.has_face[row]))
        if frame.face_count and condition is not None:
            # long passed as a rule; it keeps the host from running further ahead than the ring is long
            self.backend.wait_status(held_buffer(frame.faces.status))
            self.mouth.bring(frame, row, condition, opacity)
            if self.mouth.batch == 1:
                self.backend.replay(("mouth", frame.slot, 1), partial(self._make, frame), frame)
            else:
                at = len(self._begun)
                self.backend.replay(("crop", frame.slot, at), partial(self._crop, frame, at), frame)
                self._begun.append(frame)
                if len(self._begun) == self.mouth.batch:
                    self._make_begun()
        frame.busy_ms = (time.perf_counter_ns() - start) / 1e6
        return frame

    def finish(self, frame: Frame) -> Frame:
        """Make the mouth of a begun frame, if that is not done yet; returns at once.

        The frame is valid until it is begun again; reading it waits for the work on it.
        """
        start = time.perf_counter_ns()
        self.timings.on(frame.index, frame.pts)
        if any(frame is one for one in self._begun):
            self._make_begun()
        self.timings.add("frame", frame.busy_ms + (time.perf_counter_ns() - start) / 1e6)
        return frame

    def cross_fade(self, frame: Frame, other: Frame, weight: float) -> None:
        """Fade another frame of the ring into this one: frame + weight * (other - frame), all of the picture.

        For a change from one place of the template to another; both were loaded, begun or finished before. It is no
        part of an ordinary frame, and launched by itself.
        """
        self._touch(other)

        def fade() -> None:
            with self.backend.span("fade"):
                fade_nv12_into(self.backend, other.view, frame.view, part=weight)

        self.backend.replay(("fade", frame.slot, 0), fade, frame)
        self._touch(other)

    def load(self, frame: Frame, decoded: Any, clockwise_deg: int | None = None) -> None:
        """Copy a decoded picture of the template into a slot of the ring, turned as the template's video asks for.

        May run on a thread of its own, on slots that are not at work.
        """
        turn_deg = self.template.turn_deg if clockwise_deg is None else clockwise_deg
        load_decoded(self.backend, frame, decoded, turn_deg)

    def take(self, array: Any, stream: Any = None) -> Frame:
        """Copy an upright NV12 array of any library into the next slot."""
        frame = self.frames[self.steps % len(self.frames)]
        self.backend.take(array, frame.nv12, stream)
        frame.index, frame.pts, frame.meta = self.steps, None, None
        return frame

    def order(self, frame: Frame, stream: Any) -> None:
        """Make a stream of the caller's wait until a frame is finished; returns at once."""
        self.backend.order(frame.nv12, stream)

    def parts(self, frame: Frame) -> Iterator[tuple[str, int, Callable[[], None]]]:
        """(part, variant, body) of everything that `begin` and `finish` may run on a slot of the ring."""
        if self.mouth.batch == 1:
            yield "mouth", 1, partial(self._make, frame)
            return
        for at in range(self.mouth.batch):
            yield "crop", at, partial(self._crop, frame, at)
        if frame.slot == 0:
            for count in self.backend.face_counts(self.mouth.batch):
                yield "generate", count, partial(self._generate, frame, count)
        for at in range(self.mouth.batch):
            yield "paste", at, partial(self._paste, frame, at)

    def warm(self) -> None:
        """Bind buffers, run every path once and record what the backend can replay; `open_lipsync` calls it."""
        counts = self.backend.face_counts(self.mouth.batch)
        for frame in self.frames:
            self.mouth.prepare(frame, counts)
        self.backend.open_slots([frame.nv12 for frame in self.frames])
        self._make(self.frames[0])
        for frame in self.frames:
            for part, variant, body in self.parts(frame):
                self.backend.record((part, frame.slot, variant), body)
        self.backend.open_slots([frame.nv12 for frame in self.frames])

    def close(self) -> None:
        """Give the device's memory back."""
        self.backend.close()

    def __enter__(self) -> LipsyncPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self, frame: Frame) -> None:
        self._crop(frame, 0)
        self._generate(frame, 1)
        self._paste(frame, 0)

    def _crop(self, frame: Frame, at: int) -> None:
        with self.backend.span("crop"):
            self.mouth.crop(frame, at)

    def _generate(self, frame: Frame, count: int) -> None:
        with self.backend.span("generate"):
            self.mouth.generate(frame, count)

    def _paste(self, frame: Frame, at: int) -> None:
        with self.backend.span("paste"):
            self.mouth.paste(frame, at)

    def _make_begun(self) -> None:
        """The generator on the frames that were begun, then each mouth into its own frame."""
        begun, self._begun = self._begun, []
        count = next(one for one in self.backend.face_counts(self.mouth.batch) if one >= len(begun))
        last = begun[-1]
        try:
            self.backend.replay(("generate", 0, count), partial(self._generate, last, count), last)
            for at, frame in enumerate(begun):
                self.backend.replay(("paste", frame.slot, at), partial(self._paste, frame, at), frame)
        except BaseException:
            for frame in begun:
                frame.face_count = 0  # what shares a batch fails together; each goes out as it came in
            raise

    def _touch(self, frame: Frame) -> None:
        """Nothing, in its order: what comes next waits for the frame's loading, its next loading for what came."""
        self.backend.replay(("touch", frame.slot, 0), lambda: None, frame)

    def _check(self, row: int, condition: F32 | None, opacity: float) -> None:
        if not 0 <= row < self.template.count:
            raise InputError(explain("begin", f"a template frame of 0..{self.template.count - 1}", row, "correct it"))
        if not 0.0 <= opacity <= 1.0:
            raise InputError(explain("begin", "an opacity of 0 to 1", opacity, "correct it"))
        wanted = self.listen.conditions.shape
        if condition is not None and condition.shape != wanted:
            got = list(condition.shape)
            raise InputError(explain("begin", f"a condition {list(wanted)}", got, "pass what listen gave"))


def open_lipsync(
    profile: str | Path | Profile,
    *,
    template: Template,
    say: Callable[[str], None] = lambda line: None,
    backend: Backend | None = None,
    loudness: Loudness | None = None,
) -> LipsyncPipeline:
    """Everything that a run on a prepared template needs, allocated and warm.

    A `backend` that the caller has opened becomes the pipeline's, which closes it; when this raises, it is the
    caller's still. `loudness`: of the whole sound, for encoders that standardise it (HuBERT on files). Raises
    ModelError for a profile whose models are missing, don't go together or can't be fed, each by name.
    """
    profile = _read(profile)
    # what can't be made is said before its files are asked for
    layout = layout_of(_generator(profile))
    models = find_lipsync_models(profile)
    if any(model.contract.drawn_faces_only for model in models.values()):
        say("models: the tiny pack, drawn faces only")
    for found in (model.contract for model in models.values() if model.contract.uncertain):
        say(f"contract {found.name}, unverified: {'; '.join(found.uncertain)}")
    own = backend is None
    backend = backend or open_backend_for(profile, say=say)
    try:
        return _open(backend, profile, models, layout, template, loudness)
    except BaseException:
        if own:
            backend.close()
        raise


def open_listen(
    profile: str | Path | Profile,
    *,
    fps: Fraction,
    backend: Backend,
    loudness: Loudness | None = None,
    shapes: ShapeFilter | None = None,
) -> Listen:
    """The ear of a profile alone: what its generator takes of a sound, without the generator.

    For hosts that draw the mouth themselves, as DH_live's do from six shapes a frame, which `shapes` keeps within what
    a mouth can do. Neither generator nor template need be there. Frames count with the sound, so that lips never
    repeat with the template.
    """
    profile = _read(profile)
    generator = _generator(profile)
    encoder = find_encoder(profile)
    check_encoder(generator, None if encoder is None else encoder.contract, f"profile {profile.name}")
    listen = _listen(backend, profile.lipsync, generator, encoder, fps, loudness)
    listen.shapes = shapes
    return listen


def _read(profile: str | Path | Profile) -> Profile:
    try:
        return profile if isinstance(profile, Profile) else load_profile(profile)
    except TableError as error:
        raise ModelError(str(error)) from error


def _generator(profile: Profile) -> Contract:
    if profile.task != "lipsync":
        raise ModelError(explain(f"profile {profile.name}", "the task lipsync", profile.task, "name a profile of it"))
    try:
        return load_contract(profile.models.lipsync)
    except TableError as error:
        raise ModelError(f"profile {profile.name}: {error}") from error


def _listen(
    backend: Backend, options: Lipsync, generator: Contract, encoder: ModelFile | None, fps: Fraction,
    loudness: Loudness | None,
) -> Listen:  # fmt: skip
    heard = None
    if encoder is not None:
        span = Span(*options.span) if any(options.span) else None
        heard = Encoder(backend, backend.open_session(encoder), span=span, loudness=loudness)
    listen = Listen(Conditions(generator, fps, encoder=heard), backend.timings)
    listen.warm_up()
    return listen


def _open(
    backend: Backend,
    profile: Profile,
    models: dict[str, ModelFile],
    layout: MouthLayout,
    template: Template,
    loudness: Loudness | None,
) -> LipsyncPipeline:
    options, contract = profile.lipsync, models["lipsync"].contract
    listen = _listen(backend, options, contract, models.get("encoder"), template.rate, loudness)
    session = backend.open_session(models["lipsync"])
    places = _places(options, contract, layout, template)
    shape = listen.conditions.shape
    mouth = Mouth(backend, session, options, places, shape, slots=profile.slots, batch=options.batch)
    frames = []
    for slot in range(profile.slots):
        nv12 = backend.allocate_nv12(*template.size_px)
        frames.append(Frame(slot, nv12, nv12.view(template.colour), allocate_faces(backend, 1)))
    pipeline = LipsyncPipeline(profile, backend, frames, template, listen, mouth)
    _keep_references(pipeline)
    pipeline.warm()
    return pipeline


def _places(options: Lipsync, contract: Contract, layout: MouthLayout, template: Template) -> Places:
    """Smoothed crops and the part that the network draws; or the boxes as they were found, whole."""
    original = options.like == "original"
    hard = original and contract.lipsync is not None and contract.lipsync.paste == "hard"
    drawn = layout.blank_xywh_px if layout.blank_xywh_px[2] else (0, 0, *layout.size_px)
    x, y = layout.offset_px
    changed = (0, 0, *layout.crop_px) if hard else (x + drawn[0], y + drawn[1], drawn[2], drawn[3])
    matrices = template.raw_crop_from_frame if original else template.crop_from_frame
    return places_of(matrices, template.has_face, template.size_px, changed, boxes=hard)


def _keep_references(pipeline: LipsyncPipeline) -> None:
    """Cut the template's own pictures, which the generator sees beside every frame: once for the run."""
    template, frame, wanted = pipeline.template, pipeline.frames[0], pipeline.mouth.layout.template_pictures
    if not wanted:
        return
    if len(template.references) < wanted:
        got = len(template.references)
        do = command_for(template.path, pipeline.profile)
        raise ModelError(explain(f"template {template.path.name}", f"{wanted} reference frames", got, do))
    pipeline.backend.open_slots([one.nv12 for one in pipeline.frames])
    nothing = np.zeros(pipeline.listen.conditions.shape, np.float32)
    with TemplateFrames(template) as pictures:
        for number, row in enumerate(template.references[:wanted], start=1):
            pipeline.load(frame, pictures.read(row))
            pipeline.mouth.bring(frame, row, nothing, 0.0)
            pipeline.backend.replay(("keep", number, 0), partial(pipeline.mouth.keep, frame, number), frame)
