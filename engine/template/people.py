"""One person of several: sightings joined to tracks, tracks to people, and the one that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Choice", "Sightings", "choose_person"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Which = Literal["largest", "leftmost", "like"]

#: Two sightings are of one face when their boxes overlap so much, or their middles are so near, in face sizes.
_OVERLAP, _NEAR = 0.3, 0.5


@dataclass(frozen=True)
class Sightings:
    """Every face of every picture that was looked at, in order.

    picture int64 [rows]: which of the `cuts` the row is in. `cuts` [pictures]: a scene begins here. `track` int64
    [rows]: faces that were followed from picture to picture. `boxes` [rows, 4] px; `embeddings` [E, width] of
    the rows `embedded` int64 [E], width 0 without an embedder.
    """

    picture: I64
    track: I64
    boxes: F32
    embedded: I64
    embeddings: F32
    cuts: Flags


@dataclass(frozen=True)
class Choice:
    """`row` int64 [pictures]: the chosen person's row of Sightings, -1 where it is not seen. `track` int64 [pictures]:
    a number that changes where one track ends and the next begins. `people`: how many there are, `tracks` how many
    the chosen one has. `likeness`: the highest cosine, of a choice by picture."""

    row: I64
    track: I64
    people: int
    tracks: int
    likeness: float = -1.0


def choose_person(
    seen: Sightings, which: Which, *, gap_pictures: int, like: F32 | None = None, like_threshold: float = 0.4
) -> Choice:
    """The person to drive, over the whole video.

    A face that is missed for `gap_pictures` or less stays the same. With embeddings, tracks that are alike (cosine of
    `like_threshold`) are one person, so one that left and returns is found again; without them a face that appears
    while the chosen one is away is taken for it. largest: who covers most over all pictures; leftmost: of those seen
    in half as many pictures as the one seen most, by the middle of the video; like: nearest to the unit vector `like`,
    from `like_threshold` on. All rows -1 where there is nobody.
    """
    nobody = np.full(len(seen.cuts), -1, np.int64)
    tracks = _joined(seen, gap_pictures, like_threshold / 2)
    if not tracks:
        return Choice(nobody, nobody, 0, 0)
    vectors = _mean_embeddings(seen, tracks)
    has_vectors = seen.embeddings.shape[1] > 0
    people = _people(seen, tracks, vectors, like_threshold) if has_vectors else [[n] for n in range(len(tracks))]
    rows = [np.concatenate([tracks[n] for n in sorted(person)]) for person in people]
    ranking, likeness = _ranking(seen, rows, which), -1.0
    if which == "like" and like is not None:
        nearness = [max(float(vectors[n] @ like) for n in person) for person in people]
        likeness = max(nearness)
        ranking = [int(np.argmax(nearness))] if likeness >= like_threshold else []
    chosen, number, taken = nobody.copy(), nobody.copy(), 0
    for person in ranking if not has_vectors else ranking[:1]:
        pictures = seen.picture[rows[person]]
        if (chosen[pictures] < 0).all():
            chosen[pictures] = rows[person]
            for n in people[person]:
                number[seen.picture[tracks[n]]] = n
            taken += len(people[person])
    return Choice(chosen, number, len(people), taken, likeness)


def _ranking(seen: Sightings, rows: list[I64], which: Which) -> list[int]:
    """People, the one that is wanted first."""
    boxes = [seen.boxes[one].astype(np.float64) for one in rows]
    if which == "leftmost":
        often = max(map(len, rows))
        return sorted(
            range(len(rows)),
            key=lambda n: (2 * len(rows[n]) < often, float(np.median(boxes[n][:, 0] + boxes[n][:, 2])), n),
        )
    area = [float(((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).sum()) for box in boxes]
    return sorted(range(len(rows)), key=lambda n: (-area[n], n))


def _joined(seen: Sightings, gap_pictures: int, least_likeness: float) -> list[I64]:
    """Tracks as rows, by their beginning; one that goes on where another has just ended is one with it.

    Not so if both have embeddings that are less alike than `least_likeness`: somebody else stepped in.
    """
    order = np.argsort(seen.track, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(seen.track[order])) + 1) if len(order) else []
    pieces.sort(key=lambda piece: (int(seen.picture[piece[0]]), int(piece[0])))
    scene = np.cumsum(seen.cuts)
    vectors = _mean_embeddings(seen, pieces)
    ends: list[F32] = []
    tracks: list[I64] = []
    for piece, vector in zip(pieces, vectors, strict=True):
        first = seen.picture[piece[0]]
        best, best_at = 0.0, -1
        for at, track in enumerate(tracks):
            last = seen.picture[track[-1]]
            is_other = vector.any() and ends[at].any() and float(vector @ ends[at]) < least_likeness
            if 0 < first - last <= gap_pictures + 1 and scene[last] == scene[first] and not is_other:
                affinity = _affinity(seen.boxes[track[-1]], seen.boxes[piece[0]])
                if affinity > best:
                    best, best_at = affinity, at
        if best_at < 0:
            tracks.append(piece)
            ends.append(vector)
        else:
            tracks[best_at] = np.concatenate([tracks[best_at], piece])
            ends[best_at] = vector if vector.any() else ends[best_at]
    return tracks


def _affinity(one: F32, other: F32) -> float:
    """How well two boxes go together: more than 1 where they overlap enough, 0..1 where they are near, else 0."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared
    overlap = shared / areas if areas > 0 else 0.0
    if overlap >= _OVERLAP:
        return 1 + overlap
    size = float(np.sqrt(np.prod(one[2:] - one[:2])))
    away = float(np.linalg.norm((one[:2] + one[2:] - other[:2] - other[2:]) / 2))
    return max(0.0, 1 - away / (_NEAR * size)) if size > 0 else 0.0


def _mean_embeddings(seen: Sightings, tracks: list[I64]) -> list[F32]:
    """Unit vectors of tracks; zeros for one without an embedding."""
    at = np.full(len(seen.track), -1, np.int64)
    at[seen.embedded] = np.arange(len(seen.embedded))
    vectors = []
    for track in tracks:
        made = seen.embeddings[at[track][at[track] >= 0]]
        mean = made.mean(axis=0) if len(made) else np.zeros(seen.embeddings.shape[1])
        vectors.append(np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32))
    return vectors


def _people(seen: Sightings, tracks: list[I64], vectors: list[F32], threshold: float) -> list[list[int]]:
    """Tracks grouped by likeness, the longest first; nobody is in one picture twice."""
    people: list[list[int]] = []
    present: list[Flags] = []
    for n in sorted(range(len(tracks)), key=lambda n: (-len(tracks[n]), n)):
        pictures = seen.picture[tracks[n]]
        likeness = [
            float(vectors[person[0]] @ vectors[n]) if not there[pictures].any() else -1.0
            for person, there in zip(people, present, strict=True)
        ]
        best = int(np.argmax(likeness)) if likeness else -1
        if best < 0 or likeness[best] < threshold:
            people.append([])
            present.append(np.zeros(len(seen.cuts), np.bool_))
            best = len(people) - 1
        people[best].append(n)
        present[best][pictures] = True
    return people
