"""Training on drawn faces: data that does not depend on who drew it, runs that pause, files that are whole."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.tiny import measure
from models.tiny.pack import FOLDER, Found, Pack
from models.tiny.renderer import names, random_inner
from models.tiny.renderer.png import write_png
from models.tiny.train import all as whole
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


def _given(out: Path, **changes: object) -> argparse.Namespace:
    values = {"out": out, "look": "film", "minutes": 20.0, "device": "cuda", "pictures": 0.1, "one_by_one": False}
    return argparse.Namespace(**{**values, **changes})


def test_candidates_never_go_over_the_committed_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["all", "--out", str(FOLDER)])
    with pytest.raises(SystemExit):
        whole.arguments()
    assert "wanted a folder of its own for candidates, got" in capsys.readouterr().err


def test_a_folder_is_for_one_plan(tmp_path: Path) -> None:
    whole._plan(_given(tmp_path))
    whole._plan(_given(tmp_path))
    with pytest.raises(SystemExit, match="name an empty folder or repeat that command"):
        whole._plan(_given(tmp_path, look="classic"))


def test_jobs_wait_for_their_pictures_and_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "cache")
    given = _given(tmp_path)

    def ready(busy: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        return [job.name for job in whole._ready(given, set(busy))]

    def drawn(kind: str, count: int, seed: int = 1) -> None:
        folder = tmp_path / "cache" / f"film-{kind}-{count}-{seed}"
        folder.mkdir(parents=True)
        (folder / "complete").touch()

    assert ready() == []
    drawn("embed", 6000)
    drawn("swap", 4000)
    assert ready() == ["embedder"]
    assert ready({"embedder"}) == []
    (tmp_path / "tiny_embedder.json").write_text("[]")
    assert ready() == ["swapper"]
    drawn("scene", 1200)
    assert ready() == ["swapper"]
    drawn("room", 300)
    assert ready() == ["detector", "swapper"]
    given.one_by_one = True
    assert ready() == ["detector"]
    assert ready({"refiner"}) == []


def test_the_swapper_learns_from_the_embedder_of_the_same_run(tmp_path: Path) -> None:
    words = {job.name: whole._command(_given(tmp_path), job) for job in whole.JOBS}
    assert words["swapper"][words["swapper"].index("--count") + 1] == "4000"
    assert words["judge"][words["judge"].index("--seed") + 1] == "2"
    outs = {command[command.index("--out") + 1] for command in words.values()}
    assert outs == {str(tmp_path / f"tiny_{job.name}.onnx") for job in whole.JOBS}
    assert "--batch" not in whole._command(_given(tmp_path, device="cpu"), whole.JOBS[0])


def _until_idle(runs: whole.Runs) -> None:
    for _ in range(600):
        if not runs.busy():
            return
        time.sleep(0.05)


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    runs = whole.Runs(tmp_path)
    runs.start("good", [sys.executable, "-c", "print('fine')"])
    runs.start("bad", [sys.executable, "-c", "raise SystemExit('no such picture')"])
    with pytest.raises(SystemExit, match=r"wanted bad to end well, got exit code 1; its last words:\nno such picture"):
        _until_idle(runs)


def test_stopping_asks_first(tmp_path: Path) -> None:
    runs, proof = whole.Runs(tmp_path), tmp_path / "paused"
    code = (
        "import signal, sys, time, pathlib\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(proof)!r}).touch(), sys.exit(0)))\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    runs.start("slow", [sys.executable, "-c", code])
    for _ in range(600):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.05)
    assert runs.busy() == {"slow"}
    runs.stop()
    assert proof.exists()
    assert runs.busy() == set()


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


def test_a_paused_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
    session = pytest.importorskip("models.tiny.train.session")
    given = argparse.Namespace(
        minutes=10.0, steps=6, seed=1, look="film", out=tmp_path / "net.onnx", device="cpu", rate=1.0, resume=None,
        threads=1,
    )  # fmt: skip
    seen: list[int] = []

    def step(network: object, done: int) -> dict[str, object]:
        seen.append(done)
        if len(seen) == 3:
            runs[-1]._on_stop(15, None)
        return {"loss": (network(torch.ones(1, 2, 4, 4)) ** 2).mean()}  # type: ignore[operator]

    runs: list[Any] = []
    real = session._Run

    def remembered(*words: object) -> object:
        runs.append(real(*words))
        return runs[-1]

    session._Run = remembered
    try:
        for _ in range(2):
            session.run("net", given, torch.nn.Conv2d(2, 2, 1), step, lambda network, path: path.touch(), rate=0.01)
            assert given.out.exists() == (len(seen) > 3)
    finally:
        session._Run = real
    assert seen == [0, 1, 2, 3, 4, 5]
    assert json.loads((tmp_path / "net.json").read_text())[0]["steps"] == 6
    assert not (tmp_path / "net.paused.pt").exists()
