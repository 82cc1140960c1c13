"""Twins of the U-Nets that draw a mouth from audio features. Random weights: for cost and tests only."""

from __future__ import annotations

from models.twins import layers as nn
from models.twins.builder import Graph, Tensor, TwinError

__all__ = ["ultralight", "wav2lip"]

_AUDIO = {"wenet": (128, 16, 32), "hubert": (16, 32, 32)}


def ultralight(g: Graph, *, audio: str = "wenet", half_width: bool = False) -> None:
    """Ultralight's U-Net of inverted residuals with expansion 2 at 160 x 160.

    `input` [n, 6, 160, 160] BGR 0..1, `audio` [n, 128, 16, 32] (wenet) or [n, 16, 32, 32] (hubert); `output`
    [n, 3, 160, 160] 0..1. `half_width` halves every width but those of the inputs.
    """
    if audio not in _AUDIO:
        raise TwinError(f"{g.name}: wanted audio wenet or hubert, got {audio!r}; correct it")
    widths = [width // 2 if half_width else width for width in (32, 64, 128, 256, 512)]
    x = _inverted(g, g.input("input", (g.batch, 6, 160, 160)), widths[0])
    heard = _heard(g, g.input("audio", (g.batch, *_AUDIO[audio])), widths, audio)
    skips = [x]
    for width in widths[1:]:
        x = _double(g, x, width, 2)
        skips.append(x)
    x = nn.concat(g, skips.pop(), heard)
    x = _double(g, _double(g, x, widths[4]), widths[3])
    for width in (widths[3] // 2, widths[2] // 2, widths[1] // 2, widths[0]):
        x = nn.concat(g, nn.resize(g, x, 2, "linear", corners=True), skips.pop())
        x = _double(g, x, width)
    g.output("output", nn.sigmoid(g, nn.conv(g, x, 3, 1, gain=1.0)))


def _inverted(g: Graph, x: Tensor, width: int, stride: int = 1, *, residual: bool = False) -> Tensor:
    """1 x 1 to twice the channels, depthwise 3 x 3, 1 x 1 back; the norms are folded in as biases."""
    wide = 2 * x.channels
    y = nn.relu(g, nn.conv(g, x, wide, 1, gain=1.0))
    y = nn.relu(g, nn.conv(g, y, wide, stride=stride, groups=wide))
    y = nn.conv(g, y, width, 1, gain=0.7 if residual else nn.RELU_GAIN)
    return nn.add(g, x, y) if residual else y


def _double(g: Graph, x: Tensor, width: int, stride: int = 1) -> Tensor:
    return _inverted(g, _inverted(g, x, width, stride), width, residual=True)


def _heard(g: Graph, x: Tensor, widths: list[int], audio: str) -> Tensor:
    """Audio features as a map of 10 x 10."""
    x = _double(g, x, widths[3]) if audio == "wenet" else _inverted(g, _inverted(g, x, widths[1]), widths[2])
    x = nn.relu(g, nn.conv(g, x, widths[3], 3, (1, 2) if audio == "wenet" else 2, pad=1))
    x = _inverted(g, x, x.channels, residual=True)
    x = nn.relu(g, nn.conv(g, x, widths[4], 3, 2, pad=3))
    for _ in range(2):
        x = _inverted(g, x, x.channels, residual=True)
    return x


def wav2lip(g: Graph) -> None:
    """Wav2Lip at 96 x 96: face and audio encoders to 512 x 1 x 1, decoder with skips.

    `source` [n, 1, 80, 16] mel, `target` [n, 6, 96, 96] BGR 0..1; `output` [n, 3, 96, 96] 0..1.
    """
    mel = g.input("source", (g.batch, 1, 80, 16))
    img = g.input("target", (g.batch, 6, 96, 96))
    x = _plain(g, mel, 32, blocks=2)
    for width, stride, blocks in ((64, (3, 1), 2), (128, (3, 3), 2), (256, (3, 2), 1)):
        x = _plain(g, x, width, stride=stride, blocks=blocks)
    x = nn.relu(g, nn.conv(g, x, 512, pad=0))
    x = nn.relu(g, nn.conv(g, x, 512, 1))
    skips = _face_levels(g, img)
    x = nn.concat(g, nn.relu(g, nn.conv(g, x, 512, 1)), skips.pop())
    for width, blocks in ((512, 1), (512, 2), (384, 2), (256, 2), (128, 2), (64, 2)):
        first = x.shape[2] == 1
        if first:
            x = nn.conv_transposed(g, x, width, 3, 1)
        else:
            x = nn.conv_transposed(g, x, width, 3, 2, pad=1, output_pad=1)
        x = nn.relu(g, x)
        for _ in range(blocks):
            x = _residual(g, x)
        x = nn.concat(g, x, skips.pop())
    x = nn.relu(g, nn.conv(g, x, 32))
    g.output("output", nn.sigmoid(g, nn.conv(g, x, 3, 1, gain=1.0)))


def _face_levels(g: Graph, img: Tensor) -> list[Tensor]:
    """Seven feature maps, 96 to 1 pixel wide."""
    x = nn.relu(g, nn.conv(g, img, 16, 7))
    levels = [x]
    for width, blocks in ((32, 2), (64, 3), (128, 2), (256, 2), (512, 1)):
        x = _plain(g, x, width, stride=(2, 2), blocks=blocks)
        levels.append(x)
    x = nn.relu(g, nn.conv(g, x, 512, pad=0))
    levels.append(nn.relu(g, nn.conv(g, x, 512, 1)))
    return levels


def _plain(g: Graph, x: Tensor, width: int, stride: tuple[int, int] = (1, 1), blocks: int = 0) -> Tensor:
    x = nn.relu(g, nn.conv(g, x, width, stride=stride))
    for _ in range(blocks):
        x = _residual(g, x)
    return x


def _residual(g: Graph, x: Tensor) -> Tensor:
    return nn.relu(g, nn.add(g, x, nn.conv(g, x, x.channels, gain=0.6)))
