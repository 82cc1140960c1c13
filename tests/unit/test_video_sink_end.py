"""An output that has ended holds nothing of its encoder: NVENC's session must be gone before the device's streams."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import av
import pytest

from engine.errors import OutputError
from engine.runner import forget_locals
from engine.video.sink import Sink, open_sink
from engine.video.source import DecodedFrame, open_source
from tests.unit.media import make_clip
from tests.unit.test_video_device import HostFrames, add_software, since_18

ENDS = ("close", "abort", "close without a picture", "abort without a picture", "a picture that fails")


def on_device(clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Sink, Any]:
    """A sink on a device, with a software encoder in NVENC's place; and the source."""
    monkeypatch.setattr("engine.video.sink.why_not_nvenc", lambda info, settings: None)
    monkeypatch.setattr("engine.video.sink.DeviceFrames", HostFrames)
    monkeypatch.setattr("engine.video.sink.add_nvenc", add_software)
    source = open_source(clip, threads=1)
    return open_sink(out, source, threads=1, device_stream=7), source


def write(sink: Sink, source: Any) -> None:
    """Two pictures."""
    items = [item for item in source if isinstance(item, DecodedFrame)][:2]
    for item in items:
        nv12 = item.av_frame.reformat(format="nv12").to_ndarray()
        sink.write_device((nv12[:48].copy(), nv12[48:].copy()), item)


def end(sink: Sink, source: Any, how: str, monkeypatch: pytest.MonkeyPatch) -> OutputError | None:
    """End it; the error that it ended with is kept, as a run keeps it."""
    try:
        if how == "a picture that fails":
            container = sink._container

            class Full:
                """The disk is full."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(container, name)

                def mux_one(self, packet: Any) -> None:
                    raise av.error.OSError(28, "No space left on device")

            sink._container = Full()  # type: ignore[assignment]
        if "without" not in how:
            write(sink, source)
        sink.close() if how.startswith("close") else sink.abort()
    except OutputError as error:
        forget_locals(error)
        if how == "a picture that fails":
            sink.abort()
        return error
    return None


@since_18
@pytest.mark.parametrize("how", ENDS)
def test_nothing_of_the_encoder_is_held_when_it_has_ended(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, source = on_device(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mkv", monkeypatch)
    with source:
        device = weakref.ref(sink._device)
        stream, context = sink._video, sink._video.codec_context
        HostFrames.context = None if "without" in how else HostFrames.context
        error = end(sink, source, how, monkeypatch)
        HostFrames.context = None
    assert device() is None
    # this name, and the argument of the call; the context has its stream besides
    assert sys.getrefcount(stream) == 2
    assert sys.getrefcount(context) == 3
    assert (error is not None) is (how in ("close without a picture", "a picture that fails"))
    assert sink.takes_device
