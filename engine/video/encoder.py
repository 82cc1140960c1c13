"""The software encoder: its settings from a source, and NV12 memory as the frames that it takes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import av

from engine.errors import OutputError, explain
from engine.video.info import VideoInfo
from engine.video.pyav import (
    FFMPEG_ERRORS,
    U8Plane,
    is_encoder_missing,
    reformat,
    set_display_matrix,
    words_on_retry,
    writable_plane,
)
from engine.video.source import DecodedFrame

__all__ = ["CODECS", "EncoderSettings", "FramePacker", "add_encoder", "configure_colour"]

#: Name to (FFmpeg's encoder, the pixel format in which it takes 4:2:0).
CODECS: Final = {"h264": ("libx264", "nv12"), "hevc": ("libx265", "yuv420p")}

#: Side data that both encoders write into the stream again; what has no name may be among them.
CARRIED_SIDE_DATA: Final = frozenset({"A53_CC", "SEI_UNREGISTERED", "UNKNOWN"})

_MASTERING = struct.Struct("=20i")  # 10 rationals: r, g, b, white (x, y each), luminance min, max


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How to encode. quality: CRF, 0 (lossless) to 51 (worst). threads: at least 1.

    is_live: every picture's packet comes before the next picture goes in; a key picture every `key_s`, so that a
    receiver can join. max_kbps: cap of the rate, 0 for none.
    """

    codec: Literal["h264", "hevc"]
    quality: int
    preset: str
    threads: int
    is_live: bool = False
    key_s: float = 2.0
    max_kbps: int = 0


def add_encoder(
    container: av.container.OutputContainer, name: str, info: VideoInfo, settings: EncoderSettings
) -> av.VideoStream:
    """Add the video stream and open its encoder. Raises OutputError, FFmpeg's words included."""
    encoder, _ = CODECS[settings.codec]
    try:
        stream = container.add_stream(encoder, rate=info.rate, time_base=info.time_base)
    except FFMPEG_ERRORS as error:
        other = "hevc" if settings.codec == "h264" else "h264"
        said = "no such encoder" if is_encoder_missing(error) else str(error)
        raise OutputError(
            explain(
                name,
                f"the encoder {encoder} in this build of FFmpeg",
                said,
                f"choose codec {other} or install the av wheel from the package index",
            )
        ) from error
    video = cast(av.VideoStream, stream)
    _configure(video.codec_context, info, settings)
    if info.display_matrix is not None and not set_display_matrix(video, info.display_matrix):
        raise OutputError(
            explain(
                name,
                "PyAV 18 or newer to write rotation metadata",
                f"PyAV {av.__version__}",
                "upgrade av, or rotate the video first",
            )
        )

    def again() -> None:
        context = cast(av.VideoCodecContext, av.CodecContext.create(encoder, "w"))
        context.time_base, context.framerate = info.time_base, info.rate
        _configure(context, info, settings)
        context.open()

    try:
        video.codec_context.open()
    except FFMPEG_ERRORS as error:
        size = f"{even(info.width_px)}x{even(info.height_px)}"
        raise OutputError(
            explain(
                name,
                f"{encoder} to open for {size}, preset {settings.preset}, quality {settings.quality}",
                words_on_retry(error, again),
                "change the settings it names",
            )
        ) from error
    return video


def even(length_px: int) -> int:
    """The next even length: 4:2:0 in H.264 and HEVC has no odd sizes."""
    return length_px + length_px % 2


def _configure(context: av.VideoCodecContext, info: VideoInfo, settings: EncoderSettings) -> None:
    colour = info.colour
    context.width, context.height = even(info.width_px), even(info.height_px)
    context.pix_fmt = CODECS[settings.codec][1]
    context.thread_count = settings.threads
    context.thread_type = cast(Any, "FRAME")
    configure_colour(context, info)
    context.options = {"preset": settings.preset, "crf": str(settings.quality)}
    context.options |= {"a53cc": "1", "udu_sei": "1"}  # captions and user data, where a picture has them
    if settings.is_live:
        _configure_live(context, info, settings)
    if colour.chroma_location:
        context.options["chroma_sample_location"] = colour.chroma_location
    parameters = _hdr_parameters(info, settings.codec)
    if settings.codec == "hevc":
        context.codec_tag = "hvc1"  # with hev1, Apple's players show nothing
        # x265 prints to the terminal by itself, and takes all cores unless told
        parameters |= {"log-level": "none", "pools": str(settings.threads)}
        if settings.quality == 0:
            parameters["lossless"] = "1"
    if parameters:
        key = "x264-params" if settings.codec == "h264" else "x265-params"
        context.options[key] = ":".join(f"{name}={value}" for name, value in parameters.items())


