"""Same weights, same frame, same points: our crop and our paste against the reference flow in OpenCV."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

import engine
from engine.frame import Frame, held_buffer
from engine.pipeline import Pipeline
from kernels.launch import nv12_to_rgb_into
from models.spec import Spec
from profiles.profile import Mask, load_profile
from tests import oracle
from tests.clips import decoded

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
FRAMES = (20, 90, 200)


@pytest.fixture(scope="module")
def clip() -> list[U8]:
    return decoded(SAMPLE / "clip.mp4", max(FRAMES) + 1)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    profile = dataclasses.replace(load_profile("tiny"), mask=Mask(kinds=("erode_blur",)))
    with engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=(1280, 720)) as opened:
        yield opened


def psnr_db(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Peak signal to noise of values of 0..255."""
    error = np.mean((one - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def our_rgb(pipeline: Pipeline, frame: Frame) -> F32:
    """The working frame as float RGB 0..255 [H, W, 3], by our own conversion."""
    height, width = frame.nv12.height_px, frame.nv12.width_px
    rgb = pipeline.backend.allocate(Spec("float32", (1, 3, height, width)))
    nv12_to_rgb_into(pipeline.backend, frame.view, rgb)
    return np.ascontiguousarray(pipeline.backend.to_host(rgb)[0].transpose(1, 2, 0))


def other_rgb(nv12: U8, how: str) -> F32:
    """The same frame as OpenCV's or FFmpeg's 8-bit conversion makes it."""
    if how == "cv2":
        converted: F32 = cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12).astype(np.float32)
        return converted
    frame = av.VideoFrame.from_ndarray(nv12, format="nv12")
    frame.colorspace, frame.color_range = 1, 1
    return frame.to_ndarray(format="rgb24").astype(np.float32)


@pytest.mark.parametrize("index", FRAMES)
def test_the_crop_is_the_reference_flows_but_for_the_colour_conversion(
    pipeline: Pipeline, clip: list[U8], index: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.detect.forget()
    frame = pipeline.step(clip[index])
    k = frame.face_count
    assert k == 2
    crops = pipeline.backend.to_host(pipeline.crop.inputs[k])
    matrices = pipeline.backend.to_host(pipeline.crop.crop_from_frame)[:k]
    points = pipeline.backend.to_host(held_buffer(frame.faces.points))[:k]
    pipeline.backend.load_planes((clip[index][:720], clip[index][720:]), frame.nv12)
    sources = {
        "our float conversion": our_rgb(pipeline, frame),
        "cv2": other_rgb(clip[index], "cv2"),
        "FFmpeg": other_rgb(clip[index], "ffmpeg"),
    }
    template = np.array(pipeline.crop.template_px, dtype=np.float32)
    for row in range(k):
        assert np.allclose(oracle.similarity(points[row], template), matrices[row], atol=2e-3)
        ours = crops[row].transpose(1, 2, 0).astype(np.float64) * 255
        found = {
            how: psnr_db(ours, cv2.warpAffine(rgb, matrices[row], (128, 128)).astype(np.float64))
            for how, rgb in sources.items()
        }
        with capsys.disabled():
            print(f"\nframe {index} face {row}: crop PSNR dB", {how: round(db, 1) for how, db in found.items()}, end="")
        assert found["our float conversion"] >= 50


@pytest.mark.parametrize("index", FRAMES)
def test_the_pasted_face_is_the_reference_flows(
    pipeline: Pipeline, clip: list[U8], index: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.detect.forget()
    frame = pipeline.step(clip[index])
    k = frame.face_count
    assert k == 2
    swapped = pipeline.backend.to_host(pipeline.generate.outputs[k])
    matrices = pipeline.backend.to_host(pipeline.crop.crop_from_frame)[:k]
    ours = our_rgb(pipeline, frame).astype(np.float64)
    pipeline.backend.load_planes((clip[index][:720], clip[index][720:]), frame.nv12)
    reference = np.clip(np.rint(our_rgb(pipeline, frame)), 0, 255).astype(np.uint8)[:, :, ::-1]
    mask = np.zeros(reference.shape[:2], dtype=np.float32)
    for row in range(k):
        reference = oracle.paste(np.ascontiguousarray(reference), swapped[row], matrices[row])
        mask = np.maximum(mask, oracle.erode_blur_mask(128, matrices[row], reference.shape))
    inside = mask > 0
    theirs = reference[:, :, ::-1].astype(np.float64)
    inside_db, frame_db = psnr_db(ours[inside], theirs[inside]), psnr_db(ours, theirs)
    with capsys.disabled():
        print(f"\nframe {index}: pasted PSNR dB inside the faces {inside_db:.1f}, whole frame {frame_db:.1f}", end="")
    assert inside_db >= 38
