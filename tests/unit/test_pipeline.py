"""The discipline and the meaning of a step, on the sample clip with the tiny pack."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from av.video.frame import PictureType

import engine
from engine.errors import DeviceError, InputError, ModelError, NoFaceError
from engine.frame import held_buffer
from engine.pipeline import Pipeline, parse_faces
from engine.video.source import DecodedFrame, open_source
from profiles.profile import load_profile
from tests.clips import U8, decoded

SIZE = (1280, 720)
BOTH = 20  # frames of the sample's beginning, in which both people are seen


@pytest.fixture(scope="module")
def frames() -> list[U8]:
    return decoded(Path(__file__).parents[2] / "models" / "tiny" / "sample" / "clip.mp4", BOTH)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    source = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "source_1.png"
    with engine.open_pipeline("tiny", source=source, size=SIZE) as opened:
        yield opened


def test_both_people_are_found_and_changed_in_every_frame(pipeline: Pipeline, frames: list[U8]) -> None:
    counts = [pipeline.step(frame).face_count for frame in frames]
    assert counts == [2] * BOTH


def test_a_warm_frame_allocates_nothing_and_moves_nothing_to_the_host(pipeline: Pipeline, frames: list[U8]) -> None:
    for frame in frames[:3]:
        pipeline.step(frame)
    before = dataclasses.replace(pipeline.backend.counters)
    for frame in frames:
        pipeline.step(frame)
    after = pipeline.backend.counters
    assert after.allocations == before.allocations
    assert after.uploads == before.uploads
    assert after.downloads == before.downloads
    assert after.sessions == before.sessions
    assert after.frame_copies == before.frame_copies + len(frames)
    assert after.waits == before.waits + len(frames)
    assert (after.launches - before.launches) / len(frames) <= 24


def test_the_working_frame_never_changes_address(pipeline: Pipeline, frames: list[U8]) -> None:
    slots = len(pipeline.frames)
    addresses = [pipeline.step(frame).view.y_ptr for frame in (frames * 2)[: 2 * slots]]
    assert addresses[:slots] == addresses[slots:]
    assert len(set(addresses)) == slots


def test_outside_the_rectangles_every_pixel_keeps_its_bits(pipeline: Pipeline, frames: list[U8]) -> None:
    for original in frames[:5]:
        frame = pipeline.step(original)
        luma, chroma = (plane.copy() for plane in frame.planes())
        inside_luma = np.zeros(luma.shape, dtype=bool)
        inside_chroma = np.zeros((chroma.shape[0], chroma.shape[1] // 2, 2), dtype=bool)
        rectangles = pipeline.backend.to_host(pipeline.paste.rectangles[frame.face_count])
        assert len(rectangles) == 2
        for x0, y0, x1, y1 in rectangles:
            inside_luma[y0:y1, x0:x1] = True
            inside_chroma[y0 // 2 : -(-y1 // 2), x0 // 2 : -(-x1 // 2)] = True
        inside = inside_chroma.reshape(chroma.shape)
        assert 0.01 < inside_luma.mean() < 0.3
        assert np.array_equal(luma[~inside_luma], original[:720][~inside_luma])
        assert np.array_equal(chroma[~inside], original[720:][~inside])
        assert not np.array_equal(luma[inside_luma], original[:720][inside_luma])


def test_pasting_does_not_harm_the_frames_that_a_decoder_predicts_from(pipeline: Pipeline, sample: Path) -> None:
    clean = decoded(sample / "clip.mp4", 40)
    seen = 0
    with open_source(sample / "clip.mp4", threads=1) as source:
        kinds = set()
        for item in source:
            if not isinstance(item, DecodedFrame):
                continue
            kinds.add(PictureType(item.av_frame.pict_type).name)
            planes = item.planes()
            assert np.array_equal(planes[0], clean[item.index][:720])
            frame = pipeline.frames[item.index % len(pipeline.frames)]
            pipeline.load(frame, item)
            assert pipeline.step(frame).face_count > 0
            assert np.array_equal(planes[0], clean[item.index][:720])
            seen += 1
            if seen == 40:
                break
    assert {"P", "B"} <= kinds


def rectangle(pipeline: Pipeline) -> tuple[float, float]:
    """(middle in x, area) of the one rectangle that was pasted."""
    x0, y0, x1, y1 = pipeline.backend.to_host(pipeline.paste.rectangles[1])[0]
    return (x0 + x1) / 2, float((x1 - x0) * (y1 - y0))


def test_leftmost_and_largest_change_one_face(frames: list[U8], sample: Path) -> None:
    with engine.open_pipeline("tiny", source=sample / "source_1.png", size=SIZE) as pipeline:
        frame = pipeline.step(frames[0])
        boxes = pipeline.backend.to_host(held_buffer(frame.faces.boxes))[:2]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    middles = (boxes[:, 0] + boxes[:, 2]) / 2
    for choice, wanted in (("leftmost", middles.min()), ("largest", middles[areas.argmax()])):
        with engine.open_pipeline("tiny", source=sample / "source_1.png", size=SIZE, faces=choice) as pipeline:
            assert pipeline.step(frames[0]).face_count == 1
            assert abs(rectangle(pipeline)[0] - wanted) < 40


def test_largest_stays_with_its_person(sample: Path) -> None:
    """Two faces of nearly one size: the choice must not jump between them from frame to frame."""
    clip = decoded(sample / "clip.mp4")[150:]
    with engine.open_pipeline("tiny", source=sample / "source_1.png", size=SIZE, faces="largest") as pipeline:
        sides = []
        for nv12 in clip:
            if pipeline.step(nv12).face_count:
                sides.append(rectangle(pipeline)[0] > SIZE[0] / 2)
    assert len(sides) >= 90
    assert int(np.count_nonzero(np.diff(sides))) <= 2


def test_several_sources_need_all_or_a_picture_each(sample: Path) -> None:
    sources = [sample / "source_1.png", sample / "source_2.png"]
    with pytest.raises(
        InputError, match=r"^--source: wanted one source for --faces leftmost, got 2; use like=PICTURE for"
    ):
        engine.open_pipeline("tiny", source=sources, size=SIZE, faces="leftmost")
    with engine.open_pipeline("tiny", source=sources, size=SIZE) as pipeline:
        frame = pipeline.step(decoded(sample / "clip.mp4", 1)[0])
        assert sorted(pipeline.backend.to_host(held_buffer(frame.faces.sources))[:2].tolist()) == [0, 1]


def test_faces_are_held_between_detections(frames: list[U8], sample: Path) -> None:
    """Detection on every third frame only: the refiner carries the points, and no face is lost."""
    profile = load_profile("tiny")
    profile = dataclasses.replace(profile, detect=dataclasses.replace(profile.detect, every=3))
    with engine.open_pipeline(profile, source=sample / "source_1.png", size=SIZE) as pipeline:
        stepped = [pipeline.step(frame) for frame in frames]
        assert [frame.face_count for frame in stepped] == [2] * BOTH
        assert pipeline.timings.stages["detect"].count == -(-BOTH // 3)


def test_two_sources_go_to_two_people_by_likeness(frames: list[U8], sample: Path, tmp_path: Path) -> None:
    with engine.open_pipeline("tiny", source=sample / "source_1.png", size=SIZE) as probe:
        boxes = probe.backend.to_host(held_buffer(probe.step(frames[0]).faces.boxes))[:2]
    pictures = [
        _cut_person(frames[0], box, tmp_path / f"person_{i}.png") for i, box in enumerate(sorted(boxes.tolist()))
    ]
    with engine.open_pipeline(
        "tiny",
        source=[sample / "source_1.png", sample / "source_2.png"],
        size=SIZE,
        faces=[f"like={picture}" for picture in pictures],
    ) as pipeline:
        for original in frames:
            frame = pipeline.step(original)
            assert frame.face_count == 2
        before = dataclasses.replace(pipeline.backend.counters)
        assert frame.index % 12 not in (11, 0)
        pipeline.step(frames[-1])
        assert pipeline.backend.counters.downloads == before.downloads  # judged already: nothing travels
        sources = pipeline.backend.to_host(held_buffer(frame.faces.sources))[:2]
        left = pipeline.backend.to_host(held_buffer(frame.faces.boxes))[:2, 0]
        assert [int(source) for _, source in sorted(zip(left, sources, strict=True))] == [0, 1]
    with engine.open_pipeline(
        "tiny", source=sample / "source_1.png", size=SIZE, faces=f"like={pictures[1]}"
    ) as pipeline:
        assert [pipeline.step(frame).face_count for frame in frames[:4]] == [1] * 4


def _cut_person(nv12: U8, box: list[float], path: Path) -> Path:
    import cv2

    bgr = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)
    x0, y0, x1, y1 = box
    size = max(x1 - x0, y1 - y0)
    top, left = max(0, int(y0 - 0.6 * size)), max(0, int((x0 + x1) / 2 - 0.9 * size))
    cv2.imwrite(str(path), bgr[top : top + int(2 * size), left : left + int(1.8 * size)])
    return path


def test_a_frame_without_faces_goes_through_unchanged(pipeline: Pipeline) -> None:
    grey = np.full((1080, 1280), 90, dtype=np.uint8)
    for _ in range(8):  # tracks coast, then end
        frame = pipeline.step(grey)
    assert frame.face_count == 0
    assert np.array_equal(frame.planes()[0], grey[:720])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((720, 1280), dtype=np.uint8),
        np.zeros((1080, 1280), dtype=np.float32),
        np.zeros((1080, 1000), dtype=np.uint8),
    ],
)
def test_an_array_that_is_no_frame_is_refused(pipeline: Pipeline, array: npt.NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"^pipeline\.step: wanted NV12 as uint8 \[1080, 1280 or more\], got .*; pass"):
        pipeline.step(array)


class Foreign:
    """Memory of another library: nothing but the DLPack protocol."""

    def __init__(self, array: U8) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_foreign_memory_is_taken_and_the_result_is_given_by_dlpack(pipeline: Pipeline, frames: list[U8]) -> None:
    frame = pipeline.step(Foreign(frames[0].copy()))
    assert frame.face_count == 2
    seen = np.from_dlpack(frame.nv12.memory)
    assert seen.shape == (1080, 1280)
    assert np.array_equal(seen[:720, :1280], frame.planes()[0])


def test_a_padded_array_is_taken(pipeline: Pipeline, frames: list[U8]) -> None:
    padded = np.zeros((1080, 1408), dtype=np.uint8)
    padded[:, :1280] = frames[0]
    assert pipeline.step(padded).face_count == 2


def test_sources_that_show_no_face_or_two_are_refused(sample: Path, tmp_path: Path, frames: list[U8]) -> None:
    import cv2

    nothing = tmp_path / "nothing.png"
    cv2.imwrite(str(nothing), np.full((300, 300, 3), 120, dtype=np.uint8))
    with pytest.raises(
        NoFaceError,
        match=r"nothing\.png: wanted a face with a score of 0\.50 or more, got none; the best score seen was 0\.\d\d; "
        r"take a clearer picture, or lower --score-threshold \(detect\.score_threshold\)$",
    ):
        engine.open_pipeline("tiny", source=nothing, size=SIZE)
    two = tmp_path / "two.png"
    cv2.imwrite(str(two), cv2.cvtColor(frames[0], cv2.COLOR_YUV2BGR_NV12))
    with pytest.raises(
        NoFaceError,
        match=r"two\.png: wanted one face, got 2; crop the picture, or add --source-face largest or leftmost$",
    ):
        engine.open_pipeline("tiny", source=two, size=SIZE)
    engine.open_pipeline("tiny", source=two, size=SIZE, source_face="leftmost").close()


def test_models_that_are_not_there_are_named_with_the_command(sample: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"^profile swap_720p30: model det_10g: wanted a file for this contract in .*, got none; "
        r"add yours: python -m models add det_10g\.onnx$",
    ):
        engine.open_pipeline("swap_720p30", source=sample / "source_1.png", size=SIZE)


def test_asking_for_a_gpu_that_is_not_there_is_an_error(sample: Path) -> None:
    profile = dataclasses.replace(load_profile("tiny"), backend="cuda")
    with pytest.raises(DeviceError, match=r"^backend cuda: wanted a CUDA device and the packages for it, got "):
        engine.open_pipeline(profile, source=sample / "source_1.png", size=SIZE)


def test_auto_says_which_backend_it_took(sample: Path) -> None:
    said: list[str] = []
    engine.open_pipeline("tiny", source=sample / "source_1.png", size=SIZE, say=said.append).close()
    assert said[0] == "models: the tiny pack, drawn faces only"
    assert said[1].startswith("backend: cpu, ")


@pytest.mark.parametrize("given", [["none"], ["all", "largest"], ["like=a.png", "all"], []])
def test_a_wrong_choice_of_faces_is_refused(given: list[str]) -> None:
    with pytest.raises(InputError, match=r"^--faces: wanted all, largest, leftmost, or like=PICTURE once or more, got"):
        parse_faces(given)
