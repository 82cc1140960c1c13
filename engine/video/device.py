"""Decoding on a GPU through FFmpeg's CUDA path, and the reasons for which a video is decoded on the host instead."""

from __future__ import annotations

from typing import Any, cast

import av

from engine.video.info import VideoInfo
from engine.video.pyav import is_on_device, picture_format, words
from engine.video.turn import upright_turn_deg

__all__ = ["NO_DECODER", "cuda_decoder", "no_gpu_note", "why_on_host"]

#: What opening a video raises where the GPU's decoder can't be had: EPERM is FFmpeg's word for "no driver".
NO_DECODER = (PermissionError, NotImplementedError, av.FFmpegError)


def cuda_decoder() -> Any:
    """What to open a container with so that its pictures stay on the GPU, in the primary context; None before PyAV 18.

    Other streams of the container are not touched by it, and a codec that the GPU does not know is decoded on the host.
    """
    try:
        from av.codec.hwaccel import HWAccel

        options: dict[str, object] = {"primary_ctx": "1"}
        return HWAccel("cuda", allow_software_fallback=True, options=options, is_hw_owned=True)
    except (ImportError, TypeError):
        return None


def no_gpu_note(error: BaseException | None) -> str:
    """The line for a video that could not be opened on the GPU."""
    if error is None:
        return f"decoded on the host: NVDEC needs PyAV 18, got {av.__version__}"
    if isinstance(error, PermissionError):
        return "decoded on the host: FFmpeg found no GPU (no NVIDIA driver, or one without its video libraries)"
    return f"decoded on the host: with NVDEC, {words(error)}"


def why_on_host(info: VideoInfo, first: av.VideoFrame, *, deinterlace: bool) -> str | None:
    """Why pictures of this video are decoded on the host though a GPU was asked; None when they stay on the GPU.

    The working frame is 8-bit 4:2:0 and upright: what has to be converted, turned or deinterlaced first passes the
    host. FFmpeg's chroma planes of odd sizes lack the last row and column.
    """
    if not is_on_device(first):
        return f"NVDEC does not take {info.codec} in {info.pixel_format}"
    layout = picture_format(first).name
    if layout != "nv12":
        return f"{layout} is converted to 8-bit 4:2:0 first"
    if info.width_px % 2 or info.height_px % 2:
        return f"{info.width_px}x{info.height_px} is no even size"
    if upright_turn_deg(info):
        return "its pictures lie on their side"
    return "deinterlacing runs on the host" if deinterlace else None


def keep_more_surfaces(stream: av.VideoStream, count: int) -> None:
    """Let that many decoded pictures be held beside those that the decoder refers to."""
    cast(Any, stream.codec_context).options = {"extra_hw_frames": str(count)}