def configure_colour(context: av.VideoCodecContext, info: VideoInfo) -> None:
    """Colour tags and pixel shape of the source, for any encoder."""
    colour = info.colour
    context.colorspace = colour.matrix_tag
    context.color_primaries = colour.primaries_tag
    context.color_trc = colour.transfer_tag
    context.color_range = colour.range_tag
    if info.sample_aspect:
        context.sample_aspect_ratio = info.sample_aspect


def _configure_live(context: av.VideoCodecContext, info: VideoInfo, settings: EncoderSettings) -> None:
    """No picture waits for a later one: no B-frames, no lookahead, slices rather than frames in parallel."""
    context.thread_type = cast(Any, "SLICE")
    context.max_b_frames = 0
    context.gop_size = max(1, round(settings.key_s * info.rate))
    context.options["tune"] = "zerolatency"
    if settings.max_kbps:
        # half a second of buffer: what a receiver has to hold
        context.options |= {"maxrate": f"{settings.max_kbps}k", "bufsize": f"{settings.max_kbps // 2}k"}


def _hdr_parameters(info: VideoInfo, codec: str) -> dict[str, str]:
    """Mastering display and light level, in the encoders' own spelling."""
    parameters = {}
    if info.mastering_display is not None and len(info.mastering_display) >= _MASTERING.size:
        numbers = _MASTERING.unpack(info.mastering_display[: _MASTERING.size])
        values = [n / d if d else 0.0 for n, d in zip(numbers[0::2], numbers[1::2], strict=True)]
        red, green, blue, white = (
            f"({round(values[2 * i] * 50000)},{round(values[2 * i + 1] * 50000)})" for i in range(4)
        )
        light = f"({round(values[9] * 10000)},{round(values[8] * 10000)})"
        name = "mastering-display" if codec == "h264" else "master-display"
        parameters[name] = f"G{green}B{blue}R{red}WP{white}L{light}"
    if info.content_light is not None:
        parameters["cll" if codec == "h264" else "max-cll"] = "{},{}".format(*info.content_light)
    return parameters


class FramePacker:
    """Copies NV12 planes, byte for byte, into the frame that the encoder takes; one frame, reused."""

    def __init__(self, width_px: int, height_px: int, pixel_format: str) -> None:
        self._width_px, self._height_px = width_px, height_px
        self._format = pixel_format
        self._own = av.VideoFrame(even(width_px), even(height_px), pixel_format)
        self._own_planes = self._planes(self._own)

    def pack(self, y: U8Plane, uv: U8Plane, frame: DecodedFrame) -> av.VideoFrame:
        """A frame with these pixels, the time of `frame`, and those of its side data that can be carried.

        Valid until the next call: encoders copy their input before `encode` returns.
        """
        picture, planes = self._own, self._own_planes
        if frame.side_data & CARRIED_SIDE_DATA:
            picture = self._with_side_data(frame)
            planes = self._planes(picture)
        height, width = self._height_px, self._width_px
        planes[0][:height, :width] = y
        if width % 2:  # odd sizes are filled up by repeating the last column and row
            planes[0][:height, width] = y[:, -1]
        if height % 2:
            planes[0][height] = planes[0][height - 1]
        if self._format == "nv12":
            planes[1][:] = uv
        else:
            planes[1][:] = uv[:, 0::2]
            planes[2][:] = uv[:, 1::2]
        picture.pts = frame.pts
        picture.time_base = frame.time_base
        return picture

    def _planes(self, picture: av.VideoFrame) -> tuple[U8Plane, ...]:
        width, half = even(self._width_px), even(self._width_px) // 2
        widths = (width, width) if self._format == "nv12" else (width, half, half)
        return tuple(writable_plane(plane, w) for plane, w in zip(picture.planes, widths, strict=True))

    def _with_side_data(self, frame: DecodedFrame) -> av.VideoFrame:
        """A fresh frame with the side data of `frame`; its pixels are about to be overwritten.

        PyAV can't attach side data, but a conversion takes it along. By way of gray, the result is new
        memory even where the formats are equal.
        """
        gray = reformat(frame.carried, "gray", width=even(self._width_px), height=even(self._height_px))
        fresh = reformat(gray, self._format)
        fresh.pict_type = 0  # else the encoder would copy the input's choice of I, P and B pictures
        fresh.colorspace, fresh.color_range = 2, 0
        return fresh
