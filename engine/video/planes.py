"""Decoded pictures as 8-bit 4:2:0 planes: as they are, converted with a note, or refused by name."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, cast

import av
import av.filter

from engine.errors import MediaError, explain
from engine.video.info import Colour
from engine.video.pyav import FFMPEG_ERRORS, U8Plane, is_on_device, plane_view, reformat, words

__all__ = [
    "DIRECT_FORMATS",
    "SWS_COLORSPACE",
    "Converter",
    "Deinterlacer",
    "conversion_note",
    "planes_format",
    "planes_of",
]

#: Pixel formats whose planes are handed out where the decoder left them.
DIRECT_FORMATS: Final = ("yuv420p", "yuvj420p", "nv12")

_NO_CONVERSION: Final = ("bayer_", "xyz12")
#: Names of our matrices in FFmpeg's scaler.
SWS_COLORSPACE: Final = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": "BT2020"}


def planes_of(frame: av.VideoFrame) -> tuple[U8Plane, ...]:
    """Read-only views (y, u, v) or (y, uv) of a frame in one of DIRECT_FORMATS, without a copy."""
    chroma_width_px = (frame.width + 1) // 2
    if frame.format.name == "nv12":
        y, uv = frame.planes
        return plane_view(y, frame.width), plane_view(uv, 2 * chroma_width_px)
    y, u, v = frame.planes
    return plane_view(y, frame.width), plane_view(u, chroma_width_px), plane_view(v, chroma_width_px)


def _layout(pixel_format: av.VideoFormat) -> str:
    """What is unusual about a pixel format, in words."""
    components = pixel_format.components
    depth_bits = max((component.bits for component in components), default=8)
    parts = [f"{depth_bits}-bit"] if depth_bits > 8 else []
    if pixel_format.is_rgb:
        parts.append("palette" if pixel_format.has_palette else "RGB")
    elif len(components) <= 2:
        parts.append("gray")
    elif not pixel_format.name.startswith(("yuv420", "yuvj420", "yuva420", "nv12", "nv21", "p010", "p016")):
        across = {1: "4:4:4", 2: "4:2:2", 4: "4:1:1"}[_chroma_divisor(pixel_format)]
        tall = pixel_format.chroma_height(64) < 64
        parts.append({"4:4:4": "4:4:0", "4:1:1": "4:1:0"}.get(across, across) if tall else across)
    if len(components) in (2, 4):
        parts.append("with alpha")
    return " ".join(parts) if parts else "other layout"


def _chroma_divisor(pixel_format: av.VideoFormat) -> int:
    return max(1, min(4, 64 // max(1, pixel_format.chroma_width(64))))


def conversion_note(pixel_format: av.VideoFormat) -> str | None:
    """The sentence about a format that is converted; None for one that is handed out as it is."""
    if pixel_format.name in DIRECT_FORMATS:
        return None
    layout = _layout(pixel_format)
    name = pixel_format.name if layout == pixel_format.name else f"{layout} {pixel_format.name}"
    note = f"{name} is processed as 8-bit 4:2:0"
    return note + (" and its alpha is not carried" if len(pixel_format.components) in (2, 4) else "")


def planes_format(pixel_format: av.VideoFormat, colour: Colour) -> str:
    """In which of DIRECT_FORMATS pictures of a pixel format are handed out."""
    if pixel_format.name in DIRECT_FORMATS:
        return pixel_format.name
    # FFmpeg takes any gray for full range: going to full range leaves its luma as it is.
    is_gray = len(pixel_format.components) <= 2
    return "yuvj420p" if is_gray or (colour.full_range and not pixel_format.is_rgb) else "yuv420p"


class Converter:
    """Turns decoded frames of one pixel format into one of DIRECT_FORMATS, in memory of its own.

    Direct formats pass untouched. Range stays as it is; RGB becomes the matrix and range of `colour`.
    """

    def __init__(self, uri: str, pixel_format: av.VideoFormat, colour: Colour) -> None:
        name = pixel_format.name
        if name.startswith(_NO_CONVERSION):
            raise MediaError(_unsupported(uri, name))
        self._uri = uri
        self._from = name
        self.planes_format = planes_format(pixel_format, colour)
        range_name = "JPEG" if self.planes_format == "yuvj420p" else "MPEG"
        self._options: dict[str, Any] = {"src_color_range": range_name, "dst_color_range": range_name}
        if pixel_format.is_rgb:
            self._options |= {
                "src_color_range": "JPEG",
                "dst_colorspace": SWS_COLORSPACE[colour.matrix],
            }

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame to take planes from. Raises MediaError where FFmpeg can't convert."""
        if frame.format.name in DIRECT_FORMATS or is_on_device(frame):
            return frame
        try:
            return reformat(frame, self.planes_format, **self._options)
        except FFMPEG_ERRORS as error:
            raise MediaError(_unsupported(self._uri, self._from, words(error))) from error


def _unsupported(uri: str, name: str, said: str = "no conversion from it") -> str:
    return explain(
        uri, "a pixel format that converts to 8-bit 4:2:0", f"{name} ({said})", "convert the video to yuv420p first"
    )


class Deinterlacer:
    """bwdif: one progressive frame for each interlaced one, time stamps kept, one frame of delay."""

    def __init__(self, template: av.VideoStream) -> None:
        self._template = template
        self._graph: av.filter.Graph | None = None
        self._time_base = cast(Fraction, template.time_base)

    def push(self, frame: av.VideoFrame | None) -> list[av.VideoFrame]:
        """Frames that became ready; None flushes."""
        if self._graph is None:
            if frame is None:
                return []
            self._graph = self._build(frame)
        self._graph.push(cast(av.VideoFrame, frame))
        ready: list[av.VideoFrame] = []
        while True:
            try:
                done = cast(av.VideoFrame, self._graph.pull())
            except (av.BlockingIOError, av.EOFError):
                return ready
            # bwdif counts in half ticks
            done.pts = round(cast(int, done.pts) * cast(Fraction, done.time_base) / self._time_base)
            done.time_base = self._time_base
            ready.append(done)

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        if hasattr(graph, "threads"):  # PyAV 18; before, FFmpeg takes one for each core
            graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base
        )
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        sink = graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        return graph
