"""The lip-sync pipeline with twins at real size: against the published steps, and the discipline of a frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from engine.errors import DeviceError, InputError, ModelError
from engine.frame import Frame
from engine.lipsync import LipsyncPipeline, open_lipsync
from engine.template.template import Template
from kernels.launch import PLACE_RECTANGLE
from kernels.reference import Picture
from models.contract import load_contract
from tests.clips import U8, decoded
from tests.lipsync_flow import Network, bgr_of, nv12_of, ultralight_step, wav2lip_step
from tests.lipsync_parts import (
    CLIP,
    SIZE,
    files_in_place,
    lipsync_profile,
    open_twin,
    sample_template,
    twin_path,
)
from tests.unit.test_audio_encoders import listening_convolution

F32 = npt.NDArray[np.float32]
COUNT = 6
STEPS: dict[str, Any] = {"ultralight_hubert": ultralight_step, "wav2lip_96": wav2lip_step}
ENCODERS = {"ultralight_hubert": "hubert_large", "heygem_dinet_v1": "heygem_wenet"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Generators at real size; for the encoder that has no twin, a layer with its tensors."""
    folder = tmp_path_factory.mktemp("lipsync")
    found = {
        "ultralight_hubert": twin_path("ultralight_half"),
        "wav2lip_96": twin_path("wav2lip_96"),
        "heygem_dinet_v1": twin_path("dinet_3_3_256", narrow=16),
        "hubert_large": listening_convolution(folder / "hubert.onnx", "hubert_large", 400, 320, 1024),
        "heygem_wenet": listening_convolution(folder / "wenet.onnx", "heygem_wenet", 7, 4, 256),
    }
    with files_in_place(found):
        yield found


@pytest.fixture(scope="module")
def frames() -> list[U8]:
    return decoded(CLIP, COUNT)


def heard_of(pipeline: LipsyncPipeline, n: int) -> F32:
    """Some condition for frame n."""
    random = np.random.default_rng(n)
    return random.normal(0, 1, pipeline.listen.conditions.shape).astype(np.float32)


def made(pipeline: LipsyncPipeline, picture: U8, row: int, opacity: float = 1.0) -> Frame:
    """One frame of the clip with a mouth in it."""
    frame = pipeline.take(picture)
    return pipeline.finish(pipeline.begin(frame, row, heard_of(pipeline, row), opacity))


def codes(frame: Frame) -> tuple[U8, U8]:
    """Copies of luma [H, W] and chroma [H / 2, W / 2, 2]."""
    luma, chroma = frame.planes()
    return luma.copy(), chroma.reshape(chroma.shape[0], -1, 2).copy()


def network_of(path: Path, contract_name: str) -> Network:
    """A file as the published systems call it."""
    contract = load_contract(contract_name)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image, heard = (session.get_inputs()[i].name for i in (0, 1))
    if session.get_inputs()[0].shape[1] != 6:
        image, heard = heard, image
    assert contract.lipsync is not None

    def run(pictures: F32, condition: F32) -> F32:
        out: F32 = session.run(None, {image: pictures, heard: condition})[0]
        return out

    return run


