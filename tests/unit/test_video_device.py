"""Decode and encode on a GPU, as far as a machine without one can show it: names, settings, refusals, captions.

What runs on a GPU is in tests/gpu/test_video_device.py.
"""

from __future__ import annotations

import importlib
import types
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

import engine
from engine.errors import DeviceError, InputError, MediaError
from engine.video import dali, device
from engine.video.captions import with_captions
from engine.video.encoder import EncoderSettings
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions
from engine.video.nvenc import NVENC_CODECS, nvenc_options, why_not_nvenc
from engine.video.sink import open_sink
from engine.video.source import DecodedFrame, PassThrough, open_source
from tests.unit.media import captioned_h264, frame_bytes, make_clip, packets_of

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "tiny" / "sample"
FILE = EncoderSettings("h264", 18, "veryfast", 1)
LIVE = EncoderSettings("h264", 18, "veryfast", 1, is_live=True)

since_18 = pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="PyAV's CUDA path is there since 18")


def without_gpu() -> None:
    """These tests pin what happens without a GPU."""
    try:
        cast(Any, importlib.import_module("ctypes")).CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("a CUDA driver is here: tests/gpu shows what it does")


# -- names in the installed wheel -------------------------------------------------------------------------


@since_18
def test_the_wheel_has_the_names_that_the_cuda_path_uses() -> None:
    from av.codec.hwaccel import HWAccel, hwdevices_available
    from av.video.frame import CudaContext

    assert "cuda" in hwdevices_available()
    accel = HWAccel("cuda", allow_software_fallback=True, options={"primary_ctx": "1"}, is_hw_owned=True)
    assert accel.is_hw_owned
    assert accel.options == {"primary_ctx": "1"}
    context = CudaContext(device_id=0, primary_ctx=True, cuda_stream=1234)
    assert (context.cuda_stream, context.primary_ctx) == (1234, True)
    assert hasattr(av.VideoFrame, "from_dlpack")
    assert hasattr(av.VideoFrame, "sw_format")
    decoder = av.CodecContext.create("h264", "r")
    assert "cuda" in {config.device_type.name for config in decoder.codec.hardware_configs if config.is_supported}
    assert "extra_hw_frames" in {option.name for option in decoder.supported_options.generic}


@since_18
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("settings", [FILE, LIVE])
def test_the_wheels_nvenc_knows_every_option_and_choice(codec: str, settings: EncoderSettings) -> None:
    context = av.CodecContext.create(NVENC_CODECS[codec], "w")
    known = {option.name: option for option in context.supported_options.private}
    for name, value in nvenc_options(settings).items():
        assert name in known, name
        choices = {choice.name for choice in known[name].choices}
        if choices and not value.lstrip("-").isdigit():
            assert value in choices, (name, value)
        elif value.isdigit() and not choices:
            assert known[name].min <= float(value) <= known[name].max


def test_live_settings_hold_no_picture_back() -> None:
    options = nvenc_options(LIVE)
    assert (options["delay"], options["zerolatency"], options["rc-lookahead"]) == ("0", "1", "0")
    assert options["tune"] == "ull"
    assert options["b_ref_mode"] == "disabled"
    assert "delay" not in nvenc_options(FILE)
    assert nvenc_options(FILE)["tune"] == "hq"


# -- without a GPU: the host, and one line that says so ---------------------------------------------------


@since_18
def test_a_file_is_decoded_on_the_host_and_says_why(tmp_path: Path) -> None:
    without_gpu()
    clip = make_clip(tmp_path / "in.mp4")
    with open_source(clip, threads=1, on_device=True) as source:
        assert not source.is_on_device
        assert source.notes[-1] == (
            "decoded on the host: FFmpeg found no GPU (no NVIDIA driver, or one without its video libraries)"
        )
        frames = [item for item in source if isinstance(item, DecodedFrame)]
    assert len(frames) == 10
    assert all(frame.device_planes() is None for frame in frames)


