"""One person of several, and the same one after an absence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from engine.template.people import Choice, Sightings, Which, choose_person

VECTORS = np.eye(4, dtype=np.float32)


@dataclass
class Story:
    """Who is seen where: `shows` adds a face to pictures first..last, of one track."""

    pictures: int
    rows: list[tuple[int, int, tuple[float, ...], int]] = field(default_factory=list)
    cuts: tuple[int, ...] = (0,)
    tracks: int = 0

    def shows(self, first: int, last: int, x: float, size: float = 100, person: int = 0, step: float = 0) -> Story:
        for n in range(first, last + 1):
            left = x + step * (n - first)
            self.rows.append((n, self.tracks, (left, 50, left + size, 50 + size), person))
        self.tracks += 1
        return self

    def choose(self, which: Which, *, embedder: bool = True, like: int | None = None) -> tuple[Choice, list[int]]:
        """The choice, and whose face it is in each picture (-1: nobody's)."""
        rows = sorted(self.rows)
        first = [n for n, row in enumerate(rows) if not any(r[1] == row[1] for r in rows[:n])]
        cuts = np.zeros(self.pictures, np.bool_)
        cuts[list(self.cuts)] = True
        seen = Sightings(
            picture=np.array([row[0] for row in rows], np.int64),
            track=np.array([row[1] for row in rows], np.int64),
            boxes=np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
            embedded=np.array(first if embedder else [], np.int64),
            embeddings=np.array([VECTORS[rows[n][3]] for n in first], np.float32) if embedder else VECTORS[:0, :0],
            cuts=cuts,
        )
        vector = None if like is None else VECTORS[like]
        choice = choose_person(seen, which, gap_pictures=3, like=vector, like_threshold=0.4)
        return choice, [rows[row][3] if row >= 0 else -1 for row in choice.row]


def test_the_largest_is_who_covers_most_over_the_whole_video() -> None:
    story = Story(10).shows(0, 9, 0, size=100, person=0).shows(2, 4, 400, size=150, person=1)
    choice, who = story.choose("largest")
    assert who == [0] * 10
    assert (choice.people, choice.tracks) == (2, 1)


def test_the_leftmost_is_no_passer_by() -> None:
    story = Story(10).shows(0, 9, 500, person=0).shows(0, 8, 300, person=1).shows(3, 5, 10, person=2)
    assert story.choose("leftmost")[1] == [1] * 9 + [-1]


def test_the_one_like_a_picture_or_nobody() -> None:
    story = Story(6).shows(0, 5, 0, person=0).shows(1, 4, 300, person=2)
    assert story.choose("like", like=2)[1] == [-1, 2, 2, 2, 2, -1]
    choice, who = story.choose("like", like=3)
    assert who == [-1] * 6
    assert choice.likeness == 0.0


def test_one_who_returns_is_found_again_and_nobody_else_is_taken_meanwhile() -> None:
    story = Story(20).shows(0, 5, 0, person=0).shows(9, 11, 0, person=1).shows(14, 19, 300, person=0)
    choice, who = story.choose("largest")
    assert who == [0] * 6 + [-1] * 8 + [0] * 6
    assert (choice.people, choice.tracks) == (2, 2)
    assert len(set(choice.track[choice.row >= 0].tolist())) == 2


def test_without_an_embedder_whoever_is_there_is_taken() -> None:
    story = Story(20).shows(0, 5, 0, person=0).shows(10, 11, 0, person=1).shows(14, 19, 300, person=0)
    choice, who = story.choose("largest", embedder=False)
    assert who == [0] * 6 + [-1] * 4 + [1] * 2 + [-1] * 2 + [0] * 6
    assert choice.tracks == 3


def test_a_chunk_s_new_numbers_and_a_short_miss_are_the_same_face() -> None:
    story = Story(12).shows(0, 3, 0, step=5).shows(4, 5, 20, step=5).shows(8, 11, 40, step=5)
    choice, who = story.choose("largest", embedder=False)
    assert who == [0] * 6 + [-1] * 2 + [0] * 4
    assert choice.people == 1
    # a longer miss, and a cut, are not
    story = Story(12).shows(0, 3, 0).shows(8, 11, 0)
    assert story.choose("largest", embedder=False)[0].people == 2
    story = Story(12, cuts=(0, 4)).shows(0, 3, 0).shows(4, 11, 0)
    assert story.choose("largest", embedder=False)[0].people == 2


@pytest.mark.parametrize("which", ["largest", "leftmost"])
def test_nobody_is_nobody(which: Which) -> None:
    choice, who = Story(3).choose(which, embedder=False)
    assert who == [-1] * 3
    assert choice.people == 0


def test_two_at_once_are_never_one() -> None:
    # the same vector for both, as of twins: still two people in one picture
    story = Story(4).shows(0, 3, 0, person=0).shows(0, 3, 300, person=0)
    assert story.choose("largest")[0].people == 2
