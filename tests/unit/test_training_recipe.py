"""The recipe of training: pack.toml and copies of it, read in whole and refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from models.tables import TableError
from models.tiny.renderer import LOOKS
from models.tiny.train import evaluate, grids, recipe, store
from models.tiny.train.recipe import PACK, Drawn, read_recipe

NETWORK = """
[{name}]
module = "embedder"
look = "film"
seed = 1
learning_rate = 1e-3
share = 0.5
figures = "embedding"
cpu = {{ minutes = 1.0, batch = 4, pictures = [{{ kind = "embed", count = 100 }}] }}
cuda = {{ minutes = 1.0, batch = 8, pictures = [{{ kind = "embed", count = 200 }}] }}
{more}
"""


def own_recipe(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text)
    return path


def test_the_recipe_knows_every_trainer_kind_look_and_group() -> None:
    networks = read_recipe().networks
    assert {each.module for each in networks.values()} == set(get_args(recipe.Module)) == set(grids.GRIDS)
    assert set(get_args(recipe.Kind)) == set(store._KINDS)
    assert set(get_args(recipe.Look)) == set(LOOKS)
    assert {each.figures for each in networks.values()} <= set(evaluate._GROUPS)
    for each in networks.values():
        source = (PACK.parent / f"{each.module}.py").read_text()
        for part in (*each.cpu.pictures, *each.cuda.pictures):
            assert f'"{part.kind}"' in source or "given.drawn" in source
        assert [p.kind for p in each.cpu.pictures] == [p.kind for p in each.cuda.pictures]


def test_no_trainer_has_numbers_of_its_own() -> None:
    for module in get_args(recipe.Module):
        source = (PACK.parent / f"{module}.py").read_text()
        assert not re.findall(r"given\.(?:count|batch|minutes) or|rate=\d", source), module
        assert f'session.arguments("{module}"' in source


def test_a_network_stands_below_those_it_learns_from() -> None:
    found = read_recipe()
    assert found.with_needed("swapper") == ("embedder", "swapper")
    assert found.with_needed("restorer") == ("embedder", "refiner", "detector", "swapper", "restorer")
    assert found.with_needed("parser") == ("parser",)
    assert found.network("judge").seed != found.network("embedder").seed


def test_samples_keep_their_ratio_and_their_looks(tmp_path: Path) -> None:
    networks = read_recipe().networks
    assert networks["detector"].drawn("cpu", "film", 1, 400) == (
        Drawn("scene", "film", 400, 1), Drawn("room", "film", 100, 1),
    )  # fmt: skip
    assert networks["detector"].drawn("cpu", "film", 1, 80)[1].count == 64
    assert networks["detector"].drawn("cpu", "film", 1, 10)[1].count == 10
    both = '[{ kind = "embed", count = 200 }, { kind = "embed", count = 100, look = "other" }] }'
    text = NETWORK.format(name="e", more="").replace('[{ kind = "embed", count = 200 }] }', both)
    text = text.replace('[{ kind = "embed", count = 100 }] }', both)
    own, other = read_recipe(own_recipe(tmp_path, text)).network("e").drawn("cuda:1", "classic", 3)
    assert (own.look, other.look, own.count, other.count, own.seed) == ("classic", "film", 200, 100, 3)
    assert networks["parser"].looks == ("film",)
    assert networks["swapper"].looks == ("film",)
    assert networks["embedder"].looks == ("classic", "film")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (NETWORK.format(name="e", more="minutes = 3"), "own.toml: e: wanted only the keys after, cpu, cuda, figures"),
        (NETWORK.format(name="e", more='after = ["x"]'), "own.toml: e.after: wanted networks that stand above it, got"),
        (NETWORK.format(name="e", more="").replace("0.5", "1.5"), "own.toml: e: share: wanted more than 0 and at most"),
        (NETWORK.format(name="e", more="").replace("1e-3", "0"), "own.toml: e: learning_rate: wanted more than 0, got"),
        (NETWORK.format(name="e", more="").replace('"embedder"', '"nose"'), "own.toml: e.module: wanted one of "),
        (NETWORK.format(name="e", more="").replace("count = 100", "count = 0"), "own.toml: e.cpu.pictures[0]: count: "),
        (NETWORK.format(name="e", more="").replace("batch = 4", "batch = 0"), "own.toml: e.cpu: batch: wanted at"),
        (NETWORK.format(name="e", more="").replace("minutes = 1.0", "minutes = 0"), "own.toml: e.cpu: minutes: wanted"),
        (NETWORK.format(name="e", more="").replace("seed = 1\n", ""), "own.toml: e: wanted the key seed, got none"),
        (
            NETWORK.format(name="e", more="").replace("count = 100", 'count = 9, look = "film"').replace(
                'look = "film"\nseed', 'look = "classic"\nseed'
            ),
            "own.toml: e: look: wanted film, which its pictures have, got classic",
        ),
        ("e = 3", "own.toml: e: wanted the table of a network, got 3; write [NAME] above its keys"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_is_told_where(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(TableError) as caught:
        read_recipe(own_recipe(tmp_path, text))
    assert str(caught.value).startswith(sentence)


def test_an_empty_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"wanted at least one network, got an empty file; copy pack\.toml"):
        read_recipe(own_recipe(tmp_path, ""))
