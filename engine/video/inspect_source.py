"""What kind of video this is, from the container and the first decoded picture, and what we refuse."""

from __future__ import annotations

import math
import re
import struct
from fractions import Fraction
from typing import Any, Final, Literal, cast

import av

from engine.errors import MediaError, explain
from engine.video.info import Colour, StreamInfo, VideoInfo
from engine.video.planes import conversion_note, planes_format
from engine.video.pyav import chroma_location, is_on_device, picture_format, side_data_of, without_unknown_side_data

__all__ = ["colour_of", "describe", "display_matrix", "refuse_what_we_cannot", "stated_end_s"]

_TRANSFER_PQ, _TRANSFER_HLG = 16, 18
_RANGE_FULL = 2
_DISPLAY_MATRIX = struct.Struct("=9i")
_CONTENT_LIGHT = struct.Struct("=II")


def describe(
    uri: str, container: av.container.InputContainer, stream: av.VideoStream, first: av.VideoFrame
) -> VideoInfo:
    """Everything that is known once the first picture is decoded."""
    notes: list[str] = []
    side_data = _side_data(first)
    time_base = cast(Fraction, stream.time_base)
    rate = _rate(stream, notes)
    duration_s = _duration_s(container, stream)
    frame_count, frame_count_from = _frame_count(stream, rate, duration_s)
    colour = colour_of(stream, first, notes)
    pixels = picture_format(first)
    note = conversion_note(pixels)
    if note:
        notes.append(note)
    others = [s for s in container.streams.video if s.index != stream.index]
    if others:
        notes.append(f"{len(others)} other video stream(s) are copied as they are; only the first is processed")
    matrix = display_matrix(first)
    rotation_deg, mirrored = _turn(matrix)
    light_bytes = side_data.get("CONTENT_LIGHT_LEVEL")
    return VideoInfo(
        uri=uri,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width_px=first.width,
        height_px=first.height,
        pixel_format=pixels.name,
        planes_format=planes_format(pixels, colour),
        rate=rate,
        time_base=time_base,
        frame_count=frame_count,
        frame_count_from=frame_count_from,
        duration_s=duration_s,
        colour=colour,
        rotation_deg=rotation_deg,
        mirrored=mirrored,
        display_matrix=matrix,
        sample_aspect=stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio or None,
        interlaced=first.interlaced_frame,
        is_vfr=True if _rates_differ(stream) else None,
        mastering_display=side_data.get("MASTERING_DISPLAY_METADATA"),
        content_light=_CONTENT_LIGHT.unpack(light_bytes[:8]) if light_bytes else None,
        timecode=_timecode(container, stream, first),
        video_index=stream.index,
        streams=tuple(_stream_info(s) for s in container.streams),
        notes=tuple(notes),
    )


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The 9 numbers of a frame's display matrix (FFmpeg's layout, 16.16 fixed point), None without one."""
    data = _side_data(frame).get("DISPLAYMATRIX")
    return _DISPLAY_MATRIX.unpack(data[: _DISPLAY_MATRIX.size]) if data else None


def _turn(matrix: tuple[int, ...] | None) -> tuple[int, bool]:
    """Clockwise degrees and mirroring (which comes first) of a display matrix: x' = a x + c y, y' = b x + d y."""
    if matrix is None:
        return 0, False
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.degrees(math.atan2(b, a))) % 360, mirrored


def refuse_what_we_cannot(info: VideoInfo, frame: av.VideoFrame, *, deinterlace: bool, place: str = "") -> None:
    """Raise MediaError, by name, for what would come out wrong rather than different."""
    where = info.uri + place
    if info.colour.transfer_tag in (_TRANSFER_PQ, _TRANSFER_HLG):
        name = "PQ (SMPTE ST 2084)" if info.colour.transfer_tag == _TRANSFER_PQ else "HLG (ARIB STD-B67)"
        raise MediaError(explain(where, "an SDR video", f"HDR with {name}", "tone-map it to SDR BT.709 first"))
    dolby = {"DOVI_METADATA", "DOVI_RPU_BUFFER"} & _side_data(frame).keys()
    if dolby and info.colour.transfer == "unspecified":
        raise MediaError(
            explain(where, "an SDR video", "Dolby Vision without an SDR base", "tone-map it to SDR BT.709 first")
        )
    if frame.interlaced_frame and not deinterlace:
        raise MediaError(explain(where, "progressive pictures", "interlaced ones", "pass deinterlace=True (bwdif)"))


def stated_end_s(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[float, bool] | None:
    """When the last packet should end according to the header, and whether that is of the video alone.

    mp4 and mov state it for each track (edit lists applied); Matroska for the file, and in a tag of the
    stream where its writer left one. None for containers whose duration FFmpeg estimates.
    """
    family = container.format.name.split(",")[0]
    if family == "mov" and stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base), True
    if family != "matroska":
        return None
    for key, value in stream.metadata.items():
        clock = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", value.strip())
        if key.upper() == "DURATION" and clock:
            return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]), True
    return (container.duration / av.time_base, False) if container.duration else None


def _side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    found = side_data_of(frame)
    if found is None and is_on_device(frame):
        return {}  # the filter that helps on the host takes no surface
    return found if found is not None else side_data_of(without_unknown_side_data(frame)) or {}


def _rate(stream: av.VideoStream, notes: list[str]) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if rate:
        return rate
    notes.append("the file states no frame rate; 25 was assumed where a rate is needed")
    return Fraction(25)


def _rates_differ(stream: av.VideoStream) -> bool:
    average, base = stream.average_rate, stream.base_rate
    return bool(average and base) and abs(cast(Fraction, average) / cast(Fraction, base) - 1) > 0.001


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _frame_count(
    stream: av.VideoStream, rate: Fraction, duration_s: float | None
) -> tuple[int | None, Literal["container", "estimate", "unknown"]]:
    if stream.frames:
        return stream.frames, "container"
    if duration_s:
        return max(1, round(duration_s * rate)), "estimate"
    return None, "unknown"


# of the constant-luminance form of BT.2020 (10) and of SMPTE 240M (7), the nearest that the kernels have
_MATRIX_OF_TAG: Final[dict[int, Literal["bt601", "bt709", "bt2020"]]] = {
    1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020",
}  # fmt: skip


def colour_of(stream: av.VideoStream, first: av.VideoFrame, notes: list[str]) -> Colour:
    """What to compute a picture's colour with; what had to be assumed is added to `notes`."""
    context = stream.codec_context
    pixels = picture_format(first)
    tag = int(first.colorspace)
    is_rgb, is_gray = pixels.is_rgb, len(pixels.components) <= 2
    by_height: Literal["bt601", "bt709", "bt2020"] = "bt601" if first.height < 720 else "bt709"
    assumed = is_rgb or tag not in _MATRIX_OF_TAG
    matrix = by_height if assumed else _MATRIX_OF_TAG[tag]
    range_tag = int(first.color_range)
    if is_rgb:  # converted by us: written as limited, with the matrix that we used
        tag, range_tag = (6 if matrix == "bt601" else 1), 1
    elif assumed and not is_gray:
        notes.append(
            f"the file names no colour matrix; {matrix.upper().replace('BT', 'BT.')} was assumed for "
            f"{first.height} lines" + ("" if range_tag else ", limited range")
        )
    elif tag in (7, 10):
        notes.append(
            f"its colour matrix is processed with the coefficients of {matrix.replace('bt', 'BT.')}, there and back"
        )
    full = range_tag == _RANGE_FULL or pixels.name.startswith("yuvj")
    if is_gray and not range_tag and context.codec.canonical_name not in ("h264", "hevc"):
        full = True  # FFmpeg's convention for gray
        notes.append("the file names no range for its gray; full range was assumed")
    return Colour(
        matrix=matrix,
        full_range=full,
        assumed=assumed,
        matrix_tag=tag,
        primaries_tag=int(context.color_primaries),
        transfer_tag=int(context.color_trc),
        range_tag=_RANGE_FULL if full else range_tag,
        chroma_location=chroma_location(stream),
    )


def _timecode(container: av.container.InputContainer, stream: av.VideoStream, first: av.VideoFrame) -> str | None:
    """From the container, else from the first picture (H.264 and HEVC SEI)."""
    frame_metadata = cast("dict[str, str]", getattr(first, "metadata", {}))
    for metadata in (stream.metadata, container.metadata, frame_metadata):
        for key, value in metadata.items():
            if key.lower() == "timecode":
                return value
    return None


def _stream_info(stream: av.stream.Stream) -> StreamInfo:
    context = cast(Any, stream).codec_context
    codec = context.codec.canonical_name if context is not None else getattr(stream, "name", None)
    metadata = {key.lower(): value for key, value in stream.metadata.items()}
    return StreamInfo(stream.index, stream.type, codec, metadata.get("language"), metadata.get("title"))
