"""Plans are native code: whatever is not exactly what was built here is refused before a byte is used."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.plan_file import (
    Manifest,
    PlanError,
    PlanKey,
    discard,
    listed,
    load_constants,
    load_plan,
    plan_folder,
    sweep,
    write_plan,
)

REBUILD = "run: python -m build_engines tiny"
KEY = PlanKey(
    contract="inswapper_128",
    contract_sha256="c" * 64,
    onnx_sha256="a" * 64,
    precision="fp16",
    shapes={"target": (1, 3, 128, 128), "source": (1, 512)},
    flavour="tensorrt_rtx",
    flavour_version="1.7.1.116",
    arch="sm_89",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def manifest(plan: bytes, key: PlanKey = KEY) -> Manifest:
    import hashlib

    return Manifest(
        key, hashlib.sha256(plan).hexdigest(), len(plan), {"target": "target"}, {"output.psnr_db": 51.0}, "simulated"
    )


def written(plan: bytes = b"native code" * 100, key: PlanKey = KEY) -> Path:
    return write_plan(plan, manifest(plan, key))


def test_what_was_written_is_what_is_loaded() -> None:
    path = written()
    plan, said = load_plan(KEY, REBUILD)
    assert plan == b"native code" * 100
    assert said == manifest(plan)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(one.name for one in path.parent.iterdir() if one.suffix) == [f"{KEY.stem}.json", f"{KEY.stem}.plan"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _vanish(path: Path) -> None:
    path.unlink()


def _rename(path: Path) -> None:
    other = dataclasses.replace(KEY, precision="int8")
    stem = other.stem
    path.rename(path.with_name(f"{stem}.plan"))
    path.with_suffix(".json").rename(path.with_name(f"{stem}.json"))


def _break_manifest(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def _unknown_field(path: Path) -> None:
    table = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**table, "more": 1}))


def _open_plan(path: Path) -> None:
    path.chmod(0o666)


def _open_folder(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("spoil", "key", "sentence"),
    [
        (_truncate, KEY, r"\.plan: wanted 1100 bytes, got 1099; run: python -m build_engines tiny$"),
        (_flip, KEY, r"\.plan: wanted the SHA-256 \w{12}, got \w{12}; run: python -m build_engines tiny$"),
        (_vanish, KEY, r"\.plan: wanted the plan of its manifest, got No such file or directory; run: "),
        (_rename, dataclasses.replace(KEY, precision="int8"), r"\.json: wanted the name .*-fp16-.*, got .*-int8-.*; "),
        (_break_manifest, KEY, r"\.json: wanted a manifest, got Expecting .*; run: "),
        (_unknown_field, KEY, r"wanted a manifest, got .*wanted only the keys .*, got more; .*; run: "),
        (
            _open_plan,
            KEY,
            r"\.plan: wanted a file of user \d+ that nobody else can write, got mode 666 of user \d+; plans",
        ),
        (_open_folder, KEY, r"wanted a folder that only you can write, got mode 777; plans are native code: chmod"),
    ],
)
def test_what_was_spoiled_is_refused_with_the_command_that_rebuilds(
    spoil: Callable[[Path], None], key: PlanKey, sentence: str
) -> None:
    spoil(written())
    with pytest.raises(PlanError, match=sentence):
        load_plan(key, REBUILD)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"arch": "sm_120"}, r"wanted arch sm_120, got sm_89; run: "),
        ({"flavour": "tensorrt"}, r"wanted flavour tensorrt, got tensorrt_rtx; run: "),
        ({"flavour_version": "1.8"}, r"wanted flavour_version 1\.8, got 1\.7\.1\.116; run: "),
        ({"onnx_sha256": "b" * 64}, r"wanted onnx_sha256 b{12}, got a{12}; run: "),
        ({"contract_sha256": "b" * 64}, r"wanted contract_sha256 b{12}, got c{12}; run: "),
        ({"contract": "det_10g"}, r"^plan for det_10g: wanted one for fp16 on sm_89, got none in .*; run: "),
    ],
)
def test_what_was_built_for_something_else_is_refused_with_the_field(change: dict[str, str], sentence: str) -> None:
    written()
    with pytest.raises(PlanError, match=sentence):
        load_plan(dataclasses.replace(KEY, **change), REBUILD)  # type: ignore[arg-type]


def test_a_plan_given_another_plans_manifest_is_refused() -> None:
    one = written()
    other = written(b"other code", dataclasses.replace(KEY, arch="sm_120"))
    one.write_bytes(other.read_bytes())
    with pytest.raises(PlanError, match="wanted 1100 bytes, got 10; run: "):
        load_plan(KEY, REBUILD)


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    written()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PlanError, match="wanted a folder owned by user 12345, got one of user"):
        load_plan(KEY, REBUILD)


def test_a_build_that_is_killed_leaves_nothing_that_loads(tmp_path: Path) -> None:
    code = """
import os, signal, sys
import models.plan_file as files
from tests.unit.test_plans import KEY, manifest
real = files.write_whole
def kill_after(path, content):
    if path.suffix == sys.argv[1]:
        handle = open(path.with_name(files._TEMPORARY + path.name + ".cut"), "wb")
        handle.write(content[: len(content) // 2]); handle.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, content)
files.write_whole = kill_after
files.write_plan(b"new code" * 50, manifest(b"new code" * 50))
"""
    written()
    for suffix in (".plan", ".json"):
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code, suffix], cwd=root, check=False)
        assert done.returncode == -9
        with pytest.raises(PlanError):
            load_plan(KEY, REBUILD)
    plan_folder().joinpath(".not-ours").touch()
    assert sweep() == 2
    assert sweep() == 0
    assert plan_folder().joinpath(".not-ours").exists()
    written()
    assert load_plan(KEY, REBUILD)[0] == b"native code" * 100


def test_two_builds_at_once_leave_one_whole_plan() -> None:
    plans = [bytes([n]) * (1000 + n) for n in range(4)]

    def build(plan: bytes) -> None:
        for _ in range(20):
            written(plan)

    workers = [threading.Thread(target=build, args=(plan,)) for plan in plans]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert load_plan(KEY, REBUILD)[0] in plans


def test_the_list_names_what_is_whole_and_what_is_not() -> None:
    whole = written()
    spoiled = written(b"other", dataclasses.replace(KEY, arch="sm_120"))
    _flip(spoiled)
    states = {path.name: isinstance(state, Manifest) for path, state in listed()}
    assert states == {whole.name: True, spoiled.name: False}
    discard(spoiled)
    assert [path for path, _ in listed()] == [whole]
    assert not plan_folder().joinpath(spoiled.name).exists()


def test_what_lies_beside_the_network_is_kept_checked_and_removed_with_its_plan() -> None:
    emap = np.arange(16, dtype=np.float32).reshape(4, 4)
    plan = b"native code"
    path = write_plan(plan, manifest(plan), {"emap": emap})
    _, said = load_plan(KEY, REBUILD)
    np.testing.assert_array_equal(load_constants(said, REBUILD)["emap"], emap)
    beside = path.with_suffix(".emap.npy")
    _flip(beside)
    assert [type(state) for _, state in listed()] == [PlanError]
    with pytest.raises(PlanError, match=r"\.emap\.npy: wanted the SHA-256 \w{12}, got \w{12}; run: "):
        load_constants(said, REBUILD)
    beside.unlink()
    with pytest.raises(PlanError, match=r"\.emap\.npy: wanted the emap of its plan, got No such file"):
        load_constants(said, REBUILD)
    write_plan(plan, manifest(plan), {"emap": emap})
    discard(path)
    assert not list(plan_folder().glob(f"{KEY.stem}*"))
