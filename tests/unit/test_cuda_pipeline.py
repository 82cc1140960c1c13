"""The real pipeline on the cuda backend over the recording driver: the same bytes as on cpu, no race, no slack.

Host-side evidence: values come from the kernels' CPU build and ONNX Runtime, order from the calls that were made.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.backends.cuda import CudaBackend
from engine.backends.driver import cuda_error
from engine.errors import DeviceError, PoisonedError
from engine.pipeline import Pipeline, open_pipeline
from kernels.launch import Colour
from profiles.profile import Profile, load_profile
from tests.clips import U8, decoded
from tests.discipline import broken_by
from tests.recording.driver import RecordingDriver
from tests.recording.flows import file_mode, live_mode, to_i420, to_nv12
from tests.recording.sessions import open_backend

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
SIZE = (1280, 720)
COUNT = 14  # more than twice the ring, and past the frame in which identities are judged again


@pytest.fixture(scope="module")
def frames() -> list[U8]:
    return decoded(SAMPLE / "clip.mp4", COUNT)


def tiny(*, refiner: bool = True, every: int = 1, slots: int = 6) -> Profile:
    """The tiny profile, changed."""
    profile = load_profile("tiny")
    models = profile.models if refiner else dataclasses.replace(profile.models, refiner="")
    return dataclasses.replace(
        profile, models=models, slots=slots, detect=dataclasses.replace(profile.detect, every=every)
    )


def opened(profile: Profile, backend: CudaBackend, faces: Sequence[str] = ("all",)) -> Pipeline:
    """A pipeline on this backend."""
    return open_pipeline(
        profile, sources=[SAMPLE / "source_1.png"], size=SIZE, colour=Colour(), faces=faces, backend=backend
    )


def recorder(pipeline: Pipeline) -> RecordingDriver:
    """Its driver."""
    assert isinstance(pipeline.backend, CudaBackend)
    assert isinstance(pipeline.backend.driver, RecordingDriver)
    return pipeline.backend.driver


@pytest.fixture(scope="module")
def plain() -> Iterator[Pipeline]:
    """Without a refiner, so that the next frame may be begun first. Kept for several tests: it is only stepped."""
    with opened(tiny(refiner=False), open_backend()) as pipeline:
        yield pipeline
    assert recorder(pipeline).races.found == []


PROFILES: dict[str, tuple[Profile, str, dict[str, Any]]] = {
    "find before make": (tiny(refiner=False), "all", {}),
    "with a refiner": (tiny(), "leftmost", {}),
    "detecting every third": (tiny(every=3), "all", {}),
    "by likeness": (tiny(slots=3), f"like={SAMPLE / 'person_1.png'}", {}),
    "networks outside the graphs": (tiny(refiner=False), "all", {"in_graph": False}),
    "launch by launch": (tiny(refiner=False, slots=2), "all", {"mode": "eager"}),
}


@pytest.mark.parametrize("case", PROFILES)
def test_every_byte_is_the_cpu_backends_and_nothing_races(case: str, frames: list[U8]) -> None:
    profile, faces, options = PROFILES[case]
    with engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=SIZE, faces=faces) as cpu:
        wanted = list(file_mode(cpu, [to_i420(frame, i) for i, frame in enumerate(frames)], ahead=1))
    with opened(profile, open_backend(**options), [faces]) as pipeline:
        pictures = [(to_nv12 if i % 2 else to_i420)(frame, i) for i, frame in enumerate(frames)]
        got = list(file_mode(pipeline, pictures))
    assert [count for count, _ in got] == [count for count, _ in wanted]
    assert {count for count, _ in got} == ({1} if faces != "all" else {2})
    assert [out == other for (_, out), (_, other) in zip(got, wanted, strict=True)] == [True] * COUNT
    assert recorder(pipeline).races.found == []
    assert recorder(pipeline).races.accesses > 1000


def counted(pipeline: Pipeline, run: Callable[[], object]) -> Counter[str]:
    """The driver's calls that a run makes."""
    before = recorder(pipeline).calls.copy()
    run()
    return recorder(pipeline).calls - before


def test_a_warm_frame_makes_two_graph_launches_two_copies_and_one_wait(plain: Pipeline, frames: list[U8]) -> None:
    pictures = [to_nv12(frame, i) for i, frame in enumerate(frames)]
    list(file_mode(plain, pictures[:8], ahead=1))
    before = dataclasses.replace(plain.backend.counters)
    calls = counted(plain, lambda: list(file_mode(plain, pictures[:10], ahead=1)))
    frames_run = 10
    assert broken_by(calls, frames_run) == []
    assert plain.backend.counters.waits - before.waits == frames_run
    after = plain.backend.counters
    assert (after.allocations, after.uploads, after.downloads, after.launches) == (
        before.allocations,
        before.uploads,
        before.downloads,
        before.launches,
    )
    assert after.frame_copies - before.frame_copies == 2 * frames_run
    assert after.replays - before.replays == 2 * frames_run


