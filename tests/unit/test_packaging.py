"""What an embedding application relies on: exports, light imports, our own package names, no network."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import engine

ROOT = Path(__file__).parents[2]


def test_the_public_api_is_what_all_says() -> None:
    assert engine.__all__ == ["open_lipsync", "open_pipeline", "run", "speak"]
    assert all(callable(getattr(engine, name)) for name in engine.__all__)


def test_importing_the_engine_imports_nothing_heavy() -> None:
    code = "import sys, engine; print([m for m in ('numpy', 'av', 'onnxruntime', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["engine", "kernels", "models", "profiles", "build_engines"])
def test_no_other_distribution_owns_our_package_names(package: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(package, [])) - {"face-engine"}
    assert not owners, f"{package} is also installed by {owners}: uninstall it, or our imports may find theirs"


def test_the_wheel_holds_what_the_runtime_reads_and_no_tests(tmp_path: Path) -> None:
    """Built as an installer builds it, from the files that git would check out; then listed."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info"))
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    assert not any(name.startswith("tests/") for name in held)
    for folder, patterns in {
        "kernels": ("*.cu", "*.cuh", "*.h"),
        "models": ("contracts/*.toml", "templates.toml", "tiny/*.onnx", "tiny/sample/*.mp4", "tiny/sample/*.png"),
        "models/tiny/renderer": ("*.cpp", "*.h"),
        "profiles": ("*.toml", "measured/*.json"),
        "engine": ("*.py", "stages/*.py", "backends/*.py", "video/*.py", "py.typed"),
    }.items():
        for pattern in patterns:
            wanted = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern)}
            assert wanted, (folder, pattern)
            assert wanted <= held, sorted(wanted - held)


def test_tracked_files_are_small_and_few() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: nothing is tracked here")
    sizes = {
        name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if name and (ROOT / name).exists()
    }
    assert max(sizes.values()) <= 5_000_000
    assert sum(sizes.values()) <= 25_000_000
