"""What was found in a video, in chunks of pictures: each a file that is there as a whole or not at all."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.template.find import FoundFaces
from engine.template.index import checksum
from engine.video.decoded import DecodedFrame
from models.plan_file import write_whole

__all__ = ["CHUNK_PICTURES", "Found", "FoundBuilder", "joined", "load_found", "save_chunk"]

#: Pictures in a chunk: what a kill costs at most.
CHUNK_PICTURES = 64


@dataclass(frozen=True)
class Found:
    """A stretch of pictures and their faces, row by row.

    Per picture: `pts`, `checks`, `is_key`, `is_exact` as in FrameIndex; `used`: shown at the model's rate, so looked
    at; `cut`, `best`: scene begins, detector's highest score, of pictures that were used. Per face: `picture` counted
    from the file's start, `track`, `boxes`, `points`, `scores`, `points_68`. `embeddings` are those
    of the rows `embedded`. `last_ticks`: how long the file's last picture lasts, [1] in the last chunk, else [0].
    """

    pts: npt.NDArray[np.int64]
    checks: npt.NDArray[np.uint32]
    is_key: npt.NDArray[np.bool_]
    is_exact: npt.NDArray[np.bool_]
    used: npt.NDArray[np.bool_]
    cut: npt.NDArray[np.bool_]
    best: npt.NDArray[np.float32]
    picture: npt.NDArray[np.int64]
    track: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    points_68: npt.NDArray[np.float32]
    embedded: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]
    last_ticks: npt.NDArray[np.int64]

    @property
    def is_last(self) -> bool:
        """Whether the file ends here."""
        return len(self.last_ticks) > 0


@dataclass
class FoundBuilder:
    """One chunk, picture by picture."""

    first: int  # number of its first picture
    _pictures: list[tuple[int, int, bool, bool, bool, bool, float]] = field(default_factory=list)
    _faces: list[FoundFaces] = field(default_factory=list)
    _at: list[int] = field(default_factory=list)

    def add(self, frame: DecodedFrame, faces: FoundFaces | None) -> None:
        """Take in the next picture; None: it is not shown, so nobody looked."""
        exact = frame.carried.pts == frame.pts
        cut, best = (faces.is_cut, faces.best_score) if faces else (False, 0.0)
        self._pictures.append(
            (frame.pts, checksum(frame), bool(frame.carried.key_frame), exact, faces is not None, cut, best)
        )
        if faces is not None and len(faces.ids):
            self._faces.append(faces)
            self._at.append(frame.index)

    @property
    def is_full(self) -> bool:
        """Whether it is time to save it."""
        return len(self._pictures) == CHUNK_PICTURES

    def build(self, last_ticks: int | None) -> Found:
        """The chunk; `last_ticks` where it is the file's last."""
        pts, checks, is_key, is_exact, used, cut, best = zip(*self._pictures, strict=True)
        faces = self._faces or [_nobody()]
        counts = [len(one.ids) for one in self._faces]
        embeddings = np.concatenate([one.embeddings for one in faces])
        made = np.flatnonzero(np.isfinite(embeddings).all(axis=1) & (embeddings.shape[1] > 0))
        return Found(
            pts=np.array(pts, np.int64),
            checks=np.array(checks, np.uint32),
            is_key=np.array(is_key, np.bool_),
            is_exact=np.array(is_exact, np.bool_),
            used=np.array(used, np.bool_),
            cut=np.array(cut, np.bool_),
            best=np.array(best, np.float32),
            picture=np.repeat(np.array(self._at, np.int64), counts),
            # ids begin anew in each chunk
            track=np.concatenate([one.ids for one in faces]).astype(np.int64) + (self.first << 20),
            boxes=np.concatenate([one.boxes for one in faces]),
            points=np.concatenate([one.points for one in faces]),
            scores=np.concatenate([one.scores for one in faces]),
            points_68=np.concatenate([one.points_68 for one in faces]),
            embedded=made,
            embeddings=embeddings[made],
            last_ticks=np.array([] if last_ticks is None else [last_ticks], np.int64),
        )


def save_chunk(folder: Path, number: int, found: Found, key: str) -> None:
    """Write a chunk, as a whole; `key` says what it was found with."""
    held = io.BytesIO()
    arrays: dict[str, Any] = {one.name: getattr(found, one.name) for one in fields(Found)}
    np.savez(held, key=np.array(key), **arrays)
    write_whole(_path(folder, number), held.getvalue())


def load_found(folder: Path, key: str) -> list[Found]:
    """The chunks from the first on that are there, whole, and were found with `key`."""
    chunks: list[Found] = []
    while (chunk := _load(_path(folder, len(chunks)), key)) is not None:
        chunks.append(chunk)
        if chunk.is_last:
            break
    return chunks


def joined(chunks: list[Found]) -> Found:
    """All chunks as one."""
    parts = {one.name: [getattr(chunk, one.name) for chunk in chunks] for one in fields(Found)}
    # a chunk without a face does not know how wide embeddings are, nor how many points there would be
    rows = [len(chunk.picture) > 0 for chunk in chunks]
    for name in ("points_68", "embeddings"):
        parts[name] = [part for part, some in zip(parts[name], rows, strict=True) if some] or parts[name][:1]
    before = np.cumsum([0, *(len(chunk.picture) for chunk in chunks[:-1])])
    parts["embedded"] = [part + first for part, first in zip(parts["embedded"], before, strict=True)]
    return Found(**{name: np.concatenate(part) for name, part in parts.items()})


def _load(path: Path, key: str) -> Found | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            if str(held["key"]) != key:
                return None
            return Found(**{one.name: held[one.name] for one in fields(Found)})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):  # not there, or spoiled: it is found again
        return None


def _path(folder: Path, number: int) -> Path:
    return folder / f"faces-{number:06d}.npz"


def _nobody() -> FoundFaces:
    none = np.zeros(0, np.float32)
    return FoundFaces(
        ids=np.zeros(0, np.int32),
        boxes=none.reshape(0, 4),
        points=none.reshape(0, 5, 2),
        scores=none,
        points_68=none.reshape(0, 0, 2),
        embeddings=none.reshape(0, 0),
        is_cut=False,
        best_score=0.0,
    )
