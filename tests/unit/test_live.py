"""Live mode without a network: newest wins, the clock, sound, changes within the stream, and how a run ends."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

import engine
from engine.errors import InputError, MediaError, OutputError
from engine.frame import Frame
from engine.live import Handover, run_live
from engine.pipeline import Pipeline, open_pipeline
from engine.result import RunResult
from engine.video.fit import fit_picture, fitted_size
from engine.video.live_clock import TICKS_PER_S, CaptureClock, own_ticks
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions, is_camera, is_live, parse_options
from engine.video.sink import Sink, open_sink
from engine.video.source import DecodedFrame, PassThrough
from kernels.launch import Colour
from tests.live_peer import Sent, read_file, send
from tests.unit.media import frame_bytes, make_clip, size_change_h264

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "tiny" / "sample"
RATE = 25


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with open_pipeline("tiny", sources=[SAMPLE / "source_1.png"], size=(320, 240), colour=Colour()) as opened:
        yield opened


@pytest.fixture
def idle(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline without its networks: what is tested here is what stands around them."""
    monkeypatch.setattr(Pipeline, "begin", lambda self, frame: frame)
    monkeypatch.setattr(Pipeline, "finish", lambda self, frame: frame)
    pipeline.timings.clear()
    return pipeline


def numbered(path: Path, seconds: float, rate: int = RATE) -> tuple[Path, Sent]:
    """A transport stream of numbered pictures with sound, written faster than it plays."""
    # the peer sends at its own pace; a file needs none
    start = time.perf_counter()
    clock = pytest.MonkeyPatch()
    clock.setattr("tests.live_peer.time.sleep", lambda seconds: None)
    clock.setattr("tests.live_peer.format_of", lambda url: ("mpegts", {}))
    with clock.context():
        sent = send(str(path), seconds=seconds, rate=rate)
    clock.undo()
    assert time.perf_counter() - start < seconds + 5
    return path, sent


def live(pipeline: Pipeline, uri: Path | str, out: Path, **options: Any) -> RunResult:
    with LiveInput(str(uri), threads=1, options=LiveOptions(**options), paced=True) as source:
        return run_live(pipeline, source, open_sink(out, source, threads=1, is_live=True))


# -- newest wins ------------------------------------------------------------------------------------------


def picture(index: int) -> DecodedFrame:
    blank: Any = None
    return DecodedFrame(index, index, Fraction(1, TICKS_PER_S), None, blank, blank)


def test_a_newer_picture_takes_the_place_of_one_that_nobody_took() -> None:
    handover = Handover()
    assert [handover.put(picture(index)) for index in range(3)] == [False, True, True]
    taken = handover.take(0)
    assert taken is not None
    assert taken.index == 2
    assert handover.take(0.01) is None
    assert not handover.is_over
    handover.put(picture(3))
    handover.end()
    assert not handover.is_over
    assert handover.take(1) is not None
    assert handover.is_over


def test_who_waits_for_a_picture_gets_it_at_once() -> None:
    handover = Handover()
    threading.Timer(0.1, lambda: handover.put(picture(7))).start()
    start = time.perf_counter()
    taken = handover.take(5)
    assert taken is not None
    assert 0.05 < time.perf_counter() - start < 2


def test_a_slow_pipeline_drops_the_older_and_latency_stays_bounded(
    idle: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: Pipeline, frame: Frame) -> Frame:
        time.sleep(0.1)
        return frame

    monkeypatch.setattr(Pipeline, "finish", slow)
    clip, sent = numbered(tmp_path / "in.ts", 2.0)
    result = live(idle, clip, tmp_path / "out.mkv")
    facts = result.live
    assert facts is not None
    assert facts.pictures_in == len(sent.pictures) == 50
    assert result.frames + facts.dropped_in_all == 50
    # 2 s of pictures at 100 ms each, or somewhat more on a busy machine
    assert 8 <= result.frames <= 21
    assert facts.dropped == {"late": 50 - result.frames, "damaged": 0, "end": 0}
    # one picture in the pipeline, and one interval of waiting: 140 ms; a queue of all would end at 3000 ms
    assert result.timings.stages["latency"].count == result.frames
    assert result.timings.stages["latency"].max_ms < 500
    got = read_file(tmp_path / "out.mkv")
    assert got.numbers == sorted(set(got.numbers))
    assert len(got.numbers) == result.frames
    # a drop makes the picture before it longer; it shifts nothing
    assert [stamp for _, stamp, _ in got.pictures] == pytest.approx([n / RATE for n in got.numbers], abs=0.0015)
    assert [data for _, data in got.sound] == [data for at, data in sent.sound if at >= 0]


