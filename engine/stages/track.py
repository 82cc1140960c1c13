"""track: detections -> slots that keep their face, its source and its motion from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.backends.base import Backend
from engine.frame import Buffer, Frame, held_buffer
from engine.stages.detect import Detect
from kernels.launch import (
    ERROR_FACES_FULL,
    STATUS_BEST_SCORE,
    STATUS_COUNT,
    STATUS_CUT,
    STATUS_ERRORS,
    STATUS_NEW,
    Faces,
    Select,
    Tracks,
    track_into,
)
from models.spec import Spec
from profiles.profile import Track as TrackOptions

__all__ = ["Track", "allocate_faces"]


def allocate_faces(backend: Backend, capacity: int) -> Faces:
    """Room for the faces of one frame."""

    def room(*shape: int, dtype: str = "float32") -> Buffer:
        return backend.allocate(Spec("int32" if dtype == "int32" else "float32", shape))

    return Faces(
        boxes=room(capacity, 4),
        points=room(capacity, 5, 2),
        scores=room(capacity),
        track_ids=room(capacity, dtype="int32"),
        slots=room(capacity, dtype="int32"),
        sources=room(capacity, dtype="int32"),
        count=room(1, dtype="int32"),
        status=backend.allocate_status(8),
    )


class Track:
    """Matches, coasts and ends tracks; fills the frame's Faces and its status word."""

    def __init__(
        self, backend: Backend, detect: Detect, options: TrackOptions, select: Select, source_count: int
    ) -> None:
        self.backend, self.detect, self.options, self.select = backend, detect, options, select
        # twice the faces of a frame: a face that leaves may coast while another enters
        self.slots = slots = 2 * options.faces
        self.tracks = _allocate_tracks(backend, slots)
        self.source_of_slot = backend.allocate(Spec("int32", (slots,)))
        self.assign([slot % source_count for slot in range(slots)])

    def assign(self, sources: Sequence[int]) -> None:
        """Which source a track of each slot gets at birth; -1 leaves it alone."""
        self.backend.upload(np.asarray(sources, dtype=np.int32), self.source_of_slot)

    def forget(self) -> None:
        """End all tracks without a trace: numbering begins again."""
        for held in map(held_buffer, vars(self.tracks).values()):
            self.backend.upload(np.zeros(held.shape, held.dtype), held)

    def __call__(self, frame: Frame, *, detected: bool, faces: int = 0) -> None:
        """Fill the frame's faces, at most `faces` of them (0: as many as there is room for), and its status word."""
        room = frame.faces if faces in (0, self.options.faces) else _narrowed(frame.faces, faces)
        track_into(
            self.backend,
            self.detect.candidates,
            self.detect.detections,
            self.detect.cut,
            self.source_of_slot,
            self.tracks,
            room,
            select=self.select,
            detected=detected,
            max_misses=self.options.coast_frames,
        )

    def read(self, frame: Frame, faces: int = 0) -> int:
        """Wait for the frame's status word and take it over; returns how many faces there are.

        `faces` as in the call: where there was room for fewer than the profile wants, that some were left is no error.
        """
        status = self.backend.wait_status(held_buffer(frame.faces.status))
        frame.face_count, frame.new_tracks = int(status[STATUS_COUNT]), int(status[STATUS_NEW])
        frame.is_cut, frame.errors = frame.is_detected and bool(status[STATUS_CUT]), int(status[STATUS_ERRORS])
        if 0 < faces < self.options.faces:
            frame.errors &= ~ERROR_FACES_FULL
        frame.best_score = float(status[STATUS_BEST_SCORE : STATUS_BEST_SCORE + 1].view(np.float32)[0])
        return frame.face_count


def _narrowed(faces: Faces, rows: int) -> Faces:
    """The same memory with room for fewer faces; rows behind them are not written."""
    held = {
        name: held_buffer(tensor).rows(0, rows)
        for name, tensor in vars(faces).items()
        if name not in ("count", "status")
    }
    return Faces(**held, count=faces.count, status=faces.status)


def _allocate_tracks(backend: Backend, slots: int) -> Tracks:
    def floats(*shape: int) -> Buffer:
        return backend.allocate(Spec("float32", (slots, *shape)))

    def integers() -> Buffer:
        return backend.allocate(Spec("int32", (slots,)))

    return Tracks(
        ids=integers(),
        active=integers(),
        ages=integers(),
        misses=integers(),
        boxes=floats(4),
        points=floats(5, 2),
        velocities=floats(2),
        scores=floats(),
        sources=integers(),
        selected=integers(),
        smooth_points=floats(5, 2),
        smooth_velocities=floats(5, 2),
        smooth_ids=integers(),
        words=backend.allocate(Spec("int32", (4,))),
    )
