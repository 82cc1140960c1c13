"""What arrives in the output: the pixels exactly, and everything around them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
import pytest

from engine.errors import InputError, OutputError
from engine.video.ai_altered import AI_ALTERED_COMMENT, DIGITAL_SOURCE_TYPE, is_marked
from engine.video.sink import open_sink
from engine.video.source import DecodedFrame, PassThrough, open_source
from tests.unit.media import captioned_h264, frame_bytes, make_clip, packets_of, picture_bytes, scene, write_srt

PYAV = int(av.__version__.split(".")[0])
ROTATED = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
MIRRORED = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
UPSIDE_DOWN = (65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)


def copy(clip: Path, out: Path, **options: Any) -> tuple[str, ...]:
    """Everything of `clip` through source and sink, pictures unchanged; returns the sink's notes."""
    with open_source(clip, threads=2) as source:
        width, height = source.info.width_px, source.info.height_px
        y = np.empty((height, width), np.uint8)
        uv = np.empty(((height + 1) // 2, 2 * ((width + 1) // 2)), np.uint8)
        with open_sink(out, source, **{"threads": 1, "quality": 0, "preset": "ultrafast", **options}) as sink:
            for item in source:
                if isinstance(item, PassThrough):
                    sink.pass_through(item)
                else:
                    item.copy_nv12_into(y, uv)
                    sink.write((y, uv), item)
    assert sink.path == out.resolve()
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith(".")) == []
    return sink.notes


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_lossless_copies_are_equal_byte_for_byte(tmp_path: Path, suffix: str, codec: Literal["h264", "hevc"]) -> None:
    clip = make_clip(tmp_path / "in.mkv", time_base=Fraction(1, 1000), pts=range(0, 400, 40), audio=[("eng", "A")])
    out = tmp_path / f"out.{suffix}"
    assert copy(clip, out, codec=codec) == ()
    assert frame_bytes(out) == frame_bytes(clip)
    with av.open(str(out)) as written:
        assert written.streams.video[0].codec_context.codec.canonical_name == codec


def test_the_encoder_gets_the_planes_as_given(tmp_path: Path) -> None:
    """Random planes with a row pitch, unlike the source's: no conversion, no scaling, no sharing."""
    clip = make_clip(tmp_path / "in.mp4")
    random = np.random.default_rng(3)
    wanted = []
    y, uv = np.zeros((48, 100), np.uint8)[:, 7:71], np.zeros((24, 90), np.uint8)[:, 5:69]
    with (
        open_source(clip, threads=1) as source,
        open_sink(tmp_path / "out.mp4", source, threads=2, quality=0) as sink,
    ):
        for item in source:
            assert isinstance(item, DecodedFrame)
            y[:], uv[:] = random.integers(0, 256, y.shape), random.integers(0, 256, uv.shape)
            wanted.append(b"".join(part.tobytes() for part in (y, uv[:, 0::2], uv[:, 1::2])))
            sink.write((y, uv), item)
            y[:], uv[:] = 0, 0  # the memory is ours again as soon as write returns
    assert [raw for _, raw in frame_bytes(tmp_path / "out.mp4")] == wanted


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_variable_rate_is_kept(tmp_path: Path, codec: Literal["h264", "hevc"]) -> None:
    pts = [9000, 12003, 15000, 24000, 24001, 49000, 52000, 55000]
    clip = make_clip(tmp_path / "in.mp4", pts=pts, time_base=Fraction(1, 90000))
    copy(clip, tmp_path / "out.mp4", codec=codec, preset="fast")
    assert [time for time, _ in frame_bytes(tmp_path / "out.mp4")] == [Fraction(p, 90000) for p in pts]


def test_the_last_picture_keeps_its_duration(tmp_path: Path) -> None:
    # looks ahead, so that the last picture comes out of the flush
    options = {"preset": "fast", "crf": "20", "bf": "0"}
    clip = make_clip(
        tmp_path / "in.mp4", pts=[0, 3000, 9000], time_base=Fraction(1, 90000), last_duration=45000, options=options
    )
    copy(clip, tmp_path / "out.mp4")
    for path in (clip, tmp_path / "out.mp4"):
        with open_source(path, threads=1) as source:
            assert source.info.duration_s == pytest.approx(0.6)


def test_mkv_says_that_it_rounds_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pts=[0, 3003, 6006], time_base=Fraction(1, 90000))
    notes = copy(clip, tmp_path / "out.mkv")
    assert notes == ("mkv counts time in whole ms: time stamps are rounded to that",)
    for (got, _), want in zip(frame_bytes(tmp_path / "out.mkv"), (0, 3003, 6006), strict=True):
        assert got is not None
        assert abs(got - Fraction(want, 90000)) <= Fraction(1, 2000)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_sound_is_copied_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    tracks = [("eng", "Main"), ("fra", "Commentaire"), ("ita", "Commento")]
    clip = make_clip(tmp_path / "in.mp4", audio=tracks)
    out = tmp_path / f"out.{suffix}"
    copy(clip, out)
    before, after = packets_of(clip)["audio"], packets_of(out)["audio"]
    assert len(after) == 3
    assert after == before
    with av.open(str(out)) as written, av.open(str(clip)) as source:
        assert [s.language for s in written.streams.audio] == ["eng", "fra", "ita"]
        starts = [
            float((s.start_time or 0) * (s.time_base or 0)) for s in (*written.streams.audio, *source.streams.audio)
        ]
    assert max(starts) - min(starts) < 0.002