def test_a_fast_pipeline_drops_nothing(idle: Pipeline, tmp_path: Path) -> None:
    # 250 ms for a picture that takes 2: a busy machine does not matter
    clip, sent = numbered(tmp_path / "in.ts", 2.0, rate=4)
    result = live(idle, clip, tmp_path / "out.mkv")
    assert result.live is not None
    assert result.live.dropped_in_all == 0, result.live
    got = read_file(tmp_path / "out.mkv")
    assert got.numbers == sorted(sent.pictures)
    assert 1.7 < result.wall_s < 4, "a file is played at its own pace"


def test_sound_that_comes_before_its_picture_waits_for_it_and_older_sound_is_let_go(tmp_path: Path) -> None:
    clip, _ = numbered(tmp_path / "in.ts", 1.0)
    # a packet's stream is read, so its file stays open
    with (
        av.open(str(clip)) as heard,
        av.open(str(clip)) as seen,
        LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True) as source,
    ):
        packets: list[Any] = [packet for packet in heard.demux(audio=0) if packet.size]
        source.begin()
        frame: Any = next(seen.decode(video=0))
        older, newer = packets[0], packets[-1]
        assert older.pts * older.time_base < frame.pts * frame.time_base < newer.pts * newer.time_base
        assert list(source._stamped(PassThrough(older), 0)) == []
        assert list(source._stamped(PassThrough(newer), 0)) == []
        now_ns = time.perf_counter_ns()
        first, second = source._stamped((frame, now_ns), 0)
    assert isinstance(first, DecodedFrame)
    assert first.pts == 0
    assert isinstance(second, PassThrough)
    assert bytes(cast(Any, second.packet)) == bytes(newer)


def test_a_stall_of_four_seconds_costs_pictures_and_no_sound(
    idle: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def stall(self: Pipeline, frame: Frame) -> Frame:
        nonlocal calls
        calls += 1
        if calls == 10:
            time.sleep(4)
        return frame

    monkeypatch.setattr(Pipeline, "finish", stall)
    clip, sent = numbered(tmp_path / "in.ts", 5.0)
    result = live(idle, clip, tmp_path / "out.mkv")
    assert result.live is not None
    assert result.live.dropped["late"] >= 95
    assert result.frames + result.live.dropped_in_all == len(sent.pictures)
    got = read_file(tmp_path / "out.mkv")
    assert [data for _, data in got.sound] == [data for at, data in sent.sound if at >= 0]
    sound = {data: at for at, data in sent.sound}
    shifts = [at - sound[data] for at, data in got.sound]
    pictures = [stamp - number / RATE for number, stamp, _ in got.pictures]
    # EBU R37 wants sound within +5 and -15 ms of its picture; mkv counts in ms
    assert max(shifts) - min(shifts) < 0.0015
    assert max(pictures) - min(pictures) < 0.0015
    assert abs(shifts[0] - pictures[0]) < 0.002
    assert max(np.diff([stamp for _, stamp, _ in got.pictures])) > 3.8


def test_a_picture_leaves_without_waiting_for_later_sound(tmp_path: Path) -> None:
    """FFmpeg's muxers hold a packet until every stream has a later one, unless its decode stamp is behind them all."""
    clip, _ = numbered(tmp_path / "in.ts", 1.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.7)
        address = f"udp://127.0.0.1:{listener.getsockname()[1]}"
        with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True) as source:
            sink = open_sink(address, source, threads=1, is_live=True)
            source.begin()
            written = 0
            for item in source.items(threading.Event()):
                if isinstance(item, DecodedFrame):
                    y, uv = np.full((240, 320), 80, np.uint8), np.full((120, 320), 128, np.uint8)
                    sink.write((y, uv), item)
                    written += 1
                else:
                    sink.pass_through(item)
                if written == 8:
                    break
            left = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    datagram = listener.recv(2048)
                    for at in range(0, len(datagram), 188):
                        is_start, pid = datagram[at + 1] & 0x40, (datagram[at + 1] & 0x1F) << 8 | datagram[at + 2]
                        left += bool(is_start) and pid == 256
            sink.abort()
    assert (written, left) == (8, 8)


