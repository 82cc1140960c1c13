"""python -m models train: the plan of a run, every refusal, and runs whose processes are fakes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from models import training
from models.__main__ import main
from models.tiny.train import all as pack_run
from models.tiny.train import folders, jobs, store
from models.tiny.train.all import Runs
from models.tiny.train.jobs import Wish, planned
from models.tiny.train.recipe import PACK, Drawn, read_recipe


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def has_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra "train" were installed, without a GPU."""
    monkeypatch.setattr(training, "_check_extra", lambda: None)
    monkeypatch.setattr(training, "usual_device", lambda: "cpu")


def wish(out: Path, *names: str, **changes: Any) -> Wish:
    return Wish(names, out, **{"device": "cpu", **changes})


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def mark_drawn(*names: str) -> None:
    for name in names:
        folder = folders.cache_folder() / name
        folder.mkdir(parents=True)
        (folder / "complete").write_text(store.edition(name.split("-")[1], name.split("-")[0]))


def mark_trained(out: Path, name: str, look: str = "film") -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"tiny_{name}.onnx").write_bytes(b"weights")
    folders.record_path(out, name).write_text(json.dumps([{"look": look, "steps": 3, "minutes": 1.0}]))


# fakes for the processes


class Instant:
    """Stands for Runs: a process ends as soon as it begins, having done what its command says."""

    def __init__(self, folder: Path) -> None:
        self.started: list[str] = []
        made.append(self)

    def start(self, name: str, command: list[str]) -> None:
        self.started.append(name)
        if name == "draw":
            for text in command[3 : command.index("--workers")]:
                kind, count, seed, look = text.split(":")
                mark_drawn(f"{look}-{kind}-{count}-{seed}")
        elif "--as" in command:
            mark_trained(Path(option(command, "--out")).parent, name)
        else:
            told = {"share": 0.2, "swapping": {"nearer_source": 0.97}, "missed": ["bar x: wanted >= 1, got 0"]}
            (Path(option(command, "--folder")) / "tiny_swapper.figures.json").write_text(json.dumps(told))

    def busy(self) -> set[str]:
        return set()

    def stop(self) -> None:
        self.started.append("stopped")


made: list[Instant] = []