def test_a_video_without_sound_stays_without(tmp_path: Path) -> None:
    copy(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert set(packets_of(tmp_path / "out.mp4")) == {"video"}


def test_sound_whose_time_goes_back_does_not_end_the_output(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", audio=[("eng", "A")])
    out = tmp_path / "out.mp4"
    with open_source(clip, threads=1) as source, open_sink(out, source, threads=1) as sink:
        y, uv = np.zeros((48, 64), np.uint8), np.zeros((24, 64), np.uint8)
        packets = 0
        for item in source:
            if isinstance(item, PassThrough):
                packets += 1
                if packets == 4:
                    item.packet.pts = item.packet.dts = 0
                sink.pass_through(item)
            else:
                sink.write((y, uv), item)
    assert sink.notes == ("stream 1: time stamps that did not increase were moved later",)
    assert packets_of(out)["audio"] == packets_of(clip)["audio"]


def test_the_source_may_be_closed_before_the_sink(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", audio=[("eng", "A")], chapters=[(0, 400, "One")])
    with open_source(clip, threads=1) as source:
        sink = open_sink(tmp_path / "out.mp4", source, threads=1)
        items = list(source)
    for item in items:
        if isinstance(item, PassThrough):
            sink.pass_through(item)
        else:
            sink.write((np.zeros((48, 64), np.uint8), np.zeros((24, 64), np.uint8)), item)
    sink.close()
    assert sink.notes == ()
    assert packets_of(tmp_path / "out.mp4")["audio"] == packets_of(clip)["audio"]


def test_attachments_are_copied_where_they_fit_and_named_where_not(tmp_path: Path) -> None:
    plain = make_clip(tmp_path / "plain.mkv")
    clip = tmp_path / "in.mkv"
    with av.open(str(plain)) as given, av.open(str(clip), "w") as container:
        video = container.add_stream_from_template(given.streams.video[0], opaque=True)
        container.add_attachment("letters.ttf", "font/ttf", b"not really a font")
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
    assert copy(clip, tmp_path / "out.mkv") == ()
    with av.open(str(tmp_path / "out.mkv")) as written:
        (attachment,) = written.streams.attachments
        assert (attachment.name, attachment.mimetype, attachment.data) == (
            "letters.ttf", "font/ttf", b"not really a font"
        )  # fmt: skip
    (note,) = copy(clip, tmp_path / "out.mp4")
    assert note.startswith("stream 1 (attachment, ")
    assert "is left out: mp4 can't hold it: " in note


def test_sound_of_a_transport_stream_fits_into_mp4(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", audio=[("eng", "A")])
    assert copy(clip, tmp_path / "out.mp4") == ()
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert sum(frame.samples for frame in written.decode(audio=0)) >= 6000
    assert [t for t, _ in frame_bytes(tmp_path / "out.mp4")] == [t for t, _ in frame_bytes(clip)]


def test_subtitles_are_copied_where_they_fit_and_named_where_not(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", srt=write_srt(tmp_path / "in.srt"))
    assert copy(clip, tmp_path / "out.mkv") == ()
    assert packets_of(tmp_path / "out.mkv")["subtitle"] == packets_of(clip)["subtitle"] == [[b"Hello", b"Good bye"]]
    with av.open(str(tmp_path / "out.mkv")) as written:
        assert written.streams.subtitles[0].language == "fra"
    (note,) = copy(clip, tmp_path / "out.mp4")
    assert note == (
        "stream 1 (subtitle, subrip) is left out: mp4 can't hold it: 'mp4' format does not support 'srt' codec"
    )


@pytest.mark.skipif(PYAV < 17, reason="the clip needs PyAV 17 to be made")
def test_mov_text_is_copied(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", mov_text="Guten Tag")
    copy(clip, tmp_path / "out.mp4")
    assert b"\x00\x09Guten Tag" in packets_of(tmp_path / "out.mp4")["subtitle"][0]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_chapters_and_metadata_are_carried(tmp_path: Path, suffix: str) -> None:
    chapters = [(0, 200, "One"), (200, 400, "Two")]
    metadata = {"title": "A title", "comment": "Mine", "artist": "Me"}
    clip = make_clip(tmp_path / "in.mp4", chapters=chapters, metadata=metadata)
    out = tmp_path / f"out.{suffix}"
    assert copy(clip, out) == ()
    with av.open(str(out)) as written:
        got = [(c["start"] * (c["time_base"] or 0) * 1000, c["metadata"]["title"]) for c in written.chapters()]
        tags = {key.lower(): value for key, value in written.metadata.items()}
        kinds = [stream.type for stream in written.streams]
    assert got == [(0, "One"), (200, "Two")]
    assert (tags["title"], tags["artist"]) == ("A title", "Me")
    assert tags["comment"] == f"Mine | {AI_ALTERED_COMMENT}"
    # the muxer makes a track of the chapters in mp4: the input's own must not come beside it
    assert kinds == (["video"] if suffix == "mkv" else ["video", "data"])


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_every_output_says_that_it_was_altered(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    clip = make_clip(tmp_path / "in.mp4")
    copy(clip, out)
    copy(out, tmp_path / f"again.{suffix}")  # twice altered is said once
    for path in (out, tmp_path / f"again.{suffix}"):
        with av.open(str(path), options={} if suffix == "mkv" else {"export_xmp": "1"}) as written:
            metadata = {key.lower(): value for key, value in written.metadata.items()}
        assert is_marked(metadata)
        assert metadata["digital_source_type"] == DIGITAL_SOURCE_TYPE
        assert metadata["comment"] == AI_ALTERED_COMMENT
        if suffix != "mkv":
            assert f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}<" in metadata["xmp"]
    with av.open(str(clip)) as container:
        assert not is_marked(container.metadata)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_tags_of_the_picture_are_carried(tmp_path: Path, suffix: str, codec: Literal["h264", "hevc"]) -> None:
    mastering = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"

    def tag(context: Any) -> None:
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 6, 5, 13, 2
        context.sample_aspect_ratio = Fraction(16, 11)
        context.options["chroma_sample_location"] = "topleft"
        context.options["x264-params"] = f"mastering-display={mastering}:cll=1000,400"

    clip = make_clip(tmp_path / "in.mp4", setup=tag, video_metadata={"timecode": "01:02:03:04", "language": "eng"})
    out = tmp_path / f"out.{suffix}"
    assert copy(clip, out, codec=codec) == ()
    with open_source(clip, threads=1) as before, open_source(out, threads=1) as after:
        was, now = before.info, after.info
    assert now.colour == was.colour
    assert (now.colour.matrix_tag, now.colour.transfer_tag, now.colour.full_range) == (6, 13, True)
    assert (now.sample_aspect, now.timecode) == (Fraction(16, 11), "01:02:03:04")
    assert now.content_light == was.content_light == (1000, 400)
    assert now.mastering_display == was.mastering_display is not None


@pytest.mark.skipif(PYAV < 18, reason="PyAV writes display matrices since 18")
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_rotation_and_mirroring_are_carried(tmp_path: Path, suffix: str) -> None:
    for matrix, turn_deg, mirrored in ((ROTATED, 90, False), (MIRRORED, 0, True), (UPSIDE_DOWN, 180, True)):
        clip = make_clip(tmp_path / "in.mp4", matrix=matrix)
        out = tmp_path / f"out.{suffix}"
        assert copy(clip, out) == ()
        with open_source(out, threads=1) as after:
            assert after.info.display_matrix == matrix
            assert (after.info.rotation_deg, after.info.mirrored) == (turn_deg, mirrored)
            assert (after.info.width_px, after.info.height_px) == (64, 48)


@pytest.mark.skipif(PYAV < 18, reason="the clip needs PyAV 18 to be made")
def test_rotation_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4", matrix=ROTATED)
    monkeypatch.setattr("engine.video.encoder.set_display_matrix", lambda stream, matrix: False)
    with pytest.raises(OutputError) as caught:
        copy(clip, tmp_path / "out.mp4")
    assert str(caught.value).replace(str(tmp_path), "DIR") == (
        "DIR/out.mp4: wanted PyAV 18 or newer to write rotation metadata, "
        f"got PyAV {av.__version__}; upgrade av, or rotate the video first"
    )


def test_an_untagged_picture_stays_untagged(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    copy(clip, tmp_path / "out.mp4")
    with open_source(tmp_path / "out.mp4", threads=1) as after:
        colour = after.info.colour
    assert (colour.matrix_tag, colour.primaries_tag, colour.transfer_tag, colour.range_tag) == (2, 2, 2, 0)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_captions_stay_with_their_pictures(tmp_path: Path, codec: Literal["h264", "hevc"]) -> None:
    pairs = [(0x94, 0x2C), (0xC8, 0xE5), (0xEC, 0xEC), (0xEF, 0x80), (0x94, 0x2F)]
    clip = captioned_h264(tmp_path / "in.h264", pairs)
    copy(clip, tmp_path / "out.mp4", codec=codec, preset="medium")
    with av.open(str(tmp_path / "out.mp4")) as written:
        captions: list[Any] = [cast(Any, frame.side_data)["A53_CC"] for frame in written.decode(video=0)]
        got = [bytes(entry)[:3] for entry in captions]
    assert got == [bytes((0xFC, one, two)) for one, two in pairs]
    assert [raw for _, raw in frame_bytes(tmp_path / "out.mp4")] == [raw for _, raw in frame_bytes(clip)]


def test_pictures_types_are_the_encoders_own_even_with_captions(tmp_path: Path) -> None:
    clip = captioned_h264(tmp_path / "in.h264", [(0x94, 0x2C)] * 12)
    copy(clip, tmp_path / "out.mp4", preset="medium", quality=30)
    with av.open(str(tmp_path / "out.mp4")) as written:
        kinds = {frame.pict_type for frame in written.decode(video=0)}
    assert av.video.frame.PictureType.B in kinds


@pytest.mark.parametrize(("size", "written"), [((1, 1), (2, 2)), ((33, 17), (34, 18)), ((64, 47), (64, 48))])
def test_odd_sizes_are_filled_up_and_said(tmp_path: Path, size: tuple[int, int], written: tuple[int, int]) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=size, time_base=Fraction(1, 1000), pts=[0, 40, 80])
    (width, height), (wide, high) = size, written
    assert copy(clip, tmp_path / "out.mp4") == (
        f"{width}x{height} is written as {wide}x{high}: 4:2:0 video has even sizes; "
        "the last column and row are repeated",
    )
    for (_, raw), (_, big) in zip(frame_bytes(clip), frame_bytes(tmp_path / "out.mp4"), strict=True):
        luma = np.frombuffer(raw, np.uint8)[: width * height].reshape(height, width)
        filled = np.frombuffer(big, np.uint8)[: wide * high].reshape(high, wide)
        assert np.array_equal(filled, np.pad(luma, ((0, high - height), (0, wide - width)), mode="edge"))
        assert raw[width * height :] == big[wide * high :]  # chroma planes have the same size in both


def test_too_small_for_hevc_is_refused_before_work(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=(4, 4), pts=[0, 1])
    with pytest.raises(OutputError) as caught:
        copy(clip, tmp_path / "out.mp4", codec="hevc")
    assert str(caught.value).replace(str(tmp_path), "DIR") == (
        "DIR/out.mp4: wanted libx265 to open for 4x4, preset ultrafast, quality 0, got Invalid argument "
        "(libx265: Image size is too small (4x4).); change the settings it names"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_converted_layouts_reach_the_output_as_processed(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv422p10le", time_base=Fraction(1, 1000))
    copy(clip, tmp_path / "out.mp4")
    with open_source(clip, threads=1) as source:
        planes = [b"".join(p.tobytes() for p in f.planes()) for f in source if isinstance(f, DecodedFrame)]
    assert [raw for _, raw in frame_bytes(tmp_path / "out.mp4")] == planes


def test_a_cover_picture_is_not_taken_for_the_video(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    cover.write_bytes(picture_bytes("png", "rgb24", scene(0, (32, 32))))
    plain = make_clip(tmp_path / "plain.mp4")
    clip = tmp_path / "in.mp4"
    with av.open(str(plain)) as a, av.open(str(cover)) as b, av.open(str(clip), "w") as both:
        video = both.add_stream_from_template(a.streams.video[0], opaque=True)
        art: Any = both.add_stream_from_template(b.streams.video[0], opaque=True)
        art.disposition = av.stream.Disposition.attached_pic.value
        packets: list[tuple[Any, Any]] = [(p, art) for p in b.demux(video=0)] + [(p, video) for p in a.demux(video=0)]
        for packet, stream in packets:
            if packet.size:
                packet.stream = stream
                both.mux(packet)
    notes = copy(clip, tmp_path / "out.mp4")
    assert notes == ()
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert is_marked(written.metadata)
        sizes = [(s.width, s.disposition.name) for s in written.streams.video]
    assert sorted(sizes) == [(32, "attached_pic"), (64, "default")]
    assert copy(clip, tmp_path / "out.mov") == ("stream 1: the cover picture is not carried",)


def test_wrong_planes_are_named(tmp_path: Path) -> None:
    with open_source(make_clip(tmp_path / "in.mp4"), threads=1) as source:
        frame = next(item for item in source if isinstance(item, DecodedFrame))
        with open_sink(tmp_path / "out.mp4", source, threads=1) as sink:
            with pytest.raises(InputError) as caught:
                sink.write((np.zeros((48, 64), np.uint8), np.zeros((24, 32), np.uint8)), frame)
            y, uv = np.zeros((48, 64), np.uint8), np.zeros((24, 64), np.uint8)
            sink.write((y, uv), frame)
    assert str(caught.value) == (
        "Sink.write: wanted uint8 y (48, 64), uint8 uv (24, 64), got uint8 y (48, 64), uint8 uv (24, 32); "
        "pass NV12 planes of the source's size"
    )
