"""The independent measure of sound against picture: it finds what lies there, to a tenth of a millisecond."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.av_marks import BeepFinder, FlashFinder, draw_flash, offsets_ms, sound_with_beeps
from tests.live_peer import draw_number, read_file, send

RATE = 25


@pytest.mark.parametrize("early_ms", [0.0, 20.0, -37.5])
def test_sound_that_was_moved_is_found_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_ms: float
) -> None:
    """H.264 and AAC in a transport stream, with its sound so much earlier."""
    path, moved = tmp_path / "in.ts", tmp_path / "moved.ts"
    with monkeypatch.context() as quick:
        quick.setattr("tests.live_peer.time.sleep", lambda seconds: None)
        quick.setattr("tests.live_peer.format_of", lambda url: ("mpegts", {}))
        send(str(path), seconds=7.0, marks=True)
    with av.open(str(path)) as source, av.open(str(moved), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if packet.stream.type == "audio":
                ticks = round(early_ms / 1e3 / float(packet.time_base))
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    got = read_file(moved, marks_at=RATE)
    assert got.flashes is not None
    assert got.beeps is not None
    found = offsets_ms(got.flashes.onsets_s, got.beeps.onsets_s)
    # the first flash has no dark picture before it
    assert len(found) == 3
    assert [one.sound_early_ms for one in found] == pytest.approx([early_ms] * 3, abs=0.1)
    assert np.diff([one.at_s for one in found]) == pytest.approx([2.0, 2.0], abs=1e-3)


def test_a_flash_whose_first_picture_was_dropped_is_counted_and_not_measured() -> None:
    finder = FlashFinder(RATE)
    for number in range(160):
        luma = np.full((64, 640), 90, np.uint8)
        draw_number(luma, number)
        draw_flash(luma, number, RATE)
        if number not in (100, 101):
            finder.picture(luma, number, number / RATE)
    assert finder.onsets_s == [2.0, 6.0]
    assert finder.lost == 1


def test_beeps_are_found_however_the_sound_is_cut() -> None:
    whole = sound_with_beeps(0, 48_000 * 9) + np.float32(0.01) * np.random.default_rng(1).standard_normal(48_000 * 9)
    for step in (480, 1024, 7001):
        finder = BeepFinder()
        for at in range(0, len(whole), step):
            finder.push(whole[at : at + step].astype(np.float32), 5.0 + at / 48_000)
        finder.finish()
        assert finder.onsets_s == pytest.approx([5.0, 7.0, 9.0, 11.0, 13.0], abs=2e-5)


def test_a_step_in_the_sounds_stamps_is_seen() -> None:
    """A stream that skips 100 ms of its clock: beeps after it lie so much later."""
    finder, at = BeepFinder(), 0
    sound = sound_with_beeps(0, 48_000 * 7)
    while at < len(sound):
        finder.push(sound[at : at + 1024], at / 48_000 + (0.1 if at > 48_000 * 3 else 0.0))
        at += 1024
    finder.finish()
    assert finder.onsets_s == pytest.approx([0.0, 2.0, 4.1, 6.1], abs=2e-5)


def test_marks_are_paired_with_the_nearest() -> None:
    found = offsets_ms([2.0, 4.0, 8.0], [2.004, 3.99, 6.0])
    assert [(one.at_s, round(one.sound_early_ms, 3)) for one in found] == [(2.0, -4.0), (4.0, 10.0)]
    assert offsets_ms([1.0], []) == []
