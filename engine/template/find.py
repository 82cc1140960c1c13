"""Faces of one picture: detected, tracked from the picture before, refined; embedded now and then."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.frame import Frame, held_buffer
from engine.stages.detect import Detect
from engine.stages.identify import Embed
from engine.stages.refine import Refine
from engine.stages.track import Track, allocate_faces
from engine.template.landmarks import Landmarks
from engine.video.decoded import DecodedFrame
from engine.video.turn import turned
from kernels.launch import Colour
from profiles.profile import Profile

__all__ = ["FaceFinder", "FoundFaces"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

#: A crowd behind a presenter must not push the presenter out.
_FACES_AT_LEAST = 8
#: Pictures between two embeddings of a face that stays.
_EMBED_EVERY = 25


@dataclass(frozen=True)
class FoundFaces:
    """k faces of one picture, px of the upright picture.

    `ids` hold from picture to picture while a face is detected in each. `points` are the refiner's where there is
    one; `points_68` [k, 68, 2], or [k, 0, 2] without a network of landmarks; `embeddings` [k, width], NaN where
    none was due, width 0 without an embedder. `best_score` is the detector's highest, below its threshold too.
    """

    ids: I32
    boxes: F32
    points: F32
    scores: F32
    points_68: F32
    embeddings: F32
    is_cut: bool
    best_score: float


class FaceFinder:
    """Finds all faces of a template's pictures with the stages of a run, one picture after the other."""

    def __init__(
        self,
        backend: Backend,
        profile: Profile,
        sessions: Mapping[str, Session],
        size_px: tuple[int, int],
        colour: Colour,
        turn_deg: int,
    ) -> None:
        room = max(profile.track.faces, _FACES_AT_LEAST)
        # a face that is not detected is no face here: what is between two sightings is filled in afterwards
        options = dataclasses.replace(profile.track, faces=room, coast_frames=0)
        self.backend, self.turn_deg = backend, turn_deg
        nv12 = backend.allocate_nv12(*size_px)
        self.frame = Frame(0, nv12, nv12.view(colour), allocate_faces(backend, room))
        self.detect = Detect(backend, sessions["detector"], profile.detect, size_px, options.cut_threshold)
        self.track = Track(backend, self.detect, options, "all", 1)
        refiner, embedder, landmarks = (sessions.get(role) for role in ("refiner", "embedder", "landmarks"))
        self.refine = Refine(backend, refiner, self.track.tracks, room) if refiner else None
        self.embed = Embed(backend, embedder, room) if embedder else None
        self.landmarks = Landmarks(backend, landmarks) if landmarks else None
        self._counts = backend.face_counts(room)
        self._embedded: dict[int, int] = {}
        backend.open_slots([nv12])

    def forget_faces(self) -> None:
        """Number faces afresh from the next picture on; the last picture stays known, so that a cut is seen."""
        self.track.forget()
        self._embedded = {}

    def look(self, picture: DecodedFrame) -> None:
        """Take in a picture only as the one before the next."""
        self._load(picture)
        self.backend.replay(("look", 0, 0), lambda: self.detect(self.frame), self.frame)

    def __call__(self, picture: DecodedFrame) -> FoundFaces:
        """The faces of the next picture; waits."""
        self._load(picture)
        # a body of launches is ordered with the loading of its frame, before it and after it
        self.backend.replay(("find", 0, 0), self._find, self.frame)
        k = self.track.read(self.frame)
        faces = self.frame.faces
        boxes, scores, ids = (
            self.backend.to_host(held_buffer(one))[:k] for one in (faces.boxes, faces.scores, faces.track_ids)
        )
        if self.refine is not None and k:
            rows = next(count for count in self._counts if count >= k)
            self.backend.replay(("refine", 0, rows), partial(self.refine, self.frame, rows), self.frame)
        points = self.backend.to_host(held_buffer(faces.points))[:k]
        return FoundFaces(
            ids=ids,
            boxes=boxes,
            points=points,
            scores=scores,
            points_68=self._points_68(boxes, points),
            embeddings=self._embeddings(ids, picture.index),
            is_cut=self.frame.is_cut,
            best_score=self.frame.best_score,
        )

    def _find(self) -> None:
        self.detect(self.frame)
        self.track(self.frame, detected=True)

    def _load(self, picture: DecodedFrame) -> None:
        self.backend.load_planes(turned(picture.planes(), self.turn_deg), self.frame.nv12)
        self.frame.index, self.frame.is_detected = picture.index, True

    def _points_68(self, boxes: F32, points: F32) -> F32:
        if self.landmarks is None:
            return np.zeros((len(boxes), 0, 2), np.float32)
        found = [
            self.landmarks(self.frame, box.astype(np.float64), five.astype(np.float64))
            for box, five in zip(boxes, points, strict=True)
        ]
        return np.array(found, np.float32).reshape(-1, 68, 2)

    def _embeddings(self, ids: I32, index: int) -> F32:
        """Of faces that are new, and of each from time to time; NaN for the others."""
        if self.embed is None:
            return np.zeros((len(ids), 0), np.float32)
        width = self.embed.outputs[0].shape[1]
        due = [index - self._embedded.get(int(one), -_EMBED_EVERY) >= _EMBED_EVERY for one in ids]
        if not any(due):
            return np.full((len(ids), width), np.nan, np.float32)
        found = self.embed(self.frame, len(ids))
        found[~np.array(due)] = np.nan
        self._embedded.update({int(one): index for one, is_due in zip(ids, due, strict=True) if is_due})
        return found
