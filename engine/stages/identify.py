"""identify: whose face is it? Embeddings of a frame's faces, asked for when a track starts."""

from __future__ import annotations

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

    def __call__(self, frame: Frame, k: int) -> F32:
        """float32 [k, 512] of unit length, on the host; waits."""
        image = self.crop(frame, k)
        self.session.run({"image": image}, {"embedding": self.outputs[k]})
        raw: F32 = self.backend.to_host(self.outputs[k])
        return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


@dataclass
class Identify:
    """Gives each track the source whose wanted face it shows, or none; faces that nobody asked for are left out.

    `wanted` float32 [W, 512]: unit embeddings; the i-th goes with source i. A track that was turned away is
    looked at again every 12 frames: it may have begun half hidden. Numbers travel to the host only then.
    """

    backend: Backend
    embed: Embed
    wanted: F32
    threshold: float
    judged: dict[int, int] = field(default_factory=dict)
    _turned_away: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, frame: Frame, tracks: Tracks, k: int) -> int:
        """Judge new tracks among the first k faces; returns how many faces stay."""
        self._look_again(frame, tracks)
        if k == 0:
            return 0
        faces = frame.faces
        ids = self.backend.to_host(held_buffer(faces.track_ids))[:k]
        if all(int(track) in self.judged for track in ids):
            return k
        similarity = self.embed(frame, k) @ self.wanted.T
        slots = self.backend.to_host(held_buffer(faces.slots))[:k]
        sources = self.backend.to_host(held_buffer(tracks.sources))
        for row, (track, slot) in enumerate(zip(ids, slots, strict=True)):
            if int(track) not in self.judged:
                best = int(similarity[row].argmax())
                chosen = best if similarity[row, best] >= self.threshold else -1
                self.judged[int(track)] = chosen
                sources[slot] = chosen
                if chosen < 0:
                    self._turned_away[int(track)] = (int(slot), frame.index)
        self.backend.upload(sources, held_buffer(tracks.sources))
        return self._keep(faces, [row for row, track in enumerate(ids) if self.judged[int(track)] >= 0], sources[slots])

    def _look_again(self, frame: Frame, tracks: Tracks) -> None:
        due = {
            track: slot for track, (slot, since) in self._turned_away.items() if frame.index - since >= RECHECK_FRAMES
        }
        if not due:
            return
        ids, sources = (
            self.backend.to_host(held_buffer(tracks.ids)),
            self.backend.to_host(held_buffer(tracks.sources)),
        )
        for track, slot in due.items():
            del self._turned_away[track], self.judged[track]
            if ids[slot] == track:
                sources[slot] = 0  # back among the frame's faces from the next frame on, and judged there
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