@since_18
def test_a_live_input_is_decoded_on_the_host_and_says_why(tmp_path: Path) -> None:
    without_gpu()
    clip = make_clip(tmp_path / "in.mp4")
    with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True, on_device=True) as source:
        assert source.notes[-1].startswith("decoded on the host: FFmpeg found no GPU")


def test_a_file_that_can_not_be_read_is_the_same_error_on_a_device(tmp_path: Path) -> None:
    broken = tmp_path / "in.mp4"
    broken.write_bytes(b"no video at all")
    with pytest.raises(MediaError) as on_host:
        open_source(broken, threads=1)
    with pytest.raises(MediaError) as on_device:
        open_source(broken, threads=1, on_device=True)
    assert str(on_device.value) == str(on_host.value)


@since_18
def test_an_output_is_encoded_on_the_host_and_says_why(tmp_path: Path) -> None:
    without_gpu()
    clip = make_clip(tmp_path / "in.mp4")
    with open_source(clip, threads=1) as source:
        sink = open_sink(tmp_path / "out.mp4", source, threads=1, device_stream=1234)
        assert not sink.takes_device
        assert sink.notes[-1] == (
            "encoded on the host: FFmpeg found no NVENC (no GPU, or a driver without its encode library)"
        )
        first = next(item for item in source if isinstance(item, DecodedFrame))
        with pytest.raises(InputError, match=r"^Sink\.write_device: wanted a sink on a device, got one on the host"):
            sink.write_device((None, None), first)
        sink.abort()


@pytest.mark.parametrize(
    ("clip", "settings", "reason"),
    [
        ({"size": (65, 47), "codec": "ffv1"}, FILE, "encoded on the host: 65x47 is no even size"),
        ({}, EncoderSettings("h264", 0, "veryfast", 1), "encoded on the host: quality 0 asks for lossless"),
    ],
)
def test_what_nvenc_is_not_asked_for(
    clip: dict[str, Any], settings: EncoderSettings, reason: str, tmp_path: Path
) -> None:
    with open_source(make_clip(tmp_path / "in.mkv", **clip), threads=1) as source:
        assert why_not_nvenc(source.info, settings) == reason


# -- a surface, as PyAV shows it --------------------------------------------------------------------------


class Surface:
    """A decoded picture on a GPU, of PyAV's own names; its planes lie on the host here."""

    def __init__(self, frame: av.VideoFrame, layout: str = "nv12") -> None:
        self._frame = frame
        self.format = types.SimpleNamespace(name="cuda")
        self.sw_format = av.VideoFormat(layout, frame.width, frame.height)
        self.planes = ("y plane", "uv plane")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)


def test_the_stand_in_has_only_names_of_pyavs_frame() -> None:
    for name in ("format", "sw_format", "planes"):
        assert hasattr(av.VideoFrame, name)
    for name in ("__dlpack__", "__dlpack_device__"):
        assert hasattr(av.video.plane.VideoPlane, name)


