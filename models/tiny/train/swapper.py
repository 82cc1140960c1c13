"""Trains tiny_swapper.onnx: the source's identity on the target's face, everything else untouched."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.train import face_maps, identity, onnx_out, pairs, session, texture
from models.tiny.train.embedder import Embedder, Reader
from models.tiny.train.folders import cache_folder
from models.tiny.train.layers import Styled

_HIDDEN = 160
_SEEN = 128  # numbers about a target: its identity, pose, expression and light
_COLOURS = 8
_EDGES = ("leave", "areas", "palette", "gains", "points", "heat", "unbend", "identity", "about")
_POLISH = 0.55  # share of the budget after which the slower losses join: reading who it is, energy and colour of detail
_WEIGHTS = {
    "pixel": 2.0, "square": 20.0, "detail": 5.0, "coarse": 4.0, "points": 10.0, "cells": 0.2, "about": 0.5, "who": 1.2,
    "energy": 0.25, "fringe": 20.0, "decibels": 0.06,
}  # fmt: skip
_SPREAD = 0.55  # standard deviation of a visible identity parameter
_QUICK = 8.0  # how much faster a few small layers learn than their rate says
_FOUND = 0.011  # how far off a coordinate of a point will be found, standard deviation: 0.7 px of 128
_SHAPE_STEPS = 8000
_NEAR = 5e-4  # a squared error of 33 dB: what is nearer need not be nearer still, as somebody with their own face
_READ = 0.08  # share of the budget in which the network learns to read, and does not paint yet


class _Read(NamedTuple):
    """What a target was read as. points [n,3,98,2] in -1..1 of the picture: its own, rough and fine, and the swap's."""

    x32: Tensor
    x64: Tensor
    style: Tensor
    seen: Tensor
    points: Tensor
    logs: Tensor  # of the maps that the fine points were found in


