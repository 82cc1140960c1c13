"""What keeps a drawn face from going soft: its detail, the local energy of that, and the detail of colour."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WINDOW = 8  # px of the 128 whose detail is summed
_FLOOR = 2e-4  # energy, of 0..1 squared, below which there is nothing to match: about two levels of 255 rms
_LUMA = (0.299, 0.587, 0.114)


def laplacian(x: Tensor) -> Tensor:
    """Laplacian of luma of [n,3,h,w] -> [n,1,h-2,w-2]."""
    y = (x * torch.tensor(_LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    around = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return around - 4.0 * y[..., 1:-1, 1:-1]


def detail(x: Tensor, size: int = 5) -> Tensor:
    """What [n,3,h,w] is beside the mean of the size x size px around; at the edge of those that there are.

    By a convolution of each channel: CPU's average pooling of three channels takes fifteen times as long.
    """
    box, rim = torch.ones(3, 1, size, size, device=x.device), size // 2
    count = nn.functional.conv2d(torch.ones(1, 1, *x.shape[2:], device=x.device), box[:1], padding=rim)
    return x - nn.functional.conv2d(x, box, padding=rim, groups=3) / count


def energy_loss(out: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """How far local energies of the Laplacian are apart, as a difference of logarithms inside the mask [n,1,h,w].

    Absolute differences alone are least for a soft picture wherever a hair or a freckle may lie a pixel off.
    """
    pool = nn.functional.avg_pool2d
    mine, wanted = (pool(laplacian(x) ** 2, _WINDOW, _WINDOW // 2) for x in (out, truth))
    weight = pool(mask[..., 1:-1, 1:-1], _WINDOW, _WINDOW // 2)
    apart = (torch.log(mine + _FLOOR) - torch.log(wanted + _FLOOR)).abs()
    return (weight * apart).sum() / weight.sum().clamp(min=1.0)


def fringe_loss(out: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Error of the detail of colour of [n,3,h,w], above all inside the mask: energy of luma can be had by fringes."""
    colours = []
    for x in (out, truth):
        luma = (x * torch.tensor(_LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
        colours.append(x - luma)
    return ((0.2 + mask) * (detail(colours[0]) - detail(colours[1])).abs()).mean()
