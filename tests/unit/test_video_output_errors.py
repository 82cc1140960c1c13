"""Outputs that can't be: refused in a sentence, or left as a partial file, and never a broken final one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from engine.errors import OutputError
from engine.video import encoder
from engine.video.sink import Sink, open_sink
from engine.video.source import DecodedFrame, PassThrough, Source, open_source
from tests.unit.media import frame_bytes, make_clip, packets_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", pts=range(40), audio=[("eng", "A")])


@pytest.fixture
def source(tmp_path: Path, clip: Path) -> Iterator[Source]:
    with open_source(shutil.copy(clip, tmp_path / "in.mp4"), threads=1) as opened:
        yield opened


def refusal(source: Source, path: Path, **options: Any) -> str:
    with pytest.raises(OutputError) as caught:
        open_sink(path, source, **{"threads": 1, **options})
    return str(caught.value).replace(str(path), "OUT").replace(str(path.parent), "DIR")


def write(source: Source, sink: Sink, count: int) -> None:
    """The first `count` pictures and the packets between them."""
    y, uv = np.empty((48, 64), np.uint8), np.empty((24, 64), np.uint8)
    for item in source:
        if isinstance(item, PassThrough):
            sink.pass_through(item)
            continue
        if item.index == count:
            return
        item.copy_nv12_into(y, uv)
        sink.write((y, uv), item)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_places_that_cannot_be(source: Source, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    assert refusal(source, tmp_path / "none" / "out.mp4") == (
        "OUT: wanted an existing folder, got no folder DIR; create the folder first"
    )
    assert refusal(source, tmp_path / "file" / "out.mp4") == (
        "OUT: wanted an existing folder, got no folder DIR; create the folder first"
    )
    assert refusal(source, tmp_path / "folder.mp4") == ("OUT: wanted a file name, got a folder; add a file name to it")
    assert refusal(source, tmp_path / "out.avi") == (
        "OUT: wanted a name that ends in .mp4 or .mov or .mkv, got .avi; choose one of these formats"
    )
    assert refusal(source, tmp_path / "out") == (
        "OUT: wanted a name that ends in .mp4 or .mov or .mkv, got no suffix; choose one of these formats"
    )
    assert names(tmp_path) == ["file", "folder.mp4", "in.mp4"]


def test_a_folder_that_cannot_be_written_to(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    assert refusal(source, tmp_path / "out.mp4") == (
        "OUT: wanted a folder that can be written to, got Read-only file system; check its permissions"
    )


def test_the_input_is_never_the_output(source: Source, tmp_path: Path) -> None:
    said = "OUT: wanted another file than the input, got the input itself; choose another name"
    before = (tmp_path / "in.mp4").read_bytes()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    os.link(tmp_path / "in.mp4", tmp_path / "hard.mp4")
    (tmp_path / "sub").mkdir()
    for name in ("in.mp4", "link.mp4", "hard.mp4", "sub/../in.mp4"):
        path = tmp_path / name
        with pytest.raises(OutputError) as caught:
            open_sink(path, source, threads=1)
        assert str(caught.value).replace(str(path), "OUT") == said
    (tmp_path / "out.partial.mp4").symlink_to(tmp_path / "in.mp4")
    assert refusal(source, tmp_path / "out.mp4") == (
        "OUT: wanted another file than the input, got the input out.partial.mp4; choose another name"
    )
    assert (tmp_path / "in.mp4").read_bytes() == before


def test_overwriting(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("old")
    assert refusal(source, out, overwrite=False) == (
        "OUT: wanted a name that is free, got an existing file; allow overwriting or rename"
    )
    with open_sink(out, source, threads=1) as sink:
        write(source, sink, 5)
        assert out.read_text() == "old"  # until the new one is complete
    assert len(frame_bytes(out)) == 5


def test_through_a_link_its_target_is_written(source: Source, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "out.mp4")
    with open_sink(tmp_path / "link.mp4", source, threads=1) as sink:
        write(source, sink, 5)
    assert (tmp_path / "link.mp4").is_symlink()
    assert len(frame_bytes(tmp_path / "out.mp4")) == 5


def test_settings_that_cannot_be(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.mp4"
    assert refusal(source, out, codec="av1") == "OUT: wanted codec h264 or hevc, got av1; choose one of these"
    assert refusal(source, out, quality=52) == "OUT: wanted quality 0 to 51, got 52; 18 is visually lossless"
    assert refusal(source, out, threads=0) == "OUT: wanted threads of 1 or more, got 0; raise the thread budget"
    assert refusal(source, out, preset="warp") == (
        "OUT: wanted libx264 to open for 64x48, preset warp, quality 18, got Invalid argument "
        "(libx264: Error setting preset/tune warp/(null).); change the settings it names"
    )
    monkeypatch.setitem(encoder.CODECS, "h264", ("libnone", "nv12"))
    assert refusal(source, out) == (
        "OUT: wanted the encoder libnone in this build of FFmpeg, got no such encoder; "
        "choose codec hevc or install the av wheel from the package index"
    )
    assert names(tmp_path) == ["in.mp4"]


class FailingEncoder:
    """Stands for the output stream; its encoder fails from picture `at` on, and when it is flushed."""

    def __init__(self, stream: Any, at: int) -> None:
        self._stream, self._left = stream, at

    def encode(self, frame: Any = None) -> Any:
        if self._left == 0 or frame is None:
            raise av.error.ExternalError(542398533, "Generic error in an external library", "avcodec_send_frame()")
        self._left -= 1
        return self._stream.encode(frame)


def test_an_encoder_that_fails_in_mid_stream_leaves_a_partial_file(source: Source, tmp_path: Path) -> None:
    def run() -> None:
        with open_sink(tmp_path / "out.mp4", source, threads=1) as sink:
            sink._video = cast(Any, FailingEncoder(sink._video, 35))
            write(source, sink, 40)

    with pytest.raises(OutputError) as caught:
        run()
    assert str(caught.value).replace(str(tmp_path), "DIR") == (
        "DIR/out.mp4: wanted picture 35 written, got Generic error in an external library; "
        "check disk space and settings"
    )
    assert names(tmp_path) == ["in.mp4", "out.partial.mp4"]
    # what the encoder held back is lost with it; the rest plays
    assert 1 <= len(frame_bytes(tmp_path / "out.partial.mp4")) <= 35


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_an_aborted_output_is_playable(source: Source, tmp_path: Path, suffix: str) -> None:
    sink = open_sink(tmp_path / f"out.{suffix}", source, threads=1, quality=0)
    write(source, sink, 7)
    assert sink.abort() == tmp_path / f"out.partial.{suffix}"
    assert sink.abort() is None
    assert names(tmp_path) == ["in.mp4", f"out.partial.{suffix}"]
    whole = [raw for _, raw in frame_bytes(tmp_path / "in.mp4")]
    assert [raw for _, raw in frame_bytes(tmp_path / f"out.partial.{suffix}")] == whole[:7]
    assert packets_of(tmp_path / f"out.partial.{suffix}")["audio"][0]


def test_nothing_is_left_when_no_picture_was_written(source: Source, tmp_path: Path) -> None:
    assert open_sink(tmp_path / "out.mp4", source, threads=1).abort() is None
    sink = open_sink(tmp_path / "out.mp4", source, threads=1)
    with pytest.raises(OutputError) as caught:
        sink.close()
    assert str(caught.value).endswith("out.mp4: wanted at least one picture, got none; check the input")
    with pytest.raises(RuntimeError), open_sink(tmp_path / "out.mp4", source, threads=1):
        raise RuntimeError
    assert names(tmp_path) == ["in.mp4"]


def test_ctrl_c_leaves_a_playable_partial_file(source: Source, tmp_path: Path) -> None:
    def run() -> None:
        with open_sink(tmp_path / "out.mkv", source, threads=1) as sink:
            write(source, sink, 9)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert names(tmp_path) == ["in.mp4", "out.partial.mkv"]
    assert len(frame_bytes(tmp_path / "out.partial.mkv")) == 9


def test_a_sink_that_is_forgotten_leaves_nothing(source: Source, tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4", source, threads=1)
    assert len(names(tmp_path)) == 2
    del sink
    assert names(tmp_path) == ["in.mp4"]


def test_two_sinks_of_one_name_do_not_meet(source: Source, tmp_path: Path) -> None:
    one = open_sink(tmp_path / "out.mp4", source, threads=1)
    other = open_sink(tmp_path / "out.mp4", source, threads=1)
    assert len(names(tmp_path)) == 3
    one.abort()
    other.abort()
    assert names(tmp_path) == ["in.mp4"]


def test_a_closed_sink_says_so(source: Source, tmp_path: Path) -> None:
    frame = next(item for item in source if isinstance(item, DecodedFrame))
    sink = open_sink(tmp_path / "out.mp4", source, threads=1)
    sink.abort()
    with pytest.raises(OutputError, match="wanted an open output, got a closed one; open a new sink"):
        sink.write((np.zeros((48, 64), np.uint8), np.zeros((24, 64), np.uint8)), frame)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from engine.errors import OutputError
from engine.video.sink import open_sink
from engine.video.source import DecodedFrame, open_source
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes beyond the limit fail as on a full disk
clip, out = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
random = np.random.default_rng(4)
with open_source(clip, threads=1) as source:
    try:
        with open_sink(out, source, threads=1, quality=0, preset="ultrafast") as sink:
            for item in source:
                if not isinstance(item, DecodedFrame):
                    sink.pass_through(item)
                else:
                    y, uv = (random.integers(0, 256, s, dtype=np.uint8) for s in ((48, 64), (24, 64)))
                    sink.write((y, uv), item)
    except OutputError as error:
        print(error)
        print(sink.notes)
"""


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])  # mkv gathers some MB before it writes, mp4 writes as it goes
def test_a_full_disk_leaves_no_broken_file(tmp_path: Path, clip: Path, suffix: str) -> None:
    shutil.copy(clip, tmp_path / "in.mp4")
    out = tmp_path / f"out.{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "in.mp4"), str(out)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    what = r"(picture \d+|a packet of stream 1)" if suffix == "mp4" else "the end of the file"
    assert re.search(rf"wanted {what} written, got File too large; check disk space and settings", done.stdout)
    assert ("no partial file could be finished: File too large" in done.stdout) == (suffix == "mp4")
    assert names(tmp_path) == ["in.mp4"]
