"""Training on drawn faces: data that does not depend on who drew it, runs that pause, files that are whole."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.tiny import measure
from models.tiny.pack import Found, Pack
from models.tiny.renderer import names, random_inner
from models.tiny.renderer.png import write_png
from models.tiny.train import crops, identity, picture_file, store

Floats = npt.NDArray[np.float32]


def _digest(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Means of a picture's sixteen parts: equal on every machine to a rounding of light."""
    side = len(picture) // 4
    return np.asarray(picture[: 4 * side, : 4 * side].reshape(4, side, 4, side, 3).mean((1, 3, 4)).ravel())


def test_the_classic_look_draws_the_pictures_that_the_weights_saw() -> None:
    rng = np.random.default_rng([3, 4])
    crop = _digest(crops.embed_crop(rng, random_inner(rng)))
    assert (
        np.abs(
            crop
            - np.array(
                [
                    144.7,
                    159.0,
                    138.7,
                    115.6,
                    104.2,
                    165.2,
                    148.5,
                    112.0,
                    144.0,
                    187.9,
                    168.2,
                    98.1,
                    156.7,
                    158.3,
                    121.1,
                    92.0,
                ]
            )
        ).max()
        < 0.6
    )
    sample = crops.swap_sample(np.random.default_rng([3, 5]))
    assert (
        np.abs(
            _digest(sample.truth)
            - np.array(
                [106.9, 74.1, 67.1, 61.6, 95.1, 62.6, 71.6, 48.5, 81.5, 61.8, 61.7, 51.3, 69.8, 71.3, 47.2, 84.6]
            )
        ).max()
        < 0.6
    )


@pytest.mark.parametrize("kind", ["embed", "refine", "swap", "scene", "room"])
def test_samples_of_the_film_look_repeat(kind: str) -> None:
    first, again = (store._KINDS[kind](np.random.default_rng([5, 1]), "film") for _ in range(2))
    other = store._KINDS[kind](np.random.default_rng([5, 2]), "film")
    assert set(first) == set(again)
    for name, value in first.items():
        assert np.array_equal(value, again[name])
        assert value.shape == other[name].shape
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_pictures_are_the_same_whoever_draws_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    one = store.pictures("embed", 7, 1, "film", workers=1)
    kept = {name: np.array(value) for name, value in one.items()}
    (tmp_path / "film-embed-7-1" / "complete").unlink()  # as an interrupted drawing leaves it
    monkeypatch.setattr(store, "_CHUNK", 3)
    two = store.pictures("embed", 7, 1, "film", workers=2)
    assert sorted(two) == ["image", "inner"]
    for name, value in kept.items():
        assert np.array_equal(value, two[name])
    assert kept["inner"].shape == (7, len(names(0, "film")))
    assert [path.name for path in tmp_path.iterdir()] == ["film-embed-7-1"]


def test_what_is_visible_of_an_identity_of_the_film_look() -> None:
    people = np.stack([random_inner(np.random.default_rng(i), "film") for i in range(200)])
    seen = identity.visible(people, "film")
    at = {name: i for i, name in enumerate(names(0, "film"))}
    assert seen.shape == people.shape
    bare = people[:, at["mole"]] < -0.1
    assert bare.sum() > 50
    assert (seen[bare, at["mole_place"]] == 0.0).all()
    assert np.array_equal(seen[:, at["age"]], people[:, at["age"]])
    linear, frequencies, _, mean = identity.feature_map(look="film")
    assert (linear.shape, frequencies.shape, mean.shape) == ((36, 192), (36, 320), (512,))


def test_a_png_is_what_was_written(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 255, (13, 17, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    write_png(path, image)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (17, 13)
    at = data.index(b"IDAT")
    size = struct.unpack(">I", data[at - 4 : at])[0]
    assert struct.unpack(">I", data[at + 4 + size : at + 8 + size])[0] == zlib.crc32(data[at : at + 4 + size])
    rows = np.frombuffer(zlib.decompress(data[at + 4 : at + 4 + size]), np.uint8).reshape(13, 1 + 17 * 3)
    assert np.array_equal(rows[:, 1:].reshape(image.shape), image)
    assert list(tmp_path.iterdir()) == [path]


def test_a_curve_falls_from_left_to_right(tmp_path: Path) -> None:
    curve = [{"minutes": 0.1 * i, "step": float(i), "loss": 4.0 * 0.9**i} for i in range(40)]
    (tmp_path / "tiny_a.curve.json").write_text(json.dumps(curve))
    image = picture_file.curves(tmp_path)
    rows, columns = np.nonzero((image == (30, 70, 160)).all(2))
    assert np.corrcoef(rows, columns)[0, 1] > 0.95
    with pytest.raises(FileNotFoundError, match=r"wanted \*\.curve\.json in .*, got none; train there first"):
        picture_file.curves(tmp_path / "empty")


def test_a_detector_that_finds_nothing_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Pack()
    nobody = Found(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 5, 2)))
    monkeypatch.setattr(pack, "detect", lambda image, sizes=(640,), score=0.5: nobody)
    found = measure.detection(pack, 2)
    assert found["recall_32"] == 0.0
    assert np.isnan(found["point_error_48"])
    assert np.isnan(measure.chain(pack, 1)["cosine_mean"])


def _assign(faces: Floats, grid: tuple[Floats, Floats, Floats]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The detector's rule, one face after the other: owner of each anchor and anchors left out."""
    centres, strides, sizes = grid
    owner, left_out = np.full(len(centres), -1, np.int64), np.zeros(len(centres), np.bool_)
    for k in np.argsort(-np.prod(faces[:, 2:4] - faces[:, :2], axis=1)):
        x0, y0, x1, y1 = faces[k, :4]
        side = float(np.sqrt(max((x1 - x0) * (y1 - y0), 1.0)))
        off = np.abs(centres - np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32))
        octaves = np.abs(np.log2(side / sizes))
        fits = (octaves < 0.75) | ((side < 16.0) & (sizes == 16.0)) | ((side > 307.2) & (sizes == 512.0))
        reach = np.maximum(0.20 * side, 0.6 * strides)
        if faces[k, 14] < 0.0:
            left_out |= (off[:, 0] <= (x1 - x0) / 2) & (off[:, 1] <= (y1 - y0) / 2)
        elif faces[k, 14] > 0.0:
            owner[(off[:, 0] <= reach) & (off[:, 1] <= reach) & fits] = k
            left_out |= (off[:, 0] <= 1.5 * reach) & (off[:, 1] <= 1.5 * reach) & (octaves < 1.25)
    return owner, left_out & (owner < 0)


def test_anchors_learn_the_faces_that_the_rule_gives_them() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
    detector = pytest.importorskip("models.tiny.train.detector")
    rng, faces = np.random.default_rng(0), np.zeros((24, 6, 15), np.float32)
    for own in faces:
        for k in range(rng.integers(0, 6)):
            side, (x, y) = float(np.exp(rng.uniform(np.log(10), np.log(320)))), rng.uniform(0, 320, 2)
            own[k, :4] = max(x - side / 2, 0), max(y - side / 2, 0), min(x + side / 2, 320), min(y + side * 0.6, 320)
            own[k, 14] = rng.choice([1, 1, 1, -1])
    owner, left_out = detector.Goals(320, "cpu").owners(torch.from_numpy(faces))
    for n, own in enumerate(faces):
        expected, ignored = _assign(own, detector._grid(320))
        assert np.array_equal(owner[n].numpy(), expected)
        assert np.array_equal(left_out[n].numpy(), ignored)