# -- the clock --------------------------------------------------------------------------------------------

BASE = Fraction(1, 1000)
MS_NS = 1_000_000


def on_line(clock: CaptureClock, stream: int, stamp_ms: int, arrived_ms: int) -> float:
    """Where the clock puts a stamp, in ms."""
    offset = clock.offset(stream, stamp_ms, BASE, arrived_ms * MS_NS)
    return (own_ticks(stamp_ms, BASE) + offset) / 90


def test_the_clock_keeps_the_senders_spacing_through_jitter() -> None:
    clock = CaptureClock()
    arrivals = (1000, 1071, 1080, 1190, 1160)
    assert [on_line(clock, 0, 5000 + 40 * n, at) for n, at in enumerate(arrivals)] == [0, 40, 80, 120, 160]


def test_a_burst_after_a_stall_is_no_jump() -> None:
    clock = CaptureClock()
    on_line(clock, 0, 0, 1000)
    assert [on_line(clock, 0, 40 * n, 13_000 + n) for n in range(1, 4)] == [40, 80, 120]
    assert clock.jumps == 0


def test_a_jump_goes_on_by_the_time_that_passed_and_packets_of_the_old_line_keep_it() -> None:
    clock = CaptureClock()
    on_line(clock, 0, 90_000, 1000)
    on_line(clock, 1, 90_000, 1000)
    assert on_line(clock, 0, 0, 1040) == pytest.approx(40)
    assert clock.jumps == 1
    assert on_line(clock, 1, 90_020, 1045) == pytest.approx(20)
    assert on_line(clock, 1, 5, 1050) == pytest.approx(45)
    assert on_line(clock, 0, 40, 1080) == pytest.approx(80)
    assert clock.jumps == 1


def test_an_input_that_was_away_leaves_a_gap_as_long_as_it_was() -> None:
    clock = CaptureClock()
    on_line(clock, 0, 0, 1000)
    on_line(clock, 0, 40, 1040)
    clock.restart()
    assert on_line(clock, 0, 0, 3040) == pytest.approx(2040)


# -- changes within the stream ----------------------------------------------------------------------------


def test_another_size_is_fitted_into_the_runs_own(idle: Pipeline, tmp_path: Path) -> None:
    clip = size_change_h264(tmp_path / "in.h264", (320, 240), (160, 240))
    out = tmp_path / "out.mkv"
    with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True) as source:
        result = run_live(idle, source, open_sink(out, source, threads=1, is_live=True, quality=0))
    assert result.live is not None
    assert (result.frames + result.live.dropped_in_all, result.failed) == (10, 0)
    assert any(note.startswith("the input changed to 160x240 yuv420p") for note in result.notes)
    first, last = (np.frombuffer(frame_bytes(out)[at][1], np.uint8)[: 320 * 240].reshape(240, 320) for at in (0, -1))
    given = [np.frombuffer(data, np.uint8) for _, data in frame_bytes(clip)]
    assert np.array_equal(first, given[0][: 320 * 240].reshape(240, 320))
    assert np.array_equal(last[:, 80:240], given[9][: 160 * 240].reshape(240, 160))
    assert (last[:, :80] == 16).all()
    assert (last[:, 240:] == 16).all()


