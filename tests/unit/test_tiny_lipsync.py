"""The tiny lip-sync does what its card says, on held-out speech and a presenter that no training saw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from engine.audio.stream import features_of
from engine.frame import Frame
from engine.lipsync import open_lipsync
from engine.template.frames import TemplateFrames
from models.contract import load_contract
from models.tiny.mouth_reader import MouthReader, crop_of
from models.tiny.pack import FOLDER
from models.tiny.renderer.speech import Sound
from models.tiny.talking import (
    SHUT,
    Talker,
    agreement,
    moments,
    read_sound,
    said_of,
    silent,
    to_and_fro,
    true_openings,
)
from models.tiny.train import formants, log_mel, mouths, phonemes, voices
from tests.talking import changed_outside, presenter_template

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]
ROOT = Path(__file__).parents[2]
SAMPLE = FOLDER / "sample"
SAID = said_of(SAMPLE / "held_out_speech.json")


@dataclass(frozen=True)
class Talk:
    """The presenter on the held-out speech: what was read of each frame, and in how many something else changed."""

    openings: F64
    rows: list[int]
    touched_outside: int
    error: float


def rgb_of(luma: U8, chroma: U8) -> U8:
    """NV12 of BT.709 in limited range as RGB."""
    picture = np.concatenate([luma, chroma.reshape(-1, luma.shape[1])])
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="nv12")
    seen = frame.reformat(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG").to_ndarray()
    return np.asarray(seen, np.uint8)


@pytest.fixture(scope="module")
def reader() -> MouthReader:
    """The reader of the presenter's mouth."""
    return MouthReader(moments()[:160], 160)


@pytest.fixture(scope="module")
def talk(reader: MouthReader) -> Talk:
    """All of the held-out speech, said by the presenter, mouth made in every frame: no gate shuts it."""
    template = presenter_template()
    sound = read_sound(SAMPLE / "held_out_speech.opus")
    crops, rows, touched = [], [], 0
    with open_lipsync("tiny_lipsync", template=template) as pipeline, TemplateFrames(template) as pictures:
        heard = pipeline.listen.push(sound) + pipeline.listen.flush()
        for one, row in zip(heard, to_and_fro(len(heard)), strict=True):
            frame: Frame = pipeline.frames[one.n % len(pipeline.frames)]
            pipeline.load(frame, pictures.read(row))
            before = [plane.copy() for plane in frame.planes()]
            after = pipeline.finish(pipeline.begin(frame, row, one.condition)).planes()
            touched += changed_outside((before[0], before[1]), (after[0], after[1]), template, row)
            crops.append(crop_of(rgb_of(*after), template.points[row].astype(np.float64)))
            rows.append(row)
    return Talk(reader.read(crops), rows, touched, reader.error)


def span(language: str) -> tuple[slice, list[Sound]]:
    said = next(one for one in SAID if one.language == language)
    frames = slice(round(said.begin_s * 25), round(said.end_s * 25))
    return frames, [Sound(s.viseme, s.begin_s, s.length_s) for s in said.sounds]


@pytest.mark.parametrize("language", [one.language for one in SAID])
def test_the_mouth_follows_speech_of_a_language_that_no_training_heard(talk: Talk, language: str) -> None:
    frames, sounds = span(language)
    truth = true_openings(moments(), talk.rows, sounds, 25.0)[frames]
    found = agreement(talk.openings[frames], truth)
    assert found.frames == 100
    assert found.correlation >= 0.82, found  # four seconds; a minute of speech is in profiles/measured
    assert abs(found.best_lag) <= 1, found


def test_the_mouth_of_another_piece_of_speech_does_not_fit(talk: Talk) -> None:
    """The measure itself: Polish lips on Greek sounds."""
    first, second = (span(one.language) for one in (SAID[0], SAID[2]))
    shift_s = (second[0].start - first[0].start) / 25.0
    moved = [Sound(s.viseme, s.begin_s - shift_s, s.length_s) for s in second[1]]
    truth = true_openings(moments(), talk.rows, moved, 25.0)[first[0]]
    assert agreement(talk.openings[first[0]], truth).correlation < 0.6


