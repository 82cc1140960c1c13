"""BiSeNet for face parsing on ResNet 18 or 34, under the names of its two published implementations.

The heads of training (1/16 and 1/32) are left out: no output of the contracts depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.convert.keys import Shapes
from models.convert.nets.blocks import conv_norm, put

__all__ = ["BiSeNet", "build"]

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_CLASSES = 19


@dataclass(frozen=True)
class _Names:
    """How an implementation calls what the other calls otherwise."""

    context: str
    backbone: str
    norm: str
    refined: str
    gate: tuple[str, str]
    fused: str
    head: tuple[str, str]


_NAMES = {
    "face-parsing.PyTorch": _Names(
        "cp", "resnet", "bn", "conv", ("conv_atten", "bn_atten"), "convblk", ("conv", "conv_out")
    ),
    "face-parsing": _Names(
        "fpn", "backbone", "norm", "conv_block", ("attention.0", "attention.1"), "conv_block", ("conv_block", "conv")
    ),
}


def build(shapes: Shapes, *, depth: int, names: str) -> BiSeNet:
    """The network on ResNet of 18 or 34 layers under the names of one implementation."""
    return BiSeNet(depth, _NAMES[names])


class _Basic(nn.Module):  # type: ignore[misc]
    """Two convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = conv_norm(outputs, outputs)
        self.downsample = nn.Sequential(*conv_norm(inputs, outputs, 1, stride)) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(self.downsample(x) + y)


class _ResNet(nn.Module):  # type: ignore[misc]
    """Three maps: 1/8, 1/16 and 1/32."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 7, 2)
        inputs = 64
        for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), _STAGES[depth], strict=True), 1):
            first = _Basic(inputs, width, 1 if stage == 1 else 2)
            self.add_module(
                f"layer{stage}", nn.Sequential(first, *(_Basic(width, width, 1) for _ in range(blocks - 1)))
            )
            inputs = width

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        fine = self.layer2(self.layer1(x))
        middle = self.layer3(fine)
        return fine, middle, self.layer4(middle)


class BiSeNet(nn.Module):  # type: ignore[misc]
    """image [n, 3, 512, 512] -> logits [n, 19, 512, 512]."""

    def __init__(self, depth: int, names: _Names) -> None:
        super().__init__()
        self._norm = names.norm
        context = names.context
        backbone = put(self, f"{context}.{names.backbone}", _ResNet(depth))
        steps: dict[str, nn.Module] = {"backbone": backbone}
        for number, width in ((16, 256), (32, 512)):
            steps[f"refined{number}"] = self._block(f"{context}.arm{number}.{names.refined}", width, 128)
            gate = zip(names.gate, conv_norm(128, 128, 1), strict=True)
            parts = [put(self, f"{context}.arm{number}.{name}", module) for name, module in gate]
            steps[f"gate{number}"] = nn.Sequential(*parts, nn.Sigmoid())
            steps[f"head{number}"] = self._block(f"{context}.conv_head{number}", 128, 128)
        steps["overall"] = self._block(f"{context}.conv_avg", 512, 128, 1)
        steps["fused"] = self._block(f"ffm.{names.fused}", 256, 256, 1)
        gate_parts = [put(self, "ffm.conv1", nn.Conv2d(256, 64, 1, bias=False)), nn.ReLU()]
        gate_parts += [put(self, "ffm.conv2", nn.Conv2d(64, 256, 1, bias=False)), nn.Sigmoid()]
        steps["fused_gate"] = nn.Sequential(*gate_parts)
        steps["classes"] = self._block(f"conv_out.{names.head[0]}", 256, 256)
        steps["logits"] = put(self, f"conv_out.{names.head[1]}", nn.Conv2d(256, _CLASSES, 1, bias=False))
        # a plain dict: the modules are registered already, under the published names
        self._steps = steps

    def _block(self, path: str, inputs: int, outputs: int, size: int = 3) -> nn.Module:
        conv, norm = conv_norm(inputs, outputs, size)
        return nn.Sequential(put(self, f"{path}.conv", conv), put(self, f"{path}.{self._norm}", norm), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        """Logits of every pixel."""
        step = self._steps
        fine, middle, coarse = step["backbone"](image)
        low = self._gated(coarse, 32) + step["overall"](_average(coarse))
        low = step["head32"](F.interpolate(low, scale_factor=2))
        mid = self._gated(middle, 16) + low
        mid = step["head16"](F.interpolate(mid, scale_factor=2))
        fused = step["fused"](torch.cat([fine, mid], 1))
        fused = fused + fused * step["fused_gate"](_average(fused))
        logits = step["logits"](step["classes"](fused))
        return F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=True)

    def _gated(self, x: Tensor, number: int) -> Tensor:
        x = self._steps[f"refined{number}"](x)
        return x * self._steps[f"gate{number}"](_average(x))


def _average(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1)
