"""The README is executed: its Python runs as it stands there, its commands exist, its files are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from engine.__main__ import _parser
from tests.benchmark import lipsync_table
from tests.benchmark.readme_table import table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run_as_they_stand(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 2
    shutil.copytree(ROOT / "models" / "tiny" / "sample", tmp_path / "models" / "tiny" / "sample")
    (tmp_path / "out").mkdir()
    told = []
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told += done.stdout.strip().splitlines()
    assert told[0] == "0 (720, 1280) (360, 1280)"
    assert told[1].startswith("250 ")
    assert told[2] == "25 (720, 1280)"


def test_every_command_line_parses() -> None:
    lines = re.findall(r"^python -m engine (.*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        _parser().parse_args(line.split())


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`?make (\w[\w-]*)", README)) - {"no"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_linked_file_is_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_figure_is_the_committed_measurements() -> None:
    assert table() in README, "run: python -m tests.benchmark.readme_table"
    assert lipsync_table.table() in README, "run: python -m tests.benchmark.readme_table"