@pytest.mark.parametrize(
    ("size", "room", "fitted"),
    [
        ((640, 480), (320, 240), (320, 240)),
        ((1920, 1080), (320, 240), (320, 180)),
        ((100, 400), (320, 240), (60, 240)),
        ((65, 47), (65, 47), (65, 47)),
        ((4000, 2), (320, 240), (320, 2)),
    ],
)
def test_a_fitted_size_keeps_its_aspect(size: tuple[int, int], room: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fitted_size(size, room) == fitted


def coloured_h264(path: Path, *colours: tuple[int, int]) -> Path:
    """Raw H.264 of 5 grey pictures for each (matrix, range)."""
    units = b""
    for matrix, range_tag in colours:
        context: Any = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = 320, 240, "yuv420p"
        context.time_base, context.thread_count = Fraction(1, 25), 1
        context.colorspace, context.color_range = matrix, range_tag
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "0"}
        pictures = []
        for index in range(5):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane, level in zip(frame.planes, (126, 90, 180), strict=True):
                plane.update(bytes([level]) * (plane.line_size * plane.height))
            frame.pts = index
            pictures += context.encode(frame)
        units += b"".join(bytes(packet) for packet in pictures + context.encode(None))
    path.write_bytes(units)
    return path


def test_another_colour_is_converted_in_a_live_run(idle: Pipeline, tmp_path: Path) -> None:
    clip = coloured_h264(tmp_path / "in.h264", (1, 1), (6, 2))
    out = tmp_path / "out.mkv"
    with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True) as source:
        run = source.info
        result = run_live(idle, source, open_sink(out, source, threads=1, is_live=True, quality=0))
    assert result.live is not None
    assert result.frames + result.live.dropped_in_all == 10
    assert (run.colour.matrix, run.colour.full_range) == ("bt709", False)
    with av.open(str(out)) as container:
        pictures = [frame.to_ndarray() for frame in container.decode(video=0)]
    means = [(one[:240].mean(), one[240:300].mean(), one[300:].mean()) for one in pictures]
    # 126, 90, 180 in full-range BT.601, as limited BT.709: by the two matrices, to within rounding
    y, cb, cr = 126 / 255, (90 - 128) / 255, (180 - 128) / 255
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    wanted = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
    assert means[0] == pytest.approx((126, 90, 180), abs=0.01)
    # the scaler rounds each step; left unconverted, luma would be 7.4 off
    assert means[-1] == pytest.approx(wanted, abs=2)


@pytest.mark.parametrize("layout", ["rgb24", "yuv444p", "yuv420p10le", "nv12", "gray"])
def test_another_pixel_format_keeps_its_colours(layout: str, idle: Pipeline, tmp_path: Path) -> None:
    """A green of 100 / 180 / 60 in whatever form: the run's own BT.709 in limited range."""
    rgb = np.empty((240, 320, 3), np.uint8)
    rgb[:] = (120, 120, 120) if layout == "gray" else (100, 180, 60)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    if layout != "rgb24":
        frame = frame.reformat(format=layout, dst_colorspace="ITU709", dst_color_range="MPEG")
    clip = coloured_h264(tmp_path / "in.h264", (1, 1))
    with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True) as source:
        fitted = fit_picture(frame, source.info.colour, source.info).to_ndarray()
    red, green, blue = (value / 255 for value in rgb[0, 0])
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    wanted = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
    means = (fitted[:240].mean(), fitted[240:300].mean(), fitted[300:].mean())
    assert means == pytest.approx(wanted, abs=2)


