"""Whatever a user's file holds, through the whole engine: handled, or refused in one sentence; nothing is lost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

import engine
from engine.__main__ import main
from engine.errors import InputError, MediaError
from tests.unit.media import Clip, make_audio_file, make_clip, packets_of, size_change_h264


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "source_1.png"


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("odd", Clip(size=(65, 47), codec="ffv1")),
        ("one_pixel", Clip(size=(1, 1), codec="ffv1")),
        ("tall", Clip(size=(34, 600))),
        ("ten_bit", Clip(pixel_format="yuv420p10le")),
        ("four_two_two", Clip(pixel_format="yuv422p")),
        ("full_range", Clip(pixel_format="yuvj420p")),
        ("variable_rate", Clip(pts=(0, 3, 4, 9, 11, 20), time_base=Fraction(1, 90))),
        ("three_tracks", Clip(audio=(("eng", "one"), ("fra", "two"), ("deu", "three")))),
        ("silent", Clip()),
        ("hevc", Clip(codec="libx265")),
    ],
)
def test_odd_files_go_through_with_every_frame_and_track(name: str, clip: Clip, source: Path, tmp_path: Path) -> None:
    given = make_clip(tmp_path / f"{name}.mkv", clip)
    out = tmp_path / "out.mkv"
    result = engine.run("tiny", source, given, out)
    assert result.failed == 0, result.first_failure
    assert result.frames == len(clip.pts)
    with av.open(str(given)) as before, av.open(str(out)) as after:
        times = [[frame.time for frame in one.decode(video=0)] for one in (before, after)]
    assert times[0] == pytest.approx(times[1], abs=0.0011)
    assert packets_of(out).get("audio", []) == packets_of(given).get("audio", [])


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_both_codecs_go_into_both_containers(codec: str, suffix: str, source: Path, tmp_path: Path) -> None:
    given = make_clip(tmp_path / "in.mp4", audio=(("eng", "voice"),))
    out = tmp_path / f"out{suffix}"
    assert main(["run", "--profile", "tiny", "--source", str(source), "--codec", codec, str(given), str(out)]) == 0
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name.startswith(codec)
        assert len(container.streams.audio) == 1
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_a_size_that_changes_ends_the_run_with_what_was_written(source: Path, tmp_path: Path) -> None:
    given = size_change_h264(tmp_path / "in.h264", (96, 64), (128, 64))
    with pytest.raises(MediaError, match=r"wanted 96x64 as before, got 128x64; split the file where its size changes"):
        engine.run("tiny", source, given, tmp_path / "out.mp4")
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".mp4")
    assert left == ["out.partial.mp4"]
    with av.open(str(tmp_path / "out.partial.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "wanted a video file, got no such file; check the path"),
        (b"", "wanted a video file, got an empty file; fetch or export it again"),
        (b"\x00\x01no video in here" * 64, "wanted a video that FFmpeg can read, got "),
    ],
)
def test_files_that_are_no_videos_end_with_code_2(
    content: bytes | None, sentence: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "in.mp4"
    if content is not None:
        given.write_bytes(content)
    assert main(["run", "--profile", "tiny", "--source", str(source), str(given), str(tmp_path / "out.mp4")]) == 2
    assert f"{given}: {sentence}" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_sound_alone_is_no_video(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="wanted a video stream, got only audio; name a file that holds video"):
        engine.run("tiny", source, make_audio_file(tmp_path / "in.m4a"), tmp_path / "out.mp4")


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_sources_that_are_no_pictures_are_refused(content: bytes | None, tmp_path: Path) -> None:
    picture = tmp_path / "face.png"
    if content is not None:
        picture.write_bytes(content)
    with pytest.raises(InputError, match=r"face\.png: wanted "):
        engine.run("tiny", picture, make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
