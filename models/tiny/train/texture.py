"""What keeps a swapped face from going soft: local energy of detail, and a critic that sees patches."""

from __future__ import annotations

from typing import Any

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
    fine = []
    for x in (out, truth):
        luma = (x * torch.tensor(_LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
        colour = x - luma
        fine.append(colour - nn.functional.avg_pool2d(colour, 5, 1, 2, count_include_pad=False))
    return ((0.2 + mask) * (fine[0] - fine[1]).abs()).mean()


class Critic(nn.Module):  # type: ignore[misc]
    """Swap or drawing and the target it stands on [n,6,h,w] -> one judgement per 4x4 px, and what it saw on the way."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.steps = nn.ModuleList(
            [
                nn.Sequential(norm(nn.Conv2d(6, 16, 3, 1, 1)), nn.LeakyReLU(0.2)),
                nn.Sequential(norm(nn.Conv2d(16, 32, 4, 2, 1)), nn.LeakyReLU(0.2)),
                nn.Sequential(norm(nn.Conv2d(32, 64, 4, 2, 1)), nn.LeakyReLU(0.2)),
                nn.Sequential(norm(nn.Conv2d(64, 64, 3, 1, 1)), nn.LeakyReLU(0.2)),
            ]
        )
        self.leave = nn.Conv2d(64, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See the class."""
        seen = []
        for step in self.steps:
            x = step(x)
            seen.append(x)
        return self.leave(x).float(), seen


class Contest:
    """A critic that learns beside a network: learn() after its output is known, press() is the network's loss."""

    def __init__(self, device: str, rate: float = 4.0e-4) -> None:
        self.critic = Critic().to(device, memory_format=torch.channels_last).train()
        self._optimiser = torch.optim.Adam(self.critic.parameters(), lr=rate, betas=(0.5, 0.99))

    def learn(self, out: Tensor, truth: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """One step of the critic (hinge loss over the face); its loss."""
        fake, real = (self.critic(torch.cat([x, target], 1))[0] for x in (out.detach(), truth))
        weight = nn.functional.adaptive_avg_pool2d(mask, fake.shape[2:])
        loss = (weight * (torch.relu(1.0 + fake) + torch.relu(1.0 - real))).sum() / weight.sum().clamp(min=1.0)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def press(self, out: Tensor, truth: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What the network wants small: the critic's doubt over the face, and how differently it sees the truth."""
        self.critic.requires_grad_(False)
        judged, seen = self.critic(torch.cat([out, target], 1))
        with torch.no_grad():
            wanted = self.critic(torch.cat([truth, target], 1))[1]
        self.critic.requires_grad_(True)
        weight = nn.functional.adaptive_avg_pool2d(mask, judged.shape[2:])
        doubt = -(weight * judged).sum() / weight.sum().clamp(min=1.0)
        apart = torch.stack([(a.float() - b.float()).abs().mean() for a, b in zip(seen, wanted, strict=True)])
        return doubt, apart.mean()

    def state_dict(self) -> dict[str, Any]:
        """Everything that a pause has to keep."""
        return {"critic": self.critic.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on where a pause left off."""
        self.critic.load_state_dict(saved["critic"])
        self._optimiser.load_state_dict(saved["optimiser"])