def test_another_colour_in_a_file_is_refused_by_name(tmp_path: Path) -> None:
    clip = coloured_h264(tmp_path / "in.h264", (1, 1), (6, 1))
    out = tmp_path / "out.mkv"
    with pytest.raises(MediaError) as caught:
        engine.run("tiny", SAMPLE / "source_1.png", clip, out)
    assert str(caught.value) == (
        f"{clip}, picture 5: wanted BT.709 in limited range as before, got BT.601 in limited range; "
        "split the file where its colour changes"
    )
    assert not out.exists()
    assert len(frame_bytes(caught.value.partial_path)) == 5  # type: ignore[attr-defined]


def test_a_tag_that_changes_nothing_is_no_change(tmp_path: Path) -> None:
    """BT.470BG and SMPTE 170M have the same coefficients."""
    clip = coloured_h264(tmp_path / "in.h264", (6, 1), (5, 1))
    assert engine.run("tiny", SAMPLE / "source_1.png", clip, tmp_path / "out.mkv").frames == 10


def test_pictures_that_the_decoder_can_not_read_are_counted_and_survived(idle: Pipeline, tmp_path: Path) -> None:
    clip, sent = numbered(tmp_path / "in.ts", 1.6)
    data = bytearray(clip.read_bytes())
    at = -1
    for number in range(13):
        at = data.index(b"\x00\x00\x01\x41", at + 1)  # a slice of a picture that refers to others
        if number >= 10:
            data[at + 4 : at + 30] = bytes([255] * 26)
    clip.write_bytes(bytes(data))
    result = live(idle, clip, tmp_path / "out.mkv")
    facts = result.live
    assert facts is not None
    assert facts.decoder_errors == 3
    assert facts.pictures_in == result.frames + facts.dropped_in_all
    assert read_file(tmp_path / "out.mkv").numbers[-1] == max(sent.pictures)


# -- what is live, and what is refused --------------------------------------------------------------------


def test_what_counts_as_live() -> None:
    assert all(map(is_live, ("rtsp://c/1", "rtmp://h/a", "udp://0.0.0.0:1", "tcp://h:1", "/dev/video0")))
    assert not any(map(is_live, ("clip.mp4", "https://h/clip.mp4", "/dev/null", "video0", "rtsp")))
    assert is_camera("/dev/v4l/by-id/cam")
    assert not is_camera("/dev/videos/clip.mp4")


def test_options_are_read_as_pairs() -> None:
    assert parse_options(["listen=1", "x=a=b"], "--input-option") == {"listen": "1", "x": "a=b"}
    with pytest.raises(InputError, match=r"^--input-option: wanted KEY=VALUE, got listen; name an FFmpeg option"):
        parse_options(["listen"], "--input-option")


def test_an_address_for_a_file_is_refused_and_says_how(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    with pytest.raises(InputError) as caught:
        engine.run("tiny", SAMPLE / "source_1.png", clip, "udp://127.0.0.1:1")
    assert str(caught.value) == (
        f"udp://127.0.0.1:1: wanted a live input for an address, got the file {clip}, which is read as fast as it "
        "goes; add --live to play it at its own pace"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_options": {"a": "1"}}, r"^--input-option: wanted a live input, got a for the file "),
        ({"output_options": {"b": "1"}}, r"^--output-option: wanted an address, got b for the file "),
    ],
)
def test_options_without_their_end_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    with pytest.raises(InputError, match=message):
        engine.run("tiny", SAMPLE / "source_1.png", clip, tmp_path / "out.mp4", **options)


def test_a_protocol_that_can_not_be_written_to_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match=r"^gopher://h/1: wanted one of rtmp:, .*, got gopher:; choose one of these"):
        engine.run("tiny", SAMPLE / "source_1.png", clip, "gopher://h/1", live=True)


def test_a_camera_that_is_not_there_is_said() -> None:
    with pytest.raises(MediaError) as caught:
        LiveInput("/dev/video63", threads=1, options=LiveOptions())
    assert str(caught.value) == (
        "/dev/video63: wanted a live input, got No such file or directory; check the device's name and that nothing "
        "else uses it; its modes go in --input-option"
    )


