"""Closed captions (CEA-608 and 708) written into encoded pictures, for encoders that are given none to write.

A picture that comes to NVENC as device memory has no side data: PyAV can't attach any. The message that an encoder
would have written (ITU-T H.264 annex D, H.265 annex D; ATSC A/53 part 4 for its content) is put before the slices.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast

import av

__all__ = ["with_captions"]

# T.35: country US, provider ATSC, then the user data's own identifier and type
_A53: Final = b"\xb5\x00\x31GA94\x03"
_PROCESS_AND_COUNT: Final = 0xC0
_TRIPLET_BYTES: Final = 3
_TRIPLETS_MOST: Final = 31
_SEI_T35: Final = 4
_SEI_HEADER: Final = {"h264": b"\x06", "hevc": b"\x4e\x01"}
_START: Final = b"\x00\x00\x01"


def with_captions(packet: av.Packet[Any], triplets: bytes, codec: Literal["h264", "hevc"]) -> av.Packet[Any]:
    """The packet of one picture, in Annex B form, with its captions; itself where there are none.

    triplets: FFmpeg's A53_CC side data, 3 bytes for each pair of caption bytes.
    """
    count = min(len(triplets) // _TRIPLET_BYTES, _TRIPLETS_MOST)
    data = bytes(cast(Any, packet))
    at = _first_slice(data, codec)
    if not count or at is None:
        return packet
    body = _A53 + bytes([_PROCESS_AND_COUNT | count, 0xFF]) + triplets[: count * _TRIPLET_BYTES] + b"\xff"
    unit = b"\x00" + _START + _SEI_HEADER[codec] + _escaped(bytes([_SEI_T35, len(body)]) + body + b"\x80")
    marked = av.Packet(data[:at] + unit + data[at:])
    marked.pts, marked.dts, marked.duration = packet.pts, packet.dts, packet.duration
    marked.time_base, marked.is_keyframe = packet.time_base, packet.is_keyframe
    if packet.stream is not None:  # one of an encoder without a container has none
        marked.stream = packet.stream
    return marked


def _first_slice(data: bytes, codec: str) -> int | None:
    """Where the start code of the first slice begins."""
    at = data.find(_START)
    while 0 <= at < len(data) - len(_START):
        head = data[at + len(_START)]
        is_slice = 1 <= head & 0x1F <= 5 if codec == "h264" else (head >> 1) & 0x3F < 32
        if is_slice:
            return at - 1 if at and data[at - 1] == 0 else at
        at = data.find(_START, at + len(_START))
    return None


def _escaped(body: bytes) -> bytes:
    """With emulation prevention: no start code may appear within a unit."""
    out = bytearray()
    zeros = 0
    for byte in body:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)
