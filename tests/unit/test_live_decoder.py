"""A live input whose pictures the GPU can't decode: on the host, with one line that says so."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import av
import pytest

from engine.errors import MediaError
from engine.files import _Ends
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions
from engine.video.source import DecodedFrame
from profiles.profile import load_profile
from tests.unit.media import make_clip
from tests.unit.test_video_device import since_18

pytestmark = since_18

FAILURES = [
    av.error.PermissionError(1, "Operation not permitted"),
    av.error.FFmpegError(38, "Function not implemented"),
    av.error.ArgumentError(22, "Invalid argument"),
    av.error.ExternalError(542398533, "Generic error in an external library"),
    NotImplementedError("No supported hardware config for <av.Codec mjpeg>"),
    MediaError("in: wanted a picture that decodes, got none; check the file"),
]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[Any]:
    """Every opening with the GPU's decoder fails so; the decoders that were asked for, in turn."""
    asked: list[Any] = []
    real = av.open

    def opened(*args: Any, **options: Any) -> Any:
        if options.get("format") is None:
            asked.append(options.get("hwaccel"))
        if options.get("hwaccel") is not None:
            raise error
        return real(*args, **options)

    monkeypatch.setattr("engine.video.live_open.av.open", opened)
    return asked


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_whatever_the_gpus_decoder_fails_with_the_host_decodes_and_says_so(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    asked = failing(monkeypatch, error)
    with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True, on_device=True) as source:
        assert asked[0] is not None
        assert asked[1] is None
        said = [note for note in source.notes if note.startswith("decoded on the host: ")]
        assert len(said) == 1
        source.begin()
        assert sum(isinstance(item, DecodedFrame) for item in source.items(threading.Event())) == 10


def test_a_bad_input_is_the_same_error_with_and_without_a_gpu(tmp_path: Path) -> None:
    broken = tmp_path / "in.ts"
    broken.write_bytes(b"no video at all")
    said = []
    for on_device in (True, False):
        with pytest.raises(MediaError) as caught:
            LiveInput(str(broken), threads=1, options=LiveOptions(), paced=True, on_device=on_device)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_what_does_not_come_in_time_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    asked = failing(monkeypatch, av.error.ExitError(1414092869, "Immediate exit requested"))
    with pytest.raises(MediaError, match="wanted a live input, got nothing in"):
        LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True, on_device=True)
    assert len(asked) == 1


def test_decoder_host_asks_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    asked = failing(monkeypatch, FAILURES[0])

    class OnGpu:
        """A backend as far as inputs look at it."""

        device_io = True

    for decoder in ("host", "auto"):
        asked.clear()
        ends = _Ends(str(clip), "out.mp4", True, False, decoder, {}, {})
        with ends.open_input(load_profile("tiny"), OnGpu(), print) as source:  # type: ignore[arg-type]
            assert any(note.startswith("decoded on the host") for note in source.notes) is (decoder == "auto")
        assert (asked[0] is None) is (decoder == "host")