def test_a_camera_is_opened_with_its_driver_and_the_modes_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no camera here: a clip stands in for it at PyAV's border."""
    clip = make_clip(tmp_path / "in.mkv", codec="rawvideo", pixel_format="yuv422p")
    asked: dict[str, Any] = {}
    opened = av.open

    def camera(name: Any, mode: Any, **options: Any) -> Any:
        if name != "/dev/video0":
            return opened(name, mode, **options)
        asked.update(options, name=name)
        return opened(str(clip), mode)

    monkeypatch.setattr("engine.video.live_open.av.open", camera)
    modes = {"video_size": "640x480", "framerate": "30", "input_format": "yuyv422"}
    with LiveInput("/dev/video0", threads=1, options=LiveOptions(ffmpeg=modes)) as source:
        assert source.info.planes_format == "yuv420p"
        assert any("4:2:2 yuv422p is processed as 8-bit 4:2:0" in note for note in source.notes)
    assert asked["name"] == "/dev/video0"
    assert asked["format"] == "video4linux2"
    assert asked["options"] == modes
    assert asked["timeout"] == (10.0, 5.0)
    assert "video4linux2,v4l2" in av.formats_available or "video4linux2" in av.formats_available


# -- how a run ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.full), signal.SIGTERM])
def test_an_interrupt_is_the_ordinary_end_of_a_live_run(how: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    arguments = ["run", "--profile", "tiny", "--source", str(SAMPLE / "source_1.png"), "--live"]
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments, str(SAMPLE / "clip.mp4"), str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if any(path.stat().st_size > 40_000 for path in tmp_path.glob(".out*")):
            break
        time.sleep(0.01)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "ended by interrupt" in said
    assert "pictures in " in said
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.mp4"]
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 1


def test_a_file_that_breaks_off_keeps_what_was_played(idle: Pipeline, tmp_path: Path, monkeypatch: Any) -> None:
    clip, _ = numbered(tmp_path / "in.ts", 1.0)

    def broken(self: LiveInput, stop: threading.Event) -> Iterator[Any]:
        yield from list(whole(self, stop))[:10]
        raise MediaError("in.ts: wanted the next packet, got a planted fault; check the file")

    whole = LiveInput._items
    monkeypatch.setattr(LiveInput, "_items", broken)
    with pytest.raises(MediaError, match="planted fault") as caught:
        live(idle, clip, tmp_path / "out.mkv")
    assert caught.value.partial_path == tmp_path / "out.partial.mkv"  # type: ignore[attr-defined]
    assert not (tmp_path / "out.mkv").exists()


def test_an_output_that_takes_nothing_ends_the_run(
    idle: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(self: Sink, planes: Any, frame: DecodedFrame) -> None:
        time.sleep(3)
        raise OutputError("the thread that was left behind ends here")

    clip, _ = numbered(tmp_path / "in.ts", 2.0)
    monkeypatch.setattr("engine.live._STALL_S", 0.4)
    monkeypatch.setattr(Sink, "write", stuck)
    start = time.perf_counter()
    with pytest.raises(OutputError) as caught:
        live(idle, clip, tmp_path / "out.mkv")
    assert time.perf_counter() - start < 2.5
    assert str(caught.value) == (
        f"{tmp_path / 'out.mkv'}: wanted a picture taken within 0.4 s, got none; "
        "check that the receiver reads, the network and the disk"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.ts"]


def test_the_facts_go_into_json(idle: Pipeline, tmp_path: Path) -> None:
    clip, _ = numbered(tmp_path / "in.ts", 1.0, rate=10)
    told = live(idle, clip, tmp_path / "out.mkv").to_json()
    assert told["live"]["pictures_in"] == 10
    assert told["live"]["dropped"] == {"late": 0, "damaged": 0, "end": 0}
    assert [told["stages"][name]["calls"] for name in ("decode", "encode", "latency")] == [10, 10, 10]
    assert told["output"] == str(tmp_path / "out.mkv")
