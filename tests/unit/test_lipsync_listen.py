"""listen: each frame its sound, however the sound is cut; and output frames that don't depend on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.conditions import Conditions
from engine.audio.encoders import Encoder, Span
from engine.audio.shapes import ShapeFilter
from engine.backends import open_backend
from engine.backends.base import Backend
from engine.errors import InputError
from engine.lipsync import LipsyncPipeline, open_listen
from engine.stages.listen import Heard, Listen
from engine.timing import Timings
from models.contract import load_contract
from models.model_files import open_file
from tests.clips import decoded
from tests.lipsync_parts import CLIP, files_in_place, lipsync_profile, open_twin, twin_path
from tests.unit.test_audio_encoders import listening_convolution
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]
RATE_HZ = 16000
# one sample, primes, 10, 20 and 40 ms
PIECES = (1, 7, 487, 1009, 160, 320, 640)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("listen")
    return {
        "wav2lip_96": twin_path("wav2lip_96"),
        "ultralight_hubert": twin_path("ultralight_half"),
        "dh_live_audio2bs": twin_path("dh_live_audio2bs"),
        "hubert_large": listening_convolution(folder / "hubert.onnx", "hubert_large", 400, 320, 1024),
        "heygem_wenet": listening_convolution(folder / "wenet.onnx", "heygem_wenet", 7, 4, 256),
    }


@pytest.fixture
def backend() -> Iterator[Backend]:
    with contextlib.closing(open_backend("cpu", threads=1, say=lambda _: None)) as opened:
        yield opened


def speech(seconds: float, quiet: tuple[float, float] = (0.0, 0.0)) -> F32:
    """A voice, silent for a stretch."""
    sound = voice(int(seconds * RATE_HZ), seed=5)
    sound[int(quiet[0] * RATE_HZ) : int(quiet[1] * RATE_HZ)] = 0.0
    return sound


def in_pieces(listen: Listen, sound: F32, size: int) -> list[Heard]:
    found: list[Heard] = []
    for at in range(0, len(sound), size):
        found += listen.push(sound[at : at + size])
    return found + listen.flush()


def wav2lip(fps: int = 25) -> Listen:
    return Listen(Conditions(load_contract("wav2lip_96"), Fraction(fps)), Timings())


@pytest.mark.parametrize("fps", [20, 25, 30])
def test_every_frame_is_heard_once_in_order_for_every_cut(fps: int) -> None:
    sound = speech(1.3, (0.3, 0.9))
    whole = in_pieces(wav2lip(fps), sound, len(sound))
    assert [one.n for one in whole] == list(range(-(-13 * fps // 10)))
    for size in PIECES:
        found = in_pieces(wav2lip(fps), sound, size)
        assert [(one.n, one.speaks) for one in found] == [(one.n, one.speaks) for one in whole]
        assert all(np.array_equal(one.condition, two.condition) for one, two in zip(found, whole, strict=True))
    assert {one.speaks for one in whole} == {True, False}


def test_a_frame_comes_no_later_than_its_look_ahead() -> None:
    listen, sound = wav2lip(), speech(2.0)
    at = 0
    came_at_ms: dict[int, float] = {}
    while at < len(sound):
        for one in listen.push(sound[at : at + 16]):
            came_at_ms[one.n] = (at + 16) / RATE_HZ * 1000
        at += 16
    assert listen.look_ahead_ms == 212.5
    late = [ms - n * 40 for n, ms in came_at_ms.items()]
    # the piece's own millisecond comes on top
    assert max(late) <= listen.look_ahead_ms + 1.0
    assert max(late) > listen.look_ahead_ms - 13


def test_speech_is_told_before_it_begins() -> None:
    """By the frames that a mouth takes to fade in; what is told does not end earlier for it."""
    sound = speech(3.0, (0.0, 1.0))
    listen = wav2lip()
    assert listen.ahead_frames == 3
    speaks = [one.speaks for one in in_pieces(listen, sound, 640)]
    plain = wav2lip()
    plain.ahead_frames = 0
    heard = [one.speaks for one in in_pieces(plain, sound, 640)]
    first, told = heard.index(True), speaks.index(True)
    assert first == 25
    assert told == first - 3
    assert speaks == [any(heard[n : n + 4]) for n in range(len(heard))]


def test_speech_is_told_alike_for_every_cut_however_far_it_looks() -> None:
    """Further than the arrays wait for sound: then they wait for it."""
    sound = speech(2.0, (0.4, 1.3))
    found = []
    for size in (len(sound), 160, 1009, 640):
        listen = wav2lip()
        listen.ahead_frames = 9
        found.append([one.speaks for one in in_pieces(listen, sound, size)])
    assert found[0].count(False) > 3
    assert all(one == found[0] for one in found)


def test_silence_is_not_speech_and_noise_of_minus_50_dbfs_is_silence() -> None:
    noise = np.random.default_rng(1).normal(0, 10 ** (-50 / 20), 2 * RATE_HZ).astype(np.float32)
    for sound in (np.zeros(2 * RATE_HZ, np.float32), noise):
        found = in_pieces(wav2lip(), sound, 640)
        assert len(found) == 50
        assert not any(one.speaks for one in found)


def test_a_reset_begins_at_frame_0() -> None:
    listen, sound = wav2lip(), speech(1.0)
    wanted = in_pieces(listen, sound, 640)
    listen.push(speech(0.7)[::-1].copy())
    listen.reset()
    again = in_pieces(listen, sound, 640)
    assert [one.n for one in again] == [one.n for one in wanted]
    assert all(np.array_equal(one.condition, two.condition) for one, two in zip(again, wanted, strict=True))


def test_the_ear_alone_gives_dh_lives_six_shapes_a_frame(paths: dict[str, Path], backend: Backend) -> None:
    """For hosts that draw the mouth themselves; states are carried, so a reset forgets what was said."""
    profile = lipsync_profile("dinet_mini_2", encoder="dh_live_audio2bs")
    with files_in_place(paths):
        listen = open_listen(profile, fps=Fraction(25), backend=backend)
    sound = speech(1.5)
    whole = in_pieces(listen, sound, len(sound))
    assert [one.n for one in whole] == list(range(38))
    assert whole[0].condition.shape == (6,)
    for size in (7, 640):
        found = in_pieces(listen, sound, size)
        assert all(np.array_equal(one.condition, two.condition) for one, two in zip(found, whole, strict=True))
    # 4 vectors that are left out, and the last one's window
    assert listen.look_ahead_ms is not None
    assert 160 <= listen.look_ahead_ms <= 200 + 40


def test_weights_of_an_impossible_mouth_are_softened_by_the_last_possible_ones() -> None:
    upper, lower = np.array([10, 0, -100], np.float32), np.array([0, 20, 0], np.float32)
    keep = ShapeFilter(upper, lower, scale=0.5)

    def given(*weights: float) -> list[float]:
        return [float(value) for value in keep(np.array(weights, np.float32))]

    assert given(0.0, 2.0, 0.0) == [0.0, 1.0, 0.0]  # the lips 20 apart: possible
    assert given(4.0, 0.0, 0.0) == [1.0, 0.5, 0.0]  # 20 through each other: half of the last
    assert given(0.0, 0.0, 1.0) == [0.0, 0.5, 0.25]  # 50 apart, more than 45; the last possible ones still count
    assert given(0.0, 0.0, 0.9) == pytest.approx([0.0, 0.0, 0.45])  # 45 to the digit: possible
    keep.reset()
    assert given(4.0, 0.0, 0.0) == [1.0, 0.0, 0.0]  # nothing before: half of the way from rest
    with pytest.raises(
        InputError, match=r"ShapeFilter: wanted two rows of one length, a value for each shape, got \[3"
    ):
        ShapeFilter(upper, lower[:2])


def test_the_ear_filters_shapes_and_forgets_them_with_the_sound(paths: dict[str, Path], backend: Backend) -> None:
    profile, sound = lipsync_profile("dinet_mini_2", encoder="dh_live_audio2bs"), speech(1.0)
    with files_in_place(paths):
        plain = open_listen(profile, fps=Fraction(25), backend=backend)
        weights = np.array([one.condition for one in in_pieces(plain, sound, 640)])
        # the first frame's mouth is impossible, the last one's is not: what is left of it would show in the next sound
        between = np.linalg.pinv(weights[[0, -1]]) @ np.array([10.0, -20.0])
        rows = between.astype(np.float32), np.zeros(6, np.float32)
        listen = open_listen(profile, fps=Fraction(25), backend=backend, shapes=ShapeFilter(*rows))
    alone = ShapeFilter(*rows)
    wanted = [alone(one) for one in weights]
    assert np.allclose(wanted[0], weights[0] / 2)
    assert np.array_equal(wanted[-1], weights[-1])
    for _ in range(2):
        found = [one.condition for one in in_pieces(listen, sound, 640)]
        assert all(np.array_equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_warming_up_leaves_nothing_behind(paths: dict[str, Path], backend: Backend) -> None:
    encoder = Encoder(
        backend,
        backend.open_session(open_file(load_contract("heygem_wenet"), paths["heygem_wenet"])),
        span=Span(8, 4, 8),
    )
    listen = Listen(Conditions(load_contract("heygem_dinet_v1"), Fraction(25), encoder=encoder), Timings())
    sound = speech(1.5)
    wanted = in_pieces(listen, sound, 640)
    listen.warm_up()
    allocated = backend.counters.allocations
    found = in_pieces(listen, sound, 640)
    assert backend.counters.allocations == allocated
    assert all(np.array_equal(one.condition, two.condition) for one, two in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("contract", "encoder"), [("wav2lip_96", ""), ("ultralight_hubert", "hubert_large")])
def test_output_frames_are_the_same_for_every_cut(contract: str, encoder: str, paths: dict[str, Path]) -> None:
    """Every byte of every frame: offline is streaming."""
    sound, pictures = speech(0.4), decoded(CLIP, 10)
    with files_in_place(paths), open_twin(contract, len(pictures), encoder=encoder) as pipeline:
        wanted = spoken(pipeline, sound, len(sound), pictures)
        assert len(wanted) == 10
        for size in (1, 487, 640):
            assert spoken(pipeline, sound, size, pictures) == wanted
        assert spoken(pipeline, sound[::-1].copy(), 640, pictures) != wanted


def spoken(pipeline: LipsyncPipeline, sound: F32, size: int, pictures: list[npt.NDArray[np.uint8]]) -> list[bytes]:
    """The bytes of each frame of a sound."""
    found: list[bytes] = []
    for one in in_pieces(pipeline.listen, sound, size):
        frame = pipeline.finish(pipeline.begin(pipeline.take(pictures[one.n]), one.n, one.condition))
        found.append(b"".join(plane.tobytes() for plane in frame.planes()))
    return found