@pytest.mark.parametrize("contract", STEPS)
def test_like_the_original_every_step_is_the_published_one(
    contract: str, paths: dict[str, Path], frames: list[U8]
) -> None:
    network = network_of(paths[contract], contract)
    with open_twin(contract, COUNT, encoder=ENCODERS.get(contract, ""), like="original") as pipeline:
        template = pipeline.template
        for row in (0, COUNT - 1):
            rectangle = pipeline.mouth.places.values[row, PLACE_RECTANGLE : PLACE_RECTANGLE + 4]
            x0, y0, x1, y1 = (int(value) for value in rectangle)
            frame = made(pipeline, frames[row], row)
            luma, chroma = codes(frame)
            given = pipeline.backend.to_host(pipeline.mouth.inputs["image"])
            whole = frames[row]
            picture = Picture(whole[: SIZE[1]], whole[SIZE[1] :].reshape(SIZE[1] // 2, -1, 2), template.colour)
            bgr = bgr_of(picture)
            theirs = STEPS[contract](bgr, (x0, y0, x1, y1), heard_of(pipeline, row)[None], network)
            # they round twice before the network, and interpolate chroma twice where we do it once: at the edges of
            # coloured things the sample clip makes it up to 6.4 codes
            assert np.abs(given - theirs).mean() <= 0.4 / 255
            assert np.abs(given - theirs).max() <= 7.0 / 255
            wanted = nv12_of(bgr, picture)
            inside = (slice(y0, y1), slice(x0, x1))
            apart = np.abs(luma[inside].astype(int) - wanted.y[inside])
            # they cut the network's values down to whole levels, and round the resize and the colour
            assert apart.mean() < 0.8
            assert apart.max() <= 5
            assert np.abs(luma[inside].astype(int) - picture.y[inside]).mean() > 5
            middle = (slice(y0 // 2 + 2, y1 // 2 - 2), slice(x0 // 2 + 2, x1 // 2 - 2))
            # a random network draws noise, of which they average four px where we take the one in between
            coarse = [cv2.blur(one[middle].astype(np.float32), (9, 9)) for one in (chroma, wanted.uv)]
            assert np.abs(coarse[0] - coarse[1]).mean() < 1.5
            outside = np.ones(luma.shape, bool)
            outside[inside] = False
            assert np.array_equal(luma[outside], picture.y[outside])


@pytest.mark.parametrize("turn_deg", [0, 14])
@pytest.mark.parametrize("contract", ["ultralight_hubert", "wav2lip_96", "heygem_dinet_v1"])
def test_outside_what_the_network_draws_every_pixel_keeps_its_bits(
    contract: str, turn_deg: float, paths: dict[str, Path], frames: list[U8]
) -> None:
    """Also where the crop turns with the face, as one by five points does."""
    template = turned(sample_template(load_contract(contract), COUNT), turn_deg)
    profile = lipsync_profile(contract, encoder=ENCODERS.get(contract, ""))
    with open_lipsync(profile, template=template) as pipeline:
        for row in (1, 4):
            luma, chroma = codes(made(pipeline, frames[row], row))
            before = frames[row][: SIZE[1]], frames[row][SIZE[1] :].reshape(chroma.shape)
            y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float64)
            drawn = is_drawn(pipeline, row, x, y)
            drawn_chroma = is_drawn(pipeline, row, x[::2, ::2], y[::2, ::2] + 0.5)
            assert 1000 < drawn.sum() < 40000
            assert np.array_equal(luma[~drawn], before[0][~drawn])
            assert np.array_equal(chroma[~drawn_chroma], before[1][~drawn_chroma])
            assert (np.abs(luma[drawn].astype(int) - before[0][drawn]) > 3).mean() > 0.5


def turned(template: Template, degrees: float) -> Template:
    """The same mouths in crops that are turned around their middle."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = np.array([80.0, 80.0])
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    turn[:2, 2] = middle - turn[:2, :2] @ middle
    there = turn[:2, :2] @ template.crop_from_frame
    there[:, :, 2] += turn[:2, 2]
    return dataclasses.replace(template, crop_from_frame=there.astype(np.float32))


def is_drawn(
    pipeline: LipsyncPipeline, row: int, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether places of the frame lie in what the network draws, or within a px of the crop beside it, for taps."""
    layout, matrix = pipeline.mouth.layout, pipeline.template.crop_from_frame[row].astype(np.float64)
    left, top, width, height = layout.blank_xywh_px
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] - layout.offset_px[0] - left
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - layout.offset_px[1] - top
    inside: npt.NDArray[np.bool_] = (u > -1.0) & (u < width) & (v > -1.0) & (v < height)
    return inside


def test_a_warm_frame_brings_one_upload_and_allocates_nothing(paths: dict[str, Path], frames: list[U8]) -> None:
    with open_twin("ultralight_hubert", COUNT, encoder="hubert_large") as pipeline:
        made(pipeline, frames[0], 0)
        addresses = [frame.view.y_ptr for frame in pipeline.frames]
        before = dataclasses.replace(pipeline.backend.counters)
        for row, picture in enumerate(frames):
            made(pipeline, picture, row)
        after = pipeline.backend.counters
        assert after.allocations == before.allocations
        assert after.uploads - before.uploads == COUNT
        assert after.frame_copies - before.frame_copies == COUNT
        assert after.waits - before.waits == COUNT
        assert after.downloads == before.downloads
        assert after.sessions == before.sessions
        assert after.launches - before.launches == 4 * COUNT  # crop; agree, weigh, paste: none of it on the host
        assert [frame.view.y_ptr for frame in pipeline.frames] == addresses
        assert {"crop", "generate", "paste", "frame"} <= set(pipeline.timings.stages)


def test_what_is_not_to_be_changed_goes_out_as_it_came_in(paths: dict[str, Path], frames: list[U8]) -> None:
    with open_twin("wav2lip_96", COUNT, without_face=(2,)) as pipeline:
        before = pipeline.backend.counters.launches
        for row, condition, opacity in ((2, "some", 1.0), (1, "none", 1.0), (1, "some", 0.0)):
            frame = pipeline.take(frames[row])
            launched = pipeline.backend.counters.launches
            heard = heard_of(pipeline, row) if condition == "some" else None
            pipeline.finish(pipeline.begin(frame, row, heard, opacity))
            assert pipeline.backend.counters.launches == launched
            assert frame.face_count == 0
            assert np.array_equal(np.concatenate(frame.planes()), frames[row])
        assert pipeline.backend.counters.launches == before


def test_a_cross_fade_lies_between_the_frame_and_the_mouth(paths: dict[str, Path], frames: list[U8]) -> None:
    with open_twin("wav2lip_96", COUNT) as pipeline:
        levels = [codes(made(pipeline, frames[0], 0, opacity))[0].astype(int) for opacity in (0.0, 0.25, 0.5, 1.0)]
    none, quarter, half, full = levels
    assert np.abs(half - (none + full) / 2).max() <= 1.0
    assert np.abs(quarter - (3 * none + full) / 4).max() <= 1.0
    assert np.abs(full - none).max() > 20


def test_whole_frames_fade_into_each_other(paths: dict[str, Path], frames: list[U8]) -> None:
    with open_twin("wav2lip_96", COUNT) as pipeline:
        for part in (0.0, 0.4, 1.0):
            one, other = pipeline.frames[0], pipeline.frames[1]
            pipeline.backend.take(frames[0], one.nv12)
            pipeline.backend.take(frames[5], other.nv12)
            pipeline.cross_fade(one, other, part)
            got = np.concatenate(one.planes()).astype(float)
            assert np.abs(got - ((1 - part) * frames[0] + part * frames[5].astype(float))).max() <= 0.5 + 1e-3
            assert np.array_equal(np.concatenate(other.planes()), frames[5])


@pytest.mark.parametrize("contract", ["wav2lip_96", "ultralight_hubert"])
def test_a_batch_gives_the_bytes_of_one_after_another(contract: str, paths: dict[str, Path], frames: list[U8]) -> None:
    """Also where the file takes one at a time, and where frames without a mouth stand between."""
    silent = (3,)
    with open_twin(contract, COUNT, encoder=ENCODERS.get(contract, "")) as pipeline:
        single = [codes(made(pipeline, picture, row, float(row not in silent))) for row, picture in enumerate(frames)]
    with open_twin(contract, COUNT, encoder=ENCODERS.get(contract, ""), batch=2, slots=6) as pipeline:
        assert pipeline.lookahead == 1
        begun: list[Frame] = []
        got: list[tuple[U8, U8]] = []
        for row, picture in enumerate(frames):
            frame = pipeline.take(picture)
            begun.append(pipeline.begin(frame, row, heard_of(pipeline, row), float(row not in silent)))
            if len(begun) > pipeline.lookahead:
                got.append(codes(pipeline.finish(begun.pop(0))))
        got += [codes(pipeline.finish(frame)) for frame in begun]
    # a batch is another order of sums within the network: a level at most
    for ours, wanted in zip(got, single, strict=True):
        assert np.abs(ours[0].astype(int) - wanted[0]).max() <= 1
        assert (ours[0] != wanted[0]).mean() < 1e-3
    assert len(got) == COUNT


def test_a_batch_that_fails_leaves_its_frames_as_they_came_in(
    paths: dict[str, Path], frames: list[U8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise DeviceError("the network: wanted a run, got none; run again")

    with open_twin("ultralight_hubert", COUNT, encoder="hubert_large", batch=2, slots=6) as pipeline:
        with monkeypatch.context() as patched:
            patched.setattr(pipeline.mouth.session, "run", fail)
            begun = [pipeline.begin(pipeline.take(frames[0]), 0, heard_of(pipeline, 0))]
            with pytest.raises(DeviceError, match="the network: wanted a run, got none"):
                pipeline.begin(pipeline.take(frames[1]), 1, heard_of(pipeline, 1))
        assert pipeline.finish(begun[0]).face_count == 0
        assert np.array_equal(np.concatenate(begun[0].planes()), frames[0])
        # and the next ones are made
        begun = [pipeline.begin(pipeline.take(frames[row]), row, heard_of(pipeline, row)) for row in (2, 3)]
        for row, frame in zip((2, 3), begun, strict=True):
            assert pipeline.finish(frame).face_count == 1
            assert not np.array_equal(np.concatenate(frame.planes()), frames[row])


def test_the_templates_own_pictures_are_cut_once(paths: dict[str, Path], frames: list[U8]) -> None:
    """HeyGem's generator sees a picture of the template beside every frame: a constant of the run."""
    said: list[str] = []
    template = sample_template(load_contract("heygem_dinet_v1"), COUNT)
    profile = lipsync_profile("heygem_dinet_v1", encoder="heygem_wenet")
    with open_lipsync(profile, template=template, say=said.append) as pipeline:
        held = pipeline.backend.to_host(pipeline.mouth.inputs["reference"])
        made(pipeline, frames[4], 4)
        assert np.array_equal(pipeline.backend.to_host(pipeline.mouth.inputs["reference"]), held)
        made(pipeline, frames[0], 0)
        source = pipeline.backend.to_host(pipeline.mouth.inputs["source"])
        x, y, width, height = pipeline.mouth.layout.blank_xywh_px
        shown = np.ones((256, 256), bool)
        shown[y : y + height, x : x + width] = False
        # picture 1 is template frame 0: the frame's own crop, but for what is hidden in it
        assert np.array_equal(source[0][:, shown], held[0][:, shown])
        assert np.unique(source[0][:, ~shown]).tolist() == [-1.0]
        assert held.std() > 0.1
    assert any(line.startswith("contract heygem_dinet_v1, unverified: ") for line in said)


def test_a_template_without_its_own_pictures_is_refused(paths: dict[str, Path]) -> None:
    template = dataclasses.replace(sample_template(load_contract("heygem_dinet_v1"), 3), references=())
    profile = lipsync_profile("heygem_dinet_v1", encoder="heygem_wenet")
    sentence = r"template clip.mp4: wanted 1 reference frames, got 0; prepare it: python -m engine prepare"
    with pytest.raises(ModelError, match=sentence):
        open_lipsync(profile, template=template)


@pytest.mark.parametrize(
    ("contract", "encoder", "options", "sentence"),
    [
        (
            "dinet_five_ref",
            "dh_live_audio2bs",
            {},
            "wanted points of a network that there is a contract for, got MediaPipe's 478",
        ),
        ("dinet_mini_2", "dh_live_audio2bs", {}, "wanted points of a network that there is a contract for"),
        ("dinet_mini_1", "dh_live_audio2bs", {}, "dinet_mini_1.reference: wanted 3 channels for picture 1, got 12"),
        ("dinet", "", {}, "wanted a contract for the encoder of dinet, got none"),
        ("ultralight_hubert", "", {}, "wanted an encoder that ultralight_hubert takes (hubert_large, feather_hubert)"),
        ("wav2lip_96", "hubert_large", {}, "wanted an encoder that wav2lip_96 takes (none: it takes bands), got hub"),
        (
            "heygem_dinet_v1",
            "heygem_wenet",
            {"like": "original"},
            "wanted a published way to paste for lipsync.like or",
        ),
        (
            "hubert_large",
            "",
            {},
            "hubert_large: wanted a generator of the role lipsync, got audio_encoder; name another",
        ),
        ("musetalk_unet", "", {}, "wanted pictures of 256x256 px in and one out, got none"),
        ("wav2lip_256", "", {}, "model wav2lip_256: wanted one of "),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(
    contract: str, encoder: str, options: dict[str, Any], sentence: str, paths: dict[str, Path]
) -> None:
    names = ("dinet_five_ref", "dinet_mini_2", "dinet", "dh_live_audio2bs")
    twins = {name: twin_path(name, **({"narrow": 16} if name.startswith("dinet_f") or name == "dinet" else {}))
             for name in names if name in (contract, encoder)}  # fmt: skip
    template = sample_template(load_contract("wav2lip_96"), 3)
    with files_in_place({**paths, **twins}), pytest.raises(ModelError) as caught:
        open_lipsync(lipsync_profile(contract, encoder=encoder, **options), template=template)
    assert sentence in str(caught.value)


def test_a_profile_of_another_task_is_refused(paths: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"profile tiny: wanted the task lipsync, got swap; name a profile of it"):
        open_lipsync("tiny", template=sample_template(load_contract("wav2lip_96"), 2))


def test_what_begin_is_given_is_checked(paths: dict[str, Path], frames: list[U8]) -> None:
    with open_twin("wav2lip_96", 3) as pipeline:
        frame, heard = pipeline.take(frames[0]), heard_of(pipeline, 0)
        with pytest.raises(InputError, match=r"begin: wanted a template frame of 0..2, got 3; correct it"):
            pipeline.begin(frame, 3, heard)
        with pytest.raises(InputError, match=r"begin: wanted an opacity of 0 to 1, got 1.5; correct it"):
            pipeline.begin(frame, 0, heard, 1.5)
        with pytest.raises(InputError, match=r"begin: wanted a condition \[1, 80, 16\], got \[80, 16\]; pass what lis"):
            pipeline.begin(frame, 0, heard[0])
