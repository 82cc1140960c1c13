"""identify: whose face is it? Embeddings of a frame's faces, asked for when a track starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.frame import Buffer, Frame, held_buffer
from engine.stages.crop import Crop
from kernels.launch import Faces, Tracks
from models.spec import Spec

__all__ = ["Embed", "Identify"]

F32 = npt.NDArray[np.float32]

RECHECK_FRAMES = 12


class Embed:
    """Unit embeddings of faces."""

    def __init__(self, backend: Backend, session: Session, capacity: int) -> None:
        self.backend, self.session = backend, session
        self.crop = Crop(backend, session.contract, "image", capacity)
        width = int(session.contract.outputs["embedding"].shape[-1])
        memory = backend.allocate(Spec("float32", (capacity, width)))
        self.outputs: list[Buffer] = [memory.rows(0, k) for k in range(capacity + 1)]
        self.face_counts = backend.face_counts(capacity)

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead."""
        for k in face_counts:
            self.session.prepare({"image": self.crop.inputs[k]}, {"embedding": self.outputs[k]})

    def __call__(self, frame: Frame, k: int) -> F32:
        """float32 [k, 512] of unit length, on the host; waits."""
        rows = next(count for count in self.face_counts if count >= k)
        image = self.crop(frame, rows)
        self.session.run({"image": image}, {"embedding": self.outputs[rows]})
        raw: F32 = self.backend.to_host(self.outputs[rows])[:k]
        return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


@dataclass
class Identify:
    """Gives each track the source whose wanted face it shows, or none; faces that nobody asked for are left out.

    A new track holds source 0 for the moment, so that it is among the faces and can be judged there. `wanted`
    float32 [W, 512] are unit embeddings; the i-th goes with source i. Tracks are judged when they start and again
    every 12 frames: one may have begun half hidden, or two people may have crossed. Only in those frames do
    numbers travel to the host. `best` is the highest cosine of the run.
    """

    backend: Backend
    embed: Embed
    wanted: F32
    threshold: float
    best: float = -1.0
    _accepted: dict[int, int] = field(default_factory=dict)
    _turned_away: dict[int, int] = field(default_factory=dict)
    _invited: bool = False

    def __call__(self, frame: Frame, tracks: Tracks, k: int, room: int = 0) -> int:
        """Judge the first k faces where it is time to; returns how many faces stay.

        `room` is for how many there is room (0: as many as in Faces): without room nobody is invited, who would take
        the place of a face that is wanted.
        """
        invited, self._invited = self._invited, False
        due = frame.index % RECHECK_FRAMES == 0
        if due:
            self._look_after(tracks, room=(room or frame.faces.scores.shape[0]) - k)
        if k == 0 or not (due or invited or frame.new_tracks):
            return k
        similarity = self.embed(frame, k) @ self.wanted.T
        self.best = max(self.best, float(similarity.max()))
        ids, slots = (
            self.backend.to_host(held_buffer(item))[:k].tolist() for item in (frame.faces.track_ids, frame.faces.slots)
        )
        chosen = [self._judge(row, track) for row, track in zip(similarity, ids, strict=True)]
        sources = self.backend.to_host(held_buffer(tracks.sources))
        sources[slots] = chosen
        self.backend.upload(sources, held_buffer(tracks.sources))
        for track, slot, source in zip(ids, slots, chosen, strict=True):
            if source >= 0:
                self._accepted[track] = source
            else:
                self._accepted.pop(track, None)
                self._turned_away[track] = slot
        return self._keep(frame.faces, [row for row in range(k) if chosen[row] >= 0], np.array(chosen, np.int32))

    def _judge(self, similarity: F32, track: int) -> int:
        """The source of one face, -1 for none. An accepted face keeps its source while it is half as like."""
        best = int(similarity.argmax())
        if similarity[best] >= self.threshold:
            return best
        held = self._accepted.get(track, -1)
        return held if held >= 0 and similarity[held] >= self.threshold / 2 else -1

    def _look_after(self, tracks: Tracks, room: int) -> None:
        """Forget tracks that ended; let faces that were turned away into the next frame's, where there is room."""
        ids, sources, active = (
            self.backend.to_host(held_buffer(item)) for item in (tracks.ids, tracks.sources, tracks.active)
        )
        living = {int(track): slot for slot, track in enumerate(ids) if active[slot]}
        self._accepted = {track: source for track, source in self._accepted.items() if track in living}
        self._turned_away = {track: slot for track, slot in self._turned_away.items() if living.get(track) == slot}
        for track, slot in list(self._turned_away.items())[: max(room, 0)]:
            sources[slot] = 0
            del self._turned_away[track]
            self._invited = True
        if self._invited:
            self.backend.upload(sources, held_buffer(tracks.sources))

    def _keep(self, faces: Faces, rows: list[int], sources: npt.NDArray[np.int32]) -> int:
        """Leave only these rows in Faces, with these sources by old row."""
        for tensor in (faces.boxes, faces.points, faces.scores, faces.track_ids, faces.slots):
            held = self.backend.to_host(held_buffer(tensor))
            held[: len(rows)] = held[rows]
            self.backend.upload(held, held_buffer(tensor))
        held = self.backend.to_host(held_buffer(faces.sources))
        held[: len(rows)] = sources[rows]
        self.backend.upload(held, held_buffer(faces.sources))
        self.backend.upload(np.array([len(rows)], dtype=np.int32), held_buffer(faces.count))
        return len(rows)
