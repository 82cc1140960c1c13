"""Pictures of a file from any place on: from the key picture before it, checked one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import av

from engine.errors import MediaError, explain
from engine.template.index import checksum
from engine.template.template import FrameIndex
from engine.video.decoded import DecodedFrame
from engine.video.pyav import FFMPEG_ERRORS, words
from engine.video.source import Source, open_source

__all__ = ["SeekingDecoder"]

#: After so many key pictures that proved useless in one run, decoding begins at the start of the file.
_PATIENCE = 3

#: A picture's number, and what makes it: conversion to 8-bit 4:2:0 is left out for pictures that nobody wants.
_Picture: TypeAlias = tuple[int, Callable[[], DecodedFrame]]


class _LostError(Exception):
    """Decoding from a key picture did not give the pictures that the index holds."""


class SeekingDecoder:
    """Decodes a file's pictures wherever they are. One thread at a time; opens the file by itself.

    Numbers that go on where the last ones ended decode nothing twice; others begin at the key picture before them.
    Every picture handed out has the checksum of the index, so it is the one that reading the file from its start
    gives, bit for bit. A key picture from which that can't be had (an open or a rolling one) is not used again.
    """

    def __init__(self, path: Path, index: FrameIndex, *, threads: int) -> None:
        self.path, self.index, self.threads = path, index, threads
        self.decoded = 0  # pictures that the decoder gave so far, those on the way included
        self._keys = [int(key) for key in index.keys]
        self._source: Source | None = None
        self._pictures: Iterator[_Picture] | None = None
        self._origin = self._next = 0

    def close(self) -> None:
        """Release file and decoder; pictures handed out stay valid. May be called twice."""
        if self._source is not None:
            self._source.close()
        self._source = self._pictures = None

    def pictures(self, numbers: Sequence[int]) -> Iterator[DecodedFrame]:
        """The pictures of these numbers, which rise. Raises MediaError where the file gives others than the index."""
        todo, losses = list(numbers), 0
        while todo:
            key = max(key for key in self._keys if key <= todo[0])
            if self._pictures is None or not key <= self._next <= todo[0]:
                self._begin(0 if losses >= _PATIENCE else key)
            try:
                yield self._take(todo[0])
                del todo[0]
            except _LostError as lost:
                self._pictures = None
                if self._origin == 0:
                    raise MediaError(self._changed(str(lost))) from lost
                losses += 1
                if self._origin in self._keys:
                    self._keys.remove(self._origin)

    def _take(self, number: int) -> DecodedFrame:
        """The picture of a number that is still to come."""
        assert self._pictures is not None  # pictures() began at a key picture
        while True:
            index, made = next(self._pictures, (-1, None))
            if made is None:
                raise _LostError(f"its end at picture {self._next}")
            if index != self._next:
                raise _LostError(f"picture {index} after {self._next - 1}")
            self.decoded += 1
            self._next += 1
            if index < number:
                continue
            frame = made()
            if index >= len(self.index.checks) or checksum(frame) != self.index.checks[index]:
                raise _LostError(f"another picture {index}")
            return frame

    def _begin(self, key: int) -> None:
        """Go to a key picture; 0 reads the file exactly as a source does."""
        if key == 0 or self._source is None:
            self.close()
            self._source = open_source(self.path, threads=self.threads)
        self._pictures = self._from_start(self._source) if key == 0 else self._from_key(self._source, key)
        self._origin = self._next = key

    def _from_start(self, source: Source) -> Iterator[_Picture]:
        for item in source:
            if isinstance(item, DecodedFrame):
                yield item.index, partial(_without_second_copy, item)

    def _from_key(self, source: Source, key: int) -> Iterator[_Picture]:
        wanted, index = int(self.index.pts[key]), key
        stream = source.video_stream
        try:
            source.container.seek(wanted, stream=stream)
            for packet in source.container.demux(stream):
                for frame in _decode(packet):
                    if index == key and frame.pts is not None and frame.pts < wanted:
                        continue  # leads up to the key picture, and may refer to what was not decoded
                    if index >= len(self.index.pts) or frame.pts != self.index.pts[index]:
                        raise _LostError(f"the time stamp {frame.pts} for picture {index}")
                    yield index, partial(_converted, source, index, frame)
                    index += 1
        except FFMPEG_ERRORS as error:
            raise _LostError(words(error)) from error

    def _changed(self, got: str) -> str:
        return explain(str(self.path), "the video that was prepared", got, "prepare the template again")


def _decode(packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
    """A packet's pictures; one that does not decode gives none, as in a source, and its absence is noticed."""
    try:
        return packet.decode()
    except av.FFmpegError:
        return []


def _converted(source: Source, index: int, frame: av.VideoFrame) -> DecodedFrame:
    picture = source.converted(frame)
    pts = frame.pts
    assert pts is not None  # it was compared with the index
    return DecodedFrame(index, pts, source.info.time_base, frame.duration or None, picture, picture)


def _without_second_copy(frame: DecodedFrame) -> DecodedFrame:
    """Without the picture as it was before its conversion to 8-bit 4:2:0; its side data are on the converted one."""
    return frame if frame.carried is frame.av_frame else dataclasses.replace(frame, carried=frame.av_frame)
