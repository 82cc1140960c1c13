"""READ THIS FIRST: `Pipeline.begin` and `finish` are the map of a frame's life; `open_pipeline` builds its stages.

Find (detect, track) ends by writing the number of faces k, for which `finish` waits once. Make (refine ... paste,
enhance) then runs on k faces, so that a frame costs what its faces cost. Refining sits in make rather than in find
for that reason. Both halves are bodies of launches alone: a device may record them and replay the recording.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends import Networks, open_backend
from engine.backends.base import Backend, Session
from engine.errors import ModelError
from engine.frame import Frame
from engine.identity import Identity, PictureReader, SourceFace, latents_of
from engine.ladder import Find, find_for, finds_of, ladder_of, what_it_holds
from engine.request import FaceChoice, check_request, find_models, parse_faces, restorer_way
from engine.stages.crop import Crop
from engine.stages.detect import Detect
from engine.stages.enhance import Enhance
from engine.stages.generate import Generate
from engine.stages.identify import Embed, Identify
from engine.stages.mask import Mask
from engine.stages.paste import Paste
from engine.stages.refine import Refine, Smooth
from engine.stages.seen import Occlusion, Regions
from engine.stages.track import Track, allocate_faces
from engine.timing import Timings
from engine.video.pictures import read_picture
from engine.video.turn import turned
from kernels.launch import Colour
from models.model_files import ModelFile
from models.spec import Spec
from models.tables import TableError
from profiles.ladder import Rung
from profiles.profile import Profile, load_profile

# the make half has a body for each: the restorer does nothing, restores, or what it changed is added again
MODES = ("", "+restore", "+reuse")

__all__ = [
    "FaceChoice",
    "Pipeline",
    "load_decoded",
    "open_backend_for",
    "open_pipeline",
    "parse_faces",
    "warm_up",
]


@dataclass
class Pipeline:
    """The stages of one profile at one frame size, over a ring of frame slots. One thread steps it.

    `rung` of the ladder is what frames are begun by from now on: it may be set between two frames, costs nothing, and
    tracks go on.
    """

    profile: Profile
    backend: Backend
    frames: list[Frame]
    detect: Detect
    track: Track
    identify: Identify | None
    refine: Refine | None
    smooth: Smooth
    crop: Crop
    generate: Generate
    mask: Mask
    paste: Paste
    enhance: Enhance | None
    identities: list[Identity]
    face_counts: tuple[int, ...]
    ladder: tuple[Rung, ...]
    finds: dict[Find, int]
    rung: int = 0
    steps: int = 0
    since_detected: int = 1000  # frames; as many as any rung's detect_every: the first one is detected on
    since_restored: int = 1000  # frames; as many as any profile's enhance.every: the first faces are restored at once

    def step(self, picture: Any, stream: Any = None) -> Frame:
        """Put the source's face on the faces of one picture: `begin`, then `finish`."""
        return self.finish(self.begin(picture, stream))

    def begin(self, picture: Any, stream: Any = None) -> Frame:
        """Start on one picture: find its faces, without waiting for the answer.

        `picture` is a Frame of this pipeline's ring, or NV12 as uint8 [H + ceil(H/2), pitch] (NumPy, or anything
        with DLPack or `__cuda_array_interface__`), which is copied into the next slot; `stream` is what the latter
        was written on, where it does not say. Returns the Frame for `finish`. Up to `lookahead` frames
        may be begun before the one before them is finished; frames are finished in the order of their beginning.
        Raises InputError for an array of another size or type.
        """
        frame = picture if isinstance(picture, Frame) else self.take(picture, stream)
        frame.rung, rung = self.rung, self.ladder[self.rung]
        frame.is_detected = self.since_detected >= rung.detect_every
        self.since_detected = 1 if frame.is_detected else self.since_detected + 1
        self.steps += 1
        find = find_for(rung, detected=frame.is_detected)
        self.timings.on(frame.index, frame.pts)
        start = time.perf_counter_ns()
        self.backend.replay(("find", frame.slot, self.finds[find]), partial(self._find, frame, find), frame)
        frame.busy_ms = (time.perf_counter_ns() - start) / 1e6
        return frame

    def finish(self, frame: Frame) -> Frame:
        """Wait for the number of faces of a begun frame, then change them; the frame's one wait is here.

        Returns the Frame; it is valid until `profile.slots` more frames are begun.
        """
        self.timings.on(frame.index, frame.pts)
        start = time.perf_counter_ns()
        room = self.ladder[frame.rung].faces
        k = self.track.read(frame, room)
        if self.identify is None:
            self._replay("make", self._make, frame, k, self._mode(frame, k))
        else:
            self._replay("settle", self._settle, frame, k)
            with self.backend.span("identify"):
                k = frame.face_count = self.identify(frame, self.track.tracks, k, room)
            self._replay("change", self._change, frame, k, self._mode(frame, k))
        self.timings.add("frame", frame.busy_ms + (time.perf_counter_ns() - start) / 1e6)
        return frame

    def order(self, frame: Frame, stream: Any) -> None:
        """Make a stream of the caller's (any library's, or a handle) wait until a frame is finished; returns at once.

        Reading the frame by DLPack or `__cuda_array_interface__` does that by itself; this is for a bare address.
        """
        self.backend.order(frame.nv12, stream)

    @property
    def lookahead(self) -> int:
        """How many frames may be begun before the one before them is finished: 1, or 0.

        Refining moves the tracks, and identifying edits them, so the next frame's find must come after both. With
        neither, make reads nothing that find writes: the order changes no byte, and a device never idles.
        """
        return 0 if self.refine is not None or self.identify is not None else 1

    @property
    def timings(self) -> Timings:
        """Durations by stage."""
        return self.backend.timings

    def _find(self, frame: Frame, find: Find) -> None:
        if find.size_px:
            with self.backend.span("detect"):
                self.detect(frame, find.size_px)
        with self.backend.span("track"):
            self.track(frame, detected=find.size_px > 0, faces=find.faces)

    def _mode(self, frame: Frame, k: int) -> str:
        """What the restorer does on this frame, one of MODES; a new face has nothing to be added again."""
        self.since_restored += 1
        if self.enhance is None or k == 0:
            return ""
        reuse = self.profile.enhance.reuse
        if self.since_restored >= self.ladder[frame.rung].enhance_every or (reuse and frame.new_tracks):
            self.since_restored = 0
            return "+restore"
        return "+reuse" if reuse else ""

    def _make(self, frame: Frame, k: int, mode: str = "") -> None:
        self._settle(frame, k)
        self._change(frame, k, mode)

    def _settle(self, frame: Frame, k: int) -> None:
        """Better points, and still ones."""
        with self.backend.span("refine"):
            if self.refine is not None:
                self.refine(frame, k)
            self.smooth(frame)

    def _change(self, frame: Frame, k: int, mode: str = "") -> None:
        """The faces themselves. The restorer looks at pasted ones: see engine/stages/enhance.py."""
        span = self.backend.span
        with span("crop"):
            crops = self.crop(frame, k)
        with span("generate"):
            faces = self.generate(frame, crops)
        with span("mask"):
            mask = self.mask(frame, faces)
        with span("paste"):
            self.paste(frame, faces, mask)
        if self.enhance is not None and mode:
            with span("enhance"):
                self.enhance(frame, k, restore=mode == "+restore")

    def parts(self, frame: Frame) -> Iterator[tuple[str, int, Callable[[], None]]]:
        """(part, variant, body) of everything that `begin` and `finish` may run on a slot of the ring.

        A body is run before the next one is asked for.
        """
        for find, variant in self.finds.items():
            yield "find", variant, partial(self._find, frame, find)
        for rows in self.face_counts:
            if self.identify is not None:
                yield "settle", rows, partial(self._settle, frame, rows)
            for mode in MODES if self.enhance is not None else ("",):
                if self.identify is None:
                    yield "make" + mode, rows, partial(self._make, frame, rows, mode)
                else:
                    yield "change" + mode, rows, partial(self._change, frame, rows, mode)

    def _replay(self, part: str, body: Callable[..., None], frame: Frame, k: int, mode: str = "") -> None:
        """Run a part on k faces, at the next face count that the backend runs; on none, nothing runs."""
        if k:
            rows = next(count for count in self.face_counts if count >= k)
            given = (frame, rows, mode) if mode else (frame, rows)
            self.backend.replay((part + mode, frame.slot, rows), partial(body, *given), frame)

    def load(self, frame: Frame, decoded: Any, clockwise_deg: int = 0) -> None:
        """Copy a decoded picture (its planes, index, pts and side data) into a slot of the ring, turned upright.

        A picture that its decoder holds on the device (`decoded.device_planes()`) is copied there.
        """
        load_decoded(self.backend, frame, decoded, clockwise_deg)

    def take(self, array: Any, stream: Any = None) -> Frame:
        """Copy an NV12 array into the next slot."""
        frame = self.frames[self.steps % len(self.frames)]
        self.backend.take(array, frame.nv12, stream)
        frame.index, frame.pts, frame.meta = self.steps, None, None
        return frame

    def close(self) -> None:
        """Give the device's memory back."""
        self.backend.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_decoded(backend: Backend, frame: Frame, decoded: Any, clockwise_deg: int) -> None:
    """Copy a decoded picture and what it is known by into a slot: on the device where its decoder holds it there."""
    on_device = decoded.device_planes() if backend.device_io else None
    if on_device is not None:
        backend.load_device_planes(on_device, frame.nv12)
    else:
        backend.load_planes(turned(decoded.planes(), clockwise_deg), frame.nv12)
    frame.index, frame.pts, frame.time_base = decoded.index, decoded.pts, decoded.time_base
    frame.meta = decoded