def first_frame(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize(
    ("size", "layout", "turn", "deinterlace", "reason"),
    [
        ((64, 48), "nv12", None, False, None),
        ((64, 48), "p010le", None, False, "p010le is converted to 8-bit 4:2:0 first"),
        ((65, 47), "nv12", None, False, "65x47 is no even size"),
        ((64, 48), "nv12", (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30), False, "its pictures lie on their side"),
        ((64, 48), "nv12", None, True, "deinterlacing runs on the host"),
    ],
)
@since_18
def test_what_stays_on_the_gpu_and_what_does_not(
    size: tuple[int, int], layout: str, turn: Any, deinterlace: bool, reason: str | None, tmp_path: Path
) -> None:
    codec = "ffv1" if size[0] % 2 else "libx264"
    clip = make_clip(tmp_path / ("in.mkv" if codec == "ffv1" else "in.mp4"), size=size, matrix=turn, codec=codec)
    surface = cast(Any, Surface(first_frame(clip), layout))
    with open_source(clip, threads=1) as source:
        assert device.why_on_host(source.info, surface, deinterlace=deinterlace) == reason
        on_host = device.why_on_host(source.info, first_frame(clip), deinterlace=deinterlace)
        assert on_host == f"NVDEC does not take {source.info.codec} in yuv420p"


def test_a_surface_hands_out_its_planes_and_no_copy(tmp_path: Path) -> None:
    surface = cast(Any, Surface(first_frame(make_clip(tmp_path / "in.mp4"))))
    frame = DecodedFrame(0, 0, Fraction(1, 25), None, surface, surface)
    assert frame.device_planes() == ("y plane", "uv plane")


# -- NVENC's order of things, with a software encoder in its place ----------------------------------------


class HostFrames:
    """DeviceFrames on the host: the planes as a frame of the encoder, the CUDA context left out."""

    #: The encoder's context, which like NVENC's can only be opened once a frame has told it what it needs.
    context: Any = None
    info: Any = None

    def __init__(self, info: Any, stream: int) -> None:
        type(self).info = info

    def frame(self, planes: tuple[Any, Any], picture: DecodedFrame) -> av.VideoFrame:
        if not self.context.is_open:
            self.context.width, self.context.height = self.info.width_px, self.info.height_px
        made = av.VideoFrame.from_dlpack(planes, format="nv12")
        made.pts, made.time_base = picture.pts, picture.time_base
        return made


def add_software(container: Any, info: Any, settings: EncoderSettings) -> Any:
    stream = container.add_stream("libx264", rate=info.rate, time_base=info.time_base)
    context = stream.codec_context
    HostFrames.context, context.pix_fmt = context, "nv12"
    context.options = {"preset": "ultrafast", "crf": "0", "tune": "zerolatency", "a53cc": "0"}
    context.thread_count = 1
    return stream


@since_18
def test_planes_in_device_memory_go_out_with_sound_captions_and_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder opens with its first picture: the header and the sound before it wait for that."""
    pairs = [(0x94, 0x20), (0xC8, 0xE5), (0xEC, 0xEC), (0xEF, 0x80)]
    bare = captioned_h264(tmp_path / "in.h264", pairs)
    clip = tmp_path / "in.mkv"
    with_sound = make_clip(tmp_path / "sound.mkv", audio=(("eng", "voice"),), pts=range(4))
    with av.open(str(bare)) as pictures, av.open(str(with_sound)) as sound, av.open(str(clip), "w") as joined:
        video: Any = joined.add_stream_from_template(pictures.streams.video[0])
        voice: Any = joined.add_stream_from_template(sound.streams.audio[0])
        packet: Any
        for packet in sound.demux(sound.streams.audio[0]):
            if packet.size:
                packet.stream = voice
                joined.mux(packet)
        for index, packet in enumerate(one for one in pictures.demux() if one.size):
            packet.stream, packet.time_base = video, Fraction(1, 25)
            packet.pts = packet.dts = index
            joined.mux(packet)
    monkeypatch.setattr("engine.video.sink.why_not_nvenc", lambda info, settings: None)
    monkeypatch.setattr("engine.video.sink.DeviceFrames", HostFrames)
    monkeypatch.setattr("engine.video.sink.add_nvenc", add_software)
    out = tmp_path / "out.mkv"
    with open_source(clip, threads=1) as source, open_sink(out, source, threads=1, device_stream=7) as sink:
        assert sink.takes_device
        waiting = [item for item in source if isinstance(item, (PassThrough, DecodedFrame))]
        for item in sorted(waiting, key=lambda one: isinstance(one, DecodedFrame)):
            if isinstance(item, PassThrough):
                sink.pass_through(item)
            else:
                nv12 = item.av_frame.reformat(format="nv12").to_ndarray()
                sink.write_device((nv12[:48].copy(), nv12[48:].copy()), item)
    assert packets_of(out)["audio"] == packets_of(clip)["audio"]
    assert [data for _, data in frame_bytes(out)] == [data for _, data in frame_bytes(clip)]
    assert captions_of(out) == captions_of(clip)
    assert len(captions_of(out)) == len(pairs)
    assert not any("caption" in note or "A53" in note for note in sink.notes)


def captions_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [bytes(one) for frame in frames for one in cast(Any, frame).side_data if one.type.name == "A53_CC"]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_captions_put_into_a_packet_come_out_of_the_decoder(codec: Any) -> None:
    # two zeros and a small byte: what emulation prevention is for
    triplets = [b"\xfc\x00\x00\xfd\x00\x01\xfc\x03\x00", b"\xfc\x94\x2c", b""]
    context: Any = av.CodecContext.create("libx264" if codec == "h264" else "libx265", "w")
    context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
    context.time_base, context.thread_count = Fraction(1, 25), 1
    context.options = {"preset": "ultrafast", "tune": "zerolatency"}
    if codec == "hevc":
        context.options |= {"x265-params": "log-level=none:pools=1"}
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    packets = []
    for index in range(3):
        frame = av.VideoFrame.from_ndarray(np.full((96, 64), 90 + index, np.uint8), format="yuv420p")
        frame.pts = index
        packets += context.encode(frame)
    packets += context.encode(None)
    carried = {packet.pts: with_captions(packet, triplets[packet.pts], codec) for packet in packets}
    assert carried[2] is next(packet for packet in packets if packet.pts == 2)
    assert [carried[packet.pts].is_keyframe for packet in packets] == [packet.is_keyframe for packet in packets]
    frames = [frame for packet in packets for frame in decoder.decode(carried[packet.pts])] + decoder.decode(None)
    got = {frame.pts: [bytes(one) for one in frame.side_data if one.type.name == "A53_CC"] for frame in frames}
    assert got == {0: [triplets[0]], 1: [triplets[1]], 2: []}


# -- DALI -------------------------------------------------------------------------------------------------


def test_dali_without_the_package_says_what_to_install(tmp_path: Path) -> None:
    if importlib.util.find_spec("nvidia.dali") is not None:
        pytest.skip("DALI is installed here")
    clip = make_clip(tmp_path / "in.mp4")
    with pytest.raises(DeviceError) as caught:
        engine.run("tiny", SAMPLE / "source_1.png", clip, tmp_path / "out.mp4", decoder="dali")
    assert str(caught.value) == (
        "--decoder dali: wanted the package nvidia.dali, got No module named 'nvidia.dali'; install the extra dali "
        "(nvidia-dali-cuda130) and run on a GPU, or leave --decoder out"
    )
    assert not (tmp_path / "out.mp4").exists()


def test_dali_is_for_files() -> None:
    with pytest.raises(InputError, match=r"^--decoder dali: wanted a whole file, got the live input udp://h:1; "):
        engine.run("tiny", SAMPLE / "source_1.png", "udp://h:1", "out.mp4", decoder="dali")


def test_dalis_pictures_take_the_files_stamps_and_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RGB from elsewhere stands in for DALI's, which needs a GPU for H.264."""
    clip = make_clip(tmp_path / "in.mp4", audio=(("eng", "voice"),))
    with av.open(str(clip)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    monkeypatch.setattr(dali, "dali_frames", lambda path: iter(pictures))
    out = tmp_path / "out.mkv"
    result = engine.run("tiny", SAMPLE / "source_1.png", clip, out, decoder="dali")
    assert result.frames == 10
    assert packets_of(out)["audio"] == packets_of(clip)["audio"]
    monkeypatch.setattr(dali, "dali_frames", lambda path: iter(pictures[:6]))
    with pytest.raises(MediaError, match=r"picture 6: wanted a picture from DALI, got its end; leave --decoder out"):
        engine.run("tiny", SAMPLE / "source_1.png", clip, out, decoder="dali")
    with dali.open_dali(str(clip), threads=1) as source:
        assert dali.NOTE in source.notes
        first = next(item for item in source if isinstance(item, DecodedFrame))
    with open_source(clip, threads=1) as exact:
        wanted = next(item for item in exact if isinstance(item, DecodedFrame))
    apart = np.abs(first.planes()[0].astype(int) - wanted.planes()[0].astype(int))
    assert 0 < apart.max() <= 4, "near, and not bit-exact: as labelled"
