"""What a source is: size, time, colour and streams, as found when it was opened."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from engine.video.pyav import MATRIX_NAMES, PRIMARIES_NAMES, TRANSFER_NAMES

__all__ = ["Colour", "StreamInfo", "VideoInfo"]


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour of a video: what to compute with, and the tags that are written to the output unchanged."""

    matrix: Literal["bt601", "bt709", "bt2020"]  # the coefficients to compute with
    full_range: bool  # luma 0..255 rather than 16..235
    assumed: bool  # True: the file names no matrix; 601 below 720 lines, else 709
    matrix_tag: int  # ISO/IEC 23091-2 code points, 2 = unspecified
    primaries_tag: int
    transfer_tag: int
    range_tag: int  # FFmpeg's: 0 unspecified, 1 limited, 2 full
    chroma_location: str | None  # left, center, topleft, top: stated, or the codec's default; None = neither

    @property
    def primaries(self) -> str:
        """Name of the primaries, `unspecified` where the file names none."""
        return PRIMARIES_NAMES.get(self.primaries_tag, f"reserved {self.primaries_tag}")

    @property
    def transfer(self) -> str:
        """Name of the transfer characteristic, `unspecified` where the file names none."""
        return TRANSFER_NAMES.get(self.transfer_tag, f"reserved {self.transfer_tag}")

    @property
    def matrix_name(self) -> str:
        """Name of the matrix as tagged, `unspecified` where the file names none."""
        return MATRIX_NAMES.get(self.matrix_tag, f"reserved {self.matrix_tag}")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of the container."""

    index: int
    kind: str  # video, audio, subtitle, data, attachment, unknown
    codec: str | None  # FFmpeg's name; None for data that has no codec
    language: str | None  # as written in the file, usually ISO 639-2
    title: str | None


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A source as it was found at open. Sizes are those of the picture in memory, not rotated."""

    uri: str
    container: str  # FFmpeg's name, e.g. "mov,mp4,m4a,3gp,3g2,mj2"
    codec: str
    width_px: int
    height_px: int
    pixel_format: str  # as decoded
    planes_format: str  # layout of DecodedFrame.planes(): yuv420p, yuvj420p or nv12; range: see colour
    rate: Fraction  # average frames a second
    time_base: Fraction  # seconds of one pts tick
    frame_count: int | None
    frame_count_from: Literal["container", "estimate", "unknown"]
    duration_s: float | None
    colour: Colour
    rotation_deg: int  # 0..359, clockwise turn that a player applies before showing
    mirrored: bool  # True: left and right are exchanged before that turn
    display_matrix: tuple[int, ...] | None  # 9 numbers of FFmpeg's layout, flips included
    sample_aspect: Fraction | None  # width / height of one pixel; None = not stated
    interlaced: bool
    is_vfr: bool | None  # True: the container's own rates differ; None: not known before the end
    mastering_display: bytes | None  # FFmpeg's AVMasteringDisplayMetadata
    content_light: tuple[int, int] | None  # MaxCLL, MaxFALL in cd/m2
    timecode: str | None  # hh:mm:ss:ff of the first picture
    video_index: int  # of the processed stream, among `streams`
    streams: tuple[StreamInfo, ...]
    notes: tuple[str, ...]  # what a user should know, one sentence each
