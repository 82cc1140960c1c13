"""The sample clip and its pictures: what is committed is what the code draws, and shows what it is there to show."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from models.tiny.renderer import labels, names
from models.tiny.sample import cast, make
from models.tiny.sample.make import Actor
from models.tiny.sample.voice import RATE, SHAPES

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def actors() -> list[Actor]:
    """The two of the clip."""
    return make.actors()


@pytest.fixture(scope="module")
def truth() -> dict[str, F32]:
    """What comes with the clip."""
    folder = Path(__file__).parents[2] / "models" / "tiny" / "sample"
    with np.load(folder / "clip_truth.npz") as stored:
        return dict(stored)


def rgb(frame: av.VideoFrame) -> U8:
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def picture(path: Path) -> U8:
    with av.open(str(path)) as container:
        return rgb(next(container.decode(video=0)))


def psnr_db(one: U8, other: U8) -> float:
    error = float(np.square(one.astype(np.float64) - other).mean())
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def test_the_truth_is_where_the_code_puts_the_faces(actors: list[Actor], truth: dict[str, F32]) -> None:
    assert {name: values.shape for name, values in truth.items()} == {
        "points": (cast.FRAMES, 2, 5, 2), "box": (cast.FRAMES, 2, 4), "visible": (cast.FRAMES, 2, 1),
    }  # fmt: skip
    for frame in range(cast.FRAMES):
        for who, actor in enumerate(actors):
            told = labels(actor.people[frame], make.view(frame, who))
            np.testing.assert_allclose(truth["points"][frame, who], told.points_px, atol=0.01)
            np.testing.assert_allclose(truth["box"][frame, who], told.box_xyxy_px, atol=0.01)


def test_the_clip_is_what_the_code_draws(actors: list[Actor], truth: dict[str, F32], sample: Path) -> None:
    wanted = (56, 187)  # a hand is up in each shot
    with av.open(str(sample / "clip.mp4")) as container:
        frames = [frame for n, frame in enumerate(container.decode(video=0)) if n in wanted]
    for n, frame in zip(wanted, frames, strict=True):
        drawn, told = make.draw_frame(n, [actor.people[n] for actor in actors])
        # about 40 dB: colour at half size and the codec's loss; the same shot 9 frames later gives 27 dB
        assert psnr_db(drawn, rgb(frame)) > 36.0
        visible = [float(person["visible"][0]) for person in told]
        np.testing.assert_allclose(truth["visible"][n, :, 0], visible, atol=0.01)


def test_faces_are_large_and_stay_in_sight(truth: dict[str, F32]) -> None:
    high = truth["box"][..., 3] - truth["box"][..., 1]
    assert high.min() >= 160
    assert high.max() <= 350
    low, far = truth["box"].min(axis=(0, 1)), truth["box"].max(axis=(0, 1))
    assert low[0] > 0
    assert low[1] > 0
    assert far[2] < 1280
    assert far[3] < 600  # above the desk
    hidden = 1.0 - truth["visible"][..., 0]
    assert (hidden.max(axis=0) > 0.15).all()  # a hand passes before each of them
    assert (hidden.max(axis=0) < 0.5).all()
    assert ((hidden > 0.02).sum(axis=0) >= 8).all()


def test_heads_turn_and_faces_live(actors: list[Actor]) -> None:
    for actor in actors:
        moved = {name: np.array([person.get(name) for person in actor.people]) for name in names(2, "film")}
        assert np.ptp(moved["yaw"]) > 40
        blinks = moved["blink"] > 0.6
        assert int(np.count_nonzero(np.diff(blinks.astype(int)) == 1)) >= 2
        assert np.ptp(moved["smile"]) > 0.4
        for shape in SHAPES:  # every shape of speech is seen
            assert np.abs(moved[shape]).max() > 0.5, shape
        steps = np.abs(np.diff(moved["yaw"]))
        steps[cast.CUT - 1] = 0.0
        assert steps.max() < 3.0


def test_mouths_move_when_their_voice_is_heard(actors: list[Actor]) -> None:
    said = []
    for actor in actors:
        sound = actor.speech.sound.reshape(cast.FRAMES, RATE // cast.FPS)
        loud: F64 = np.sqrt(np.square(sound).mean(axis=1))
        opened = actor.speech.mouth["open"]
        # who is silent for half a second on both sides of a frame keeps their mouth shut
        silent = np.convolve(loud > 1e-3, np.ones(25), mode="same") == 0
        assert silent.sum() > 40
        assert opened[silent].max() < 0.05
        assert np.corrcoef(loud, opened)[0, 1] > 0.6
        said.append(loud > 1e-3)
    assert (said[0] & said[1]).mean() < 0.03  # they take turns


def test_a_portrait_is_what_the_code_draws(sample: Path) -> None:
    people = {
        **{f"source_{i}": (who, 70 + i) for i, who in enumerate(cast.SOURCES, start=1)},
        **{f"person_{i}": (who, 80 + i) for i, who in enumerate((cast.LEFT, cast.RIGHT), start=1)},
    }
    for name, (who, ground) in people.items():
        stored = picture(sample / f"{name}.png")
        assert stored.shape == (448, 448, 3)
        if name in ("source_1", "person_2"):
            assert psnr_db(make.portrait(who, ground), stored) > 45.0


def test_what_a_swap_moves_tells_the_five_people_apart() -> None:
    inner = np.stack([who.inner for who in (cast.LEFT, cast.RIGHT, *cast.SOURCES)])
    assert inner.shape == (5, 36)
    assert np.abs(inner).max() <= 1.0
    apart = np.abs(inner[:, None] - inner[None]).sum(axis=-1)
    assert apart[np.triu_indices(5, 1)].min() > 6.0
