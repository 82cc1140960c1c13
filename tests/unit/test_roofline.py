"""The roofline's counts: multiply-adds against what twins are known to cost, bytes against a file's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.contract import load_contract
from models.model_files import find, open_file
from models.twins import count_twin, write_twin
from tests.benchmark.roofline import Ceilings, Work, network_work


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("scrfd_500m_bnkps", {"image": (1, 3, 640, 640)}), ("xseg_1", {"image": (1, 256, 256, 3)})],
)
def test_multiply_adds_are_those_of_the_twins_own_count(
    name: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    counted = count_twin(name)
    work = network_work(open_file(load_contract(name), write_twin(name, tmp_path)), shapes)
    assert work.multiply_adds == pytest.approx(counted.macs, rel=0.01)
    assert work.moved_bytes > 4 * counted.parameters * 0.98


def test_four_faces_multiply_four_times_as_often_and_read_the_weights_once() -> None:
    one, four = (network_work(find("tiny_swapper"), {"target": (k, 3, 128, 128), "source": (k, 512)}) for k in (1, 4))
    assert four.multiply_adds == pytest.approx(4 * one.multiply_adds, rel=0.01)
    ends = 4 * (2 * 3 * 128 * 128 + 512)
    assert four.moved_bytes - one.moved_bytes == 3 * ends


def test_the_ceiling_that_binds_is_the_slower_one() -> None:
    held = Ceilings(gbytes_per_s=10.0, gmacs_per_s=100.0, threads=2)
    assert held.least_ms(Work(10_000_000, 10_000_000)) == pytest.approx(1.0)
    assert held.least_ms(Work(10_000_000, 500_000_000)) == pytest.approx(5.0)
    assert held.beside(Work(10_000_000, 500_000_000), 20.0)["bound_by"] == "multiply-adds"
    assert held.beside(Work(10_000_000), 2.0)["of_ceiling"] == 0.5
