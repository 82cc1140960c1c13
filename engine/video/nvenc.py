"""Encoding on a GPU: NVENC's settings, whether it is there at all, and device memory as the frames that it takes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, cast

import av

from engine.video.encoder import EncoderSettings, configure_colour, even
from engine.video.info import VideoInfo
from engine.video.pyav import FFMPEG_ERRORS, words
from engine.video.source import DecodedFrame
from engine.video.turn import upright_turn_deg

__all__ = ["NVENC_CODECS", "DeviceFrames", "add_nvenc", "nvenc_options", "why_not_nvenc"]

#: Name to FFmpeg's encoder.
NVENC_CODECS: Final = {"h264": "h264_nvenc", "hevc": "hevc_nvenc"}


def nvenc_options(settings: EncoderSettings) -> dict[str, str]:
    """NVENC's own options: live, a packet for each picture before the next goes in; file, quality first.

    `cq` is NVENC's constant quality, near enough to x264's CRF at the same number. FFmpeg's `delay` is all surfaces
    unless told.
    """
    options = {"rc": "vbr", "cq": str(max(1, settings.quality)), "a53cc": "0", "udu_sei": "0"}
    if settings.is_live:
        options |= {
            "preset": "p3", "tune": "ull", "zerolatency": "1", "delay": "0", "rc-lookahead": "0",
            "b_ref_mode": "disabled", "forced-idr": "1",
        }  # fmt: skip
    else:
        options |= {"preset": "p5", "tune": "hq", "spatial-aq": "1", "rc-lookahead": "16", "b_ref_mode": "middle"}
    return options


def why_not_nvenc(info: VideoInfo, settings: EncoderSettings) -> str | None:
    """Why the software encoder is used though a GPU is at hand, in one line; None when NVENC works.

    An encoder is opened for the size and closed again: cards without NVENC (H100, A100), a driver without its library
    and the limit of sessions all show here, before any work.
    """
    if settings.quality == 0:
        return "encoded on the host: quality 0 asks for lossless"
    if info.width_px % 2 or info.height_px % 2:
        return f"encoded on the host: {info.width_px}x{info.height_px} is no even size"
    if upright_turn_deg(info):
        return "encoded on the host: its pictures lie on their side"
    if not hasattr(av.video.frame, "CudaContext"):
        return f"encoded on the host: NVENC without a copy needs PyAV 18, got {av.__version__}"
    try:
        trial = cast(av.VideoCodecContext, av.CodecContext.create(NVENC_CODECS[settings.codec], "w"))
        trial.width, trial.height, trial.pix_fmt = info.width_px, info.height_px, "nv12"
        trial.time_base, trial.framerate = info.time_base, info.rate
        trial.options = nvenc_options(settings)
        trial.open()
    except PermissionError:
        return "encoded on the host: FFmpeg found no NVENC (no GPU, or a driver without its encode library)"
    except FFMPEG_ERRORS as error:
        return f"encoded on the host: {NVENC_CODECS[settings.codec]}: {words(error)}"
    return None


def add_nvenc(container: av.container.OutputContainer, info: VideoInfo, settings: EncoderSettings) -> av.VideoStream:
    """Add the video stream. Its encoder opens with the first frame, which brings the device's context along."""
    stream = container.add_stream(NVENC_CODECS[settings.codec], rate=info.rate, time_base=info.time_base)
    video = cast(av.VideoStream, stream)
    context = video.codec_context
    context.width, context.height, context.pix_fmt = even(info.width_px), even(info.height_px), "cuda"
    configure_colour(context, info)
    context.options = nvenc_options(settings)
    context.gop_size = max(1, round(settings.key_s * info.rate))
    context.max_b_frames = 0 if settings.is_live else 3
    if settings.is_live and settings.max_kbps:
        context.options |= {"maxrate": f"{settings.max_kbps}k", "bufsize": f"{settings.max_kbps // 2}k"}
    if settings.codec == "hevc":
        context.codec_tag = "hvc1"
    return video


class DeviceFrames:
    """Planes in device memory as frames for NVENC, all in one CUDA context and ordered on one stream.

    stream: handle of the CUstream on which the planes become ready, and on which NVENC reads them.
    """

    def __init__(self, info: VideoInfo, stream: int) -> None:
        from av.video.frame import CudaContext

        self._size_px = (info.width_px, info.height_px)
        # made once: each would hold a context of its own
        self._context = CudaContext(device_id=0, primary_ctx=True, cuda_stream=stream)

    def frame(self, planes: tuple[Any, Any], picture: DecodedFrame) -> av.VideoFrame:
        """The planes (y [H, W], uv [H / 2, W], by DLPack) as a frame under the picture's stamp; no copy.

        The planes are held until the encoder lets go of them.
        """
        width, height = self._size_px
        made = av.VideoFrame.from_dlpack(
            planes, format="nv12", width=width, height=height, cuda_context=self._context, device_id=0
        )
        made.pts = picture.pts
        made.time_base = Fraction(picture.time_base)
        return made
