"""What a swapper learns from: drawn pairs, each both ways, and what their pictures have to be read as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.renderer import names
from models.tiny.train import identity
from models.tiny.train.embedder import Embedder

# What of a target, beside its visible identity, a swapper is told to read: its face's shape, pose, expression, light.
ABOUT = (
    "face_width", "jaw_width", "chin_length", "yaw", "pitch", "roll", "open", "wide", "smile", "blink", "gaze_x",
    "gaze_y", "brow_raise", "light_x", "light_y", "light_gain", "ambient", "warmth", "glasses", "round", "press",
    "tuck", "tongue", "squint", "brow_tense", "rim_x", "rim_gain", "sky_r", "sky_g", "sky_b",
    "floor_r", "floor_g", "floor_b",
)  # fmt: skip


def latents(embeddings: Tensor) -> Tensor:
    """Embeddings [n,512] -> unit latents, as the published systems compute them from emap."""
    mapped = nn.functional.normalize(embeddings, dim=1) @ torch.from_numpy(identity.emap()).to(embeddings.device)
    return nn.functional.normalize(mapped, dim=1)


def about_targets(people: np.ndarray, look: str) -> Tensor:
    """What a target has to be read as [n,k]: visible identity and ABOUT of people [n,121], each standardized."""
    named = [name for group in range(3) for name in names(group, look)]
    inner = identity.visible(people[:, : identity.parameters(look)], look)
    told = np.concatenate([inner, people[:, [named.index(name) for name in ABOUT]]], 1)
    return torch.from_numpy(((told - told.mean(0)) / (told.std(0) + 1e-6)).astype(np.float32))


class Pairs(NamedTuple):
    """What is known of n pairs, each of which can be learnt both ways: column 0 is of the target, 1 of the truth.

    The truth of a pair is also a target, and the target its truth: no second picture has to be drawn.
    """

    goal: Tensor  # visible identity [n,2,k]
    clean: Tensor  # latents of it [n,2,512]
    noise: Tensor  # what a latent read from a picture of the source is beside the exact one [n,512]
    where: Tensor  # points [n,2,98,2]
    about: Tensor  # what each picture has to be read as [n,2,m]

    def latents(self, rows: Tensor, to: Tensor, exact: Tensor) -> Tensor:
        """Unit latents [b,512] of who the swaps show: column `to` of each row, where not exact as a picture says it."""
        read = torch.where(exact, torch.zeros_like(self.noise[rows]), self.noise[rows])
        return nn.functional.normalize(self.clean[rows, to] + read, dim=1)

    def moved(self, device: str) -> Pairs:
        """The same on a device."""
        return Pairs(*(part.to(device) for part in self))


def pairs(data: Mapping[str, np.ndarray], seen: Tensor, embedder: Embedder, look: str) -> Pairs:
    """From the arrays of drawn swaps and the latents [n,512] that were read from the pictures of their sources."""
    people = np.array(data["person"], np.float32)
    other = people.copy()
    other[:, : identity.parameters(look)] = data["inner"]
    inner = np.concatenate([people, other])[:, : identity.parameters(look)]
    goal = torch.from_numpy(identity.visible(inner, look))
    about = about_targets(np.concatenate([people, other]), look)
    each = [torch.stack(part.chunk(2), 1) for part in (goal, latents(embedder.features(goal)), about)]
    where = torch.from_numpy(np.array(data["points"], np.float32)) / 63.5 - 1.0
    return Pairs(each[0], each[1], seen - each[1][:, 1], where, each[2])
