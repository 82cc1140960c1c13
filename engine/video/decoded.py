"""What a source hands out: decoded pictures, and packets of the streams that are not processed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from engine.video.planes import planes_of
from engine.video.pyav import U8Plane, is_on_device, reformat, side_data_of

__all__ = ["DecodedFrame", "PassThrough"]

# Of x264 and x265, as they are in every stream that these made.
_ENCODER_SETTINGS_UUIDS = (
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),
)


@dataclass(frozen=True)
class DecodedFrame:
    """One picture, in display order.

    `av_frame` holds the planes in 8-bit 4:2:0 and the side data (captions, timecode). Its memory belongs
    to the decoder and is valid as long as this object or a view of it lives; it must never be written.
    """

    index: int  # 0, 1, 2, ... in the order delivered
    pts: int  # strictly increasing, in ticks of time_base
    time_base: Fraction
    duration: int | None  # ticks; None where the file does not say
    av_frame: av.VideoFrame
    carried: av.VideoFrame  # the frame as decoded, before any conversion: where side data is read
    arrived_ns: int = 0  # time.perf_counter_ns, when the packet with this picture came in; live sources only
    decode_ms: float = 0.0  # that the decoder took for the packet which brought it out; live sources only

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)

    @property
    def side_data(self) -> frozenset[str]:
        """Names of the side data on this frame, e.g. A53_CC, S12M_TIMECODE; UNKNOWN if PyAV can't name one.

        The settings that x264 and x265 leave in their first picture are no data of the user's: not among them.
        """
        found = side_data_of(self.carried)
        if found is None:
            return frozenset({"UNKNOWN"})
        if found.get("SEI_UNREGISTERED", b"")[:16] in _ENCODER_SETTINGS_UUIDS:
            del found["SEI_UNREGISTERED"]
        return frozenset(found)

    def planes(self) -> tuple[U8Plane, ...]:
        """Read-only uint8 views, rows `strides[0]` bytes apart, no copy.

        (y, u, v) for yuv420p and yuvj420p: y HxW, u and v ceil(H/2) x ceil(W/2).
        (y, uv) for nv12: uv is ceil(H/2) x 2*ceil(W/2), u and v alternating.
        Valid as long as the views live. Never writable: decoders predict later pictures from this memory.
        """
        frame = self.av_frame
        # one that is on the GPU is fetched; the device's own path does not come here
        return planes_of(reformat(frame, "nv12") if is_on_device(frame) else frame)

    def device_planes(self) -> tuple[Any, Any] | None:
        """(y, uv) on the GPU as DLPack exporters, uint8 y [H, W] and uv [H / 2, W / 2, 2]; None on the host.

        They are the decoder's surfaces: read them, never write them, and order the read after the legacy
        default stream, on which FFmpeg decodes. Valid as long as this object lives.
        """
        if not is_on_device(self.av_frame):
            return None
        y, uv = self.av_frame.planes
        return y, uv

    def copy_nv12_into(self, y: U8Plane, uv: U8Plane) -> None:
        """Copy this picture into NV12 memory: y HxW, uv ceil(H/2) x 2*ceil(W/2), any row pitch. Exact."""
        planes = self.planes()
        y[:] = planes[0]
        if len(planes) == 2:
            uv[:] = planes[1]
        else:
            uv[:, 0::2] = planes[1]
            uv[:, 1::2] = planes[2]


@dataclass(frozen=True)
class PassThrough:
    """A packet of a stream that is not processed, to be handed to `Sink.pass_through` unchanged."""

    packet: av.Packet[Any]
    index: int | None = None  # where an input that was opened again numbers its streams in another way

    @property
    def stream_index(self) -> int:
        """Index among `VideoInfo.streams`."""
        return self.packet.stream_index if self.index is None else self.index
