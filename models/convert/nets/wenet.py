"""WeNet's streaming conformer unified_conformer_tiny3: published names as of WeNet's `transformer/` (2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes

__all__ = ["Tiny3", "build"]

_WIDTH, _HEADS, _LAYERS, _MELS = 512, 8, 3, 80
_HEAD = _WIDTH // _HEADS
_CHUNK = _CACHE = 16
_KERNEL = 15
_POSITIONS = 5000


def build(shapes: Shapes) -> Tiny3:
    """The encoder alone; what the recogniser has behind it drives no mouth."""
    return Tiny3()


class _FeedForward(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(_WIDTH, 2048), nn.Linear(2048, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.silu(self.w_1(x)))


class _Attention(nn.Module):  # type: ignore[misc]
    """Eight heads over cached and new steps; positions count as a second key, without a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))
        self.linear_pos = nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(_HEADS, _HEAD))
        self.pos_bias_v = nn.Parameter(torch.zeros(_HEADS, _HEAD))

    def forward(self, x: Tensor, positions: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x [1, 16, 512], positions [1, 32, 512], cache [1, 8, 16, 128] -> the same as x, and the cache to keep."""
        query = self.linear_q(x).view(1, -1, _HEADS, _HEAD)
        by_content, by_place = ((query + bias).transpose(1, 2) for bias in (self.pos_bias_u, self.pos_bias_v))
        past_key, past_value = cache.split(_HEAD, -1)
        key = torch.cat([past_key, self._heads(self.linear_k(x))], 2)
        value = torch.cat([past_value, self._heads(self.linear_v(x))], 2)
        place = self._heads(self.linear_pos(positions))
        scores = by_content @ key.transpose(-2, -1) + by_place @ place.transpose(-2, -1)
        mixed = torch.softmax(scores / math.sqrt(_HEAD), -1) @ value
        y = self.linear_out(mixed.transpose(1, 2).reshape(1, -1, _WIDTH))
        return y, torch.cat([key, value], -1)[:, :, -_CACHE:]

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(1, -1, _HEADS, _HEAD).transpose(1, 2)


class _Convolution(nn.Module):  # type: ignore[misc]
    """Causal convolution of 15 steps, 14 of them cached, between a gated and a plain 1 x 1."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(_WIDTH, 2 * _WIDTH, 1)
        self.depthwise_conv = nn.Conv1d(_WIDTH, _WIDTH, _KERNEL, groups=_WIDTH)
        self.norm = nn.LayerNorm(_WIDTH)
        self.pointwise_conv2 = nn.Conv1d(_WIDTH, _WIDTH, 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.cat([past, x.transpose(1, 2)], 2)
        kept = y[:, :, -(_KERNEL - 1) :]
        y = self.depthwise_conv(F.glu(self.pointwise_conv1(y), 1))
        y = F.silu(self.norm(y.transpose(1, 2))).transpose(1, 2)
        return self.pointwise_conv2(y).transpose(1, 2), kept


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.conv_module = _Attention(), _Convolution()
        self.feed_forward, self.feed_forward_macaron = _FeedForward(), _FeedForward()
        for name in ("ff", "mha", "ff_macaron", "conv", "final"):
            self.add_module(f"norm_{name}", nn.LayerNorm(_WIDTH))

    def forward(self, x: Tensor, positions: Tensor, cache: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x + 0.5 * self.feed_forward_macaron(self.norm_ff_macaron(x))
        y, cache = self.self_attn(self.norm_mha(x), positions, cache)
        x = x + y
        y, past = self.conv_module(self.norm_conv(x), past)
        x = x + y
        return self.norm_final(x + 0.5 * self.feed_forward(self.norm_ff(x))), cache, past


class _Encoder(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.global_cmvn = nn.Module()
        self.global_cmvn.register_buffer("mean", torch.zeros(_MELS))
        self.global_cmvn.register_buffer("istd", torch.ones(_MELS))
        self.embed = nn.Module()
        self.embed.conv = nn.Sequential(
            nn.Conv2d(1, _WIDTH, 3, 2), nn.ReLU(), nn.Conv2d(_WIDTH, _WIDTH, 3, 2), nn.ReLU()
        )
        self.embed.out = nn.Sequential(nn.Linear(_WIDTH * (((_MELS - 1) // 2 - 1) // 2), _WIDTH))
        self.encoders = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.after_norm = nn.LayerNorm(_WIDTH)


class Tiny3(nn.Module):  # type: ignore[misc]
    """chunk [1, 1, 67, 80], offset [1] int64, att_cache [3, 8, 16, 128], cnn_cache [3, 1, 512, 14] -> output
    [1, 16, 512] and the two caches of the next call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.register_buffer("positions", _positions(), persistent=False)

    def forward(
        self, chunk: Tensor, offset: Tensor, att_cache: Tensor, cnn_cache: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features of 640 ms of sound."""
        net = self.encoder
        x = (chunk - net.global_cmvn.mean) * net.global_cmvn.istd
        x = net.embed.conv(x).transpose(1, 2).reshape(1, _CHUNK, -1)
        x = net.embed.out(x) * math.sqrt(_WIDTH)
        steps = offset - _CACHE + torch.arange(_CACHE + _CHUNK)
        positions = self.positions[steps].unsqueeze(0)
        caches, pasts = [], []
        for number, layer in enumerate(net.encoders):
            x, cache, past = layer(x, positions, att_cache[number : number + 1], cnn_cache[number])
            caches.append(cache)
            pasts.append(past.unsqueeze(0))
        return net.after_norm(x), torch.cat(caches), torch.cat(pasts)


def _positions() -> Tensor:
    """Sines and cosines of 5000 steps, [5000, 512]."""
    steps = torch.arange(_POSITIONS, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, _WIDTH, 2, dtype=torch.float32) * -(math.log(10000.0) / _WIDTH))
    return torch.stack([torch.sin(steps * rates), torch.cos(steps * rates)], -1).flatten(1)
