"""Small clips and pictures, made when a test needs them: every odd thing that a user's file may hold."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Clip",
    "captioned_h264",
    "exif_jpeg",
    "frame_bytes",
    "make_audio_file",
    "make_clip",
    "packets_of",
    "picture_bytes",
    "scene",
    "size_change_h264",
    "write_srt",
]

U8 = NDArray[np.uint8]

CBR_25 = tuple(range(10))


@dataclass(frozen=True)
class Clip:
    """What a clip holds. pts: ticks of time_base, one for each picture."""

    size: tuple[int, int] = (64, 48)
    pts: Sequence[int] = CBR_25
    time_base: Fraction = Fraction(1, 25)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "crf": "20"})
    muxer_options: dict[str, str] = field(default_factory=dict)
    audio: Sequence[tuple[str, str]] = ()  # language and title of each track
    audio_codec: str = "aac"
    srt: Path | None = None
    mov_text: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    video_metadata: dict[str, str] = field(default_factory=dict)
    chapters: Sequence[tuple[int, int, str]] = ()  # start ms, end ms, title
    matrix: tuple[int, ...] | None = None
    last_duration: int | None = None  # ticks
    setup: Callable[[Any], None] | None = None  # called with the codec context before it opens


def scene(index: int, size: tuple[int, int]) -> U8:
    """RGB picture `index` of a scene that moves: gradients, a disc and a little noise."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 3 + index * 5, y * 4 + index * 3, x + y + index * 7], axis=-1) % 256
    centre_x, centre_y = width * (0.3 + 0.04 * index), height * 0.5
    disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 < (min(size) / 4) ** 2
    rgb[disc] = (220, 160, 120)
    noise = np.random.default_rng(index).integers(-4, 5, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)


