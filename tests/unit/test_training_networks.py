"""Every network of the recipe, with PyTorch: it trains, pauses, goes on, and its file is a sound one."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.contract import contract_names, load_contract
from models.model_files import open_file
from models.tiny.train.recipe import read_recipe

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("default")]  # the exporter's own warnings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder and one cache for all: swapper and restorer learn from what stands above them in the recipe."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("pack")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.mark.parametrize("name", read_recipe().networks)
def test_it_trains_pauses_goes_on_and_exports(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
    session = importlib.import_module("models.tiny.train.session")
    trainer = importlib.import_module(f"models.tiny.train.{read_recipe().network(name).module}")
    out = home / f"tiny_{name}.onnx"
    words = ["--as", name, "--device", "cpu", "--count", "4", "--batch", "2", "--steps", "4", "--minutes", "30"]
    monkeypatch.setattr(sys, "argv", ["train", *words, "--out", str(out)])
    real, steps = session._Run, []

    class Stopping(real):  # type: ignore[misc, valid-type]
        """A run that somebody stops after its second step."""

        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            self._update, self.average.update = self.average.update, self._count

        def _count(self) -> None:
            self._update()
            steps.append(self.progress.done)
            self._stopped = len(steps) == 2

    monkeypatch.setattr(session, "_Run", Stopping)
    trainer.main()
    assert not out.exists()
    paused = {path.name for path in home.glob(f"tiny_{name}.*")}
    assert paused == {f"tiny_{name}.paused.pt"}
    trainer.main()
    assert steps == [0, 1, 2, 3]
    (record,) = json.loads((home / f"tiny_{name}.json").read_text())
    assert (record["steps"], record["seed"]) == (4, read_recipe().network(name).seed)
    curve = json.loads((home / f"tiny_{name}.curve.json").read_text())
    assert [entry["step"] for entry in curve] == [1, 2, 4]
    assert np.isfinite([entry["loss"] for entry in curve]).all()
    onnx.checker.check_model(onnx.load(out), full_check=True)
    if f"tiny_{name}" in contract_names():
        assert open_file(load_contract(f"tiny_{name}"), out).sha256
