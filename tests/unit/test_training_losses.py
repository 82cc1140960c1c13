"""What the networks are trained by, with PyTorch: the losses' arithmetic and Muon's steps."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")

from models.tiny.train import parser, swapper, texture  # noqa: E402
from models.tiny.train.muon import Muon, hidden_weights, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(24, 90), (90, 24)])
def test_a_muon_step_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    stretched = torch.randn(shape) @ torch.diag(torch.logspace(-1.0, 1.0, shape[1]))
    values = torch.linalg.svdvals(orthogonal(stretched))
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert torch.linalg.svdvals(stretched).max() / torch.linalg.svdvals(stretched).min() > 10


def test_muon_finds_a_matrix_and_goes_on_from_its_state() -> None:
    torch.manual_seed(2)
    wanted, inputs = torch.randn(32, 32), torch.randn(256, 32)

    def left(network: Any, optimiser: Muon, steps: int) -> float:
        for _ in range(steps):
            optimiser.zero_grad()
            loss = ((network(inputs) - inputs @ wanted.T) ** 2).mean()
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    network = torch.nn.Linear(32, 32, bias=False)
    optimiser = Muon(hidden_weights(network, ()), 0.1)
    assert left(network, optimiser, 1) > 20.0
    begun = left(network, optimiser, 150)
    assert begun < 1.0
    again = torch.nn.Linear(32, 32, bias=False)
    again.load_state_dict(network.state_dict())
    later = Muon(hidden_weights(again, ()), 0.1)
    later.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert left(again, later, 20) == left(network, optimiser, 20)


def test_muon_leaves_edges_and_small_things_to_adamw() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 8, 3), torch.nn.Linear(64, 64)
    )
    assert [tuple(weight.shape) for weight in hidden_weights(network, ())] == [(16, 3, 3, 3), (64, 64)]
    assert [tuple(weight.shape) for weight in hidden_weights(network, ("3",))] == [(16, 3, 3, 3)]


@pytest.mark.parametrize("size", [3, 5, 7])
def test_detail_is_what_a_mean_leaves(size: int) -> None:
    x = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    mean = torch.nn.functional.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)
    assert torch.allclose(texture.detail(x, size), x - mean, atol=1e-6)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_a_quarter_of_the_enlarged_logits_is_what_enlarging_gives(row: int, column: int) -> None:
    logits = torch.randn(2, 19, 12, 16, generator=torch.Generator().manual_seed(4))
    whole = torch.nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert torch.allclose(parser._at_phase(logits, row, column), whole[:, :, row::2, column::2], atol=1e-5)


def test_overlap_counts_a_small_class_as_much_as_a_large_one() -> None:
    classes = torch.zeros(1, 20, 20, dtype=torch.long)
    classes[0, 4:6, 4:6] = 2
    right = torch.full((1, 19, 20, 20), -20.0).scatter_(1, classes[:, None], 20.0)
    assert parser._overlap_loss(right, classes) < 1e-3
    without = torch.full((1, 19, 20, 20), -20.0)
    without[:, 0] = 20.0
    assert 0.49 < parser._overlap_loss(without, classes) < 0.52


def test_decibels_ask_the_same_of_every_swap() -> None:
    truth, mask = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 2:6] = 1.0
    off = torch.tensor([0.4, 0.1])[:, None, None, None].expand_as(truth).clone().requires_grad_()
    told = swapper._decibels(off, truth, mask)
    by_hand = [10.0 * math.log10(value**2 * 48 / 49 / swapper._NEAR + 1.0) for value in (0.4, 0.1)]
    assert float(told.detach()) == pytest.approx(sum(by_hand) / 2, rel=1e-5)
    (slope,) = torch.autograd.grad(told, off)
    gains = (slope * off.detach()).sum((1, 2, 3))  # of the same share of each swap's error
    assert float(gains[0] / gains[1]) == pytest.approx(1.0, abs=0.06)
    assert float(slope[:, :, :2].abs().max()) == 0.0  # outside of the face
    assert float(swapper._decibels(truth, truth, mask)) == 0.0


def test_energy_is_asked_of_a_whole_face_as_a_part_of_the_truths() -> None:
    chance = torch.Generator().manual_seed(5)
    truth, mask = torch.rand(2, 3, 16, 16, generator=chance), torch.zeros(2, 1, 16, 16)
    mask[:, :, 4:12, 4:12] = 1.0

    def asked(out: Any, where: Any = mask) -> float:
        return float(texture.energy_loss(out, truth, where))

    def off(energy: float) -> Any:
        return pytest.approx(abs(math.log(texture._ENOUGH / energy)), abs=0.01)

    assert asked(texture._ENOUGH**0.5 * truth) < 0.01
    assert asked(truth) == off(1.0)
    assert asked(0.5 * truth) == off(0.25)
    mixed = torch.stack([1.2 * truth[0], 0.5 * truth[1]])  # what one face has too much, another does not get
    assert asked(mixed) == pytest.approx((off(1.44).expected + off(0.25).expected) / 2, abs=0.01)
    outside = torch.where(mask > 0.0, 0.5 * truth, 2.0 * truth)
    inner = torch.zeros_like(mask)
    inner[:, :, 5:11, 5:11] = 1.0  # where no neighbour is outside
    assert asked(outside, inner) == off(0.25)


def test_a_soft_lens_keeps_what_is_even_and_takes_a_grain_away() -> None:
    even = torch.full((2, 3, 8, 8), 0.3)
    grain = even + 0.1 * (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    shares = torch.tensor([0.0, 1.0])[:, None, None, None]
    assert torch.allclose(texture.softened(even, shares), even)
    seen = texture.softened(grain, shares)
    assert torch.equal(seen[0], grain[0])
    assert torch.allclose(seen[1, :, 1:-1, 1:-1], even[1, :, 1:-1, 1:-1], atol=1e-6)
    dot = torch.zeros(1, 3, 8, 8)
    dot[:, 1, 4, 4] = 1.0  # of one channel
    half = texture.softened(dot, torch.full((1, 1, 1, 1), 0.5))
    assert float(half[0, 1, 4, 4]) == pytest.approx(0.625)
    assert float(half[0, 1, 4, 5]) == pytest.approx(0.0625)
    assert float(half[0, 1, 5, 5]) == pytest.approx(0.03125)
    assert float(half[0, ::2].abs().max()) == 0.0
