"""What a swapper learns from: drawn pairs, each both ways, and what their pictures have to be read as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.renderer import names
from models.tiny.train import identity
from models.tiny.train.embedder import TURNED, Embedder

# What of a target, beside its visible identity, a swapper is told to read: its face's shape, pose, expression, light.
ABOUT = (
    "face_width", "jaw_width", "chin_length", "yaw", "pitch", "roll", "open", "wide", "smile", "blink", "gaze_x",
    "gaze_y", "brow_raise", "light_x", "light_y", "light_gain", "ambient", "warmth", "glasses", "round", "press",
    "tuck", "tongue", "squint", "brow_tense", "rim_x", "rim_gain", "sky_r", "sky_g", "sky_b",
    "floor_r", "floor_g", "floor_b",
)  # fmt: skip
# Whose sign turns in a mirror, of an identity and of a moment.
_SIDES = (*TURNED, "yaw", "roll", "gaze_x", "light_x", "rim_x")
# The 98 points in a mirror: those of the other side, each with its first and last; the rest mirror into themselves.
_SWAPPED = (
    *((i, 32 - i) for i in range(16)), *((33 + i, 46 - i) for i in range(5)), *((38 + i, 50 - i) for i in range(4)),
    (55, 59), (56, 58), *((60 + i, 72 - i) for i in range(5)), *((65 + i, 75 - i) for i in range(3)),
    *((76 + i, 82 - i) for i in range(3)), (83, 87), (84, 86), (88, 92), (89, 91), (93, 95), (96, 97),
)  # fmt: skip
MIRRORED = list(range(98))
for _one, _other in _SWAPPED:
    MIRRORED[_one], MIRRORED[_other] = _other, _one


def latents(embeddings: Tensor) -> Tensor:
    """Embeddings [n,512] -> unit latents, as the published systems compute them from emap."""
    mapped = nn.functional.normalize(embeddings, dim=1) @ torch.from_numpy(identity.emap()).to(embeddings.device)
    return nn.functional.normalize(mapped, dim=1)


def _named(look: str) -> list[str]:
    """What the numbers of a person say, in their order."""
    return [name for group in range(3) for name in names(group, look)]


def about_targets(people: np.ndarray, look: str) -> Tensor:
    """What a target has to be read as [n,k]: visible identity and ABOUT of people [n,121], each standardized."""
    named = _named(look)
    inner = identity.visible(people[:, : identity.parameters(look)], look)
    told = np.concatenate([inner, people[:, [named.index(name) for name in ABOUT]]], 1)
    return torch.from_numpy(((told - told.mean(0)) / (told.std(0) + 1e-6)).astype(np.float32))


class Pairs(NamedTuple):
    """What is known of n pairs, each of which can be learnt both ways and in a mirror, without another drawing.

    Column 0 is of the target, 1 of the truth, which is also a target whose truth the target is; 2 and 3 are of the
    same two in a mirror (freckles and strands, which a number does not tell, are then on the other side).
    """

    goal: Tensor  # visible identity [n,4,k]
    clean: Tensor  # latents of it [n,4,512]
    noise: Tensor  # what a latent read from a picture of the source is beside the exact one [n,512]
    where: Tensor  # points [n,4,98,2]
    about: Tensor  # what each picture has to be read as [n,4,m]

    def latents(self, rows: Tensor, to: Tensor, exact: Tensor) -> Tensor:
        """Unit latents [b,512] of who the swaps show: column `to` of each row, where not exact as a picture says it."""
        return nn.functional.normalize(self.clean[rows, to] + ~exact * self.noise[rows], dim=1)

    def moved(self, device: str) -> Pairs:
        """The same on a device."""
        return Pairs(*(part.to(device) for part in self))


def pairs(data: Mapping[str, np.ndarray], seen: Tensor, embedder: Embedder, look: str) -> Pairs:
    """From the arrays of drawn swaps and the latents [n,512] that were read from the pictures of their sources."""
    people = np.array(data["person"], np.float32)
    other = people.copy()
    other[:, : identity.parameters(look)] = data["inner"]
    signs = np.array([-1.0 if name in _SIDES else 1.0 for name in _named(look)], np.float32)
    each = np.concatenate([people, other, people * signs, other * signs])
    goal = torch.from_numpy(identity.visible(each[:, : identity.parameters(look)], look))
    told = (goal, latents(embedder.features(goal)), about_targets(each, look))
    goal, clean, about = (torch.stack(part.chunk(4), 1) for part in told)
    where = torch.from_numpy(np.array(data["points"], np.float32)) / 63.5 - 1.0
    mirrored = where[:, :, MIRRORED] * torch.tensor([-1.0, 1.0])
    return Pairs(goal, clean, seen - clean[:, 1], torch.cat([where, mirrored], 1), about)


def turned(
    rng: np.random.Generator, target: Tensor, truth: Tensor, mask: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Pictures [b,c,h,w] with half of the pairs the other way round and half in a mirror, and two columns of Pairs [b].

    The columns are those of the target and of the truth as they are then.
    """
    back, mirrored = (torch.from_numpy(rng.random(len(target)) < 0.5).to(target.device) for _ in range(2))
    round_, over = back[:, None, None, None], mirrored[:, None, None, None]
    pictures = (torch.where(round_, truth, target), torch.where(round_, target, truth), mask)
    first = 2 * mirrored.long()
    return [torch.where(over, part.flip(3), part) for part in pictures], first + back.long(), first + 1 - back.long()
