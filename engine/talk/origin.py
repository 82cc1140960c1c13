"""origin: what an output of lip-sync is made from, told to a sink as if it were one input."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any, cast

import av

from engine.talk.track import Track
from engine.template.template import Template
from engine.video.decoded import DecodedFrame
from engine.video.info import StreamInfo, VideoInfo

__all__ = ["TalkOrigin", "stamped"]

# side data belongs to a picture's place in its own film: captions would come back in pieces
_BARE = av.VideoFrame(2, 2, "yuv420p")


class _Streams:
    """The container that a sink copies from: one sound stream, and nothing else."""

    def __init__(self, streams: tuple[av.AudioStream, ...], metadata: dict[str, str]) -> None:
        self.streams, self.metadata = streams, metadata

    def chapters(self) -> list[Any]:
        """None: a template's say nothing about this film."""
        return []


@dataclasses.dataclass(frozen=True)
class _Picture:
    """The stream that is encoded: its place, beyond the sound's."""

    index: int
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    disposition: av.stream.Disposition = dataclasses.field(default_factory=lambda: av.stream.Disposition(1))


class TalkOrigin:
    """Pictures of a template at the model's rate, and the driving sound; stands where a Source stands.

    `time_base` is that of the output's stamps: a whole number of ticks a frame.
    """

    def __init__(
        self, uri: str, template: Template, fps: Fraction, track: Track, time_base: Fraction | None = None
    ) -> None:
        self.uri = uri
        self.stream_index = track.stream.index
        picture = _Picture(self.stream_index + 1)
        told = [StreamInfo(index, "data", None, None, None) for index in range(self.stream_index)]
        codec = track.stream.codec_context.name
        language = track.stream.metadata.get("language")
        told.append(StreamInfo(self.stream_index, "audio", codec, language, track.stream.metadata.get("title")))
        told.append(StreamInfo(picture.index, "video", template.video.codec, None, None))
        self.info: VideoInfo = dataclasses.replace(
            template.video,
            rate=fps,
            time_base=time_base or 1 / fps,
            frame_count=None,
            frame_count_from="unknown",
            duration_s=None,
            is_vfr=False,
            interlaced=False,
            timecode=None,
            video_index=picture.index,
            streams=tuple(told),
            notes=(),
        )
        self._container = _Streams((track.stream,), {})
        self._picture = picture

    @property
    def container(self) -> av.container.InputContainer:
        """The sound's stream alone."""
        return cast(av.container.InputContainer, self._container)

    @property
    def video_stream(self) -> av.VideoStream:
        """A place for the picture, without tags of its own."""
        return cast(av.VideoStream, self._picture)


def stamped(picture: DecodedFrame, n: int, fps: Fraction, time_base: Fraction) -> DecodedFrame:
    """A template's picture as frame `n` of the output, without the side data of the place where it was."""
    return DecodedFrame(
        index=n,
        pts=round(n / fps / time_base),
        time_base=time_base,
        duration=round((n + 1) / fps / time_base) - round(n / fps / time_base),
        av_frame=picture.av_frame,
        carried=_BARE,
    )