def open_pipeline(
    profile: str | Path | Profile,
    *,
    sources: Sequence[Path],
    size: tuple[int, int],
    colour: Colour,
    faces: Sequence[str] = ("all",),
    source_face: SourceFace = "only",
    say: Callable[[str], None] = lambda line: None,
    backend: Backend | None = None,
    governed: bool = False,
) -> Pipeline:
    """Everything that a run needs, allocated and warm; see `engine.open_pipeline`.

    `governed`: with all that the rungs of the profile's governor need; else `ladder` has the profile's own only.
    A `backend` that the caller has opened (`open_backend_for`) becomes the pipeline's, which closes it; when this
    raises, it is the caller's still.
    """
    profile = _read_profile(profile)
    ladder = ladder_of(profile, governed=governed)
    choice = parse_faces(faces)
    check_request(choice, sources, size)
    # read before any model is loaded: a wrong path is found at once
    pictures = {path: read_picture(path) for path in (*sources, *choice.like)}
    models = find_models(profile)
    if any(model.contract.drawn_faces_only for model in models.values()):
        say("models: the tiny pack, drawn faces only")
    own = backend is None
    backend = backend or open_backend_for(profile, say=say)
    if profile.precision != "fp32" and (backend.name == "cpu" or profile.session != "tensorrt"):
        say(f"precision: that of the model files; {profile.precision} needs plans, which are for a GPU")
    try:
        pipeline = _open(backend, profile, ladder, models, pictures, sources, choice, size, colour, source_face)
    except BaseException:
        if own:
            backend.close()
        raise
    if len(ladder) > 1:
        say(what_it_holds(ladder, profile.slots, pipeline.detect.other_bytes))
    return pipeline


