"""The lip-sync pipeline on the cuda backend over the recording driver: the cpu's bytes, no race, no slack.

Host-side evidence: values come from the kernels' CPU build and ONNX Runtime, order from the calls that were made.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.cuda import CudaBackend
from engine.frame import Frame
from engine.lipsync import LipsyncPipeline
from tests.clips import U8, decoded
from tests.lipsync_parts import CLIP, files_in_place, open_twin, twin_path
from tests.recording.driver import RecordingDriver
from tests.recording.flows import Decoded, to_i420, to_nv12
from tests.recording.sessions import open_backend
from tests.unit.test_audio_encoders import listening_convolution

F32 = npt.NDArray[np.float32]
COUNT = 8  # more than twice the ring
CONTRACT, ENCODER = "ultralight_hubert", "hubert_large"
ROWS_WITHOUT_FACE = (3,)


@pytest.fixture(scope="module", autouse=True)
def _files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("lipsync-cuda")
    hubert = listening_convolution(folder / "hubert.onnx", ENCODER, 400, 320, 1024)
    found = {CONTRACT: twin_path("ultralight_half"), "heygem_dinet_v1": twin_path("dinet_3_3_256", narrow=16)}
    found["heygem_wenet"] = listening_convolution(folder / "wenet.onnx", "heygem_wenet", 7, 4, 256)
    with files_in_place({**found, ENCODER: hubert}):
        yield


@pytest.fixture(scope="module")
def frames() -> list[U8]:
    return decoded(CLIP, COUNT)


def opened(backend: CudaBackend | None, contract: str = CONTRACT, **options: Any) -> LipsyncPipeline:
    """A pipeline on this backend, or on the cpu."""
    encoder = ENCODER if contract == CONTRACT else "heygem_wenet"
    return open_twin(contract, COUNT, encoder=encoder, backend=backend, without_face=ROWS_WITHOUT_FACE, **options)


def recorder(pipeline: LipsyncPipeline) -> RecordingDriver:
    """Its driver."""
    assert isinstance(pipeline.backend, CudaBackend)
    assert isinstance(pipeline.backend.driver, RecordingDriver)
    return pipeline.backend.driver


def heard(pipeline: LipsyncPipeline, n: int) -> F32:
    """Some condition for frame n."""
    return np.random.default_rng(n).normal(0, 1, pipeline.listen.conditions.shape).astype(np.float32)


def file_run(pipeline: LipsyncPipeline, pictures: Sequence[Decoded], *, opacity: float = 1.0) -> list[bytes]:
    """As a runner drives it: decoding runs ahead, downloads come last, a slot is free when its download was read."""
    free, begun, leaving = deque(pipeline.frames), deque[Frame](), deque[Any]()
    coming, out = deque(pictures), list[bytes]()

    def send_out() -> None:
        frame, brought = leaving.popleft()
        out.append(b"".join(plane.tobytes() for plane in brought.wait_planes()))
        brought.release()
        free.append(frame)

    while coming or begun or leaving:
        if coming and free:
            frame, picture = free.popleft(), coming.popleft()
            pipeline.load(frame, picture, 0)
            begun.append(pipeline.begin(frame, picture.index, heard(pipeline, picture.index), opacity))
        if begun and (len(begun) > pipeline.lookahead or not coming):
            frame = pipeline.finish(begun.popleft())
            leaving.append((frame, pipeline.backend.download(frame.nv12)))
        if leaving and (len(leaving) > 1 or not begun):
            send_out()
    return out


def live_run(pipeline: LipsyncPipeline, pictures: Sequence[Decoded]) -> None:
    """Over the ring, and nobody waits for what is made."""
    for picture in pictures:
        frame = pipeline.frames[picture.index % len(pipeline.frames)]
        pipeline.load(frame, picture, 0)
        pipeline.finish(pipeline.begin(frame, picture.index, heard(pipeline, picture.index)))


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ours": (CONTRACT, {}, {}),
    "like the original": (CONTRACT, {"like": "original"}, {}),
    "two at once": (CONTRACT, {"batch": 2, "slots": 4}, {}),
    "with the template's pictures": ("heygem_dinet_v1", {}, {}),
    "networks outside the graphs": (CONTRACT, {}, {"in_graph": False}),
    "launch by launch": (CONTRACT, {"slots": 2}, {"mode": "eager"}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_byte_is_the_cpu_backends_and_nothing_races(case: str, frames: list[U8]) -> None:
    contract, options, backend_options = CASES[case]
    with opened(None, contract, **options) as cpu:
        wanted = file_run(cpu, [to_i420(frame, i) for i, frame in enumerate(frames)])
    with opened(open_backend(**backend_options), contract, **options) as pipeline:
        pictures = [(to_nv12 if i % 2 else to_i420)(frame, i) for i, frame in enumerate(frames)]
        got = file_run(pipeline, pictures)
        live_run(pipeline, pictures)
        assert recorder(pipeline).races.found == []
        assert recorder(pipeline).races.accesses > 100
    assert [one == other for one, other in zip(got, wanted, strict=True)] == [True] * COUNT
    assert got[3] == frames[3].tobytes()
    assert got[2] != frames[2].tobytes()


def counted(pipeline: LipsyncPipeline, pictures: Sequence[Decoded], opacity: float = 1.0) -> Counter[str]:
    """The driver's calls of a run of warm frames."""
    file_run(pipeline, pictures)
    before = recorder(pipeline).calls.copy()
    file_run(pipeline, pictures, opacity=opacity)
    return recorder(pipeline).calls - before


