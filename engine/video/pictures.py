"""Still pictures: read upright as RGB, write whole and marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import av
import numpy as np

from engine.errors import InputError, OutputError, explain
from engine.video.ai_altered import jpeg_with_xmp, png_with_xmp
from engine.video.inspect_source import display_matrix
from engine.video.output_place import OutputPlace
from engine.video.pyav import FFMPEG_ERRORS, U8Plane, reformat, words, words_on_retry

__all__ = ["PICTURE_SUFFIXES", "is_picture", "read_picture", "write_picture"]

#: File names by which a picture is known where there is no file to look into yet.
PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_WRITABLE_SUFFIXES: Final = (".png", ".jpg", ".jpeg")
_SIGNATURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")
_PICTURE_FORMATS: Final = ("gif", "apng")  # and every demuxer whose name ends in _pipe


def is_picture(path: str | Path) -> bool:
    """True if the file starts like a PNG, JPEG, WebP, BMP or TIFF; if it can't be read, by its name.

    GIF counts as a video.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return path.suffix.lower() in PICTURE_SUFFIXES
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    # A stream of JPEG pictures starts like one of them.
    return start.startswith(_SIGNATURES) and path.suffix.lower() not in (".mjpeg", ".mjpg")


def read_picture(path: str | Path) -> U8Plane:
    """The picture as HxWx3 uint8 RGB, C-contiguous, turned upright (EXIF), transparency over white.

    Reads what FFmpeg reads: PNG, JPEG, WebP, BMP, TIFF and more; 16 bits become 8; of an animation the first
    picture. Raises InputError for what is missing, empty, truncated or no picture, FFmpeg's words included.
    """
    name = str(path)
    data = _read_bytes(Path(path))
    try:
        frame = _decode(name, data)
    except FFMPEG_ERRORS as error:
        said = words_on_retry(error, lambda: _decode(name, data))
        raise InputError(
            explain(name, "a picture that FFmpeg can read", said, "give a PNG or JPEG that opens elsewhere")
        ) from error
    pixels = _rgb(frame)
    matrix = display_matrix(frame)
    return np.ascontiguousarray(_upright(pixels, matrix) if matrix else pixels)


def write_picture(
    path: str | Path,
    rgb: U8Plane,
    *,
    ai_altered: bool = True,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = True,
) -> Path:
    """Write HxWx3 uint8 RGB as .png (exact) or .jpg (4:4:4, quality of about 95); returns the final path.

    The file appears whole or not at all, and carries the AI-altered mark as XMP unless `ai_altered` is False.
    inputs: paths that must not be overwritten. Raises OutputError.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        got = f"{rgb.dtype} {rgb.shape}"
        raise InputError(explain("write_picture", "uint8 HxWx3 RGB", got, "convert the picture first"))
    place = OutputPlace(path, suffixes=_WRITABLE_SUFFIXES, inputs=tuple(map(str, inputs)), overwrite=overwrite)
    try:
        data = _encode_png(rgb) if place.suffix == ".png" else _encode_jpeg(rgb)
        if ai_altered:
            data = png_with_xmp(data) if place.suffix == ".png" else jpeg_with_xmp(data)
        place.temporary.write_bytes(data)
        return place.complete()
    except FFMPEG_ERRORS as error:
        raise OutputError(explain(place.name, "the picture written", words(error), "check disk space")) from error
    finally:
        place.discard()


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(explain(str(path), "a picture file", "no such file", "check the path")) from error
    except IsADirectoryError as error:
        raise InputError(explain(str(path), "a picture file", "a folder", "name a file in it")) from error
    except OSError as error:
        raise InputError(explain(str(path), "a readable picture", words(error), "check the path")) from error
    if not data:
        raise InputError(explain(str(path), "a picture file", "an empty file", "fetch or export it again"))
    return data


def _is_picture_format(name: str) -> bool:
    return name.endswith("_pipe") or name in _PICTURE_FORMATS


def _decode(name: str, data: bytes) -> av.VideoFrame:
    """The first picture; raises InputError where decoding would paint over damage."""
    # From memory, so that content decides and not the file's name (in which % would mean a sequence).
    with av.open(io.BytesIO(data), "r") as container:
        if not _is_picture_format(container.format.name):
            raise InputError(
                explain(name, "a still picture", f"{container.format.name} media", "extract a picture from it")
            )
        stream = container.streams.video[0]
        stream.thread_count = 1
        whole = not data.startswith(b"\xff\xd8") or _jpeg_has_end(data)
        for frame in container.decode(stream):
            if whole and not frame.is_corrupt:
                return frame
            break
    raise InputError(explain(name, "a whole picture", "a damaged or truncated one", "fetch or export it again"))


def _jpeg_has_end(jpeg: bytes) -> bool:
    """FFmpeg fills up a truncated JPEG without a word, so look for the end marker of the picture itself.

    Not of the preview in its header, nor of what cameras append: behind the first scan of the outer level.
    """
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        if jpeg[at + 1] == 0xDA:  # start of scan; in what follows FF D9 is the end of the picture only
            return jpeg.find(b"\xff\xd9", at) >= 0
        at += 1 if jpeg[at + 1] == 0xFF else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return False


def _rgb(frame: av.VideoFrame) -> U8Plane:
    components = frame.format.components
    has_alpha = frame.format.has_palette or len(components) in (2, 4)
    if not has_alpha:
        return cast(U8Plane, reformat(frame, "rgb24").to_ndarray())
    rgba = cast(U8Plane, reformat(frame, "rgba").to_ndarray()).astype(np.uint16)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(pixels: U8Plane, matrix: tuple[int, ...]) -> U8Plane:
    """Apply a display matrix of quarter turns and mirrorings: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(b) > abs(a):
        pixels, right, down = pixels.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    pixels = pixels[:, ::-1] if right < 0 else pixels
    return pixels[::-1] if down < 0 else pixels


def _encode_png(rgb: U8Plane) -> bytes:
    return _encode("png", "rgb24", rgb, {})


def _encode_jpeg(rgb: U8Plane) -> bytes:
    return _encode("mjpeg", "yuvj444p", rgb, {"qmin": "2", "qmax": "2"})


def _encode(codec: str, pixel_format: str, rgb: U8Plane, options: dict[str, str]) -> bytes:
    context = cast(av.VideoCodecContext, av.CodecContext.create(codec, "w"))
    context.height, context.width = rgb.shape[:2]
    context.pix_fmt = pixel_format
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = options
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    if pixel_format != "rgb24":
        context.color_range = 2  # JPEG is full range, always
        frame = reformat(frame, pixel_format, src_color_range="JPEG", dst_color_range="JPEG", dst_colorspace="ITU601")
    frame.pts = 0
    packets = context.encode(frame) + context.encode(None)
    return b"".join(bytes(cast(Any, packet)) for packet in packets)
