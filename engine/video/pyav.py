"""PyAV behind one typed door: error words, names of colour, planes without copies.

What other modules need from PyAV and its stubs do not state is asked here once, so that `Any` ends here.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import av
import av.filter
import av.logging
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.plane import VideoPlane
from numpy.typing import NDArray

__all__ = [
    "FFMPEG_ERRORS",
    "MATRIX_NAMES",
    "PRIMARIES_NAMES",
    "TRANSFER_NAMES",
    "U8Plane",
    "chroma_location",
    "ffmpeg_url",
    "is_encoder_missing",
    "is_on_device",
    "is_url",
    "picture_format",
    "plane_view",
    "reformat",
    "set_display_matrix",
    "side_data_of",
    "without_unknown_side_data",
    "words",
    "words_on_retry",
    "writable_plane",
]

U8Plane = NDArray[np.uint8]

#: What PyAV raises when FFmpeg fails (FFmpegError), when a codec is unknown or does not fit a container
#: (ValueError), or when the operating system refuses (OSError).
FFMPEG_ERRORS: Final = (av.FFmpegError, OSError, ValueError)

# Code points of ISO/IEC 23091-2; FFmpeg, H.264, HEVC and MP4's "colr" use the same numbers.
MATRIX_NAMES: Final = {
    0: "rgb", 1: "bt709", 2: "unspecified", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m",
    8: "ycgco", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp",
}  # fmt: skip
PRIMARIES_NAMES: Final = {
    1: "bt709", 2: "unspecified", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film",
    9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
TRANSFER_NAMES: Final = {
    1: "bt709", 2: "unspecified", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    9: "log100", 10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10",
    15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip

# Element ids of Matroska (RFC 9559): segment, tracks, track, video, colour; then the siting in it.
_EBML_PARENTS: Final = (0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x55B0)
_EBML_SITING_ACROSS, _EBML_SITING_DOWN = 0x55B7, 0x55B8
_SITINGS: Final = {
    (b"\1", b"\2"): "left", (b"\2", b"\2"): "center", (b"\1", b"\1"): "topleft", (b"\2", b"\1"): "top",
}  # fmt: skip

# Log level and captures are global in PyAV: one thread listens at a time.
_LISTENING = threading.Lock()


def is_encoder_missing(error: BaseException) -> bool:
    """True for PyAV's complaint about a codec name that this build of FFmpeg does not know."""
    return type(error).__name__ == "UnknownCodecError"


def is_on_device(frame: av.VideoFrame) -> bool:
    """True for a decoder's surface on a GPU, whose pixels the host can't read in place."""
    return frame.format.name == "cuda"


def picture_format(frame: av.VideoFrame) -> av.VideoFormat:
    """The layout of the pixels, wherever they lie: a surface on a GPU calls its own format `cuda`."""
    layout = frame.sw_format if is_on_device(frame) else None
    return layout if layout is not None else frame.format


def is_url(uri: str) -> bool:
    """True for `rtsp://...` and its like, and for `pipe:`; False for a path in the file system."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|pipe:", uri) is not None


def ffmpeg_url(uri: str | Path) -> str:
    """What to hand to FFmpeg: paths get `file:`, so that a colon in a name is not read as a protocol."""
    text = str(uri)
    return text if is_url(text) else f"file:{text}"


def words(error: BaseException) -> str:
    """FFmpeg's own words in an exception, without the number and the path that PyAV puts around them."""
    if isinstance(error, av.error.ExitError):  # a timeout of ours: "immediate exit requested" says nothing to a user
        return "nothing in time"
    strerror = getattr(error, "strerror", None)
    return str(strerror) if strerror else str(error)


@contextmanager
def _listening(level: int) -> Iterator[list[tuple[int, str, str]]]:
    with _LISTENING:
        level_before, skip_before = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_skip_repeated(False)
        av.logging.set_level(level)
        try:
            with av.logging.Capture() as lines:
                yield lines
        finally:
            av.logging.set_level(level_before)
            av.logging.set_skip_repeated(skip_before)


def words_on_retry(error: BaseException, again: Callable[[], object]) -> str:
    """FFmpeg's words for `error`, with the log lines of a second attempt.

    FFmpeg's log is off in ordinary operation: PyAV hands each line to Python, and a codec thread that
    logs while another thread closes that codec with Python's lock held would never end. So the log is
    heard only here, when something has already failed and is tried `again`.
    """
    said = words(error)
    with _listening(av.logging.ERROR) as lines:
        try:
            again()
        except FFMPEG_ERRORS as second:
            said = words(second)
    heard = [f"{name}: {line.strip()}" if name else line.strip() for _, name, line in lines]
    unique = list(dict.fromkeys(heard))[-3:]
    return f"{said} ({'; '.join(unique)})" if unique else said


