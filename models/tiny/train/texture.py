"""What keeps a drawn face from going soft: its detail, the energy of that, and the detail of colour."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ENOUGH = 0.76  # share of the truth's energy that is asked for: more costs distance from the truth
_FLOOR = 2e-4  # energy, of 0..1 squared, below which there is nothing to match: about four levels of 255 rms
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


def softened(x: Tensor, share: Tensor) -> Tensor:
    """[n,3,h,w] with a share [n,1,1,1] of a soft lens over it: of 1 2 1 both ways, the rim kept."""
    line = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4.0
    lens = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    wide = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return x + share * (nn.functional.conv2d(wide, lens, groups=x.shape[1]) - x)


def energy_loss(out: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """How far the energy of the Laplacian inside the mask [n,1,h,w] is from _ENOUGH of the truth's, in logarithms.

    Absolute differences alone are least for a soft picture wherever a hair or a freckle may lie a pixel off; the
    reading of who it is makes grain. The energy is the whole face's: asked of each part by itself, texture is made up
    where nothing is known, while of the whole it is had where detail is known, by more of it.
    """
    weight = mask[..., 1:-1, 1:-1]
    count = weight.sum((1, 2, 3)).clamp(min=1.0)
    mine, wanted = ((weight * laplacian(x) ** 2).sum((1, 2, 3)) / count for x in (out, truth))
    return (torch.log(_ENOUGH * wanted + _FLOOR) - torch.log(mine + _FLOOR)).abs().mean()


def fringe_loss(out: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Error of the detail of colour of [n,3,h,w], above all inside the mask: energy of luma can be had by fringes."""
    colours = []
    for x in (out, truth):
        luma = (x * torch.tensor(_LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
        colours.append(x - luma)
    return ((0.2 + mask) * (detail(colours[0]) - detail(colours[1])).abs()).mean()