class Swapper(nn.Module):  # type: ignore[misc]
    """target [n,3,128,128] 0..1 and source latent [n,512] -> [n,3,128,128].

    The network first reads the target: where its 98 points are (roughly from everything that it sees, then finely from
    a map around each of them), what colour stands there, and where the points would be with the source's identity.
    Training tells it these points exactly, and who the target is, its pose, expression and light. Drawn as soft lines,
    the points show the layers that paint what has to go and where its like has to stand; as coordinates of the face,
    where on a cheek a pixel is. These layers predict, for every pixel and channel, a gain on the target and an offset:
    skin keeps the target's shading and texture under another tone, and what is not face (gain 1, offset 0) passes
    through unharmed. What an area of the face has in common (skin, iris, lips, brows, beard) comes from a palette, a
    gain and a colour an area: a few numbers that every pixel of an area teaches.
    """

    def __init__(self, look: str = "classic") -> None:
        super().__init__()
        known = identity.parameters(look)
        style = _HIDDEN + known
        self.identity = nn.Linear(identity.EMBEDDING, known)
        self.identity.requires_grad_(False)  # solved, see start_from
        self.hidden = nn.Sequential(nn.Linear(known, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU())
        for layer in (self.hidden[0], self.hidden[2]):
            nn.init.kaiming_normal_(layer.weight)
        # Flattened, not pooled: where something is says what it is.
        self.gather = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(96, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, _SEEN), nn.ReLU()
        )
        self.points = nn.Linear(_SEEN, 2 * face_maps.POINTS)
        self.heat = nn.Sequential(nn.Conv2d(64, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, face_maps.POINTS, 1))
        self.colours = nn.Linear(3 * face_maps.SPOTS, _SEEN)
        self.about = nn.Linear(_SEEN, known + len(pairs.ABOUT))  # in training alone
        self.mix, self.unmix = nn.Linear(_HIDDEN + _SEEN, 96), nn.Linear(96, _HIDDEN)
        self.bend = nn.Linear(known + 2 * face_maps.POINTS + _SEEN, 128)
        self.unbend = nn.Linear(128, 2 * face_maps.POINTS)
        self.gains = nn.Linear(style, 3 * _COLOURS)
        self.lines32 = nn.Conv2d(2 * face_maps.LINES, 64, 3, 1, 1)
        self.lines64 = nn.Conv2d(2 * face_maps.LINES, 48, 3, 1, 1)
        self.surface = nn.Conv2d(face_maps.COORDINATES, 48, 3, 1, 1)
        zeros = (self.heat[2], self.colours, self.about, self.unmix, self.unbend, self.gains)
        for last in (*zeros, self.lines32, self.lines64, self.surface):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.enter = nn.Sequential(nn.Conv2d(14, 48, 3, 1, 1), nn.ReLU())
        self.down32 = nn.Sequential(nn.Conv2d(48, 64, 3, 2, 1), nn.ReLU())
        self.at32 = nn.ModuleList([Styled(64, style) for _ in range(2)])
        self.down16 = nn.Sequential(nn.Conv2d(64, 96, 3, 2, 1), nn.ReLU())
        self.at16 = nn.ModuleList([Styled(96, style) for _ in range(4)])
        self.up32 = nn.Sequential(nn.Conv2d(96, 256, 1), nn.PixelShuffle(2))
        self.join32 = nn.Sequential(nn.Conv2d(128, 64, 1), nn.ReLU())
        self.back32 = nn.ModuleList([Styled(64, style) for _ in range(2)])
        self.up64 = nn.Sequential(nn.Conv2d(64, 192, 1), nn.PixelShuffle(2))
        self.join64 = nn.Sequential(nn.Conv2d(96, 48, 1), nn.ReLU())
        self.back64 = nn.ModuleList([Styled(48, style) for _ in range(2)])
        self.leave = nn.Conv2d(48, 24, 3, 1, 1)
        nn.init.normal_(self.leave.weight, 0.0, 0.01)
        nn.init.zeros_(self.leave.bias)
        self.areas = nn.Conv2d(48, 4 * _COLOURS, 3, 1, 1)
        self.palette = nn.Linear(style, 3 * _COLOURS)
        nn.init.normal_(self.palette.weight, 0.0, 0.01)
        nn.init.zeros_(self.palette.bias)
        self.maps = face_maps.FaceMaps()

    def who(self, source: Tensor) -> Tensor:
        """Latents [n,512] -> visible identity parameters [n,k], each divided by its spread."""
        return self.identity(source) * (1.0 / _SPREAD)

    def moved(self, who: Tensor, here: Tensor, seen: Tensor) -> Tensor:
        """Where points [n,98,2] would be with another identity [n,k]."""
        apart = 10.0 * (here - self.maps.usual)
        known = torch.cat([who, apart.flatten(1), seen], 1)
        return here + self.unbend(torch.relu(self.bend(known))).view_as(here)

    def read(self, target: Tensor, source: Tensor) -> _Read:
        """What the target shows, and where its points would be with the source's identity."""
        who = self.who(source)
        hidden = self.hidden(who)
        style = torch.cat([who, hidden], 1)
        place = self.maps.place.expand(target.shape[0], -1, -1, -1)
        e64 = self.enter(torch.cat([nn.functional.pixel_unshuffle(target - 0.5, 2), place], 1))
        e32 = self.down32(e64)
        for block in self.at32:
            e32 = block(e32, style)
        x = self.down16(e32)
        for block in self.at16:
            x = block(x, style)
        seen = self.gather(x)
        x = self.join32(torch.cat([self.up32(x), e32], 1))
        with torch.autocast(target.device.type, enabled=False):  # bfloat16 would be a quarter of a pixel
            rough = self.points(seen.float()).view(-1, face_maps.POINTS, 2)
            here, logs = self.maps.found(_QUICK * self.heat(x.float()), rough)
            shown = self.maps.colours(nn.functional.avg_pool2d(target, 2), here.detach())
            seen = seen + self.colours(_QUICK * shown.flatten(1))
            there = self.moved(who.float(), here, seen.float())
        hidden = hidden + self.unmix(torch.relu(self.mix(torch.cat([hidden, seen], 1))))
        return _Read(x, e64, torch.cat([who, hidden], 1), seen, torch.stack([rough, here, there], 1), logs)

    def paint(self, target: Tensor, read: _Read) -> Tensor:
        """The swap, not clipped."""
        here, there = read.points[:, 1].detach(), read.points[:, 2].detach()
        lines = torch.cat([self.maps.lines(here), self.maps.lines(there)], 1)
        x = read.x32 + self.lines32(nn.functional.avg_pool2d(lines, 2))
        for block in self.back32:
            x = block(x, read.style)
        x = self.join64(torch.cat([self.up64(x), read.x64], 1))
        x = x + self.lines64(lines) + self.surface(self.maps.coordinates(here, there))
        for block in self.back64:
            x = block(x, read.style)
        out = nn.functional.pixel_shuffle(self.leave(x).float(), 2)
        areas = torch.sigmoid(nn.functional.pixel_shuffle(self.areas(x).float(), 2)).flatten(2)
        colours = torch.cat([self.gains(read.style), self.palette(read.style)], 1).float().view(-1, 6, _COLOURS)
        whole = torch.bmm(colours, areas).view(-1, 6, target.shape[2], target.shape[3])
        return target * (1.0 + 2.0 * out[:, :3] + whole[:, :3]) + out[:, 3:] + whole[:, 3:]

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """See the class; not clipped."""
        return self.paint(target, self.read(target, source))


