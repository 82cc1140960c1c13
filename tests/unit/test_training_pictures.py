"""Training pictures on disk: a drawing that is interrupted goes on, whoever begins it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.tiny.train import store

at_most: list[int] = []  # samples that may be drawn before Ctrl-C; empty: all


@pytest.fixture
def seven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose samples say their index, in chunks of three; the folder of seven of them."""

    def one(rng: np.random.Generator, look: str) -> store.Arrays:
        if at_most and not at_most[0]:
            raise KeyboardInterrupt
        if at_most:
            at_most[0] -= 1
        return {"number": np.asarray(rng.integers(1 << 31, size=2))}

    at_most.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(store._KINDS, "embed", one)
    monkeypatch.setattr(store, "_CHUNK", 3)
    return store.folder_of("embed", 7, 1, "film")


def draw_seven() -> npt.NDArray[np.generic]:
    return np.array(store.pictures("embed", 7, 1, "film")["number"])


def interrupted(seven: Path, samples: int) -> None:
    """Ctrl-C after so many samples, and the end of the process that drew."""
    at_most[:] = [samples]
    with pytest.raises(KeyboardInterrupt):
        draw_seven()
    assert not store.is_drawn("embed", 7, 1, "film")
    (part,) = seven.parent.glob("*.part")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    part.rename(part.with_name(f"{seven.name}.{ended.pid}.part"))


def test_an_interrupted_drawing_goes_on(seven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = draw_seven()
    shutil.rmtree(seven)
    interrupted(seven, 1 + 3 + 2)  # one to see its shape, a chunk, and two of the next
    at_most[:] = [1 + 4]
    capsys.readouterr()
    assert np.array_equal(draw_seven(), whole)
    assert "embed: goes on with 3 of 7 drawn" in capsys.readouterr().out
    assert [path.name for path in seven.parent.iterdir()] == [seven.name]
    assert sorted(path.name for path in seven.iterdir()) == ["complete", "number.npy"]


def test_a_line_that_a_kill_has_cut_counts_for_nothing(seven: Path) -> None:
    whole = draw_seven()
    shutil.rmtree(seven)
    interrupted(seven, 1 + 3)
    (part,) = seven.parent.glob("*.part")
    with (part / "done").open("a") as record:
        record.write("3 6")
    at_most[:] = [1 + 4]
    assert np.array_equal(draw_seven(), whole)


def test_what_other_code_began_is_drawn_anew(seven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(seven, 1 + 3)
    monkeypatch.setitem(store._KINDS, "embed", lambda rng, look: {"number": np.full(2, 5, np.int64)})
    assert (draw_seven() == 5).all()


def test_what_older_code_drew_is_drawn_anew(seven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_seven()
    assert store.is_drawn("embed", 7, 1, "film")
    monkeypatch.setitem(store._EDITIONS, ("embed", "film"), "2")
    monkeypatch.setitem(
        store._KINDS, "embed", lambda rng, look: {"number": np.full(2, 5, np.int64), "place": np.ones(2)}
    )
    assert not store.is_drawn("embed", 7, 1, "film")
    assert set(store.pictures("embed", 7, 1, "film")) == {"number", "place"}
    assert store.is_drawn("embed", 7, 1, "film")


def test_another_process_keeps_what_it_draws(seven: Path) -> None:
    other = seven.with_name(f"{seven.name}.{os.getppid()}.part")
    other.mkdir(parents=True)
    assert len(draw_seven()) == 7
    assert other.exists()


def test_a_drawing_that_fails_leaves_nothing(seven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store._KINDS, "embed", lambda rng, look: {"number": np.zeros(int(2 + rng.integers(9)))})
    with pytest.raises(ValueError, match="broadcast"):
        draw_seven()
    assert list(seven.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("nose:3", "store: wanted a kind of embed, refine, "),
        ("embed", "store: wanted KIND:COUNT[:SEED[:LOOK]], got 'embed'; write it so"),
        ("embed:x", "store: wanted KIND:COUNT[:SEED[:LOOK]], got 'embed:x'; write it so"),
        ("embed:3:1:oil", "store: wanted a look of classic, film, got 'oil'; name one of them"),
    ],
)
def test_what_can_not_be_drawn_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str, sentence: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["store", word])
    with pytest.raises(SystemExit):
        store.main()
    assert sentence in capsys.readouterr().err