def open_backend_for(profile: str | Path | Profile, *, say: Callable[[str], None] = lambda line: None) -> Backend:
    """The device that a profile asks for; raises DeviceError where it can't be had."""
    profile = _read_profile(profile)
    networks = Networks(profile.session, profile.precision, f"python -m build_engines {profile.name}")
    threads = profile.threads or len(os.sched_getaffinity(0))
    return open_backend(profile.backend, threads=threads, say=say, networks=networks)


def _read_profile(profile: str | Path | Profile) -> Profile:
    try:
        return profile if isinstance(profile, Profile) else load_profile(profile)
    except TableError as error:
        raise ModelError(str(error)) from error


def _open(
    backend: Backend,
    profile: Profile,
    ladder: tuple[Rung, ...],
    models: dict[str, ModelFile],
    pictures: dict[Path, npt.NDArray[np.uint8]],
    sources: Sequence[Path],
    choice: FaceChoice,
    size: tuple[int, int],
    colour: Colour,
    source_face: SourceFace,
) -> Pipeline:
    sessions = {role: backend.open_session(model) for role, model in models.items()}
    refiner = sessions.get("refiner")
    reader = PictureReader(backend, profile, sessions["detector"], sessions["embedder"], refiner)
    identities = [reader.find(pictures[path], str(path), source_face) for path in sources]
    latents = latents_of(identities, models["swapper"])

    room = profile.track.faces
    sizes_px = [rung.detect_size_px for rung in ladder]
    detect = Detect(backend, sessions["detector"], profile.detect, size, profile.track.cut_threshold, sizes_px)
    track = Track(backend, detect, profile.track, choice.select, len(sources))
    identify = None
    if choice.like:
        track.assign([0] * track.slots)
        found = [reader.find(pictures[path], str(path), source_face) for path in choice.like]
        faces_wanted = np.stack([identity.embedding for identity in found])
        embed = Embed(backend, sessions["embedder"], room)
        identify = Identify(backend, embed, faces_wanted, profile.track.like_threshold)
    swapper = sessions["swapper"]
    crop = Crop(backend, swapper.contract, "target", room)
    latent_rows = backend.allocate(Spec("float32", latents.shape))
    backend.upload(latents, latent_rows)
    pipeline = Pipeline(
        profile=profile,
        backend=backend,
        frames=_allocate_frames(backend, profile, size, colour),
        detect=detect,
        track=track,
        identify=identify,
        refine=Refine(backend, refiner, track.tracks, room) if refiner else None,
        smooth=Smooth(backend, track.tracks, profile.track),
        crop=crop,
        generate=Generate(backend, swapper, latent_rows, room),
        mask=_open_mask(backend, profile, sessions, crop, size),
        paste=Paste(backend, crop, swapper.contract.outputs["output"], profile.opacity, room),
        enhance=_open_enhance(backend, profile, sessions, track.slots),
        identities=identities,
        face_counts=tuple(sorted({*backend.face_counts(room), *(rung.faces for rung in ladder)})),
        ladder=ladder,
        finds=finds_of(ladder),
    )
    warm_up(pipeline)
    return pipeline