def test_the_mouth_is_shut_where_nobody_speaks(talk: Talk) -> None:
    sounds = [sound for one in SAID for sound in one.sounds]
    quiet = silent(sounds, len(talk.rows), 25.0)
    assert quiet.sum() >= 20
    assert (talk.openings[quiet] < SHUT).mean() >= 0.99, talk.openings[quiet]


def test_nothing_changes_outside_the_rectangle(talk: Talk) -> None:
    assert talk.touched_outside == 0


@pytest.mark.parametrize(
    ("plane", "where", "seen"), [(0, (0, 0), True), (0, (400, 640), False), (1, (200, 1279), True)]
)
def test_one_code_outside_the_rectangle_is_seen(plane: int, where: tuple[int, int], seen: bool) -> None:
    template = presenter_template()
    before = (np.zeros((720, 1280), np.uint8), np.zeros((360, 1280), np.uint8))
    after = (before[0].copy(), before[1].copy())
    after[plane][where] = 1  # the lips are at about (640, 400)
    assert changed_outside(before, after, template, 0) is seen


def test_the_reader_reads_drawings_that_it_was_not_fitted_to(talk: Talk) -> None:
    assert talk.error < 0.012


def test_silence_and_noise_of_a_quiet_room_keep_the_mouth_shut_and_still(reader: MouthReader) -> None:
    template = presenter_template()
    rng = np.random.default_rng(4)
    noise = np.concatenate([np.zeros(16000), 10.0 ** (-50 / 20) * rng.standard_normal(16000)]).astype(np.float32)
    crops = []
    with open_lipsync("tiny_lipsync", template=template) as pipeline, TemplateFrames(template) as pictures:
        for one in pipeline.listen.push(noise) + pipeline.listen.flush():
            frame = pipeline.frames[one.n % len(pipeline.frames)]
            pipeline.load(frame, pictures.read(0))
            planes = pipeline.finish(pipeline.begin(frame, 0, one.condition)).planes()
            crops.append(crop_of(rgb_of(*planes), template.points[0].astype(np.float64)))
    openings = reader.read(crops)
    assert (openings < SHUT).mean() >= 0.99, openings
    still = np.stack(crops).astype(np.float64)
    assert np.abs(np.diff(still, axis=0)).mean() < 0.5  # of 255


