"""Trains tiny_swapper.onnx: the source's identity on the target's face, everything else untouched."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.train import identity, onnx_out, session, texture
from models.tiny.train.embedder import Embedder, Reader
from models.tiny.train.folders import cache_folder
from models.tiny.train.layers import Styled

_HIDDEN = 160
_SEEN = 128  # numbers about a target: where its points are, and its light
_COLOURS = 8
_POINTS = 98
# Which of them are drawn together: jaw, brows, ridge and foot of the nose, eyes, outer and inner lips, pupils.
_LINES = (
    (0, 33), (33, 42), (42, 51), (51, 55), (55, 60), (60, 68), (68, 76), (76, 83), (83, 88), (88, 92), (92, 96),
    (96, 97), (97, 98),
)  # fmt: skip
_EDGES = ("leave", "areas", "palette", "gains", "points", "unbend", "identity")
_POLISH = 0.55  # share of the budget after which the slower losses join: reading who it is, energy and colour of detail
_WEIGHTS = {"pixel": 4.0, "detail": 5.0, "coarse": 4.0, "points": 5.0, "who": 2.0, "energy": 0.25, "fringe": 20.0}
_SPREAD = 0.55  # standard deviation of a visible identity parameter


class Swapper(nn.Module):  # type: ignore[misc]
    """target [n,3,128,128] 0..1 and source latent [n,512] -> [n,3,128,128].

    The network first reads the target: its light, where its 98 points are, and where they would be with the source's
    identity. Training tells it both exactly. Drawn as soft lines, the points show the layers that paint what has to go
    and where its like has to stand. These predict, for every pixel and channel, a gain on the target and an offset:
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
        self.points = nn.Linear(_SEEN, 2 * _POINTS)
        self.mix, self.unmix = nn.Linear(_HIDDEN + _SEEN, 96), nn.Linear(96, _HIDDEN)
        self.bend, self.unbend = nn.Linear(style + _SEEN, 128), nn.Linear(128, 2 * _POINTS)
        self.gains = nn.Linear(style, 3 * _COLOURS)
        self.lines32 = nn.Conv2d(2 * len(_LINES), 64, 3, 1, 1)
        self.lines64 = nn.Conv2d(2 * len(_LINES), 48, 3, 1, 1)
        for last in (self.unmix, self.unbend, self.gains, self.lines32, self.lines64):
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
        y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
        self.register_buffer("place", torch.stack([x, y])[None])
        self.register_buffer("along", torch.linspace(-1, 1, 64))

    def drawn(self, points: Tensor) -> Tensor:
        """Points [n,98,2] in -1..1 of the picture -> soft lines of eyes, brows, nose, lips and jaw [n,13,64,64]."""
        cell = 2.0 / 63.0
        x, y = (torch.exp(-0.5 * ((points[..., i : i + 1] - self.along) / cell) ** 2) for i in (0, 1))
        return torch.stack([torch.matmul(y[:, a:b].transpose(1, 2), x[:, a:b]) for a, b in _LINES], 1)

    def both(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """The swap, not clipped, and the points [n,2,98,2] of the target and of the swap, in -1..1 of the picture."""
        who = self.identity(source) * (1.0 / _SPREAD)
        hidden = self.hidden(who)
        style = torch.cat([who, hidden], 1)
        place = self.place.expand(target.shape[0], -1, -1, -1)
        e64 = self.enter(torch.cat([nn.functional.pixel_unshuffle(target - 0.5, 2), place], 1))
        e32 = self.down32(e64)
        for block in self.at32:
            e32 = block(e32, style)
        x = self.down16(e32)
        for block in self.at16:
            x = block(x, style)
        seen = self.gather(x)
        with torch.autocast(target.device.type, enabled=False):  # bfloat16 would be a quarter of a pixel
            here = self.points(seen.float())
            known = torch.cat([style, seen], 1).float()
            there = here + self.unbend(torch.relu(self.bend(known)))
        points = torch.stack([here, there], 1).view(-1, 2, _POINTS, 2)
        lines = torch.cat([self.drawn(points[:, i].detach()) for i in (0, 1)], 1)
        hidden = hidden + self.unmix(torch.relu(self.mix(torch.cat([hidden, seen], 1))))
        style = torch.cat([who, hidden], 1)
        x = self.join32(torch.cat([self.up32(x), e32], 1)) + self.lines32(nn.functional.avg_pool2d(lines, 2))
        for block in self.back32:
            x = block(x, style)
        x = self.join64(torch.cat([self.up64(x), e64], 1)) + self.lines64(lines)
        for block in self.back64:
            x = block(x, style)
        out = nn.functional.pixel_shuffle(self.leave(x).float(), 2)
        areas = torch.sigmoid(nn.functional.pixel_shuffle(self.areas(x).float(), 2)).flatten(2)
        colours = torch.cat([self.gains(style), self.palette(style)], 1).float().view(-1, 6, _COLOURS)
        whole = torch.bmm(colours, areas).view(-1, 6, target.shape[2], target.shape[3])
        return target * (1.0 + 2.0 * out[:, :3] + whole[:, :3]) + out[:, 3:] + whole[:, 3:], points

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """See the class; not clipped."""
        return self.both(target, source)[0]


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


def latents(embeddings: Tensor) -> Tensor:
    """Embeddings [n,512] -> unit latents, as the published systems compute them from emap."""
    mapped = nn.functional.normalize(embeddings, dim=1) @ torch.from_numpy(identity.emap()).to(embeddings.device)
    return nn.functional.normalize(mapped, dim=1)


def start_from(network: Swapper, latent: Tensor, goal: Tensor) -> float:
    """Sets the first layer to the least-squares map from latents to identity parameters; returns its R2."""
    ones = torch.cat([latent, torch.ones(len(latent), 1)], 1).double()
    ridge = 1e-3 * torch.eye(ones.shape[1], dtype=torch.double)
    solved = torch.linalg.solve(ones.T @ ones + ridge, ones.T @ goal.double())
    network.identity.weight.data, network.identity.bias.data = solved[:-1].T.float().contiguous(), solved[-1].float()
    left = ((ones @ solved - goal) ** 2).sum() / ((goal - goal.mean(0)) ** 2).sum()
    return 1.0 - float(left)


def _coarse(difference: Tensor) -> Tensor:
    """Error of local means at four sizes: a tint that is small at every pixel is large here, and is learnt early."""
    return torch.stack([nn.functional.avg_pool2d(difference, size).abs().mean() for size in (4, 8, 16, 32)]).sum()


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


def _more(parser: argparse.ArgumentParser) -> None:
    said = "share of the budget after which the slower losses join; 0 in a run that only polishes"
    parser.add_argument("--polish-from", type=float, default=_POLISH, help=said)


def main() -> None:
    """python -m models.tiny.train.swapper; needs the embedder's checkpoint (tiny_embedder.pt beside --out)."""
    given = session.arguments("swapper", _more)
    checkpoint = Path(given.out).with_name("tiny_embedder.pt")
    data = session.samples(given, "swap")
    embedder = load_embedder(checkpoint, given.device, given.look)
    goal = torch.from_numpy(identity.visible(np.asarray(data["inner"], np.float32), given.look))
    seen = latents(_embed_all(checkpoint, embedder, data["source"], given.device))
    clean = latents(embedder.cpu().features(goal))
    embedder.to(given.device)
    network = Swapper(given.look)
    print(f"swapper: identity from latents at the start, R2 {start_from(network, seen, goal):.3f}", flush=True)
    where = torch.from_numpy(np.array(data["points"], np.float32)) / 63.5 - 1.0
    network.points.bias.data = where[:, 0].mean(0).flatten()
    shelf = session.Shelf({name: np.asarray(data[name]) for name in ("target", "truth", "mask")}, given.device)
    goal, where, clean, seen = (part.to(given.device) for part in (goal, where, clean, seen))
    order = session.batches(len(goal), given.batch, given.seed)
    rng = np.random.default_rng(given.seed + 5)

    def step(network: nn.Module, at: session.At) -> dict[str, Tensor]:
        pick = next(order)
        target, truth = (session.pixels(shelf.take(name, pick)) for name in ("target", "truth"))
        mask = shelf.take("mask", pick).float()[:, None] / 255.0
        rows = torch.from_numpy(pick).to(given.device)
        exact = torch.from_numpy(rng.random((len(pick), 1)) < 0.25).to(given.device)
        latent = torch.where(exact, clean[rows], seen[rows])
        with session.mixed(given.device):
            out, points = network.both(target.contiguous(memory_format=torch.channels_last), latent)
        fine = texture.detail(truth)
        # Where swap and target differ most (eyes, brows, lips, beard) is where a mistake shows most.
        changed = (fine - texture.detail(target)).abs().mean(1, keepdim=True)
        weight = 1.0 + 3.0 * mask + (20.0 * changed).clamp(max=4.0)
        told = {
            "pixel": (weight * (out - truth).abs()).mean(),
            "detail": (weight * (texture.detail(out) - fine).abs()).mean(),
            "coarse": _coarse((out - truth) * (0.3 + mask)),
            "points": nn.functional.smooth_l1_loss(points, where[rows], beta=0.02),
        }
        if at.spent >= given.polish_from:
            with session.mixed(given.device):
                read = embedder.reader((out.clamp(0, 1) * 2.0 - 1.0)[:, :, :112, 8:120])
            told["who"] = nn.functional.smooth_l1_loss(read.float(), goal[rows], beta=0.15)
            told["energy"] = texture.energy_loss(out, truth, mask)
            told["fringe"] = texture.fringe_loss(out, truth, mask)
        return {"loss": torch.stack([_WEIGHTS[name] * loss for name, loss in told.items()]).sum(), **told}

    session.run("swapper", given, network, step, export, edges=_EDGES)


if __name__ == "__main__":
    main()
