"""Decode and encode on a GPU. Written without one at hand: every statement here is a claim until this has run.

REQUIRE_GPU=1 pytest tests/gpu/test_video_device.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.backends.base import Backend
from engine.pipeline import open_backend_for
from engine.video.ai_altered import is_marked
from engine.video.encoder import EncoderSettings
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions
from engine.video.nvenc import why_not_nvenc
from engine.video.sink import Sink
from engine.video.source import DecodedFrame, open_source
from profiles.profile import Profile, load_profile
from tests.clips import U8, cut_out, decoded
from tests.live_peer import read_file

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

KDL_CUDA = 2
COUNT = 48


def on_cuda(**changes: Any) -> Profile:
    """The tiny profile on the GPU, its networks by ONNX Runtime: no plan has to be built for these tests."""
    return dataclasses.replace(load_profile("tiny"), backend="cuda", session="onnxruntime-cuda", **changes)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "clip.mp4"
    return cut_out(sample, tmp_path_factory.mktemp("clip") / "short.mp4", start=0, count=COUNT)


@pytest.fixture
def backend() -> Iterator[Backend]:
    opened = open_backend_for(on_cuda())
    yield opened
    opened.close()


@pytest.fixture
def nvenc(gpu: None, clip: Path) -> None:
    """A card with NVENC; H100 and A100 have none, which no setting changes."""
    with open_source(clip, threads=1) as source:
        why_not = why_not_nvenc(source.info, EncoderSettings("h264", 18, "veryfast", 1))
    if why_not is not None:
        pytest.skip(why_not)


def downloaded(backend: Backend, frame: DecodedFrame, nv12: Any) -> U8:
    """A surface by way of the working frame, on the host."""
    planes = frame.device_planes()
    assert planes is not None
    backend.load_device_planes(planes, nv12)
    held = backend.download(nv12)
    luma, chroma = held.wait_planes()
    whole = np.concatenate([luma, chroma])
    held.release()
    return whole


def test_nvdec_decodes_what_the_host_decodes(clip: Path, backend: Backend) -> None:
    """H.264 defines its pictures to the bit."""
    expected = decoded(clip)
    nv12 = backend.allocate_nv12(1280, 720)
    with open_source(clip, threads=1, on_device=True) as source:
        assert source.is_on_device, source.notes
        frames = [item for item in source if isinstance(item, DecodedFrame)]
    assert len(frames) == COUNT
    for frame, wanted in zip(frames, expected, strict=True):
        planes = frame.device_planes()
        assert planes is not None
        assert planes[0].__dlpack_device__()[0] == KDL_CUDA
        assert np.array_equal(downloaded(backend, frame, nv12), wanted)
    assert [frame.pts for frame in frames] == sorted(frame.pts for frame in frames)


def test_a_surface_may_be_held_while_more_are_decoded(clip: Path, backend: Backend) -> None:
    """Eight at once: the hand-over, the slots and what is on its way."""
    expected = decoded(clip, 16)
    nv12 = backend.allocate_nv12(1280, 720)
    held: list[DecodedFrame] = []
    with open_source(clip, threads=1, on_device=True) as source:
        for item in source:
            if isinstance(item, DecodedFrame):
                held.append(item)
                if len(held) == 8:
                    for frame in held:
                        assert np.array_equal(downloaded(backend, frame, nv12), expected[frame.index])
                    break


def test_a_run_on_the_device_changes_faces_and_not_one_pixel_else(
    clip: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Painting into a decoder's surface would corrupt the pictures that refer to it."""
    given: list[U8] = []
    monkeypatch.setattr("engine.video.sink.why_not_nvenc", lambda info, settings: "asked for the host")
    write = Sink.write

    def spy(self: Sink, planes: tuple[U8, U8], frame: Any) -> None:
        given.append(np.concatenate([planes[0], planes[1]]))
        write(self, planes, frame)

    monkeypatch.setattr(Sink, "write", spy)
    result = engine.run(on_cuda(), sample / "source_1.png", clip, tmp_path / "out.mp4")
    assert (result.frames, result.failed) == (COUNT, 0), result.first_failure
    assert result.faces > COUNT
    for got, original in zip(given, decoded(clip), strict=True):
        changed = (got != original).mean()
        assert 0 < changed < 0.35
        assert np.array_equal(got[:8], original[:8])
        assert np.array_equal(got[712:720], original[712:720])


def test_the_host_encodes_where_the_card_can_not_and_the_compute_stream_goes_on(
    clip: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.video.sink.why_not_nvenc", lambda info, settings: "asked for the host")
    out = tmp_path / "out.mp4"
    said: list[str] = []
    result = engine.run(on_cuda(), sample / "source_1.png", clip, out, say=said.append)
    assert (result.frames, result.failed) == (COUNT, 0), result.first_failure
    assert "note: asked for the host" in said
    assert len(decoded(out)) == COUNT


@pytest.mark.usefixtures("nvenc")
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_nvenc_encodes_a_file_with_every_picture(codec: Any, clip: Path, sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    profile = on_cuda(encode=dataclasses.replace(load_profile("tiny").encode, codec=codec))
    said: list[str] = []
    result = engine.run(profile, sample / "source_1.png", clip, out, say=said.append)
    assert (result.frames, result.failed) == (COUNT, 0), result.first_failure
    assert not any("on the host" in line for line in said)
    got, original = decoded(out), decoded(clip)
    assert len(got) == COUNT
    for one, other in zip(got, original, strict=True):
        # rows without a face: what the encoder alone did
        assert np.abs(one[:16].astype(int) - other[:16]).mean() < 4
    with open_source(out, threads=1) as source:
        assert is_marked(source.container.metadata)


@pytest.mark.usefixtures("nvenc")
def test_nvenc_sends_each_picture_before_the_next_comes(clip: Path, sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    result = engine.run(on_cuda(), sample / "source_1.png", clip, out, live=True)
    assert result.live is not None
    assert result.frames + result.live.dropped_in_all == COUNT
    stamps = [stamp for _, stamp, _ in read_file(out).pictures]
    assert stamps == sorted(set(stamps))
    # one interval for a picture, and no second one in the encoder
    assert result.timings.stages["encode"].percentile_ms(99) < 40


def test_a_live_input_stays_on_the_gpu(clip: Path) -> None:
    with LiveInput(str(clip), threads=1, options=LiveOptions(), paced=True, on_device=True) as source:
        assert not any("on the host" in note for note in source.notes), source.notes


def test_dali_runs_by_name(clip: Path, sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="the extra dali is not installed")
    result = engine.run(on_cuda(), sample / "source_1.png", clip, tmp_path / "out.mp4", decoder="dali")
    assert (result.frames, result.failed) == (COUNT, 0), result.first_failure