def test_contract_and_weights() -> None:
    model = onnx.load(str(FOLDER / "tiny_lipsync.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    tensors = [*model.graph.input, *model.graph.output]
    shapes = {v.name: [d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in tensors}
    assert {name: shapes[name] for name in ("mel", "image")} == {"mel": [None, 1, 80, 16], "image": [None, 6, 96, 96]}
    assert list(shapes) == ["mel", "image", "output"]  # the exporter leaves the output's size open; see the next test
    assert all(v.type.tensor_type.elem_type == TensorProto.FLOAT for v in tensors)
    singles = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert all(numpy_helper.to_array(t).size < 16 for t in singles)
    assert (FOLDER / "tiny_lipsync.onnx").stat().st_size <= 1_800_000


def test_a_picture_without_sound_is_of_its_size_and_keeps_what_is_known() -> None:
    crop = np.random.default_rng(2).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    made = Talker().speak(crop, np.full((1, 80, 16), -4.0, np.float32))
    x, y, width, height = mouths.blank_xywh_px()
    known = np.ones((96, 96), bool)
    known[y : y + height, x : x + width] = False
    assert made.shape == crop.shape
    assert np.array_equal(made[known], crop[known])
    assert not np.array_equal(made[~known], crop[~known])


def test_the_sample_is_small_and_complete() -> None:
    sample = FOLDER / "sample"
    assert sum((sample / name).stat().st_size for name in ("presenter.mp4", "speech.opus")) <= 1_200_000
    with av.open(str(sample / "presenter.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.frames) == (1280, 720, 225)
        assert video.average_rate == 25
    assert np.load(sample / "presenter_truth.npz")["points"].shape == (225, 5, 2)
    sound = read_sound(sample / "speech.opus")
    assert 8.0 < len(sound) / 16000 < 16.0
    assert 0.1 < np.abs(sound).max() < 1.0


def test_training_hears_what_the_runtime_hears() -> None:
    facts, wav2lip = load_contract("tiny_lipsync").lipsync, load_contract("wav2lip_96").lipsync
    assert facts is not None
    assert wav2lip is not None
    assert facts.features == wav2lip.features
    assert facts.features is not None
    sound = read_sound(SAMPLE / "held_out_speech.opus")[:40000]
    assert np.abs(log_mel.columns(sound) - features_of(facts.features, sound)).max() < 1e-4


@pytest.mark.parametrize(
    ("phoneme", "wanted"),
    [
        ("\u02c8a\u02d0", ["ah"]),
        ("ai", ["ah", "ee"]),
        ("t\u0283", ["sh"]),
        ("ts", ["sz"]),
        ("th", ["tdn"]),
        ("\u00f5", ["oh"]),
        ("", []),
    ],
)
def test_phonemes_have_visemes(phoneme: str, wanted: list[str]) -> None:
    assert phonemes.visemes(phoneme) == wanted


def test_sounds_follow_each_other_and_a_stop_shuts_before_it_is_heard() -> None:
    made = phonemes.sounds([("a", 0.1), ("p", 0.3), ("oʊ", 0.35), ("", 0.6)], 0.8)
    assert [s.viseme for s in made] == ["ah", "pbm", "oh", "oo", "rest"]
    assert [round(s.begin_s, 3) for s in made] == [0.1, 0.26, 0.35, 0.475, 0.6]
    assert made[0].begin_s + made[0].length_s == pytest.approx(made[1].begin_s)
    assert made[-1].begin_s + made[-1].length_s == pytest.approx(0.8)


def test_our_own_voice_speaks_where_its_sounds_are() -> None:
    sound = formants.sing([Sound("ah", 0.3, 0.3), Sound("sz", 0.8, 0.2)], 1.2, np.random.default_rng(1))
    level = [float(np.sqrt(np.mean(np.square(sound[a:b])))) for a, b in ((0, 3200), (5600, 8800), (13200, 15600))]
    assert level[0] < 0.01 * level[1]
    assert level[2] > 0.05 * level[1] or level[2] > 0.01


def test_a_drawn_moment_differs_in_the_mouth_alone_and_is_the_same_again() -> None:
    one, again = (mouths.mouth_sample(np.random.default_rng([3, 1])) for _ in range(2))
    assert np.array_equal(one.images, again.images)
    assert one.images.shape == (mouths.MOUTHS, 96, 96, 3)
    brows = one.images[:, :8].astype(np.float64)  # the base of the nose, above the blank rectangle
    lips = one.images[:, 30:70, 24:72].astype(np.float64)
    assert np.abs(brows - brows[0]).mean() < 0.2 * np.abs(lips - lips[0]).mean()
    with pytest.raises(
        ValueError, match=r"^mouth_sample: wanted the film look, got classic, whose mouth does not round"
    ):
        mouths.mouth_sample(np.random.default_rng(1), "classic")


def test_what_was_measured_on_videos_is_what_was_promised() -> None:
    report = json.loads((ROOT / "profiles" / "measured" / "lipsync_meaning.json").read_text())
    assert sorted(one["language"] for one in report["languages"]) == sorted(voices.held_out_languages())
    assert report["reader"]["correlation"] >= 0.99
    for one in report["languages"]:
        assert one["correlation"] >= 0.9, one
        assert abs(one["best_lag"]) <= 1, one
        assert one["shut_frames"] >= 0.99 * one["silent_frames"] > 0, one
    assert report["outside"]["touched_outside"] == 0
