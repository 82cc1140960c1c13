"""Which inputs are live, how FFmpeg opens each kind for low delay, and what to say when nothing comes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import av

from engine.errors import InputError, MediaError, explain
from engine.video.pyav import FFMPEG_ERRORS, ffmpeg_url, is_url, words

__all__ = ["LiveOptions", "is_camera", "is_live", "open_live_container", "parse_options"]

_LIVE_SCHEMES: Final = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "tcp")

# Enough to find sound beside the picture in a transport stream; FFmpeg's own 5 MB and 5 s would hold a start back.
_PROBE: Final = {"probesize": "1000000", "analyzeduration": "1000000"}


@dataclass(frozen=True)
class LiveOptions:
    """How long a live input may keep a run waiting, and FFmpeg options of the user's.

    open_timeout_s: until the first picture. read_timeout_s: without a packet, before it counts as broken off.
    reconnect_s: how long to try after that; 0 ends the run at once.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    reconnect_s: float = 30.0
    ffmpeg: Mapping[str, str] = field(default_factory=dict)


def is_camera(uri: str) -> bool:
    """True for the name of a video4linux device."""
    return re.fullmatch(r"/dev/(video\d+|v4l/.+)", uri) is not None


def is_live(uri: str) -> bool:
    """True for what comes at its own pace and can't be asked again: cameras and live protocols."""
    return is_camera(uri) or (is_url(uri) and uri.split(":", 1)[0].lower() in _LIVE_SCHEMES)


def parse_options(given: list[str], where: str) -> dict[str, str]:
    """KEY=VALUE, once or more; raises InputError."""
    options = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise InputError(explain(where, "KEY=VALUE", one, "name an FFmpeg option and its value"))
        options[key] = value
    return options


def open_live_container(uri: str, options: LiveOptions, decoder: Any = None) -> av.container.InputContainer:
    """Open a camera, address or file with little buffering. Raises MediaError within `open_timeout_s` or so.

    decoder: of a GPU, or None; with one, what FFmpeg has to say comes as it is, but for a timeout: it may be the
    decoder's, and the input is tried without it.
    """
    wanted = _ffmpeg_options(uri, options)
    timeout = (options.open_timeout_s, options.read_timeout_s)
    start = time.monotonic()
    name, form = (uri, "video4linux2") if is_camera(uri) else (ffmpeg_url(uri), None)
    try:
        return av.open(
            name, "r", format=form, options=wanted, timeout=timeout, metadata_errors="replace", hwaccel=decoder
        )
    except FFMPEG_ERRORS as error:
        if decoder is not None and not isinstance(error, av.error.ExitError):
            raise
        waited_s = time.monotonic() - start
        if isinstance(error, av.error.ExitError):  # our own timeout: FFmpeg says no more than "exit requested"
            said, do = f"nothing in {waited_s:.1f} s", "start the sender, or wait longer (live.open_timeout_s)"
        else:
            said, do = words(error), "check the address, and the sender"
        if is_camera(uri):
            do = "check the device's name and that nothing else uses it; its modes go in --input-option"
        raise MediaError(explain(uri, "a live input", said, do)) from error


def _ffmpeg_options(uri: str, options: LiveOptions) -> dict[str, str]:
    scheme = uri.split(":", 1)[0].lower()
    given = dict(options.ffmpeg)
    own = {} if is_camera(uri) else dict(_PROBE)
    if scheme in ("rtsp", "rtsps"):
        own["rtsp_transport"] = "tcp"
        if given.get("rtsp_flags") == "listen":
            # without one FFmpeg multiplies "none" by 1000 and refuses its own number
            own["listen_timeout"] = str(max(1, round(options.open_timeout_s)))
            del own["rtsp_transport"]
    if scheme == "udp":
        own |= {"overrun_nonfatal": "1", "buffer_size": "4194304"}
    return own | given