def _open_enhance(backend: Backend, profile: Profile, sessions: dict[str, Session], track_slots: int) -> Enhance | None:
    """The enhance stage, where the profile names a restorer."""
    if "restorer" not in sessions:
        return None
    session, options = sessions["restorer"], profile.enhance
    way = restorer_way(session.contract, options)
    blend = way.blend if options.blend is None else options.blend
    occluder = sessions["occluder"] if "occlusion" in profile.mask.kinds else None
    return Enhance(backend, session, way, blend, profile.track.faces, track_slots, occluder)


def _open_mask(
    backend: Backend, profile: Profile, sessions: dict[str, Session], crop: Crop, size: tuple[int, int]
) -> Mask:
    """The mask stage, with the networks of the kinds that the profile asks for."""
    options, room = profile.mask, profile.track.faces
    occlusion = regions = None
    if "occlusion" in options.kinds:
        occlusion = Occlusion(backend, sessions["occluder"], crop, room)
    if "regions" in options.kinds:
        output = sessions["swapper"].contract.outputs["output"]
        regions = Regions(backend, sessions["parser"], output, crop.size_px, room, options.regions)
    return Mask(backend, options, crop, size, room, occlusion, regions)


def _allocate_frames(backend: Backend, profile: Profile, size: tuple[int, int], colour: Colour) -> list[Frame]:
    frames = []
    for slot in range(profile.slots):
        nv12 = backend.allocate_nv12(*size)
        frames.append(Frame(slot, nv12, nv12.view(colour), allocate_faces(backend, profile.track.faces)))
    return frames


def warm_up(pipeline: Pipeline) -> None:
    """Bind every face count, run every path once at open, and record what the backend can replay.

    Pages are read in, thread pools and networks started. They run on whatever the zeroed buffers hold; what they
    leave in tracks and thumbnail is forgotten at the end. Whoever replaces a stage calls it again.
    """
    backend, counts = pipeline.backend, pipeline.face_counts
    pipeline.detect.prepare()
    pipeline.generate.prepare(pipeline.crop.inputs, counts)
    pipeline.mask.prepare(counts)
    if pipeline.identify is not None:
        pipeline.identify.embed.prepare(counts)
    frame = pipeline.frames[0]
    for find in pipeline.finds:
        if find.size_px:
            pipeline.detect(frame, find.size_px)
    faces = pipeline.generate(frame, pipeline.crop(frame, 1))
    pipeline.paste(frame, faces, pipeline.mask(frame, faces))
    if pipeline.refine is not None:
        pipeline.refine.prepare(counts)
        pipeline.refine(frame, 1)
    if pipeline.enhance is not None:
        pipeline.enhance.prepare(counts)
        pipeline.enhance(frame, 1, restore=True)
    for frame in pipeline.frames:
        for part, variant, body in pipeline.parts(frame):
            backend.record((part, frame.slot, variant), body)
    pipeline.detect.forget()
    pipeline.track.forget()
    if pipeline.enhance is not None:
        pipeline.enhance.forget()
    backend.open_slots([frame.nv12 for frame in pipeline.frames])