def chroma_location(stream: av.VideoStream) -> str | None:
    """Chroma siting that an input stream states (left, center, topleft, top), None where it states none.

    PyAV has no property for it, but FFmpeg's Matroska muxer writes it down: the header of a file with this
    stream, made in memory, is where it is read.
    """
    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
            written = header.getvalue()
    except FFMPEG_ERRORS:  # a codec that Matroska does not take
        return None
    elements = dict(_ebml_elements(written))
    siting = elements.get(_EBML_SITING_ACROSS, b""), elements.get(_EBML_SITING_DOWN, b"")
    return _SITINGS.get((siting[0][-1:], siting[1][-1:]))


def _ebml_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Elements of a Matroska file by id, those inside tracks and colour included."""
    at = 0
    while at + 2 <= len(data):
        id_bytes = 9 - data[at].bit_length()
        size_at = at + id_bytes
        if size_at >= len(data) or not data[size_at]:
            return
        size_bytes = 9 - data[size_at].bit_length()
        start = size_at + size_bytes
        size = int.from_bytes(data[size_at:start], "big") & ((1 << 7 * size_bytes) - 1)
        element, body = int.from_bytes(data[at:size_at], "big"), data[start : start + size]
        yield element, body
        if element in _EBML_PARENTS:
            yield from _ebml_elements(body)
        at = start + size


def plane_view(plane: VideoPlane, width_bytes: int) -> U8Plane:
    """The plane's memory as a read-only (height, width_bytes) array: no copy, rows `line_size` apart.

    The view keeps the frame's memory alive. It can't be made writable: decoders read these surfaces as
    references for the pictures that follow.
    """
    return _rows(memoryview(cast(Any, plane)).toreadonly(), plane, width_bytes)


def writable_plane(plane: VideoPlane, width_bytes: int) -> U8Plane:
    """As `plane_view`, but writable: only for frames that we allocated ourselves."""
    return _rows(memoryview(cast(Any, plane)), plane, width_bytes)


def _rows(memory: memoryview, plane: VideoPlane, width_bytes: int) -> U8Plane:
    pitch_bytes = abs(plane.line_size)
    rows = np.frombuffer(memory, np.uint8)[: pitch_bytes * plane.height].reshape(plane.height, pitch_bytes)
    # A negative pitch means that rows lie bottom up in memory.
    return (rows[::-1] if plane.line_size < 0 else rows)[:, :width_bytes]


def reformat(frame: av.VideoFrame, pixel_format: str, **options: Any) -> av.VideoFrame:
    """`frame.reformat` in one thread; the threads of the profile's budget are the codec's.

    Time stamps and side data go along; the result is `frame` itself where nothing had to be done.
    """
    try:
        return frame.reformat(format=pixel_format, threads=1, **options)
    except TypeError:  # PyAV 16 converts in one thread and has no such argument
        return frame.reformat(format=pixel_format, **options)


def side_data_of(frame: av.VideoFrame) -> dict[str, bytes] | None:
    """Side data by name (A53_CC, DISPLAYMATRIX, ...); None where the frame has a kind unknown to this PyAV.

    PyAV then fails for all of a frame's side data; `without_unknown_side_data` helps, at the price of a filter.
    """
    try:  # iterating gives SideData objects; the stub calls the container a TypedDict
        # not frame.side_data: that keeps the container on the frame and the frame in the container, a circle that
        # holds the picture's memory until the garbage collector's rare full round
        return {str(entry.type.name): bytes(entry) for entry in cast(Any, SideDataContainer)(frame)}
    except ValueError:
        return None


def without_unknown_side_data(frame: av.VideoFrame) -> av.VideoFrame:
    """The same picture, memory shared, without the side data that this PyAV has no name for (EXIF is one)."""
    known = {int(cast(Any, kind).value) for kind in SideDataType}
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    # FFmpeg numbers its kinds from 0; a few dozen exist.
    removers = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in range(64) if kind not in known]
    graph.link_nodes(source, *removers, graph.add("buffersink")).configure()
    graph.push(frame)
    return cast(av.VideoFrame, graph.pull())


def set_display_matrix(stream: av.VideoStream, matrix: tuple[int, ...]) -> bool:
    """Give an output stream its display matrix; False where this PyAV (before 18) can't."""
    setter = getattr(stream, "set_display_matrix", None)
    if setter is None:
        return False
    setter(matrix)
    return True
