"""Outputs that are no files: an address on the network, or a pipe. What is written is gone at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import av

from engine.errors import OutputError, explain
from engine.video.pyav import is_url

__all__ = ["AddressPlace", "is_address", "open_address"]

_MUXERS: Final = {
    "rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "rtsps": "rtsp", "udp": "mpegts", "tcp": "mpegts",
    "rtp": "rtp_mpegts", "pipe": "mpegts",
}  # fmt: skip

# One 1500-byte Ethernet frame holds seven packets of a transport stream.
_UDP_PACKET: Final = "pkt_size=1316"

# Of the muxer itself. Lengths on pictures let a receiver take each one when it is there, not when the next begins.
_MUXER_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "mpegts": {"omit_video_pes_length": "0", "pes_payload_size": "0", "flush_packets": "1"},
    "rtp_mpegts": {"flush_packets": "1"},
    "flv": {"flvflags": "no_duration_filesize", "flush_packets": "1"},
    "rtsp": {"rtsp_transport": "tcp"},
}


def is_address(output: str) -> bool:
    """True for an output that is written to as it goes: `rtmp://...`, `udp://...`, `pipe:1` or `-`."""
    return output == "-" or is_url(output)


class AddressPlace:
    """Where a live output goes; stands where a file's OutputPlace stands. Nothing to rename, nothing to clean up.

    Raises OutputError for a protocol that can't be written to.
    """

    suffix = ""

    def __init__(self, output: str, options: Mapping[str, str]) -> None:
        self.name = "standard output" if output == "-" else output
        self.temporary = self.final = "pipe:1" if output == "-" else output
        self.options = dict(options)
        scheme = self.temporary.split(":", 1)[0].lower()
        if scheme not in _MUXERS:
            wanted = f"one of {', '.join(f'{known}:' for known in _MUXERS)}"
            raise OutputError(explain(self.name, wanted, f"{scheme}:", "choose one of these, or a file"))
        if scheme == "udp" and "pkt_size" not in self.temporary:
            self.temporary += ("&" if "?" in self.temporary else "?") + _UDP_PACKET
        self.muxer = _MUXERS[scheme]

    def complete(self) -> str:
        """The address: it was written to as the run went."""
        return self.final

    def keep_partial(self) -> None:
        """Nothing is left of what was sent."""
        return

    def discard(self) -> None:
        """Nothing to remove."""


def open_address(place: AddressPlace) -> av.container.OutputContainer:
    """A container that writes to the address on a thread of FFmpeg's own.

    That thread (the muxer `fifo`) is what connects and sends: opening and closing a socket under Python's lock would
    stop every thread of this process for as long as the other side takes. It connects with the first packet, so an
    address that nobody answers is an error of the first pictures.
    """
    inner = _MUXER_OPTIONS[place.muxer] | place.options
    escaped = ":".join(f"{key}={_escaped(value)}" for key, value in inner.items())
    options = {
        "fifo_format": place.muxer,
        "format_opts": escaped,
        # no packet waits for one of another stream; see EARLY_TICKS
        "max_interleave_delta": "1",
    }
    return av.open(place.temporary, "w", format="fifo", container_options=options)


def _escaped(value: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\':=" else letter for letter in value)
