"""A prepare killed at whatever moment: nothing wrong opens afterwards, and the next one finishes the work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.template.folder import open_template
from engine.template.template import Template
from profiles.profile import Profile, load_profile
from tests.clips import cut_out

ROOT = Path(__file__).parents[2]
PREPARE = """
import sys
import models
from engine.template.prepare import prepare
from profiles.profile import load_profile
print(prepare(sys.argv[1], load_profile(sys.argv[2]), folder=sys.argv[3]).digest)
"""
PROFILE = """
name = "killed"
task = "lipsync"
says = "a test"
backend = "cpu"
threads = 1
[models]
detector = "tiny_detector"
embedder = "tiny_embedder"
lipsync = "wav2lip_96"
[detect]
size_px = 320
second_pass_px = 0
"""


@pytest.fixture
def clip(tmp_path: Path, sample: Path) -> Path:
    return cut_out(sample / "clip.mp4", tmp_path / "in.mp4", start=0, count=160, size=(640, 360))


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "killed.toml"
    path.write_text(PROFILE)
    return path


def start(clip: Path, profile: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(clip), str(profile), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})


def opened(folder: Path, profile: Profile) -> Template | None:
    try:
        return open_template(folder, profile)
    except InputError as error:
        if "wanted a prepared template, got a folder without one" in str(error):
            return None
        raise


@pytest.mark.full
def test_killed_at_any_moment_nothing_wrong_opens(tmp_path: Path, clip: Path, profile: Path) -> None:
    one = load_profile(profile)
    whole, _ = start(clip, profile, tmp_path / "whole").communicate()
    folder = tmp_path / "killed"
    folder.mkdir()
    moments, chunks = 0, 0
    while True:
        # each goes on where the last was killed, so that the kills fall on every part of the work
        worker = start(clip, profile, folder)
        try:
            out, _ = worker.communicate(timeout=1.5 + 0.37 * (moments % 7))
            break
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.communicate()
        moments += 1
        there = len(list(folder.glob("faces-*.npz")))
        assert there >= chunks, "a chunk that was whole is gone"
        chunks = there
        template = opened(folder, one)
        assert template is None or template.digest == whole.strip()
        assert moments < 60
    assert worker.returncode == 0
    assert moments >= 2
    assert out == whole
    template = opened(folder, one)
    assert template is not None
    assert template.digest == whole.strip()
    assert not list(folder.glob(".face-engine-*"))


@pytest.mark.full
def test_two_at_once_end_with_the_same_template(tmp_path: Path, clip: Path, profile: Path) -> None:
    workers = []
    for _ in range(2):
        workers.append(start(clip, profile, tmp_path / "both"))
        time.sleep(0.3)
    outs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    # the second waited, and says so before the digest
    assert outs[0].splitlines()[-1] == outs[1].splitlines()[-1]
    template = opened(tmp_path / "both", load_profile(profile))
    assert template is not None
    assert template.digest == outs[0].splitlines()[-1]
