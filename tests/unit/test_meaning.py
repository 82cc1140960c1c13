"""What a swap must mean, on the sample clip: the face becomes the source's, and stays where it was."""

from __future__ import annotations

from pathlib import Path

from tests.identity import measure


def test_the_identity_moves_to_the_source_in_nearly_every_frame(sample: Path) -> None:
    figures = measure(sample / "source_1.png", limit=100)
    assert figures["share_of_frames_with_a_face"] == 1.0
    assert figures["share_of_visible_people_found"] >= 0.97
    assert figures["before_to_source"] <= 0.35
    assert figures["after_to_source"] >= figures["before_to_source"] + 0.25
    assert figures["after_to_source"] >= figures["after_to_target"] + 0.15
    assert figures["nearer_to_source"] >= 0.9