def make_clip(path: Path, clip: Clip | None = None, **changes: Any) -> Path:
    """Write a clip; `changes` are fields of Clip."""
    clip = Clip(**changes) if clip is None else clip
    with av.open(str(path), "w", container_options=clip.muxer_options) as container:
        rate = 1 / (clip.time_base * max(1, clip.pts[1] - clip.pts[0])) if len(clip.pts) > 1 else 25
        video = cast(Any, container.add_stream(cast(Any, clip.codec), rate=Fraction(rate), time_base=clip.time_base))
        video.width, video.height = clip.size
        video.pix_fmt = clip.pixel_format
        video.codec_context.thread_count = 1
        video.codec_context.options = dict(clip.options) if clip.codec.startswith("libx26") else {}
        if clip.setup is not None:
            clip.setup(video.codec_context)
        video.metadata.update(clip.video_metadata)
        if clip.matrix is not None:
            video.set_display_matrix(clip.matrix)
        container.metadata.update(clip.metadata)
        container.set_chapters(
            [
                {"id": n + 1, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for n, (a, b, title) in enumerate(clip.chapters)
            ]
        )
        tracks = [_add_audio(container, clip, language, title) for language, title in clip.audio]
        copies = _add_srt(container, clip)
        text = container.add_mux_stream("mov_text", time_base=Fraction(1, 1000)) if clip.mov_text else None
        for index, pts in enumerate(clip.pts):
            frame = av.VideoFrame.from_ndarray(scene(index, clip.size), format="rgb24")
            frame = frame.reformat(format=clip.pixel_format, dst_colorspace="ITU601")
            frame.pts, frame.time_base = pts, clip.time_base
            frame.pict_type = 0
            container.mux(video.encode(frame))
        duration_s = float((clip.pts[-1] + 1) * clip.time_base)
        for number, track in enumerate(tracks):
            _sound(container, track, 220 * (number + 1), duration_s)
        for packet in copies:
            container.mux(packet)
        if text is not None and clip.mov_text is not None:
            words = clip.mov_text.encode()
            packet = av.Packet(struct.pack(">H", len(words)) + words)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 40
            packet.duration = 200
            container.mux(packet)
        for packet in video.encode(None):
            if packet.pts == clip.pts[-1] and clip.last_duration is not None:
                packet.duration = clip.last_duration
            container.mux(packet)
    return path


def _add_audio(container: Any, clip: Clip, language: str, title: str) -> Any:
    track = container.add_stream(clip.audio_codec, rate=16000)
    track.codec_context.layout = "mono"
    track.codec_context.thread_count = 1
    track.metadata.update({"language": language, "title": title, "handler_name": title})
    return track


def _add_srt(container: Any, clip: Clip) -> list[Any]:
    if clip.srt is None:
        return []
    with av.open(str(clip.srt)) as source:
        stream = source.streams.subtitles[0]
        added = container.add_stream_from_template(stream)
        added.metadata["language"] = "fra"
        packets = [packet for packet in source.demux(stream) if packet.size]
        for packet in packets:
            packet.stream = added
        return packets


def _sound(container: Any, track: Any, pitch_hz: float, duration_s: float) -> None:
    context = track.codec_context
    context.open(strict=False)
    block = context.frame_size or 1024
    for start in range(0, math.ceil(duration_s * 16000), block):
        wave = 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(start, start + block) / 16000)
        floats = context.format.name == "fltp"
        samples = wave.astype(np.float32) if floats else (wave * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format=context.format.name, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def make_audio_file(path: Path) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        track = _add_audio(container, Clip(), "eng", "only")
        _sound(container, track, 440, 0.5)
    return path


def write_srt(path: Path) -> Path:
    """Two lines of subtitles within the first 0.4 s."""
    path.write_text("1\n00:00:00,040 --> 00:00:00,120\nHello\n\n2\n00:00:00,200 --> 00:00:00,320\nGood bye\n")
    return path


def packets_of(path: Path) -> dict[str, list[list[bytes]]]:
    """Payloads of all packets, by kind of stream and then by stream."""
    with av.open(str(path)) as container:
        found: dict[int, list[bytes]] = {stream.index: [] for stream in container.streams}
        for packet in container.demux():
            if packet.size:
                found[packet.stream.index].append(bytes(cast(Any, packet)))
        kinds: dict[str, list[list[bytes]]] = {}
        for stream in container.streams:
            kinds.setdefault(stream.type, []).append(found[stream.index])
        return kinds


def frame_bytes(path: Path) -> list[tuple[Fraction | None, bytes]]:
    """Time and raw bytes of the planes of every picture, decoded in one thread by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        frames = []
        for frame in container.decode(stream):
            time = None if frame.pts is None else frame.pts * cast(Fraction, frame.time_base)
            rows = [
                np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
                for plane in frame.planes
            ]
            frames.append((time, b"".join(plane.tobytes() for plane in rows)))
        return frames


def _h264(size: tuple[int, int], count: int) -> list[bytes]:
    """Access units with start codes, the first with its parameter sets."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = {"preset": "ultrafast", "tune": "zerolatency"}
    units = []
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(scene(index, size), format="rgb24").reformat(format="yuv420p")
        frame.pts = index
        units += [bytes(cast(Any, packet)) for packet in context.encode(frame)]
    return units + [bytes(cast(Any, packet)) for packet in context.encode(None)]


def size_change_h264(path: Path, first: tuple[int, int], second: tuple[int, int]) -> Path:
    """A raw H.264 stream of 5 pictures of each size."""
    path.write_bytes(b"".join(_h264(first, 5) + _h264(second, 5)))
    return path


def captioned_h264(path: Path, pairs: Sequence[tuple[int, int]]) -> Path:
    """A raw H.264 stream in which picture n carries the CEA-608 byte pair `pairs[n]`."""
    units = []
    for unit, (one, two) in zip(_h264((64, 48), len(pairs)), pairs, strict=True):
        captions = b"\xb5\x00\x31GA94\x03" + bytes([0xC1, 0xFF, 0xFC, one, two, 0xFF])
        message = b"\x00\x00\x00\x01\x06" + bytes([4, len(captions)]) + captions + b"\x80"
        slice_at = max(unit.rfind(b"\x00\x00\x01\x65"), unit.rfind(b"\x00\x00\x01\x41"))
        units.append(unit[:slice_at] + message[1:] + unit[slice_at:])
    path.write_bytes(b"".join(units))
    return path


def picture_bytes(codec: str, pixel_format: str, rgb: U8) -> bytes:
    """One encoded picture, e.g. ("png", "rgba") or ("mjpeg", "yuvj420p")."""
    context = cast(Any, av.CodecContext.create(codec, "w"))
    context.height, context.width = rgb.shape[:2]
    context.pix_fmt = pixel_format
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    frame = av.VideoFrame.from_ndarray(rgb, format="rgba" if rgb.shape[2] == 4 else "rgb24")
    if pixel_format.startswith("yuvj"):
        context.color_range = 2
        frame = frame.reformat(format=pixel_format, dst_colorspace="ITU601", dst_color_range="JPEG")
    elif frame.format.name != pixel_format:
        frame = frame.reformat(format=pixel_format)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in context.encode(frame) + context.encode(None))


def exif_jpeg(rgb: U8, orientation: int) -> bytes:
    """A JPEG whose EXIF says how to turn it (1 to 8)."""
    jpeg = picture_bytes("mjpeg", "yuvj444p", rgb)
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + jpeg[2:]
