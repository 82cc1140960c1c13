"""Muon: momentum whose update of a matrix is made orthogonal, so that every direction of a layer learns equally fast.

Published by Keller Jordan (2024) for the hidden layers of networks; what is no matrix, or a small one, and the layers
that a network names as its edges stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)  # the published coefficients: singular values go to 0.7..1.2 in five rounds
_ROUNDS = 5
_SMALLEST = 16  # rows or columns below which there is nothing to make orthogonal


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix [m,n] whose singular values are all about one, by a Newton-Schulz iteration in bfloat16."""
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


def hidden_weights(network: nn.Module, edges: Iterable[str]) -> list[nn.Parameter]:
    """The weights that Muon trains: matrices of size, flattened from their second dimension on, not below `edges`."""
    skip = tuple(f"{name}." for name in edges)
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.requires_grad
        and weight.ndim >= 2
        and min(weight.shape[0], weight[0].numel()) >= _SMALLEST
        and not name.startswith(skip)
    ]


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Its rate means what AdamW's means: an update's root mean square is a fifth of it, as AdamW's about is."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(list(weights), {"lr": lr, "momentum": momentum})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        kept = self.state[weight]
        if "momentum" not in kept:
            kept["momentum"] = torch.zeros_like(weight)
        kept["momentum"].mul_(group["momentum"]).add_(weight.grad)
        ahead = weight.grad + group["momentum"] * kept["momentum"]
        flat = ahead.reshape(len(ahead), -1)
        change = orthogonal(flat).reshape(weight.shape)
        weight.add_(change, alpha=-0.2 * max(flat.shape) ** 0.5 * group["lr"])
