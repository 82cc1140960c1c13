"""The options of `python -m engine run`, and which task each belongs to; nothing heavy is imported."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from engine.errors import InputError, explain
from profiles.profile import Profile

__all__ = ["add_run_options", "check_run_options"]

_USAGE = """python -m engine run --profile SWAP --source PICTURE [option ...] IN OUT
       python -m engine run --profile LIPSYNC --template VIDEO --audio SOUND [option ...] OUT"""

_DESCRIPTION = """The profile decides the task: a swap profile puts the face of PICTURE on the faces of IN; a lip-sync
profile makes the presenter of VIDEO say SOUND. OUT is .mp4, .mov or .mkv (a picture where IN is one); of a live run
also rtmp: rtsp: udp: tcp: or - for standard output."""

#: Options of one task alone, by their names among the parsed arguments.
_OF_SWAP: Final = (
    "source", "source_face", "faces", "score_threshold", "opacity", "restorer", "enhance_every", "enhance_blend",
    "input_option", "decoder", "deinterlace",
)  # fmt: skip
_OF_LIPSYNC: Final = ("template", "audio", "raw_audio", "face")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Everything but the device's and the profiler's."""
    parser.usage, parser.description = _USAGE, _DESCRIPTION
    parser.add_argument("paths", nargs="+", metavar="OUT", help="IN OUT to swap, OUT to talk")
    parser.add_argument("--profile", required=True, help="a profile's name, or a .toml file")
    parser.add_argument("--codec", choices=("h264", "hevc"), default=None, help="of the output video")
    parser.add_argument("--quality", type=int, default=None, help="constant rate factor, 0 best to 51")
    parser.add_argument("--preset", default=None, help="the encoder's speed preset")
    parser.add_argument("--live", action="store_true", help="at the input's own pace; latency is kept, frames may drop")
    _add_ffmpeg(parser, "output")
    _add_swap(parser.add_argument_group("swap", "IN: a video, a picture, /dev/video0, or rtsp: rtmp: udp: tcp:"))
    _add_lipsync(parser.add_argument_group("lip-sync"))


def check_run_options(chosen: argparse.Namespace, profile: Profile) -> None:
    """Raise InputError for options of the other task, for missing ones, and for too many or too few paths."""
    swaps = profile.task == "swap"
    for name in _OF_LIPSYNC if swaps else _OF_SWAP:
        value = getattr(chosen, name)
        if value is not None and value is not False and value != []:
            other = "lip-sync" if swaps else "swap"
            do = f"leave it out, or name a {other} profile"
            raise InputError(explain(_flag(name), f"a {other} profile", f"{profile.name}, of {profile.task}", do))
    where = f"run with the {profile.task} profile {profile.name}"
    for name in ("source",) if swaps else ("template", "audio"):
        if not getattr(chosen, name):
            raise InputError(explain(where, _flag(name), "none", f"add {_flag(name)}"))
    wanted = 2 if swaps else 1
    if len(chosen.paths) != wanted:
        names = "IN and OUT" if swaps else "OUT alone"
        raise InputError(explain(where, names, " ".join(chosen.paths), "see python -m engine run --help"))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_swap(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--source", type=Path, action="append", metavar="PICTURE", help="the face to put on; repeatable")
    group.add_argument(
        "--source-face",
        choices=("only", "largest", "leftmost"),
        default=None,
        help="which face of a source picture that shows several (default: only, and an error if it shows more)",
    )
    group.add_argument(
        "--faces",
        action="append",
        default=None,
        metavar="all|largest|leftmost|like=PICTURE",
        help="which faces to change; like=PICTURE may be repeated, the first goes with the first source",
    )
    group.add_argument(
        "--score-threshold",
        type=float,
        default=None,
        help="detector threshold; lower finds more (default: the profile's)",
    )
    group.add_argument("--opacity", type=float, default=None, help="0 to 1")
    group.add_argument(
        "--restorer", default=None, metavar="NAME", help="a restorer's contract (default: the profile's)"
    )
    group.add_argument("--enhance-every", type=int, default=None, metavar="N", help="restore faces on every N-th frame")
    group.add_argument(
        "--enhance-blend", type=float, default=None, metavar="X", help="how much of it is mixed in, 0 to 1"
    )
    _add_ffmpeg(group, "input")
    group.add_argument(
        "--decoder",
        choices=("auto", "host", "dali"),
        default=None,
        help="auto: on the GPU where the run is (default); dali: files, by way of RGB, not bit-exact",
    )
    group.add_argument("--deinterlace", action="store_true", help="take interlaced input, deinterlaced by bwdif")


def _add_lipsync(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--template", type=Path, metavar="VIDEO", help="the presenter: a video, or the folder of a prepared one"
    )
    group.add_argument(
        "--audio",
        metavar="SOUND",
        help="what is said: anything FFmpeg reads, - or a pipe (a wav stream), alsa:NAME for a microphone",
    )
    group.add_argument(
        "--raw-audio", metavar="RATE[:CHANNELS[:FORMAT]]", help="a pipe of samples without a header, as 16000:1:s16le"
    )
    group.add_argument(
        "--face", metavar="largest|leftmost|like=PICTURE", help="who talks, where the video shows several"
    )


def _add_ffmpeg(parser: argparse._ActionsContainer, end: str) -> None:
    parser.add_argument(
        f"--{end}-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"an FFmpeg option for a live {end}; repeatable",
    )
