"""What a warm frame may ask of a device: the same sentence for the recording driver and for a GPU."""

from __future__ import annotations

from collections import Counter

__all__ = ["ALLOWED", "broken_by"]

# nothing that allocates, nothing that waits for a stream, no single kernel
ALLOWED = frozenset(
    {
        "cuGraphLaunch", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuEventSynchronize", "cuEventRecord",
        "cuStreamWaitEvent", "cuEventQuery", "cuEventElapsedTime",
    }
)  # fmt: skip


def broken_by(calls: Counter[str], frames: int) -> list[str]:
    """What these calls, of frames with faces that came from and went to the host, got wrong; empty when nothing."""
    wanted = {
        "cuGraphLaunch": 2,  # find and make
        "cuMemcpyHtoDAsync": 1,  # the frame in
        "cuMemcpyDtoHAsync": 1,  # the frame out
        "cuEventSynchronize": 2,  # for the number of faces, and on the encoder's own thread for its picture
    }
    wrong = [
        f"{name}: wanted {count} a frame, got {calls[name]} in {frames}"
        for name, count in wanted.items()
        if calls[name] != count * frames
    ]
    return wrong + [f"{name}: wanted none, got {calls[name]}" for name in sorted(set(calls) - ALLOWED)]
