"""What stands in a wav file or stream before its samples."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

__all__ = ["wav_chunks"]


def wav_chunks(read: Callable[[int], bytes], most_bytes: int) -> Iterator[tuple[bytes, int, bytes]]:
    """(name, stated bytes, what is in it) of each chunk of a wav header; `data`, the samples, is the last and not read.

    read: the next bytes, from the first chunk on; fewer than asked for at the end alone. None come after most_bytes.
    """
    passed = 0
    while passed < most_bytes and len(head := read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            yield name, size, b""
            return
        passed += size
        yield name, size, read(min(size + size % 2, most_bytes))
