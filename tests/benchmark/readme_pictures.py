"""README's pictures from what the demo made: python -m tests.benchmark.readme_pictures SWAPPED.mp4 [--out FOLDER].

before_after.jpg is one frame, loop.webp a few seconds that go round, each the clip and the swap side by side. Nothing
is retouched: frames are scaled and coded.
"""

from __future__ import annotations

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import av

from engine.video.compare import write_side_by_side

_FOLDER = Path(__file__).parents[2] / "models" / "tiny" / "sample"
_HALF_PX = (800, 450)

STILL = 40  # frame of the demo: nothing in front
FIRST, LAST = 0, 100  # of the loop, at the clip's 25 frames a second
EVERY = 2  # frames of the clip a frame of the loop
WIDE = 960  # px


def _still(frame: av.VideoFrame, path: Path) -> None:
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuvj420p"
        stream.options = {"qmin": "3", "qmax": "3"}
        picture = frame.reformat(format="yuvj420p", dst_color_range="JPEG")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


class _Loop:
    """An animated WebP that never ends."""

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction) -> None:
        self._container = av.open(str(path), "w", format="webp", options={"loop": "0"})
        self._stream = self._container.add_stream("libwebp_anim", rate=rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *size, "yuv420p"
        self._step = 1 / rate
        self._stream.options = {"quality": "60", "compression_level": "6"}
        self._count = 0

    def add(self, frame: av.VideoFrame) -> None:
        """One frame, scaled to the loop's size."""
        picture = frame.reformat(width=self._stream.width, height=self._stream.height, format="yuv420p")
        picture.pts, picture.time_base = self._count, self._step
        self._count += 1
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Writes what is left."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def make(swapped: Path, folder: Path, source: Path = _FOLDER / "source_1.png") -> None:
    """Writes before_after.jpg and loop.webp of the swapped sample clip into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        both = Path(scratch) / "both.mp4"
        write_side_by_side(_FOLDER / "clip.mp4", swapped, both, picture=source, threads=1, half_px=_HALF_PX)
        _cut(both, folder)


def _cut(both: Path, folder: Path) -> None:
    with av.open(str(both)) as container:
        stream = container.streams.video[0]
        high = round(WIDE * stream.height / stream.width / 2) * 2
        loop = _Loop(folder / "loop.webp", (WIDE, high), Fraction(25, EVERY))
        for index, frame in enumerate(container.decode(stream)):
            if FIRST <= index < LAST and index % EVERY == 0:
                loop.add(frame)
            if index == STILL:
                _still(frame, folder / "before_after.jpg")
        loop.close()


def main() -> None:
    """python -m tests.benchmark.readme_pictures"""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.readme_pictures")
    parser.add_argument("video", type=Path, help="the sample clip as `python -m engine demo` swapped it")
    parser.add_argument("--out", type=Path, default=_FOLDER)
    given = parser.parse_args()
    make(given.video, given.out)


if __name__ == "__main__":
    main()