class Published(nn.Module):  # type: ignore[misc]
    """The swapper with its output clipped to 0..1, as the contract says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """See Swapper."""
        out: Tensor = self.network(target, source)
        return out.clamp(0.0, 1.0)


def export(network: nn.Module, path: Path) -> None:
    """Writes the inswapper contract: target, source -> output, emap as the last, unused initializer."""
    axes = {name: {0: "n"} for name in ("target", "source", "output")}
    example = (torch.zeros(2, 3, 128, 128), torch.zeros(2, identity.EMBEDDING))
    onnx_out.write(Published(network), example, ["target", "source"], ["output"], axes, path, ("emap", identity.emap()))


def load_embedder(checkpoint: Path, device: str, look: str = "classic") -> Embedder:
    """The trained embedder of a look, frozen."""
    if not checkpoint.exists():
        raise FileNotFoundError(
            f"swapper: wanted the embedder's checkpoint {checkpoint}, got no such file; "
            f"run python -m models.tiny.train.embedder --out {checkpoint.with_suffix('.onnx')} first"
        )
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if saved.get("look", "classic") != look:
        raise ValueError(
            f"swapper: wanted an embedder of the {look} look, got {checkpoint} of another; "
            f"run python -m models.tiny.train.embedder --look {look} first"
        )
    reader = Reader(look)
    reader.load_state_dict(saved["average"])
    embedder: Embedder = Embedder(reader).to(device).eval().requires_grad_(False)
    return embedder


def start_from(network: Swapper, latent: Tensor, goal: Tensor) -> float:
    """Sets the first layer to the least-squares map from latents to identity parameters; returns its R2."""
    ones = torch.cat([latent, torch.ones(len(latent), 1)], 1).double()
    ridge = 1e-3 * torch.eye(ones.shape[1], dtype=torch.double)
    solved = torch.linalg.solve(ones.T @ ones + ridge, ones.T @ goal.double())
    network.identity.weight.data, network.identity.bias.data = solved[:-1].T.float().contiguous(), solved[-1].float()
    left = ((ones @ solved - goal) ** 2).sum() / ((goal - goal.mean(0)) ** 2).sum()
    return 1.0 - float(left)


def learn_shapes(network: Swapper, who: Tensor, where: Tensor, steps: int, seed: int) -> float:
    """Trains where points go with another identity, from exact points alone: far faster than from pictures.

    who [n,k] as the first layer reads it, where [n,2,98,2], on the network's device. Returns how far it is off at the
    end, in px of the 128.
    """
    parts = [*network.bend.parameters(), *network.unbend.parameters()]
    optimiser = torch.optim.AdamW(parts, lr=2e-3, weight_decay=1e-2)
    chance = torch.Generator().manual_seed(seed)
    network.bend.weight.data[:, -_SEEN:] = 0.0  # the pictures will teach these
    off = 0.0
    for i in range(steps):
        rows = torch.randint(len(who), (256,), generator=chance).to(who.device)
        here = where[rows, 0]
        here = here + _FOUND * torch.randn(here.shape, generator=chance).to(who.device)
        there = network.moved(who[rows], here, torch.zeros(len(rows), _SEEN, device=who.device))
        loss = nn.functional.smooth_l1_loss(there, where[rows, 1], beta=0.01)
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1.0 - i / steps)
        optimiser.step()
        if i >= steps - 50:
            off += float((there.detach() - where[rows, 1]).norm(dim=2).mean()) * 63.5 / min(steps, 50)
    return off


def _coarse(difference: Tensor) -> Tensor:
    """Error of local means at four sizes: a tint that is small at every pixel is large here, and is learnt early."""
    return torch.stack([nn.functional.avg_pool2d(difference, size).abs().mean() for size in (4, 8, 16, 32)]).sum()


def _decibels(out: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """How far swaps are from their truths inside the mask [n,1,h,w], in dB above _NEAR, a mean over the swaps.

    Squares alone ask most of the worst swap of a batch; here a tenth less counts the same in each.
    """
    share = mask.expand_as(truth).sum((1, 2, 3)) + 1.0
    squares = (mask * (out.float() - truth) ** 2).sum((1, 2, 3)) / share
    return 10.0 * torch.log10(squares / _NEAR + 1.0).mean()


def _embed_all(checkpoint: Path, embedder: Embedder, sources: np.ndarray, device: str) -> Tensor:
    """Embeddings of all source crops without reduced precision; kept in the cache for the next run."""
    made_of = (
        checkpoint.read_bytes() + repr(sources.shape).encode() + b"both" + embedder.frequencies.cpu().numpy().tobytes()
    )
    digest = hashlib.sha256(made_of).hexdigest()[:16]
    kept = cache_folder() / f"embeddings-{digest}.npy"
    if not kept.exists():
        parts = []
        with torch.no_grad():
            for i in range(0, len(sources), 128):
                some = torch.from_numpy(np.array(sources[i : i + 128])).to(device)
                parts.append(embedder(session.pixels(some) * 2.0 - 1.0).cpu().numpy())
        np.save(kept, np.concatenate(parts))
    return torch.from_numpy(np.load(kept))


def _summed(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": torch.stack([_WEIGHTS[name] * loss for name, loss in losses.items()]).sum(), **losses}


def _more(parser: argparse.ArgumentParser) -> None:
    said = f"share of the budget after which it paints, and not only reads; {_READ}, or 0 with --resume"
    parser.add_argument("--paint-from", type=float, default=None, help=said)
    said = "share of the budget after which the slower losses join; 0 in a run that only polishes"
    parser.add_argument("--polish-from", type=float, default=_POLISH, help=said)


def main() -> None:
    """python -m models.tiny.train.swapper; needs the embedder's checkpoint (tiny_embedder.pt beside --out)."""
    given = session.arguments("swapper", _more)
    checkpoint = Path(given.out).with_name("tiny_embedder.pt")
    data = session.samples(given, "swap")
    embedder = load_embedder(checkpoint, given.device, given.look)
    seen = pairs.latents(_embed_all(checkpoint, embedder, data["source"], given.device))
    known = pairs.pairs(data, seen, embedder.cpu(), given.look)
    embedder.to(given.device)
    network = Swapper(given.look)
    fit = start_from(network, seen, known.goal[:, 1])
    print(f"swapper: identity from latents at the start, R2 {fit:.3f}", flush=True)
    network.points.bias.data = known.where[:, 0].mean(0).flatten()
    network.maps.usual.copy_(known.where[:, 1].mean(0))
    shelf = session.Shelf({name: np.asarray(data[name]) for name in ("target", "truth", "mask")}, given.device)
    known, seen = known.moved(given.device), seen.to(given.device)
    paint_from = given.paint_from if given.paint_from is not None else 0.0 if given.resume else _READ
    order = session.batches(len(seen), given.batch, given.seed)
    rng = np.random.default_rng(given.seed + 5)

    def begin(network: nn.Module) -> None:
        steps = min(_SHAPE_STEPS, 100 * given.steps) if given.steps else _SHAPE_STEPS
        with torch.no_grad():
            who = network.who(seen)
        off = learn_shapes(network, who, known.where[:, :2], steps, given.seed)
        print(f"swapper: points of another identity from exact ones, {off:.2f} px off", flush=True)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        pick = next(order)
        target, truth = (session.pixels(shelf.take(name, pick)) for name in ("target", "truth"))
        mask = shelf.take("mask", pick).float()[:, None] / 255.0
        rows = torch.from_numpy(pick).to(given.device)
        exact = torch.from_numpy(rng.random((len(pick), 1)) < 0.25).to(given.device)
        (target, truth, mask), own, to = pairs.turned(rng, target, truth, mask)
        latent = known.latents(rows, to, exact)
        target = target.contiguous(memory_format=torch.channels_last)
        with session.mixed(given.device):
            read = network.read(target, latent)
        here, there = known.where[rows, own], known.where[rows, to]
        said = network.about(_QUICK * read.seen.float())
        told = {
            "points": nn.functional.smooth_l1_loss(read.points, torch.stack([here, here, there], 1), beta=0.01),
            "cells": network.maps.missed(read.logs, here),
            "about": nn.functional.smooth_l1_loss(said, known.about[rows, own]),
        }
        if at.spent < paint_from:
            return _summed(told)
        with session.mixed(given.device):
            out = network.paint(target, read)
        fine = texture.detail(truth)
        # Where swap and target differ most (eyes, brows, lips, beard) is where a mistake shows most.
        changed = (fine - texture.detail(target)).abs().mean(1, keepdim=True)
        weight = 1.0 + 3.0 * mask + (20.0 * changed).clamp(max=4.0)
        told |= {
            "pixel": (weight * (out - truth).abs()).mean(),
            "square": (weight * (out - truth) ** 2).mean(),
            "detail": (weight * (texture.detail(out) - fine).abs()).mean(),
            "coarse": _coarse((out - truth) * (0.3 + mask)),
            "decibels": _decibels(out, truth, mask),
        }
        if at.spent >= given.polish_from:
            # Through a lens of any softness: what it reads is to be the face, and no grain.
            lens = torch.from_numpy(rng.random((len(pick), 1, 1, 1), np.float32)).to(given.device)
            shown = texture.softened(out, lens).clamp(0, 1) * 2.0 - 1.0
            with session.mixed(given.device):
                judged = embedder.reader(shown[:, :, :112, 8:120])
            told["who"] = nn.functional.smooth_l1_loss(judged.float(), known.goal[rows, to], beta=0.15)
            told["energy"] = texture.energy_loss(out, truth, mask)
            told["fringe"] = texture.fringe_loss(out, truth, mask)
        return _summed(told)

    session.run("swapper", given, network, step, export, edges=_EDGES, begin=begin, joined_at=paint_from)


if __name__ == "__main__":
    main()
