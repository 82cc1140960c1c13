"""A template's pictures in any order are those that the file gives from its start, bit for bit; memory is bounded."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import InputError, MediaError
from engine.template.frames import TemplateFrames, picture_bytes
from engine.template.index import index_video
from engine.template.order import FrameOrder
from engine.template.seek import SeekingDecoder
from engine.template.template import Template
from engine.video.decoded import DecodedFrame
from engine.video.source import Source, open_source
from tests.templates import hand_made
from tests.unit.media import make_clip

LONG_GOP = {"preset": "ultrafast", "crf": "20", "g": "250", "bf": "2", "sc_threshold": "0"}
SHORT_GOP = {"preset": "ultrafast", "crf": "20", "g": "12", "bf": "2", "sc_threshold": "0"}
OPEN_GOP = {"preset": "ultrafast", "crf": "20", "bf": "3", "x264-params": "open-gop=1:keyint=12:scenecut=0"}
ROLLING = {"preset": "ultrafast", "crf": "20", "x264-params": "intra-refresh=1:keyint=12:bframes=0"}


def bits(frame: DecodedFrame) -> tuple[int, int, tuple[bytes, ...]]:
    return frame.index, frame.pts, tuple(plane.tobytes() for plane in frame.planes())


def from_the_start(path: Path) -> list[tuple[int, int, tuple[bytes, ...]]]:
    with open_source(path, threads=1) as source:
        return [bits(item) for item in source if isinstance(item, DecodedFrame)]


def clip_of(path: Path, pictures: int, **changes: Any) -> Path:
    return make_clip(path, pts=tuple(range(pictures)), **changes)


def template_of(path: Path, count: int) -> Template:
    return dataclasses.replace(hand_made(path, count), index=index_video(path, threads=1))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("long.mp4", {"options": LONG_GOP}),
        ("short.mp4", {"options": SHORT_GOP}),
        ("open.mp4", {"options": OPEN_GOP}),
        ("open.ts", {"options": OPEN_GOP}),
        ("rolling.ts", {"options": ROLLING}),
        ("short.mkv", {"options": SHORT_GOP}),
        ("hevc.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:bframes=3"}}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("ten.mp4", {"pixel_format": "yuv420p10le", "options": SHORT_GOP}),
        ("odd.mkv", {"codec": "ffv1", "size": (63, 47)}),
        ("raw.h264", {"options": SHORT_GOP}),
    ],
)
def test_any_order_gives_the_files_own_pictures(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    clip = clip_of(tmp_path / name, 50, **changes)
    expected = from_the_start(clip)
    assert len(expected) == 50
    template = template_of(clip, 50)
    anywhere = random.Random(7).choices(range(50), k=60)
    # room for 3 blocks of 4 pictures and one on its way
    with TemplateFrames(template, memory_bytes=16 * picture_bytes(template.video)) as frames:
        assert frames.block_frames == 4
        for n in (*range(50), *reversed(range(50)), *anywhere):
            assert bits(frames.read(n)) == expected[n], n


def test_a_file_that_fits_is_decoded_once(tmp_path: Path) -> None:
    template = template_of(clip_of(tmp_path / "in.mp4", 40, options=LONG_GOP), 40)
    with TemplateFrames(template, memory_bytes=44 * picture_bytes(template.video)) as frames:
        order = FrameOrder(40)
        for _ in range(200):
            frames.read(order.next(True))
        assert frames.decoded == 40


def test_reading_to_and_fro_costs_little_and_holds_no_more_than_the_limit(tmp_path: Path) -> None:
    template = template_of(clip_of(tmp_path / "in.mp4", 96, options=SHORT_GOP, size=(320, 240)), 96)
    limit = 48 * picture_bytes(template.video)
    with TemplateFrames(template, memory_bytes=limit) as frames:
        held = []
        for n in range(96):
            frames.read(n)
            held.append(frames.held_bytes)
        assert frames.decoded == 96
        for n in reversed(range(96)):
            frames.read(n)
            held.append(frames.held_bytes)
        # a block is as long as the distance of key pictures: backward costs at most twice as much
        assert frames.decoded <= 96 * 3
        assert 0 < max(held) <= limit


def test_a_jump_that_was_expected_decodes_nothing_when_it_comes(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mp4", 96, options=SHORT_GOP)
    template = template_of(clip, 96)
    with TemplateFrames(template, memory_bytes=48 * picture_bytes(template.video)) as frames:
        for step in (lambda: frames.read(0), lambda: frames.read(1), lambda: frames.expect(60)):
            step()
            if frames._ahead is not None:
                frames._ahead[1].result()
        # blocks 0, 1 and 5, each of the length of a key picture's distance
        assert frames.decoded == 3 * 12
        assert frames._ahead is not None
        assert 60 in frames._ahead[1].result()
        assert frames.read(60).index == 60


def test_frames_that_share_a_picture_and_pictures_that_nobody_shows(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mp4", 48, options=SHORT_GOP)
    expected = from_the_start(clip)
    for rows in (np.arange(0, 48, 3), np.arange(96) // 2):
        template = dataclasses.replace(hand_made(clip, len(rows)), source_frame=rows, index=None)
        with TemplateFrames(template, memory_bytes=16 * picture_bytes(template.video)) as frames:
            for n in (*range(len(rows)), *reversed(range(len(rows)))):
                assert bits(frames.read(n)) == expected[rows[n]]


class Lying(SeekingDecoder):
    """Entered at picture 24 it gives those from 12 on, as a file does whose key picture is none."""

    def _from_key(self, source: Source, key: int) -> Iterator[Any]:
        for index, made in super()._from_key(source, 12 if key == 24 else key):
            yield index + 12 * (key == 24), made


def test_a_key_picture_that_is_none_is_found_out_and_not_used_again(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mp4", 50, options=SHORT_GOP)
    index = index_video(clip, threads=1)
    assert index.keys.tolist() == [0, 12, 24, 36, 48]
    decoder = Lying(clip, index, threads=1)
    expected = from_the_start(clip)
    assert [bits(frame) for frame in decoder.pictures([30, 31, 40])] == [expected[n] for n in (30, 31, 40)]
    assert decoder._keys == [0, 12, 36, 48]
    decoder.close()


def test_a_place_to_begin_where_the_file_has_no_key_is_reached_from_the_key_before(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mp4", 50, options=SHORT_GOP)
    index = dataclasses.replace(index_video(clip, threads=1), keys=np.array([0, 30]))
    decoder = SeekingDecoder(clip, index, threads=1)
    assert next(decoder.pictures([0])).index == 0
    assert [bits(frame) for frame in decoder.pictures([33])] == [from_the_start(clip)[33]]
    assert decoder._keys == [0, 30]
    decoder.close()


def test_open_groups_of_pictures_are_entered_at_their_key(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mp4", 60, options=OPEN_GOP)
    index = index_video(clip, threads=1)
    assert len(index.keys) > 3
    decoder = SeekingDecoder(clip, index, threads=1)
    expected = from_the_start(clip)
    key = int(index.keys[-1])
    for n in (key, key - 1, int(index.keys[-2])):
        assert [bits(frame) for frame in decoder.pictures([n])] == [expected[n]]
    assert decoder._keys == index.keys.tolist()
    assert decoder.decoded <= 1 + 12 + 12
    decoder.close()


def test_a_changed_file_is_refused_by_its_pictures(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mp4", 30, options=SHORT_GOP)
    template = template_of(clip, 30)
    clip_of(clip, 30, options={**SHORT_GOP, "crf": "40"})
    with (
        TemplateFrames(template) as frames,
        pytest.raises(MediaError, match=r"in\.mp4: wanted the video that was prepared, got another picture 0; prepare"),
    ):
        frames.read(12)
    clip_of(clip, 12, options=SHORT_GOP)
    with (
        TemplateFrames(template, memory_bytes=8 * picture_bytes(template.video)) as frames,
        pytest.raises(
            MediaError,
            match=r"wanted the video that was prepared, got its end at picture 12; prepare the template again",
        ),
    ):
        frames.read(20)


def test_refusals(tmp_path: Path) -> None:
    template = template_of(clip_of(tmp_path / "in.mp4", 10), 10)
    with pytest.raises(InputError, match=r"wanted memory for 4 pictures \(0 MiB\), got 0 MiB; raise memory_bytes"):
        TemplateFrames(template, memory_bytes=1000)
    frames = TemplateFrames(template)
    for n in (-1, 10):
        with pytest.raises(InputError, match=rf"wanted a frame of 0\.\.9, got {n}; take numbers from FrameOrder"):
            frames.read(n)
    kept = frames.read(3)
    before = bits(kept)
    frames.close()
    frames.close()
    assert bits(kept) == before
    with pytest.raises(InputError, match=r"wanted open frames, got 3"):
        frames.read(3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("template")]


def test_rates_other_than_the_files_are_told_by_the_map(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mkv", 30, time_base=Fraction(1001, 30000))
    template = dataclasses.replace(hand_made(clip, 25), source_frame=np.arange(25) * 30 // 25)
    with TemplateFrames(template) as frames:
        assert [frames.read(n).index for n in range(25)] == [n * 30 // 25 for n in range(25)]