def test_a_warm_frame_makes_one_graph_launch_two_copies_in_and_no_wait_for_its_own_work(frames: list[U8]) -> None:
    pictures = [to_nv12(frame, i) for i, frame in enumerate(frames) if i not in ROWS_WITHOUT_FACE]
    with opened(open_backend()) as pipeline:
        calls, count = counted(pipeline, pictures), len(pictures)
    assert calls["cuGraphLaunch"] == count
    assert calls["cuMemcpyHtoDAsync"] == 2 * count  # the picture, and what it takes: place, opacity, what was heard
    assert calls["cuMemcpyDtoHAsync"] == count  # the frame out
    # for the download, and for what was done to the slot a ring ago
    assert calls["cuEventSynchronize"] == 2 * count
    idle = {"cuGraphLaunch", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuEventSynchronize"}
    marks = {"cuEventRecord", "cuStreamWaitEvent", "cuEventQuery", "cuEventElapsedTime"}
    assert set(calls) <= idle | marks


def test_a_frame_that_is_not_to_be_changed_makes_no_launch(frames: list[U8]) -> None:
    pictures = [to_nv12(frame, i) for i, frame in enumerate(frames)]
    with opened(open_backend()) as pipeline:
        calls = counted(pipeline, pictures, opacity=0.0)
        assert recorder(pipeline).races.found == []
    assert calls["cuGraphLaunch"] == calls["cuLaunchKernel"] == 0
    assert calls["cuMemcpyHtoDAsync"] == COUNT


def test_a_batch_of_two_makes_a_graph_launch_less(frames: list[U8]) -> None:
    pictures = [to_nv12(frame, i) for i, frame in enumerate(frames) if i not in ROWS_WITHOUT_FACE][:6]
    with opened(open_backend(), batch=2, slots=4) as pipeline:
        session: Any = pipeline.mouth.session
        before = session.batches.copy()
        calls = counted(pipeline, pictures)
        assert session.batches - before == {2: 6}
    assert calls["cuGraphLaunch"] == 2 * 6 + 3  # a crop and a paste each, a network for two


@pytest.mark.parametrize("deaf", ["nobody", "before_compute"])
def test_a_fade_waits_for_both_frames(deaf: str, frames: list[U8]) -> None:
    """And the other frame's slot is not filled again before it was read."""
    driver = RecordingDriver(deaf=frozenset({deaf}))
    with opened(open_backend(driver)) as pipeline:
        one, other = pipeline.frames[:2]
        for _ in range(2):
            pipeline.load(other, to_nv12(frames[5], 5), 0)  # first: nothing else makes it wait for the fade
            pipeline.load(one, to_nv12(frames[0], 0), 0)
            pipeline.cross_fade(one, other, 0.5)
        got = np.concatenate(one.planes()).astype(float)
        assert (driver.races.found == []) is (deaf == "nobody")
        assert np.abs(got - (frames[0].astype(float) + frames[5]) / 2).max() <= 0.5
        if deaf != "nobody":
            words = "fade_nv12 on compute is not ordered after copy in on decode"
            assert any(words in sentence for sentence in driver.races.found), driver.races.found[:3]


@pytest.mark.parametrize(
    ("deaf", "words"),
    [
        ("before_compute", "mouth_crop on compute is not ordered after copy in on decode"),
        ("_claim", "copy in on decode is not ordered after mouth_paste on compute"),
        ("_before_encode", "copy out on encode is not ordered after mouth_paste on compute"),
    ],
)
def test_a_wait_left_out_is_found(deaf: str, words: str, frames: list[U8]) -> None:
    driver = RecordingDriver(deaf=frozenset({deaf}))
    pictures = [to_nv12(frame, i) for i, frame in enumerate(frames)]
    with opened(open_backend(driver), slots=2) as pipeline:
        if deaf == "_claim":
            live_run(pipeline, [pictures[0], pictures[2]] * 2)
        else:
            file_run(pipeline, pictures)
        found = list(driver.races.found)
    assert driver.waits_by.total() > 0
    assert any(words in sentence for sentence in found), found[:5]
