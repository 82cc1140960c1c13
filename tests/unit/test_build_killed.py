"""A build killed at whatever moment: what loads afterwards is whole, and the next build finishes the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.plan_file import Manifest, listed, sweep

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "build_engines", "tiny", "--arch", "sm_89", "--precision", "fp16"]


@pytest.mark.full
def test_killed_at_any_moment_only_whole_plans_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    seen: set[str] = set()
    moments = 0
    while True:
        # each build goes on where the last was killed, so that the kills fall on every model and batch
        worker = subprocess.Popen(COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            out, _ = worker.communicate(timeout=4.0 + 0.37 * (moments % 7))
            break
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.communicate()
        moments += 1
        found = listed()
        whole = {path.name for path, state in found if isinstance(state, Manifest)}
        assert seen <= whole, "a plan that was whole is gone"
        for path, state in found:
            # a plan whose manifest was not written yet is refused, and never one that has a manifest
            assert isinstance(state, Manifest) or not path.with_suffix(".json").exists(), state
        seen = whole
        assert moments < 60
    assert worker.returncode == 0
    assert moments >= 2
    rows = json.loads(out.strip().splitlines()[-1])["plans"]
    assert {row["path"] for row in rows} == {path.name for path, _ in listed()}
    sweep()
    left = [path.name for path in (tmp_path / "face-engine" / "plans").iterdir()]
    assert not [name for name in left if name.startswith(".") and name != ".lock"]


@pytest.mark.full
def test_two_builds_at_once_end_with_the_same_whole_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    workers = []
    for _ in range(2):
        workers.append(subprocess.Popen(COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
        time.sleep(0.3)
    outs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    names = [{row["path"] for row in json.loads(out.strip().splitlines()[-1])["plans"]} for out in outs]
    assert names[0] == names[1]
    assert all(isinstance(state, Manifest) for _, state in listed())
