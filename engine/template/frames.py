"""A template's pictures in any order: to and fro is cheap, memory is bounded, and every bit is the file's own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from engine.errors import InputError, explain
from engine.template.index import index_video
from engine.template.seek import SeekingDecoder
from engine.template.template import Template
from engine.video.decoded import DecodedFrame
from engine.video.info import VideoInfo

__all__ = ["TemplateFrames", "picture_bytes"]

#: Blocks of pictures that are held: the one being read, the next, the last; and one that is being decoded.
_BLOCKS = 4


def picture_bytes(info: VideoInfo) -> int:
    """What a decoded 8-bit 4:2:0 picture takes, the decoder's padding of rows and planes included."""
    pitch = -(-info.width_px // 64) * 64 + 64
    rows = -(-info.height_px // 32) * 32 + 32
    return pitch * rows * 3 // 2


class TemplateFrames:
    """Decoded pictures of a prepared template by frame number, from its original file. One reader at a time.

    Pictures are decoded in blocks, the next block in the direction of reading on a thread of its own while this one
    is read. A file whose pictures all fit into `memory_bytes` is decoded once. Else forward reading decodes every
    picture once, and backward reading half the distance between key pictures more for each block, so a template
    with a key picture a second is the cheapest. At most `memory_bytes` of pictures are held, and beside them what
    the decoder needs for itself; a picture that was handed out lives as long as somebody holds it.
    """

    def __init__(self, template: Template, *, threads: int = 1, memory_bytes: int = 512 << 20) -> None:
        """Open the file. `threads`: of the decoder. Raises what `open_source` raises, and InputError for a limit of
        less than four pictures."""
        index = template.index or index_video(template.path, threads=threads)
        self.template, self.memory_bytes = template, memory_bytes
        self.block_frames = memory_bytes // (_BLOCKS * picture_bytes(template.video))
        if self.block_frames < 1:
            least = _BLOCKS * picture_bytes(template.video) / 2**20
            raise InputError(
                explain(
                    str(template.path),
                    f"memory for {_BLOCKS} pictures ({least:.0f} MiB)",
                    f"{memory_bytes / 2**20:.0f} MiB",
                    "raise memory_bytes",
                )
            )
        self._decoder = SeekingDecoder(template.path, index, threads=threads)
        self._decoding = threading.Lock()
        self._blocks: OrderedDict[int, dict[int, DecodedFrame]] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="template")
        self._ahead: tuple[int, Future[dict[int, DecodedFrame]]] | None = None
        self._hurry = threading.Event()
        self._last = 0
        self._closed = False

    @property
    def decoded(self) -> int:
        """Pictures that the decoder gave so far."""
        return self._decoder.decoded

    @property
    def held_bytes(self) -> int:
        """Memory of the pictures that are held now."""
        held = {id(one.av_frame): one.av_frame for block in self._blocks.values() for one in block.values()}
        return sum(plane.buffer_size for frame in held.values() for plane in frame.planes)

    def read(self, n: int) -> DecodedFrame:
        """The picture of frame n; its `index` and `pts` are the file's own. Never write to it.

        Raises InputError for a frame that the template has not, MediaError where the file gives another picture
        than the one that was prepared.
        """
        if not 0 <= n < self.template.count or self._closed:
            wanted = "open frames" if self._closed else f"a frame of 0..{self.template.count - 1}"
            raise InputError(explain(str(self.template.path), wanted, n, "take numbers from FrameOrder"))
        number, step = n // self.block_frames, 1 if n >= self._last else -1
        entered = number != self._last // self.block_frames or number not in self._blocks
        self._last = n
        block = self._block(number)
        if entered:
            self._look_ahead(number + step)
        return block[int(self.template.source_frame[n])]

    def expect(self, n: int) -> None:
        """Begin to decode around a frame that a jump may lead to, on the other thread, if that has nothing to do."""
        self._look_ahead(n // self.block_frames)

    def close(self) -> None:
        """Release file, decoder and thread. Pictures handed out stay valid. May be called twice."""
        self._closed = True
        self._hurry.set()
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._blocks.clear()
        self._decoder.close()

    def __enter__(self) -> TemplateFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _block(self, number: int) -> dict[int, DecodedFrame]:
        """A block's pictures by their number in the file: held, on their way, or decoded now."""
        if self._ahead is not None and (self._ahead[0] == number or self._ahead[1].done()):
            self._take_ahead()
        if number not in self._blocks:
            if self._ahead is not None:  # the other block gives way: two at once would be one too many in memory
                self._hurry.set()
                self._take_ahead()
                self._hurry.clear()
            self._make_room()
            self._blocks[number] = self._decode(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _look_ahead(self, number: int) -> None:
        """Decode a block on the other thread, if there is one of this number to decode."""
        if self._ahead is None and 0 <= number < self._total and number not in self._blocks:
            self._make_room()
            self._ahead = number, self._worker.submit(self._decode, number, self._hurry)

    def _take_ahead(self) -> None:
        assert self._ahead is not None  # asked before
        number, future = self._ahead
        self._ahead = None
        if block := future.result():
            self._blocks[number] = block

    def _make_room(self) -> None:
        """Let go of the blocks that were not read for longest, unless all of them fit."""
        while self._total > _BLOCKS <= len(self._blocks):
            self._blocks.popitem(last=False)

    @property
    def _total(self) -> int:
        return -(-self.template.count // self.block_frames)

    def _decode(self, number: int, hurry: threading.Event | None = None) -> dict[int, DecodedFrame]:
        """A block's pictures; none when somebody is in a hurry for another block."""
        rows = self.template.source_frame[number * self.block_frames : (number + 1) * self.block_frames]
        block = {}
        with self._decoding:
            for frame in self._decoder.pictures(sorted(set(rows.tolist()))):
                if hurry is not None and hurry.is_set():
                    return {}
                block[frame.index] = frame
        return block
