"""pcm: sound of any rate, layout and sample type to mono float32 at one rate, by FFmpeg's resampler.

The resampler is a graph of FFmpeg's: its output is aligned in time with its input, and does not depend on how the
input was cut into pieces. Channels are mixed by FFmpeg's matrix, scaled so that full scale stays full scale (two equal
channels give what one of them is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, cast

import av
import av.filter
import numpy as np
import numpy.typing as npt

from engine.audio.stream import samples_checked
from engine.errors import InputError, MediaError, explain
from engine.video.pyav import FFMPEG_ERRORS, words

__all__ = ["LAYOUTS", "RATES_HZ", "Condition", "PcmInput", "Resampler", "sound_array"]

F32 = npt.NDArray[np.float32]

#: FFmpeg's name for the usual layout of so many channels. Three are left, right, centre: of 2.1, which FFmpeg takes
#: where nothing is said, the third is not heard in a mix, and a host's centre is where speech is.
LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_FORMATS = {"uint8": "u8", "int16": "s16", "int32": "s32", "float32": "flt", "float64": "dbl"}
RATES_HZ = (4000, 384000)
_MOST_FLOAT = float(np.finfo(np.float32).max)
_FULL_SCALE = 0.9999  # of an integer type, 32764 and up in 16 bits


@dataclass
class Condition:
    """What the sound was like as it came in; counts over all channels.

    `clipped`: samples at or beyond full scale. `not_finite`: NaN, and what is infinite in float32, replaced by 0.
    `filled_s`: holes in a file's or stream's time stamps, filled with silence. `lost_packets`: those that did not
    decode. `jumps`: time stamps that leapt back, or too far to be a hole. `cut_s`: how much earlier a file's sound
    ended than the file says, where that is more than half a second.
    """

    samples: int = 0
    clipped: int = 0
    not_finite: int = 0
    filled_s: float = 0.0
    lost_packets: int = 0
    jumps: int = 0
    cut_s: float = 0.0


class Resampler:
    """Decoded frames to float32, -1..1, at `rate_hz`. A change of rate or layout in mid-stream is followed.

    Mono, or the channels of `layout` (FFmpeg's name), one after the other in one row.

    `tap` is given every frame too, as it came but for what is no number, in order; its time stamp means nothing.
    """

    def __init__(self, rate_hz: int, condition: Condition | None = None, layout: str = "mono") -> None:
        self.rate_hz, self.layout = rate_hz, layout
        self.tap: Callable[[av.AudioFrame], None] | None = None
        self.condition = condition if condition is not None else Condition()
        self._graph: av.filter.Graph | None = None
        self._came: tuple[int, str, str] | None = None

    def push(self, frame: av.AudioFrame) -> F32:
        """What comes out by this frame, maybe nothing yet; the frame's time stamp is ignored."""
        ready: list[F32] = []
        frame = self._inspected(frame)
        came = (frame.sample_rate, frame.format.name, frame.layout.name)
        if came != self._came:
            ready.append(self.flush())
            _refuse_rate("audio", frame.sample_rate)
            self._graph, self._came = _graph(*came, self.rate_hz, self.layout), came
        frame.pts = None
        self._push(frame)
        if self.tap is not None:  # last: whoever taps may stamp the frame
            self.tap(frame)
        ready += self._pulled()
        return np.concatenate(ready) if ready else np.zeros(0, np.float32)

    def flush(self) -> F32:
        """What the filter still holds, at the end of the sound."""
        if self._graph is None:
            return np.zeros(0, np.float32)
        self._push(None)
        ready = self._pulled()
        self.reset()
        return np.concatenate(ready) if ready else np.zeros(0, np.float32)

    def reset(self) -> None:
        """Forget the sound; what the filter held is given up."""
        self._graph = self._came = None

    def _push(self, frame: av.AudioFrame | None) -> None:
        try:
            cast(Any, self._graph).push(frame)
        except FFMPEG_ERRORS as error:
            raise MediaError(
                explain("audio", "sound that FFmpeg can resample", words(error), "convert it to a wav file")
            ) from error

    def _pulled(self) -> list[F32]:
        pulled: list[F32] = []
        while True:
            try:
                frame = cast(Any, self._graph).pull()
            except (BlockingIOError, EOFError):
                return pulled
            pulled.append(frame.to_ndarray()[0])

    def _inspected(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Count what is clipped; replace what is no number, which the filter would spread over its length."""
        array = frame.to_ndarray()
        self.condition.samples += frame.samples
        if array.dtype.kind != "f":
            most = float(np.iinfo(cast(Any, array.dtype)).max)
            middle = 128.0 if array.dtype.kind == "u" else 0.0
            loud = np.abs(array - middle) >= _FULL_SCALE * (most - middle)
            self.condition.clipped += int(np.count_nonzero(loud))
            return frame
        levels = np.abs(array)
        self.condition.clipped += int(np.count_nonzero(levels >= 1.0))
        finite = levels <= _MOST_FLOAT  # so is no NaN, and no float64 that the filter's float32 can't hold
        if finite.all():
            return frame
        self.condition.not_finite += array.size - int(np.count_nonzero(finite))
        return _frame(np.where(finite, array, 0).astype(array.dtype), frame.format.name, frame.layout.name, frame)


class PcmInput:
    """Samples that a host application pushes, to mono float32 at `to_rate_hz`.

    `push` takes uint8, int16, int32, float32 or float64 [samples] or [samples, channels]; floats are -1..1.
    """

    def __init__(self, rate_hz: int, channels: int = 1, *, to_rate_hz: int) -> None:
        _refuse_rate("PcmInput", rate_hz)
        if channels not in LAYOUTS:
            raise InputError(explain("PcmInput", "1 to 8 channels", channels, "mix them down first"))
        self.rate_hz, self.channels = rate_hz, channels
        self.condition = Condition()
        self._resampler = Resampler(to_rate_hz, self.condition)

    def tap(self, take: Callable[[av.AudioFrame], None]) -> None:
        """Give `take` every frame of what is pushed, before it is mixed and resampled."""
        self._resampler.tap = take

    def push(self, samples: npt.NDArray[Any]) -> F32:
        """What comes out by these samples, maybe nothing yet."""
        remedy = "convert the array, or open the input for its channels"
        array = sound_array("PcmInput.push", samples, self.channels, _FORMATS, remedy)
        if not len(array):
            return np.zeros(0, np.float32)
        packed = np.ascontiguousarray(array).reshape(1, -1)
        frame = _frame(packed, _FORMATS[array.dtype.name], LAYOUTS[self.channels], None, self.rate_hz)
        return samples_checked(self._resampler.push(frame))

    def flush(self) -> F32:
        """The end of the sound: what the filter still holds. The input then begins anew."""
        return self._resampler.flush()

    def reset(self) -> None:
        """Forget the sound (barge-in): what the filter held is given up."""
        self._resampler.reset()


def _frame(
    array: npt.NDArray[Any], sample_format: str, layout: str, like: av.AudioFrame | None, rate_hz: int = 0
) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(array, format=sample_format, layout=layout)
    frame.sample_rate = like.sample_rate if like is not None else rate_hz
    frame.time_base = Fraction(1, frame.sample_rate)
    return frame


def _graph(rate_hz: int, sample_format: str, layout: str, to_rate_hz: int, to_layout: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    if hasattr(graph, "threads"):  # PyAV 18; before, FFmpeg takes one for each core
        graph.threads = 1
    source = graph.add(
        "abuffer",
        sample_rate=str(rate_hz),
        sample_fmt=sample_format,
        channel_layout=layout,
        time_base=f"1/{rate_hz}",
    )
    # float samples in the filter; the matrix scaled so that no sum of channels passes full scale
    mixer = graph.add("aresample", f"{to_rate_hz}:out_chlayout={to_layout}:out_sample_fmt=flt:rematrix_maxval=1.0")
    graph.link_nodes(source, mixer, graph.add("abuffersink")).configure()
    return graph


def sound_array(where: str, pcm: object, channels: int, kinds: Iterable[str], remedy: str) -> npt.NDArray[Any]:
    """What a host pushed as [samples, channels]; raises InputError where it is no array of these kinds and channels."""
    kinds = tuple(kinds)
    wanted = f"{', '.join(kinds)} [samples, {channels}]"
    if not isinstance(pcm, np.ndarray):
        make = "make an array of it, as numpy.frombuffer(data, numpy.int16) does of bytes"
        raise InputError(explain(where, wanted, type(pcm).__name__, make))
    array = pcm[:, None] if pcm.ndim == 1 else pcm
    if array.ndim != 2 or array.shape[1] != channels or array.dtype.name not in kinds:
        raise InputError(explain(where, wanted, f"{pcm.dtype} {list(pcm.shape)}", remedy))
    return array


def _refuse_rate(where: str, rate_hz: int) -> None:
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise InputError(
            explain(where, f"a rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz", f"{rate_hz} Hz", "resample it first")
        )
