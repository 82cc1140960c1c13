"""CodeFormer as published for faces at 512 px: names as of its `codeformer_arch.py` and `vqgan_arch.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes

__all__ = ["CodeFormer", "build"]

_WIDTH, _HEADS, _LAYERS, _CODES, _CODE = 512, 8, 9, 1024, 256
_SIDE = 16  # of the map of codes
WIDTHS = (64, 128, 128, 256, 256, 512)  # by halving of 512 px
# side of the map, its channels, the encoder's block after which it is kept, the generator's after which it is fused
FUSED = ((32, 256, 14, 9), (64, 256, 11, 12), (128, 128, 8, 15), (256, 128, 5, 18))


def build(shapes: Shapes) -> CodeFormer:
    """The network at 512 px with 1024 codes."""
    return CodeFormer()


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6)


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(inputs), _norm(outputs)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        if inputs != outputs:
            self.conv_out = nn.Conv2d(inputs, outputs, 1)
        self.changes = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.conv_out(x) if self.changes else x)


class _MapAttention(nn.Module):  # type: ignore[misc]
    """Every place of the map attends to every other, one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        query, key, value = (part(y).flatten(2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(query.transpose(1, 2) @ key * self.width**-0.5, 2)
        return x + self.proj_out((value @ weights.transpose(1, 2)).view(-1, self.width, _SIDE, _SIDE))


class _Down(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class _Up(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2))


def _levels(widths: tuple[int, ...], inputs: int, change: type[nn.Module]) -> list[nn.Module]:
    """Two residual blocks a level, attention where the map is 16 x 16, and a change of size between levels."""
    blocks: list[nn.Module] = []
    for level, width in enumerate(widths):
        for _ in range(2):
            blocks.append(_Residual(inputs, width))
            inputs = width
            if width == WIDTHS[-1]:
                blocks.append(_MapAttention(width))
        if level < len(widths) - 1:
            blocks.append(change(width))
    return blocks


def _middle() -> list[nn.Module]:
    return [_Residual(_WIDTH, _WIDTH), _MapAttention(_WIDTH), _Residual(_WIDTH, _WIDTH)]


def _encoder() -> nn.ModuleList:
    blocks = [nn.Conv2d(3, WIDTHS[0], 3, 1, 1), *_levels(WIDTHS, WIDTHS[0], _Down), *_middle()]
    return nn.ModuleList([*blocks, _norm(_WIDTH), nn.Conv2d(_WIDTH, _CODE, 3, 1, 1)])


def _generator() -> nn.ModuleList:
    blocks = [nn.Conv2d(_CODE, _WIDTH, 3, 1, 1), *_middle(), *_levels(WIDTHS[::-1], _WIDTH, _Up)]
    return nn.ModuleList([*blocks, _norm(WIDTHS[0]), nn.Conv2d(WIDTHS[0], 3, 3, 1, 1)])


class _Attention(nn.Module):  # type: ignore[misc]
    """Eight heads; the names are PyTorch's, its fast path is not: no exporter knows that."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * _WIDTH, _WIDTH))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * _WIDTH))
        self.out_proj = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, placed: Tensor, x: Tensor) -> Tensor:
        """Queries and keys from what carries its place, values from x, [n, 256, 512] both."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(source, weight, bias).view(-1, _SIDE**2, _HEADS, _WIDTH // _HEADS).transpose(1, 2)
            for source, weight, bias in zip((placed, placed, x), weights, biases, strict=True)
        )
        scores = torch.softmax(query @ key.transpose(2, 3) * (_WIDTH // _HEADS) ** -0.5, 3)
        return self.out_proj((scores @ value).transpose(1, 2).reshape(-1, _SIDE**2, _WIDTH))


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = _Attention()
        self.linear1, self.linear2 = nn.Linear(_WIDTH, 2 * _WIDTH), nn.Linear(2 * _WIDTH, _WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attn(y + places, y)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class _Fusion(nn.Module):  # type: ignore[misc]
    """How much of the input's own features comes back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encode_enc = _Residual(2 * width, width)
        self.scale, self.shift = (
            nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, 1, 1))
            for _ in range(2)
        )

    def forward(self, kept: Tensor, x: Tensor, fidelity: Tensor) -> Tensor:
        y = self.encode_enc(torch.cat([kept, x], 1))
        return x + fidelity * (x * self.scale(y) + self.shift(y))


class CodeFormer(nn.Module):  # type: ignore[misc]
    """image [1, 3, 512, 512] RGB -1..1, fidelity [1] float64 0..1 -> the same, restored."""

    def __init__(self) -> None:
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(_SIDE**2, _WIDTH))
        self.feat_emb = nn.Linear(_CODE, _WIDTH)
        self.ft_layers = nn.Sequential(*(_Layer() for _ in range(_LAYERS)))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _CODES, bias=False))
        self.encoder, self.generator, self.quantize = nn.Module(), nn.Module(), nn.Module()
        self.encoder.blocks, self.generator.blocks = _encoder(), _generator()
        self.quantize.embedding = nn.Embedding(_CODES, _CODE)
        self.fuse_convs_dict = nn.ModuleDict({str(side): _Fusion(width) for side, width, _, _ in FUSED})

    def forward(self, image: Tensor, fidelity: Tensor) -> Tensor:
        """The restored face."""
        fidelity = fidelity.to(torch.float32)
        keep, kept, x = {after: side for side, _, after, _ in FUSED}, {}, image
        for number, block in enumerate(self.encoder.blocks):
            x = block(x)
            if number in keep:
                kept[keep[number]] = x
        y = self.feat_emb(x.flatten(2).transpose(1, 2))
        for layer in self.ft_layers:
            y = layer(y, self.position_emb)
        codes = self.quantize.embedding(self.idx_pred_layer(y).argmax(2))
        x = codes.transpose(1, 2).reshape(-1, _CODE, _SIDE, _SIDE)
        fuse = {after: side for side, _, _, after in FUSED}
        for number, block in enumerate(self.generator.blocks):
            x = block(x)
            if number in fuse:
                x = self.fuse_convs_dict[str(fuse[number])](kept[fuse[number]], x, fidelity)
        return x
