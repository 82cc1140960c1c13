"""Wav2Lip at 96 px and LiveTalking's at 256 px: published names as of their `models/wav2lip.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.convert.keys import Shapes

__all__ = ["Wav2Lip", "build"]

# width, stride, residual blocks of the levels of the face encoder between the first and the last
FACE_96 = ((32, 2, 2), (64, 2, 3), (128, 2, 2), (256, 2, 2), (512, 2, 1))
FACE_256 = (*FACE_96, (512, 2, 1))
# inputs, width, residual blocks of the levels of the decoder after the second
UP_96 = ((1024, 512, 2), (768, 384, 2), (512, 256, 2), (320, 128, 2), (160, 64, 2))
UP_256 = ((1024, 512, 1), *UP_96)


def build(shapes: Shapes, *, side_px: int) -> Wav2Lip:
    """The network at 96 or 256 px."""
    return Wav2Lip(side_px)


class _Block(nn.Module):  # type: ignore[misc]
    """Convolution (or its transpose), batch norm, ReLU."""

    def __init__(self, conv: nn.Module, *, residual: bool = False) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return torch.relu(x + y if self.residual else y)


def _plain(inputs: int, outputs: int, size: int = 3, stride: int | tuple[int, int] = 1, pad: int = 1) -> _Block:
    return _Block(nn.Conv2d(inputs, outputs, size, stride, pad))


def _residuals(width: int, count: int) -> list[_Block]:
    return [_Block(nn.Conv2d(width, width, 3, 1, 1), residual=True) for _ in range(count)]


def _audio_encoder() -> nn.Sequential:
    blocks = [_plain(1, 32), *_residuals(32, 2)]
    for inputs, outputs, stride, count in ((32, 64, (3, 1), 2), (64, 128, (3, 3), 2), (128, 256, (3, 2), 1)):
        blocks += [_plain(inputs, outputs, 3, stride), *_residuals(outputs, count)]
    return nn.Sequential(*blocks, _plain(256, 512, 3, 1, 0), _plain(512, 512, 1, 1, 0))


def _up(inputs: int, outputs: int, count: int, size: int = 3, *, first: bool = False) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, size, *((1, 0, 0) if first else (2, 1, 1)))
    return nn.Sequential(_Block(conv), *_residuals(outputs, count))


class Wav2Lip(nn.Module):  # type: ignore[misc]
    """mel [n, 1, 80, 16], image [n, 6, s, s] BGR 0..1 -> [n, 3, s, s] 0..1."""

    def __init__(self, side_px: int) -> None:
        super().__init__()
        levels, ups, last = (FACE_96, UP_96, 3) if side_px == 96 else (FACE_256, UP_256, 4)
        face, inputs = [nn.Sequential(_plain(6, 16, 7, 1, 3))], 16
        for width, stride, count in levels:
            face.append(nn.Sequential(_plain(inputs, width, 3, stride), *_residuals(width, count)))
            inputs = width
        face.append(nn.Sequential(_plain(512, 512, last, 1, 0), _plain(512, 512, 1, 1, 0)))
        self.face_encoder_blocks = nn.ModuleList(face)
        self.audio_encoder = _audio_encoder()
        decoder = [nn.Sequential(_plain(512, 512, 1, 1, 0)), _up(1024, 512, 1, last, first=True)]
        self.face_decoder_blocks = nn.ModuleList([*decoder, *(_up(*level) for level in ups)])
        self.output_block = nn.Sequential(_plain(80, 32), nn.Conv2d(32, 3, 1), nn.Sigmoid())

    def forward(self, mel: Tensor, image: Tensor) -> Tensor:
        """The face with its mouth drawn."""
        skips = []
        x = image
        for block in self.face_encoder_blocks:
            x = block(x)
            skips.append(x)
        x = self.audio_encoder(mel)
        for block in self.face_decoder_blocks:
            x = torch.cat([block(x), skips.pop()], 1)
        return self.output_block(x)
