"""What a trained network leaves beside its file, made from the packaged weights: no PyTorch is needed for it."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.tiny.train import artefacts, evaluate, grids
from models.tiny.train.artefacts import Trained
from models.tiny.train.folders import PACKAGED, packaged_look, record_path
from models.tiny.train.picture_file import comparable
from models.tiny.train.recipe import Look, read_recipe

OTHER: dict[str, Look] = {"classic": "film", "film": "classic"}


def trained(folder: Path, name: str, look: str | None = None) -> Trained:
    """A network in a folder, whose file is the packaged one of its module."""
    network = read_recipe().network(name)
    (folder / f"tiny_{name}.onnx").symlink_to(PACKAGED / f"tiny_{network.module}.onnx")
    curve = [{"minutes": 0.1 * i, "step": float(i), "loss": 4.0 * 0.9**i} for i in range(9)]
    (folder / f"tiny_{name}.curve.json").write_text(json.dumps(curve))
    return Trained(folder, name, network, look or packaged_look())


def target(folder: Path, name: str) -> Path:
    return (folder / f"tiny_{name}.onnx").readlink()


def coloured(image: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(-1).sum())


def test_a_network_is_measured_with_what_it_learnt_from_and_packaged_files_else(tmp_path: Path) -> None:
    swapper = trained(tmp_path, "swapper")
    (tmp_path / "tiny_swapper.onnx").unlink()
    for name in ("swapper", "embedder", "detector", "judge"):
        (tmp_path / f"tiny_{name}.onnx").write_bytes(name.encode())
    with artefacts.beside_the_packaged(swapper) as folder:
        assert target(folder, "embedder") == tmp_path / "tiny_embedder.onnx"
        assert target(folder, "judge") == tmp_path / "tiny_judge.onnx"
        assert not (folder / "tiny_detector.onnx").exists()  # swaps are measured without one
        assert target(folder, "swapper") == tmp_path / "tiny_swapper.onnx"
    assert not folder.exists()
    (tmp_path / "tiny_embedder.onnx").unlink()
    (tmp_path / "tiny_judge.onnx").unlink()
    with artefacts.beside_the_packaged(swapper) as folder:
        assert target(folder, "embedder") == PACKAGED / "tiny_embedder.onnx"
        assert not (folder / "tiny_judge.onnx").exists()
    judge = trained(tmp_path, "judge")
    (tmp_path / "tiny_judge.onnx").unlink()
    (tmp_path / "tiny_judge.onnx").write_bytes(b"judge")
    with artefacts.beside_the_packaged(judge) as folder:
        assert target(folder, "embedder") == tmp_path / "tiny_judge.onnx"  # measured as an embedder is
        assert [path.name for path in folder.glob("*.curve.json")] == ["tiny_judge.curve.json"]


def test_figures_wait_for_what_they_read(tmp_path: Path) -> None:
    refiner = trained(tmp_path, "refiner", OTHER[packaged_look()])
    assert artefacts.why_no_figures(refiner) == f"no detector of the {OTHER[packaged_look()]} look there"
    (tmp_path / "tiny_detector.onnx").touch()
    assert artefacts.why_no_figures(refiner) == ""
    odd = dataclasses.replace(refiner, network=dataclasses.replace(refiner.network, figures="noses"))
    assert artefacts.why_no_figures(odd) == (
        f"models.tiny.train.evaluate has no group noses, only {', '.join(evaluate._GROUPS)}"
    )


def test_curve_grid_and_figures_lie_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = trained(tmp_path, "embedder")
    record_path(tmp_path, "embedder").write_text(json.dumps([{"look": packaged_look()}]))
    monkeypatch.setattr(
        sys, "argv", ["artefacts", "--folder", str(tmp_path), "--network", "embedder", "--share", "0.03"]
    )
    artefacts.main()
    told = json.loads((tmp_path / "tiny_embedder.figures.json").read_text())
    assert told["share"] == 0.03
    assert told["embedding"]["eer"] < 0.1
    assert told["missed"] == artefacts._missed(one, told["embedding"])
    worse = artefacts._missed(one, {"eer": 0.4})
    assert [re.sub(r"[\d.]+, ", "_, ", words) for words in worse] == [
        "bar embedding.eer: wanted <= _, got 0.4", "wish embedding.eer: wanted <= _, got 0.4",
    ]  # fmt: skip
    assert f"eer {'':<24} {told['embedding']['eer']}" in capsys.readouterr().out
    for ending in ("curve", "grid"):
        assert (tmp_path / f"tiny_embedder.{ending}.png").read_bytes()[:4] == b"\x89PNG"


def shown(tmp_path: Path, name: str) -> npt.NDArray[np.uint8]:
    one = trained(tmp_path, name)
    with artefacts.beside_the_packaged(one) as folder:
        return grids.GRIDS[one.network.module](folder, one.look)


def test_a_grid_of_people_tells_right_from_wrong(tmp_path: Path) -> None:
    image = shown(tmp_path, "embedder")
    assert image.shape == (4 * 112, 12 * 112, 3)
    assert coloured(image, grids._GREEN) > 10 * coloured(image, grids._RED)
    assert coloured(image, grids._GREEN) > 20 * 1200  # of the 40 nearest pictures


def test_a_grid_of_crops_has_found_points_on_true_ones(tmp_path: Path) -> None:
    image = shown(tmp_path, "refiner")
    assert image.shape == (3 * 192, 8 * 192, 3)
    found = coloured(image, grids._GREEN)
    assert 24 * 5 * 2 < found <= 24 * 5 * 4
    assert coloured(image, grids._WHITE) < 0.8 * found  # most true points lie under the found ones


@pytest.mark.full
def test_a_grid_of_mouths_moves_from_the_templates_to_the_true_ones(tmp_path: Path) -> None:
    image = shown(tmp_path, "lipsync")
    assert image.shape == (4 * 96, 12 * 96, 3)
    before, out, truth = (image.reshape(4, 96, 4, 3, 96, 3)[:, :, :, n].astype(int) for n in (0, 1, 2))
    assert np.abs(out - truth).mean() < 0.8 * np.abs(before - truth).mean()


def test_a_row_that_ends_early_is_black() -> None:
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3)]
    assert grids.tiled(pictures, 2)[:, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]]


def test_a_curve_is_drawn_where_its_losses_are_the_same() -> None:
    def report(step: int, *names: str) -> dict[str, float]:
        return {"minutes": 0.1 * step, "step": float(step), "loss": 1.0, **dict.fromkeys(names, 0.5)}

    reads = [report(i, "points") for i in range(3)]
    paints = [report(i, "points", "pixel") for i in range(3, 9)]
    polishes = [report(i, "points", "pixel", "energy") for i in range(9, 12)]
    assert comparable([*reads, *paints, *polishes]) == paints[1:]
    assert comparable(reads) == reads
    assert comparable(reads[:1]) == reads[:1]