def test_slack_is_called_by_its_name(plain: Pipeline, frames: list[U8]) -> None:
    """The discipline's check can fail: an upload, a look at the device, a wait for a stream."""
    pictures = [to_nv12(frame, i) for i, frame in enumerate(frames)]

    def slack() -> None:
        list(file_mode(plain, pictures[:2], ahead=1))
        plain.backend.to_host(plain.detect.count)
        plain.detect.forget()

    assert broken_by(counted(plain, slack), 2) == [
        "cuMemcpyHtoDAsync: wanted 1 a frame, got 3 in 2",
        "cuMemcpyDtoHAsync: wanted 1 a frame, got 3 in 2",
        "cuStreamSynchronize: wanted none, got 1",
    ]


def test_a_frame_without_faces_makes_one_graph_launch(plain: Pipeline) -> None:
    grey = [to_nv12(np.full((1080, 1280), 90, np.uint8), i) for i in range(8)]
    list(file_mode(plain, grey))  # tracks coast, then end
    calls = counted(plain, lambda: list(file_mode(plain, grey[:4])))
    assert calls["cuGraphLaunch"] == 4


@pytest.mark.parametrize(("faces", "batch"), [("leftmost", 1), ("all", 2)])
def test_k_faces_cost_k(faces: str, batch: int, frames: list[U8]) -> None:
    """The ring has a recording for 1, 2 and 4 faces, and a frame runs the network on as many as it shows."""
    with opened(tiny(refiner=False, slots=2), open_backend(), [faces]) as pipeline:
        session: Any = pipeline.generate.session
        assert pipeline.face_counts == (1, 2, 4)
        assert sorted(session.batches) == [1, 2, 4]
        before = session.batches.copy()
        list(live_mode(pipeline, [to_nv12(frame, i) for i, frame in enumerate(frames[:4])]))
        assert session.batches - before == {batch: 4}