@pytest.fixture(autouse=True)
def _instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test begins a training, even where a refusal fails: runs are made of no processes; `made` lists them."""
    made.clear()
    monkeypatch.setattr(pack_run, "Runs", Instant)


# the plan of a run


def test_what_is_named_and_what_it_needs_is_planned_in_order(tmp_path: Path) -> None:
    found = planned(read_recipe(), wish(tmp_path, "swapper", "judge", minutes=3.0))
    assert [job.name for job in found] == ["embedder", "judge", "swapper"]
    by_name = {job.name: job for job in found}
    assert [job.settings.minutes for job in found] == [40.0, 3.0, 3.0]  # the embedder was not named
    command = by_name["swapper"].command
    assert command[1:3] == ["-m", "models.tiny.train.swapper"]
    assert option(command, "--out") == str(tmp_path / "tiny_swapper.onnx")
    assert option(command, "--count") == "60000"
    assert "--config" not in command
    judge = by_name["judge"].command
    assert (judge[2], option(judge, "--as"), option(judge, "--seed")) == ("models.tiny.train.embedder", "judge", "2")


def test_a_pack_divides_its_minutes_by_shares(tmp_path: Path) -> None:
    found = planned(read_recipe(), wish(tmp_path, *read_recipe().networks, total_minutes=20.0, device="cuda", steps=7))
    networks = read_recipe().networks
    assert {job.name for job in found} == set(networks)
    for job in found:
        assert job.settings.minutes == pytest.approx(20.0 * networks[job.name].share)
        assert job.settings.batch == networks[job.name].cuda.batch
        assert option(job.command, "--steps") == "7"


def test_a_share_of_the_pictures_leaves_some(tmp_path: Path) -> None:
    (job,) = planned(read_recipe(), wish(tmp_path, "detector", pictures=0.001))
    assert [each.count for each in job.settings.drawn] == [64, 64]
    (job,) = planned(read_recipe(), wish(tmp_path, "detector", pictures=0.5))
    assert [each.count for each in job.settings.drawn] == [2000, 500]


def test_a_copy_of_the_recipe_goes_to_the_trainer(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(PACK.read_text().replace("minutes = 40.0, batch = 64", "minutes = 40.0, batch = 4"))
    (job,) = planned(read_recipe(path), wish(tmp_path, "embedder"))
    assert option(job.command, "--config") == str(path)
    assert job.settings.batch == 4


def test_samples_that_two_networks_share_are_drawn_once(tmp_path: Path) -> None:
    found = planned(read_recipe(), wish(tmp_path, "parser", "occluder", "refiner"))
    mark_drawn("film-refine-12000-1")
    assert jobs.to_draw(found) == ["part:7000:1:film"]
    mark_trained(tmp_path, "parser")
    mark_trained(tmp_path, "occluder")
    assert jobs.to_draw(found) == []


def test_jobs_wait_for_their_pictures_and_for_each_other(tmp_path: Path) -> None:
    found = planned(read_recipe(), wish(tmp_path, "swapper", "detector", device="cuda"))

    def ready(*busy: str, alone: bool = False) -> list[str]:
        return [job.name for job in pack_run.ready(pack_run.Order(found, 1, alone), set(busy))]

    assert ready() == []
    mark_drawn("film-embed-60000-1", "film-swap-40000-1")
    assert ready() == ["embedder"]
    assert ready("embedder") == []
    mark_trained(tmp_path, "embedder")
    assert ready() == ["swapper"]
    mark_drawn("film-scene-12000-1")
    assert ready() == ["swapper"]
    mark_drawn("film-room-3000-1")
    assert ready() == ["detector", "swapper"]
    assert ready(alone=True) == ["detector"]
    assert ready("draw", alone=True) == ["detector"]
    assert ready("refiner", alone=True) == []


# refusals


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", *words]) == 2
    return capsys.readouterr().err.strip()


def test_without_pytorch_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    assert refused(capsys, "parser") == (
        "train: wanted the packages torch, onnx, cv2 to train a network, got no torch; "
        "install them with pip install 'face-engine[train]'"
    )


def test_a_name_that_nobody_knows_is_answered_with_all(capsys: pytest.CaptureFixture[str], has_extra: None) -> None:
    assert re.fullmatch(
        r".*pack\.toml: wanted one of embedder, judge, .*restorer, got 'nose'; correct the name",
        refused(capsys, "nose"),
    )


def test_a_gpu_that_is_not_there_is_not_papered_over(capsys: pytest.CaptureFixture[str], has_extra: None) -> None:
    assert refused(capsys, "parser", "--device", "cuda") == (
        "train: wanted a CUDA device that PyTorch can use, got none; give --device cpu"
    )


def test_candidates_never_go_over_the_committed_weights(capsys: pytest.CaptureFixture[str], has_extra: None) -> None:
    said = refused(capsys, "parser", "--out", str(folders.PACKAGED))
    assert said.startswith("train: wanted a folder of its own for candidates, got ")
    with pytest.raises(SystemExit):
        pack_run.main(["--out", str(folders.PACKAGED)])
    assert "with the committed weights; name another" in capsys.readouterr().err


def test_labels_of_one_look_alone_are_not_asked_of_the_other(
    capsys: pytest.CaptureFixture[str], has_extra: None
) -> None:
    assert refused(capsys, "parser", "--look", "classic") == (
        "train: wanted parser in the look film, which its labels are drawn in, got classic; leave --look out"
    )


def test_a_folder_is_of_one_look(tmp_path: Path, capsys: pytest.CaptureFixture[str], has_extra: None) -> None:
    mark_trained(tmp_path, "embedder", "classic")
    assert refused(capsys, "swapper", "--out", str(tmp_path)) == (
        f"train: wanted networks of one look in {tmp_path}, got classic and film; "
        "name another folder with --out, or one look with --look"
    )


def test_other_settings_do_not_go_on_with_what_was_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_extra: None
) -> None:
    (job,) = planned(read_recipe(), wish(tmp_path, "parser", minutes=2.0))
    jobs.write_plan(job)
    jobs.check_plan(job)
    said = refused(capsys, "parser", "--out", str(tmp_path), "--minutes", "3")
    assert said == (
        f"train: wanted {tmp_path / 'tiny_parser.plan.json'} to say minutes 3.0, got 2.0; repeat the command that "
        "began there, name another folder with --out, or remove tiny_parser.* there"
    )
    said = refused(capsys, "parser", "--out", str(tmp_path), "--minutes", "2", "--pictures", "0.5")
    assert "to say drawn 3500 part of the film look, got 7000 part of the film look; " in said


# runs


def test_a_run_draws_trains_measures_and_says_how_to_use_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_extra: None
) -> None:
    out = tmp_path / "out"
    assert main(["train", "swapper", "--out", str(out)]) == 0
    assert made[0].started == ["draw", "embedder", "swapper", "swapper.artefacts"]
    said = capsys.readouterr().out
    assert "Ctrl-C pauses, and the same command goes on where it was" in said
    assert re.search(r"nearer_source +0\.97", said)
    assert "  missed: bar x: wanted >= 1, got 0\n" in said
    for name in ("embedder", "swapper"):
        assert f"python -m models add {out / f'tiny_{name}.onnx'} --as tiny_{name}" in said
    assert main(["train", "swapper", "--out", str(out)]) == 0  # all is there
    assert made[1].started == []
    said = refused(capsys, "swapper", "--out", str(out), "--minutes", "5")
    assert "to say minutes 5.0, got 150.0; " in said


def test_a_pause_is_said_and_has_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_extra: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Instant) -> set[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Instant, "busy", interrupted)
    assert main(["train", "parser", "--out", str(tmp_path / "out")]) == 130
    assert made[0].started == ["draw", "stopped"]
    assert capsys.readouterr().out.strip().endswith("the same command goes on")
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_dry_run_prints_commands_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["train", "swapper", "--out", str(out), "--dry-run", "--device", "cuda", "--steps", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"into {out}"
    assert any(
        line.startswith("  python -m models.tiny.train.store embed:60000:1:film swap:40000:1:film") for line in lines
    )
    assert "swapper: 9 steps or 10 min, 48 samples a step, rate 0.002, after embedder" in lines
    assert any(line.startswith("  python -m models.tiny.train.swapper --as swapper --look film") for line in lines)
    assert not out.exists()


def test_the_whole_pack_is_measured_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "all", "--out", str(tmp_path), "--dry-run", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    for name in read_recipe().networks:
        assert f"--as {name} " in said
    assert re.search(r"models\.tiny\.train\.evaluate .*--folder", said)
    assert main(["train", "all", "--out", str(tmp_path), "--dry-run", "--device", "cpu", "--look", "classic"]) == 0
    said = capsys.readouterr().out
    assert "--as parser " not in said
    assert "--as swapper " not in said
    assert "--as embedder --look classic" in said


def test_the_default_folder_is_the_users_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "parser", "--dry-run", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith(f"into {tmp_path / 'cache' / 'face-engine' / 'tiny-trained' / 'film'}\n")


def test_a_pack_that_was_trained_again_is_measured_again(tmp_path: Path) -> None:
    found = planned(read_recipe(), wish(tmp_path, *pack_run._WHOLE))
    order = pack_run.Order(found, 1, True, after=pack_run.measuring(found, 0.1, 1))
    assert pack_run.follow(order)
    assert pack_run.follow(order)
    assert [each.started[-2:] for each in made] == [["pictures", "measure"], []]
    later = time.time() + 10.0
    mark_trained(tmp_path, "refiner")
    os.utime(folders.record_path(tmp_path, "refiner"), (later, later))
    assert pack_run.follow(order)
    assert made[2].started == ["pictures", "measure"]


# real processes


def until_idle(runs: Runs) -> None:
    for _ in range(600):
        if not runs.busy():
            return
        time.sleep(0.05)


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Runs(tmp_path)
    runs.start("good", [sys.executable, "-c", "print('fine', flush=True); import time; time.sleep(0.4)"])
    until_idle(runs)
    runs.start("bad", [sys.executable, "-c", "raise SystemExit('no such picture')"])
    with pytest.raises(SystemExit, match=r"wanted bad to end well, got exit code 1; its last words:\nno such picture"):
        until_idle(runs)
    assert capsys.readouterr().out.count("\nfine\n") == 1  # logs are shown as they grow, each line once


def test_stopping_asks_first(tmp_path: Path) -> None:
    runs, proof = Runs(tmp_path), tmp_path / "paused"
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


# with PyTorch only


def given_for(session: Any, monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", [name, *words])
    found: argparse.Namespace = session.arguments(name)
    return found


def test_a_trainer_takes_from_the_recipe_what_no_option_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
    session = pytest.importorskip("models.tiny.train.session")
    judge = read_recipe().network("judge")
    given = given_for(session, monkeypatch, "embedder", "--as", "judge", "--device", "cpu")
    assert (given.seed, given.batch, given.minutes) == (judge.seed, judge.cpu.batch, judge.cpu.minutes)
    assert given.drawn == (Drawn("embed", "film", judge.cpu.pictures[0].count, judge.seed),)
    assert given.out == folders.trained_folder("film") / "tiny_judge.onnx"
    given = given_for(
        session, monkeypatch, "embedder", "--device", "cpu", "--count", "9", "--seed", "0", "--batch", "2"
    )
    assert [(each.kind, each.count, each.seed) for each in given.drawn] == [("embed", 9, 0), ("swap", 9, 0)]
    assert (given.seed, given.batch) == (0, 2)
    for words, sentence in (
        (["--as", "swapper"], "wanted a network of the module embedder in --as, got swapper of swapper"),
        (["--as", "nose"], "wanted one of embedder, judge, "),
    ):
        with pytest.raises(SystemExit):
            given_for(session, monkeypatch, "embedder", *words)
        assert sentence in capsys.readouterr().err


def test_a_paused_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
    session = pytest.importorskip("models.tiny.train.session")
    given = argparse.Namespace(
        minutes=10.0, steps=6, seed=1, look="film", out=tmp_path / "net.onnx", device="cpu", rate=1.0, resume=None,
        threads=1, learning_rate=0.01, batch=1, drawn=(Drawn("embed", "film", 3, 1),),
    )  # fmt: skip
    seen: list[int] = []
    other = tmp_path / "other.pt"

    def step(network: object, at: Any) -> dict[str, object]:
        seen.append(at.done)
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
            session.run("net", given, torch.nn.Conv2d(2, 2, 1), step, lambda network, path: path.touch())
            assert given.out.exists() == (len(seen) > 3)
            if len(seen) == 3:
                shutil.copy(tmp_path / "net.paused.pt", other)
    finally:
        session._Run = real
    assert seen == [0, 1, 2, 3, 4, 5]
    record = json.loads((tmp_path / "net.json").read_text())[0]
    assert (record["steps"], record["learning_rate"], record["drawn"]) == (6, 0.01, ["3 embed, film"])
    assert not (tmp_path / "net.paused.pt").exists()
    given.out, given.resume = tmp_path / "next.onnx", other  # another run may start from a paused one
    session.run("net", given, torch.nn.Conv2d(2, 2, 1), step, lambda network, path: path.touch())
    assert [each["steps"] for each in json.loads((tmp_path / "next.json").read_text())] == [3, 6]
