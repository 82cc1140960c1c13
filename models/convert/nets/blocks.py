"""What several networks share."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Method", "Named", "conv_norm", "put"]


class Named(nn.Module):  # type: ignore[misc]
    """A module one level deeper under a name: published names often have a level that computes nothing."""

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.add_module(name, inner)
        self._name = name

    def forward(self, x: Tensor) -> Tensor:
        """What the inner module makes of x."""
        return getattr(self, self._name)(x)


class Method(nn.Module):  # type: ignore[misc]
    """One method of a network as a network of its own: what an exporter wants."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network = network
        self._method = method

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the method makes of its inputs."""
        return getattr(self.network, self._method)(*inputs)


def put(parent: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """Registers a module under a dotted path, with empty levels where there are none yet; returns the module."""
    *levels, name = path.split(".")
    for level in levels:
        if level not in dict(parent.named_children()):
            parent.add_module(level, nn.Module())
        parent = getattr(parent, level)
    parent.add_module(name, module)
    return module


def conv_norm(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A 2-D convolution without bias that keeps the size (at stride 1), and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]
