"""Frames and sound of a user's file, for calibration and verification: by PyAV, or frames by DALI where it runs.

DALI decodes more on a GPU than on a CPU (there VP8, VP9 and MJPEG only) and gives RGB, so its frames have been
converted once more than PyAV's: good enough to calibrate on, not bit-exact.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt

from build_engines.flavour import BuildError
from kernels.launch import Colour

__all__ = ["Reader", "read_frames", "read_sound", "spread"]

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Reader = Literal["pyav", "dali"]

_HD_ROWS = 720  # from this height on untagged video is taken as BT.709
# numbers of ITU-T H.273: full range as FFmpeg counts it, and the matrices that our kernels know
_FULL_RANGE = 2
_MATRIX_OF_TAG: dict[int, Literal["bt601", "bt709"]] = {1: "bt709", 5: "bt601", 6: "bt601"}


def read_frames(clip: Path, count: int, reader: Reader = "pyav") -> tuple[list[U8], Colour]:
    """Up to `count` frames, evenly spread over a clip: NV12 of even size [height * 3 / 2, width], and their colour.

    Raises BuildError for what does not decode, and where DALI is asked for and not installed.
    """
    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            # packets, not the header's number of frames: many containers don't tell, or tell wrong
            total = sum(1 for packet in container.demux(stream) if packet.size)
            tags = stream.codec_context
            full, tagged = tags.color_range == _FULL_RANGE, _MATRIX_OF_TAG.get(tags.colorspace)
        wanted = spread(total, count)
        frames = list(_by_pyav(clip, set(wanted)) if reader == "pyav" else _by_dali(clip, wanted, full))
    except IndexError as error:
        raise BuildError(f"{clip}: wanted a video to calibrate and verify on, got none in it; name another") from error
    except (av.FFmpegError, OSError) as error:
        raise BuildError(f"{clip}: wanted a video to calibrate and verify on, got {error}; name another") from error
    if not frames:
        raise BuildError(f"{clip}: wanted a video to calibrate and verify on, got no frame; name another")
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        told = ", ".join(f"{width}x{rows * 2 // 3}" for rows, width in sorted(sizes))
        raise BuildError(f"{clip}: wanted frames of one size, got {told}; name a clip that does not change")
    return frames, Colour(tagged or ("bt709" if frames[0].shape[0] * 2 // 3 >= _HD_ROWS else "bt601"), full)


def spread(total: int, count: int) -> list[int]:
    """Up to `count` of the numbers from 0 to `total`, evenly spread: which frames `read_frames` reads."""
    return np.unique(np.linspace(0, total, count, endpoint=False).astype(np.int64)).tolist() if total else []


def read_sound(path: Path, sample_rate_hz: int) -> F32:
    """All of a file's first sound as mono samples, full scale 1; raises BuildError."""
    try:
        with av.open(str(path)) as container:
            # channels are averaged here: FFmpeg's own way to mono raises what two channels share by 3 dB
            resampler = av.AudioResampler(format="fltp", rate=sample_rate_hz)
            parts = [
                made.to_ndarray().mean(axis=0)
                for frame in (*container.decode(container.streams.audio[0]), None)
                for made in resampler.resample(frame)
            ]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise BuildError(f"{path}: wanted sound to calibrate and verify on, got {error}; name another file") from error
    if not parts:
        raise BuildError(f"{path}: wanted sound to calibrate and verify on, got none; name another file")
    return np.asarray(np.concatenate(parts), dtype=np.float32)


def _by_pyav(clip: Path, wanted: set[int]) -> Iterator[U8]:
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                yield _nv12(frame)


def _by_dali(clip: Path, wanted: Sequence[int], full: bool) -> Iterator[U8]:
    """The frames of these indices, decoded to RGB on the CPU, and back to NV12 in the clip's own range."""
    for rgb in _decoded_by_dali(clip, wanted):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        matrix = "ITU709" if frame.height >= _HD_ROWS else "ITU601"
        small = frame.reformat(
            width=frame.width // 2 * 2,
            height=frame.height // 2 * 2,
            format="nv12",
            dst_colorspace=matrix,
            dst_color_range="JPEG" if full else "MPEG",
        )
        yield np.ascontiguousarray(small.to_ndarray(), dtype=np.uint8)


def _decoded_by_dali(clip: Path, wanted: Sequence[int]) -> npt.NDArray[Any]:
    """[frames, height, width, RGB] of these indices."""
    try:
        dali: Any = importlib.import_module("nvidia.dali")
        fn: Any = importlib.import_module("nvidia.dali.fn")
        types: Any = importlib.import_module("nvidia.dali.types")
    except (ImportError, OSError) as error:
        raise BuildError(
            f'DALI: wanted nvidia.dali, got {error}; install it: pip install "face-engine[dali]", or read by PyAV'
        ) from error
    file = np.fromfile(clip, dtype=np.uint8)
    pipeline = dali.Pipeline(
        batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1, exec_async=False, exec_pipelined=False
    )
    with pipeline:
        given = fn.external_source(source=lambda: [file], dtype=types.UINT8)
        pipeline.set_outputs(fn.decoders.video(given, device="cpu", frames=list(wanted)))
    try:
        pipeline.build()
        return np.array(pipeline.run()[0].at(0))
    except RuntimeError as error:
        words = " ".join(str(error).split("encountered:")[-1].split("Stacktrace")[0].split())[:300]
        raise BuildError(
            f"{clip}: wanted a video that DALI decodes on a CPU (VP8, VP9 or MJPEG), got {words}; read it by PyAV"
        ) from error


def _nv12(frame: av.VideoFrame) -> U8:
    even = frame.reformat(width=frame.width // 2 * 2, height=frame.height // 2 * 2, format="nv12")
    return np.ascontiguousarray(even.to_ndarray(), dtype=np.uint8)
