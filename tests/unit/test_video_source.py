"""What is read, what is refused and in which words."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from engine.errors import InputError, MediaError
from engine.video.source import DecodedFrame, PassThrough, open_source
from tests.unit.media import (
    captioned_h264,
    frame_bytes,
    make_audio_file,
    make_clip,
    picture_bytes,
    scene,
    size_change_h264,
    write_srt,
)

B_FRAMES = {"preset": "fast", "crf": "20", "bf": "3"}


def frames_of(path: Path, **options: Any) -> list[DecodedFrame]:
    with open_source(path, threads=2, **options) as source:
        return [item for item in source if isinstance(item, DecodedFrame)]


def test_pictures_come_as_pyav_decodes_them(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", options=B_FRAMES)
    frames = frames_of(clip)
    expected = frame_bytes(clip)
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.pts * frame.time_base for frame in frames] == [time for time, _ in expected]
    for frame, (_, raw) in zip(frames, expected, strict=True):
        assert b"".join(plane.tobytes() for plane in frame.planes()) == raw


def test_planes_are_views_of_the_decoders_memory_that_nobody_can_write(tmp_path: Path) -> None:
    frame = frames_of(make_clip(tmp_path / "in.mp4", options=B_FRAMES))[3]
    once, again = frame.planes(), frame.planes()
    assert [plane.shape for plane in once] == [(48, 64), (24, 32), (24, 32)]
    for plane, same in zip(once, again, strict=True):
        assert np.shares_memory(plane, same)
        with pytest.raises(ValueError, match="read-only"):
            plane[0, 0] = 1
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            plane.setflags(write=True)


def test_scribbling_over_copies_leaves_the_pictures_behind_unharmed(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", options=B_FRAMES, pts=range(24))
    expected = [raw for _, raw in frame_bytes(clip)]
    got = []
    y, uv = np.empty((48, 64), np.uint8), np.empty((24, 64), np.uint8)
    with open_source(clip, threads=2) as source:
        for item in source:
            assert isinstance(item, DecodedFrame)
            item.copy_nv12_into(y, uv)
            got.append(b"".join(part.tobytes() for part in (y, uv[:, 0::2], uv[:, 1::2])))
            y[:], uv[:] = 255, 0
    assert got == expected


def test_info_tells_what_the_file_says(tmp_path: Path) -> None:
    def tag(context: Any) -> None:
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 13, 1
        context.sample_aspect_ratio = Fraction(4, 3)
        context.options["chroma_sample_location"] = "topleft"

    clip = make_clip(
        tmp_path / "in.mp4",
        setup=tag,
        audio=[("deu", "Ton")],
        video_metadata={"timecode": "01:02:03:04"},
    )
    with open_source(clip, threads=1) as source:
        info = source.info
    assert (info.width_px, info.height_px, info.codec, info.pixel_format) == (64, 48, "h264", "yuv420p")
    assert info.rate == 25
    assert (info.frame_count, info.frame_count_from) == (10, "container")
    assert info.duration_s == pytest.approx(0.4)
    colour = info.colour
    assert (colour.matrix, colour.full_range, colour.assumed) == ("bt709", False, False)
    assert (colour.matrix_name, colour.primaries, colour.transfer) == ("bt709", "bt709", "iec61966-2-1")
    assert colour.chroma_location == "topleft"
    assert info.sample_aspect == Fraction(4, 3)
    assert (info.rotation_deg, info.display_matrix) == (0, None)
    assert info.timecode == "01:02:03:04"
    assert not info.interlaced
    assert [(stream.kind, stream.codec, stream.language) for stream in info.streams][:2] == [
        ("video", "h264", "und"),
        ("audio", "aac", "deu"),
    ]
    assert info.notes == ()


@pytest.mark.parametrize(
    ("size", "matrix", "note"),
    [
        ((64, 48), "bt601", "the file names no colour matrix; BT.601 was assumed for 48 lines, limited range"),
        ((64, 720), "bt709", "the file names no colour matrix; BT.709 was assumed for 720 lines, limited range"),
    ],
)
def test_untagged_colour_is_assumed_by_height_and_said(
    tmp_path: Path, size: tuple[int, int], matrix: str, note: str
) -> None:
    with open_source(make_clip(tmp_path / "in.mp4", size=size, pts=[0, 1]), threads=1) as source:
        assert (source.info.colour.matrix, source.info.colour.assumed) == (matrix, True)
        assert source.notes == (note,)


@pytest.mark.parametrize("place", ["left", "center", "topleft", "top"])
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_chroma_siting_is_read(tmp_path: Path, place: str, suffix: str) -> None:
    def state(context: Any) -> None:
        context.options["chroma_sample_location"] = place

    with open_source(make_clip(tmp_path / f"in.{suffix}", pts=[0, 1], setup=state), threads=1) as source:
        assert source.info.colour.chroma_location == place


def test_variable_rate_keeps_every_time_stamp(tmp_path: Path) -> None:
    pts = [0, 3003, 6000, 15000, 15001, 40000]
    clip = make_clip(tmp_path / "in.mp4", pts=pts, time_base=Fraction(1, 90000))
    assert [frame.pts * frame.time_base for frame in frames_of(clip)] == [Fraction(p, 90000) for p in pts]


def test_missing_time_stamps_are_counted_up_and_said(tmp_path: Path) -> None:
    with open_source(captioned_h264(tmp_path / "in.h264", [(0x94, 0x2C)] * 4), threads=1) as source:
        frames = [item for item in source if isinstance(item, DecodedFrame)]
        times = [frame.pts for frame in frames]
    assert len(set(times)) == 4
    assert times == sorted(times)
    assert all("A53_CC" in frame.side_data for frame in frames)


def test_other_streams_come_as_packets_in_between(tmp_path: Path) -> None:
    srt = write_srt(tmp_path / "in.srt")
    clip = make_clip(tmp_path / "in.mkv", audio=[("eng", "A"), ("fra", "B")], srt=srt)
    with open_source(clip, threads=1) as source:
        kinds = {stream.index: stream.kind for stream in source.info.streams}
        seen = {kinds[item.stream_index] for item in source if isinstance(item, PassThrough)}
    assert seen == {"audio", "subtitle"}


@pytest.mark.parametrize(
    ("pixel_format", "codec", "note"),
    [
        ("yuv420p10le", "ffv1", "10-bit yuv420p10le is processed as 8-bit 4:2:0"),
        ("yuv422p", "ffv1", "4:2:2 yuv422p is processed as 8-bit 4:2:0"),
        ("yuv422p10le", "ffv1", "10-bit 4:2:2 yuv422p10le is processed as 8-bit 4:2:0"),
        ("yuv444p", "ffv1", "4:4:4 yuv444p is processed as 8-bit 4:2:0"),
        ("yuv440p", "ffv1", "4:4:0 yuv440p is processed as 8-bit 4:2:0"),
        ("yuv411p", "ffv1", "4:1:1 yuv411p is processed as 8-bit 4:2:0"),
        ("yuv410p", "ffv1", "4:1:0 yuv410p is processed as 8-bit 4:2:0"),
        ("gray", "ffv1", "gray is processed as 8-bit 4:2:0"),
        ("rgb24", "png", "RGB rgb24 is processed as 8-bit 4:2:0"),
        ("bgra", "ffv1", "RGB with alpha bgra is processed as 8-bit 4:2:0 and its alpha is not carried"),
        ("yuva420p", "ffv1", "with alpha yuva420p is processed as 8-bit 4:2:0 and its alpha is not carried"),
    ],
)
def test_other_layouts_are_converted_and_said(tmp_path: Path, pixel_format: str, codec: str, note: str) -> None:
    clip = make_clip(
        tmp_path / "in.mov" if codec == "png" else tmp_path / "in.mkv",
        codec=codec,
        pixel_format=pixel_format,
        pts=[0, 1, 2],
    )
    with open_source(clip, threads=1) as source:
        assert note in source.notes
        frames = [item for item in source if isinstance(item, DecodedFrame)]
    assert len(frames) == 3
    y, u, v = (plane.astype(int) for plane in frames[1].planes())
    assert (y.shape, u.shape, v.shape) == ((48, 64), (24, 32), (24, 32))
    # the same scene as 4:2:0, up to the rounding of the conversion and of 4:1:x chroma
    plain = make_clip(tmp_path / "plain.mkv", codec="ffv1", pixel_format="yuv420p", pts=[0, 1, 2])
    wanted = [plane.astype(int) for plane in frames_of(plain)[1].planes()]
    if pixel_format != "gray":
        assert np.abs(y - wanted[0]).mean() < 1.5
        assert np.abs(u - wanted[1]).mean() < 4
        assert np.abs(v - wanted[2]).mean() < 4


def test_gray_keeps_its_luma_and_has_neutral_chroma(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="gray", pts=[0, 1])
    with av.open(str(clip)) as container:
        raw = next(container.decode(video=0)).to_ndarray()
    with open_source(clip, threads=1) as source:
        assert source.info.colour.full_range
        assert "the file names no range for its gray; full range was assumed" in source.notes
        y, u, v = next(item.planes() for item in source if isinstance(item, DecodedFrame))
    assert np.array_equal(y, raw)
    assert set(np.unique(u)) | set(np.unique(v)) == {128}


def test_limited_gray_keeps_its_luma_too(tmp_path: Path) -> None:
    def limited(context: Any) -> None:
        context.color_range = 1

    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="gray", pts=[0, 1], setup=limited)
    with open_source(clip, threads=1) as source:
        assert source.info.pixel_format == "gray"
        assert not source.info.colour.full_range
        frame = next(item for item in source if isinstance(item, DecodedFrame))
    assert frame.planes()[0].tobytes() == frame_bytes(clip)[0][1]


def test_full_range_stays_full_range(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="mjpeg", pixel_format="yuvj444p", pts=[0, 1])
    with av.open(str(clip)) as container:
        raw = next(container.decode(video=0)).to_ndarray()[0]
    with open_source(clip, threads=1) as source:
        assert source.info.colour.full_range
        frame = next(item for item in source if isinstance(item, DecodedFrame))
    assert np.array_equal(frame.planes()[0], raw)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (33, 17), (64, 1)])
def test_odd_sizes_have_rounded_up_chroma(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=size, pts=[0, 1])
    width, height = size
    chroma = ((height + 1) // 2, (width + 1) // 2)
    assert [plane.shape for plane in frames_of(clip)[0].planes()] == [(height, width), chroma, chroma]


# -- refused -----------------------------------------------------------------------------------------------


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught, open_source(path, threads=1, **options) as source:
        for _ in source:
            pass
    return str(caught.value).replace(str(path), "IN")


def delivered_until_error(path: Path) -> tuple[int, str]:
    """How many pictures came before the MediaError, and its sentence."""
    frames = 0
    with open_source(path, threads=2) as source:
        try:
            for item in source:
                frames += isinstance(item, DecodedFrame)
        except MediaError as error:
            return frames, str(error).replace(str(path), "IN")
    pytest.fail("no MediaError came")


def test_paths_that_hold_no_video(tmp_path: Path) -> None:
    empty, text, noise = tmp_path / "empty.mp4", tmp_path / "notes.txt", tmp_path / "noise.mp4"
    empty.touch()
    text.write_text("a text\n" * 100)
    noise.write_bytes(np.random.default_rng(1).bytes(5000))
    assert refusal(tmp_path / "none.mp4") == "IN: wanted a video file, got no such file; check the path"
    assert refusal(tmp_path) == "IN: wanted a video file, got a folder; name a file in it"
    assert refusal(empty) == "IN: wanted a video file, got an empty file; fetch or export it again"
    assert refusal(text) == "IN: wanted a video, got a text file; check the path"
    assert refusal(noise) == (
        "IN: wanted a video that FFmpeg can read, got Invalid data found when processing input; "
        "check the path and the file"
    )


def test_sound_only(tmp_path: Path) -> None:
    clip = make_audio_file(tmp_path / "in.m4a")
    assert refusal(clip) == "IN: wanted a video stream, got only audio; name a file that holds video"


def test_sound_with_a_cover_picture(tmp_path: Path) -> None:
    sound = make_audio_file(tmp_path / "sound.m4a")
    cover = tmp_path / "cover.png"
    cover.write_bytes(picture_bytes("png", "rgb24", scene(0, (32, 32))))
    clip = tmp_path / "in.m4a"
    with av.open(str(sound)) as a, av.open(str(cover)) as b, av.open(str(clip), "w", format="mp4") as both:
        pairs: list[tuple[Any, Any]] = []
        for container, stream in ((a, a.streams.audio[0]), (b, b.streams.video[0])):
            added: Any = both.add_stream_from_template(cast(Any, stream), opaque=True)
            if stream.type == "video":
                added.disposition = av.stream.Disposition.attached_pic.value
            pairs += [(packet, added) for packet in container.demux(stream) if packet.size]
        for packet, added in pairs:
            packet.stream = added
            both.mux(packet)
    assert refusal(clip) == (
        "IN: wanted a video stream, got only audio and a cover picture; name a file that holds video"
    )


def test_mp4_without_its_end(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pts=range(50))
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    assert refusal(clip) == (
        "IN: wanted a video that FFmpeg can read, got Invalid data found when processing input "
        "(mov,mp4,m4a,3gp,3g2,mj2: moov atom not found); check the path and the file"
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_file_that_breaks_off_delivers_what_is_there(tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    clip = make_clip(tmp_path / f"in.{suffix}", pts=range(100), muxer_options=options)
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 6 // 10])
    frames, said = delivered_until_error(clip)
    assert 30 < frames < 90
    assert said.startswith("IN: wanted 4.0 s as its header says, got ")
    assert f"({frames} pictures): the file is truncated; fetch the whole file" in said


def test_damage_inside_is_counted_and_the_rest_delivered(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", pts=range(60), options={"preset": "ultrafast", "g": "10"})
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle + 4 : middle + 184] = np.random.default_rng(2).bytes(180)
    data[middle + 188 * 4 : middle + 188 * 9] = b""
    clip.write_bytes(bytes(data))
    with open_source(clip, threads=1) as source:
        frames = [item for item in source if isinstance(item, DecodedFrame)]
        assert len(frames) >= 45
        assert source.decoder_errors > 0
        assert any(note.startswith(f"decoder: {source.decoder_errors} packets failed") for note in source.notes)


def test_packets_that_do_not_decode_are_counted(tmp_path: Path) -> None:
    options = {"preset": "ultrafast", "g": "5"}
    clip = make_clip(tmp_path / "in.mp4", pts=range(30), options=options)
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(clip.read_bytes())
    for pos, size in packets[12:14]:
        assert pos is not None
        data[pos : pos + size] = b"\xff" * size
    clip.write_bytes(bytes(data))
    with open_source(clip, threads=1) as source:
        frames = [item for item in source if isinstance(item, DecodedFrame)]
        assert len(frames) == 28
        assert source.decoder_errors == 2
        assert source.notes[-1] == (
            "decoder: 2 packets failed, the last with: Invalid data found when processing input"
        )


def test_size_that_changes_in_mid_stream(tmp_path: Path) -> None:
    clip = size_change_h264(tmp_path / "in.h264", (64, 48), (96, 64))
    assert delivered_until_error(clip) == (
        5,
        "IN, picture 5: wanted 64x48 as before, got 96x64; split the file where its size changes",
    )


def test_time_that_jumps_back_as_in_joined_recordings(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", pts=range(60), options={"preset": "ultrafast", "bf": "0"})
    clip.write_bytes(clip.read_bytes() * 2)
    frames, said = delivered_until_error(clip)
    assert frames == 60
    assert said == (
        "IN, picture 60: wanted time that goes on, got a jump back by 2.4 s; split the file where it was joined"
    )


@pytest.mark.parametrize(("tag", "name"), [(16, "PQ (SMPTE ST 2084)"), (18, "HLG (ARIB STD-B67)")])
def test_hdr_is_refused_by_name(tmp_path: Path, tag: int, name: str) -> None:
    def hdr(context: Any) -> None:
        context.color_trc, context.color_primaries, context.colorspace = tag, 9, 9

    clip = make_clip(tmp_path / "in.mp4", setup=hdr, pts=[0, 1])
    assert refusal(clip) == f"IN: wanted an SDR video, got HDR with {name}; tone-map it to SDR BT.709 first"


def interlaced(context: Any) -> None:
    context.options["x264-params"] = "interlaced=1"


def test_interlaced_is_refused_by_name(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", setup=interlaced)
    assert refusal(clip) == ("IN: wanted progressive pictures, got interlaced ones; pass deinterlace=True (bwdif)")


def test_interlaced_is_handled_when_asked(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", setup=interlaced)
    expected = frame_bytes(clip)
    with open_source(clip, threads=1, deinterlace=True) as source:
        assert source.info.interlaced
        frames = [item for item in source if isinstance(item, DecodedFrame)]
    assert [frame.pts * frame.time_base for frame in frames] == [time for time, _ in expected]
    assert not any(frame.av_frame.interlaced_frame for frame in frames)
    # bwdif keeps the first field, here the bottom one, and predicts the other
    for frame, (_, raw) in zip(frames, expected, strict=True):
        luma = np.frombuffer(raw, np.uint8)[: 48 * 64].reshape(48, 64)
        assert np.array_equal(frame.planes()[0][1::2], luma[1::2])
        assert not np.array_equal(frame.planes()[0][0::2], luma[0::2])


def test_progressive_video_goes_through_deinterlacing_unchanged(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    frames = frames_of(clip, deinterlace=True)
    assert [b"".join(p.tobytes() for p in f.planes()) for f in frames] == [raw for _, raw in frame_bytes(clip)]


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "100%.png"
    path.write_bytes(picture_bytes("png", "rgb24", scene(0, (64, 48))))
    assert len(frames_of(path)) == 1


def test_second_pass_and_bad_thread_count(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    with open_source(clip, threads=1) as source:
        iter(source)
        with pytest.raises(InputError, match="wanted one pass over a source, got a second one; open the source again"):
            iter(source)
    with pytest.raises(InputError, match="wanted threads of 1 or more, got 0; raise the thread budget"):
        open_source(clip, threads=0)


def test_closing_from_another_thread_ends_the_iteration(tmp_path: Path) -> None:
    source = open_source(make_clip(tmp_path / "in.mp4", pts=range(60)), threads=2)
    delivered, closed = threading.Event(), threading.Event()
    frames = []

    def read() -> None:
        for item in source:
            frames.append(item)
            delivered.set()
            if len(frames) == 5:
                closed.wait(60)

    reader = threading.Thread(target=read)
    reader.start()
    assert delivered.wait(60)
    source.close()
    closed.set()
    reader.join(60)
    assert not reader.is_alive()
    assert len(frames) < 60
    source.close()
    assert isinstance(frames[0], DecodedFrame)
    assert frames[0].planes()[0].shape == (48, 64)


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "in.mp4").rename(tmp_path / "a:b.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(frames_of(Path("a:b.mp4"))) == 10
