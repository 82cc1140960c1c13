"""refine: a landmark network on the crop gives better points; then all points are smoothed in time."""

from __future__ import annotations

from collections.abc import Sequence

from engine.backends.base import Backend, Session
from engine.frame import Frame
from engine.stages.crop import Crop
from kernels.launch import Tracks, refine_points_into, smooth_points_into
from models.spec import Spec
from profiles.profile import Track as TrackOptions

__all__ = ["Refine", "Smooth"]


class Refine:
    """Replaces the detector's five points by a landmark network's, on the frame's faces and on their tracks."""

    def __init__(self, backend: Backend, session: Session, tracks: Tracks, capacity: int) -> None:
        self.backend, self.session, self.tracks = backend, session, tracks
        self.crop = Crop(backend, session.contract, "image", capacity)
        points = backend.allocate(Spec("float32", (capacity, 5, 2)))
        self.points = [points.rows(0, k) for k in range(capacity + 1)]

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead."""
        for k in face_counts:
            self.session.prepare({"image": self.crop.inputs[k]}, {"points": self.points[k]})

    def __call__(self, frame: Frame, k: int) -> None:
        """Refine the points of the first k faces in place."""
        image = self.crop(frame, k)
        self.session.run({"image": image}, {"points": self.points[k]})
        refine_points_into(self.backend, self.points[k], self.crop.frame_from_crop, self.tracks, frame.faces)


class Smooth:
    """A one-euro filter over each track's points: still faces rest, moving ones are not held back."""

    def __init__(self, backend: Backend, tracks: Tracks, options: TrackOptions) -> None:
        self.backend, self.tracks, self.options = backend, tracks, options

    def __call__(self, frame: Frame) -> None:
        """Smooth the points of the frame's faces in place."""
        smooth_points_into(
            self.backend, self.tracks, frame.faces, min_cutoff=self.options.min_cutoff, beta=self.options.beta
        )