def test_three_faces_run_as_four(plain: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[tuple[str, int, int]] = []
    monkeypatch.setattr(plain.backend, "replay", lambda key, body, frame: keys.append(key))
    for k in range(5):
        plain._replay("make", plain._make, plain.frames[0], k)
    assert keys == [("make", 0, 1), ("make", 0, 2), ("make", 0, 4), ("make", 0, 4)]


Flow = Callable[[Pipeline, list[U8]], object]


def planted(deaf: str, flow: Flow, frames: list[U8], slots: int = 3) -> list[str]:
    """What the checker says when the waits that this function asks for are left out."""
    driver = RecordingDriver(deaf=frozenset({deaf}))
    with opened(tiny(refiner=False, slots=slots), open_backend(driver)) as pipeline:
        flow(pipeline, frames)
        found = list(driver.races.found)
    assert driver.waits_by.total() > 0
    return found


def as_the_runner(pipeline: Pipeline, frames: list[U8]) -> None:
    """Host pictures in, downloads out."""
    list(file_mode(pipeline, [to_i420(frame, i) for i, frame in enumerate(frames[:8])]))


def as_a_host(pipeline: Pipeline, frames: list[U8]) -> None:
    """Steps alone: nobody waits for what they make."""
    list(live_mode(pipeline, [to_nv12(frame, i) for i, frame in enumerate(frames[:8])]))


def into_an_encoder(pipeline: Pipeline, frames: list[U8]) -> None:
    """An encoder copies on its own stream, and nobody on the host waits for that."""
    planes: list[Any] = []

    def look(frame: Any) -> None:
        planes.append(pipeline.backend.encoder_planes(frame.nv12, copy=True))

    list(live_mode(pipeline, [to_nv12(frame, i) for i, frame in enumerate(frames[:8])], look))


@pytest.mark.parametrize("flow", [as_the_runner, as_a_host, into_an_encoder])
def test_nothing_races_however_frames_are_driven(flow: Flow, frames: list[U8]) -> None:
    assert planted("nobody", flow, frames) == []


@pytest.mark.parametrize(
    ("deaf", "flow", "slots", "words"),
    [
        ("before_compute", as_the_runner, 3, "letterbox on compute is not ordered after copy_planar on decode"),
        # with two slots or more, the wait for the next frame's faces hides this one
        ("_claim", as_a_host, 1, "copy in on decode is not ordered after paste on compute"),
        ("_claim", into_an_encoder, 3, "copy in on decode is not ordered after copy rows on encode"),
        ("_before_encode", as_the_runner, 3, "copy out on encode is not ordered after paste on compute"),
        # decoding that runs further ahead than there is staging
        ("_wait_host", as_the_runner, 6, "write pinned on host is not ordered after copy in on decode"),
        ("wait_status", as_the_runner, 3, "status: read pinned on host is not ordered after track on compute"),
        ("wait_array", as_the_runner, 3, "read pinned on host is not ordered after copy out on encode"),
    ],
)
def test_a_wait_left_out_is_found(deaf: str, flow: Flow, slots: int, words: str, frames: list[U8]) -> None:
    found = planted(deaf, flow, frames, slots)
    assert any(words in sentence for sentence in found), found[:5]


def test_the_encode_streams_wait_for_a_frame_that_was_only_loaded_is_found(frames: list[U8]) -> None:
    """A frame that failed is loaded again and goes out: nothing but its loading stands before its download."""
    for deaf, races in (("nobody", False), ("_before_encode", True)):
        driver = RecordingDriver(deaf=frozenset({deaf}))
        with opened(tiny(refiner=False, slots=2), open_backend(driver)) as pipeline:
            pipeline.load(pipeline.frames[0], to_nv12(frames[0], 0))
            pipeline.frames[0].planes()
            words = "copy out on encode is not ordered after copy in on decode"
            assert any(words in sentence for sentence in driver.races.found) is races


@pytest.mark.parametrize("ordered", [True, False])
def test_a_callers_stream_waits_for_a_frame_when_asked_to(ordered: bool, frames: list[U8]) -> None:
    driver = RecordingDriver()
    with opened(tiny(refiner=False, slots=2), open_backend(driver)) as pipeline:
        frame = pipeline.step(frames[0])
        theirs = driver.adopt_stream("theirs")
        if ordered:
            pipeline.order(frame, int(theirs))
        driver.opaque("their reader", [frame.nv12.memory.ptr], [], lambda: None, theirs)
        assert (driver.races.found == []) is ordered


def test_a_slot_given_back_too_early_is_found(frames: list[U8]) -> None:
    """Two frames in one slot: the second is loaded while the first's download is under way, unmarked."""
    driver = RecordingDriver()
    with opened(tiny(refiner=False, slots=3), open_backend(driver)) as pipeline:
        frame = pipeline.frames[0]
        pipeline.load(frame, to_nv12(frames[0], 0))
        pipeline.step(frame)
        brought = pipeline.backend.download(frame.nv12)
        brought.release()  # before it was waited for: its pinned memory is the next one's
        for _ in range(3):
            pipeline.backend.download(frame.nv12).release()
        assert driver.races.found == []  # copies on one stream are in order; only the host may not look
        driver.read_pinned(brought_memory(pipeline))
        assert any("read pinned on host is not ordered after copy out" in one for one in driver.races.found)


def brought_memory(pipeline: Pipeline) -> Any:
    """The pinned memory of the download used last."""
    assert isinstance(pipeline.backend, CudaBackend)
    return pipeline.backend._slots._downloads[-1].pinned


def test_memory_touched_after_close_is_found(frames: list[U8]) -> None:
    driver = RecordingDriver()
    pipeline = opened(tiny(refiner=False, slots=2), open_backend(driver))
    pipeline.close()
    pipeline.begin(pipeline.frames[0])
    assert any("after it was given back" in one for one in driver.races.found)


def test_a_frame_that_fails_goes_out_as_it_came_in(frames: list[U8], monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tiny(refiner=False, slots=2), open_backend()) as pipeline:
        frame = pipeline.frames[0]
        pipeline.load(frame, to_i420(frames[0], 0))
        monkeypatch.setattr(recorder(pipeline), "replay", _fail)
        with pytest.raises(DeviceError, match=r"^cuGraphLaunch, find of frame 0: wanted CUDA_SUCCESS, got CUDA_ERROR_"):
            pipeline.step(frame)
        monkeypatch.undo()
        pipeline.load(frame, to_i420(frames[0], 0))
        luma, _ = frame.planes()
        assert np.array_equal(luma, frames[0][:720])
        assert recorder(pipeline).races.found == []


def test_sync_mode_names_the_kernel_that_failed(frames: list[U8], monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tiny(refiner=False, slots=2), open_backend(mode="sync")) as pipeline:
        driver = recorder(pipeline)
        wait, launched = driver.wait_stream, driver.kernels

        def fail_after_crop(stream: Any) -> None:
            if launched["crop"] > before:
                raise cuda_error("cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal access", driver.at)
            wait(stream)

        before = launched["crop"]
        monkeypatch.setattr(driver, "wait_stream", fail_after_crop)
        with pytest.raises(
            PoisonedError,
            match=r"^cuStreamSynchronize, crop in make of frame 0: wanted CUDA_SUCCESS, got CUDA_ERROR_ILLEGAL_ADDRESS",
        ):
            pipeline.step(frames[0])


def test_without_times_no_event_stands_in_a_graph(frames: list[U8]) -> None:
    driver = RecordingDriver()
    with opened(tiny(refiner=False, slots=2), open_backend(driver, timed=False)) as pipeline:
        list(live_mode(pipeline, [to_nv12(frame, i) for i, frame in enumerate(frames[:4])]))
        assert driver.calls["cuEventRecordWithFlags"] == driver.calls["cuEventElapsedTime"] == 0
        assert set(pipeline.timings.stages) == {"frame"}


def _fail(graph: int, stream: int) -> None:
    raise cuda_error("cuGraphLaunch", "CUDA_ERROR_INVALID_VALUE", "invalid argument", "find of frame 0")
