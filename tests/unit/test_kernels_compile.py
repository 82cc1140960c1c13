"""The host build: its cache, its errors, and what a target promises."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kernels import compile_host, sources
from kernels.compile import HostTarget, KernelBuildError, build_library, cache_folder, kernel_names
from kernels.sources import prune, used

SMALL = ("-std=c++17", "-O0", "-fPIC", "-fopenmp")  # a build that takes a second


def test_no_compiler_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(KernelBuildError) as caught:
        build_library()
    assert str(caught.value) == (
        "kernel build: wanted one of g++, clang++, c++ on PATH, got none; "
        "install the Debian package g++ (apt install g++)"
    )


def test_a_compiler_that_cxx_names_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        KernelBuildError, match="wanted the C\\+\\+ compiler that CXX names, 'no-such-compiler', got none"
    ):
        build_library()


def test_the_compilers_words_are_in_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        KernelBuildError, match=r"(?s)kernel build: wanted the kernels compiled, got exit.*-fno-such-flag"
    ):
        build_library(("-fno-such-flag",))
    assert list(cache_folder().iterdir()) == []  # nothing half built stays


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    day = 24 * 3600.0
    now = time.time()
    for name, days in (("new.so", 0.5), ("a.so", 2), ("b.cubin", 3), ("c.so", 4)):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (now - days * day, now - 9 * day))
    (tmp_path / ".build-x").mkdir()
    assert prune(tmp_path, keep_bytes=400) == []
    used(tmp_path / "c.so")
    assert prune(tmp_path, keep_bytes=250) == [tmp_path / "b.cubin", tmp_path / "a.so"]
    assert prune(tmp_path, keep_bytes=0) == []  # both were used within the day
    assert (tmp_path / "c.so").stat().st_mtime < now - 8 * day
    used(tmp_path / "gone.so")


def test_the_cache_is_keyed_owned_and_reused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = build_library(SMALL)
    stamp = first.stat().st_mtime_ns
    assert first.parent == tmp_path / "face-engine" / "kernels"
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert build_library(SMALL) == first
    assert first.stat().st_mtime_ns == stamp
    monkeypatch.setattr(compile_host, "machine", lambda compiler: ("", "another CPU"))
    other = build_library(SMALL)
    assert other != first
    assert sorted(first.parent.iterdir()) == sorted([first, other])


def test_the_key_holds_the_cpu_and_not_the_word_native() -> None:
    flag, resolved = compile_host.machine(compile_host.find_compiler())
    if flag:
        assert "-march=" in resolved or "target-cpu" in resolved or "-mcpu=" in resolved
        assert "native" not in resolved


def test_a_cache_that_others_can_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_folder().chmod(0o777)
    with pytest.raises(KernelBuildError, match=r"writable by you alone, got owner .*, mode 777; chmod 700 "):
        cache_folder()


def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    program = (
        "import ctypes; from kernels.compile import HostTarget, build_library\n"
        f"HostTarget(1, build_library({SMALL!r})).launch('reset_candidates', (1, 1, 1), (1, 1, 1),"
        " [ctypes.c_void_p(ctypes.addressof((ctypes.c_int * 4)()))])\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=sources.FOLDER.parent, env=environment) for _ in range(2)
    ]
    assert [process.wait(timeout=240) for process in running] == [0, 0]
    assert len(list((tmp_path / "face-engine" / "kernels").iterdir())) == 1


def test_every_kernel_is_in_the_library() -> None:
    library = ctypes.CDLL(str(build_library()))
    assert len(kernel_names()) >= 20
    for name in kernel_names():
        assert hasattr(library, f"host_{name}")


def test_entry_points_are_read_from_the_source() -> None:
    text = 'extern "C" __global__ void one(const u8* a, int b) {\nextern "C" __global__ void two(Frame f) {'
    assert sources.entries(text) == [sources.Entry("one", ("const u8*", "int")), sources.Entry("two", ("Frame",))]


def test_wrong_names_and_arguments_are_refused() -> None:
    target = HostTarget(1)
    with pytest.raises(ValueError, match="launch: wanted a kernel of this package, got nothing; check its name"):
        target.launch("nothing", (1, 1, 1), (1, 1, 1), [])
    with pytest.raises(ValueError, match=r"launch reset_candidates: wanted arguments of \[8\] bytes, got \[4\]"):
        target.launch("reset_candidates", (1, 1, 1), (1, 1, 1), [ctypes.c_int(0)])
    with pytest.raises(ValueError, match="HostTarget: wanted at least one thread, got 0; divide"):
        HostTarget(0)


def test_loading_the_library_leaves_floating_point_alone() -> None:
    """A library linked with -ffast-math flushes denormal numbers to zero in the whole process."""
    HostTarget(2)
    tiny = np.float32(1e-42)
    assert tiny * np.float32(0.5) != 0
    assert np.isnan(np.float32("nan"))


def _spin(target: HostTarget, rounds: int) -> None:
    table = np.zeros((64, 65536), np.float32)
    rows, out = np.arange(64, dtype=np.int32), np.zeros_like(table)
    args = [ctypes.c_void_p(a.ctypes.data) for a in (table, rows, out)]
    for _ in range(rounds):
        target.launch("gather_rows", (64, 1, 1), (1, 1, 1), [*args, ctypes.c_int(64), ctypes.c_int(65536)])


def test_a_target_uses_its_own_number_of_threads() -> None:
    """libgomp keeps its team between launches, so the threads of the process show how many it took."""
    program = (
        "import os; from kernels.compile import HostTarget; from tests.unit.test_kernels_compile import _spin\n"
        "def threads(): return len(os.listdir('/proc/self/task'))\n"
        "before = threads(); _spin(HostTarget(1), 1); one = threads(); _spin(HostTarget(3), 1); three = threads()\n"
        "assert (one - before, three - before) == (0, 2), (before, one, three)\n"
        "assert 'GOMP_SPINCOUNT' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=sources.FOLDER.parent, check=True, timeout=120)


def test_a_launch_lets_other_threads_of_python_run() -> None:
    target = HostTarget(1)
    _spin(target, 1)
    worker = threading.Thread(target=_spin, args=(target, 60))
    worker.start()
    turns = 0
    while worker.is_alive():
        time.sleep(0)
        turns += 1
    assert turns > 20
