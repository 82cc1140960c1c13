"""Sampled volumes become sampled pictures: AdaAT's GridSample of 5 axes, which no TensorRT reads, as one of 4.

The volume is a picture's channels, and the depth at which a channel is sampled depends on that channel alone. Then
linear sampling along the depth is a constant mix of two channels, and what is left is a picture a channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.rewrites.graph import constant, describe, emit, is_constant, producer, sizes, take_over

__all__ = ["flatten_volumes"]

F64 = npt.NDArray[np.float64]
_LINEAR = ("linear", "bilinear")


def flatten_volumes(graph: Any) -> int:
    """GridSample of [n, 1, c, h, w] at constant depths: two channels mixed, then GridSample of [n * c, 1, h, w]."""
    describe(graph)
    return sum(_flatten(graph, node) for node in list(graph.nodes) if node.op == "GridSample")


def _flatten(graph: Any, node: Any) -> bool:
    volume, grid = sizes(node.inputs[0]), sizes(node.inputs[1])
    if volume is None or grid is None or len(volume) != 5 or volume[1] != 1:
        return False
    if node.attrs.get("mode", "linear") not in _LINEAR or node.attrs.get("padding_mode", "zeros") == "reflection":
        return False
    plane, depth = _split_grid(node.inputs[1])
    if depth is None:
        return False
    count, _, channels, height, width = volume
    places = _places(np.asarray(depth.values, np.float64), grid, channels, bool(node.attrs.get("align_corners", 0)))
    if places is None:
        return False
    flat = (count, channels, height, width)
    source = _reshaped(graph, f"{node.name}__channels", node.inputs[0], flat)
    mixed = _mixed(graph, node.name, source, flat, places, zeros=node.attrs.get("padding_mode", "zeros") == "zeros")
    rows, columns = grid[2:4]
    out = grid[0] * grid[1]
    picture = _reshaped(graph, f"{node.name}__pictures", mixed, (out, 1, height, width))
    if len(plane) > 1:
        plane = [emit(graph, "Concat", f"{node.name}__plane", plane, (*grid[:4], 2), axis=4)]
    points = _reshaped(graph, f"{node.name}__points", plane[0], (out, rows, columns, 2))
    kept = {name: value for name, value in node.attrs.items() if name != "mode"}
    kept["mode"] = "linear" if graph.opset >= 20 else "bilinear"
    sampled = emit(graph, "GridSample", f"{node.name}__flat", [picture, points], (out, 1, rows, columns), **kept)
    take_over(
        graph, node.outputs[0], _reshaped(graph, f"{node.name}__volume", sampled, (count, 1, grid[1], rows, columns))
    )
    return True


def _split_grid(grid: Any) -> tuple[list[Any], Any]:
    """(parts that hold x and y, depth) of a grid put together along its last axis; depth None where it is computed."""
    node = producer(grid)
    if node is None or node.op != "Concat" or node.attrs["axis"] not in (-1, 4):
        return [], None
    *plane, depth = node.inputs
    if not plane or not is_constant(depth) or depth.shape[-1] != 1:
        return [], None
    return plane, depth


def _places(depth: F64, grid: tuple[int, ...], channels: int, aligned: bool) -> F64 | None:
    """The depth of each channel in units of channels; None where it changes inside one."""
    whole = np.broadcast_to(depth.reshape(grid[:4]), grid[:4])
    by_channel = whole[:1, :, :1, :1]
    if not np.all(whole == by_channel):
        return None
    z = by_channel.reshape(-1)
    return (z + 1) / 2 * (channels - 1) if aligned else ((z + 1) * channels - 1) / 2


def _mixed(graph: Any, name: str, x: Any, shape: tuple[int, ...], places: F64, *, zeros: bool) -> Any:
    """Channels at fractional places: two taps each; beyond the ends nothing, or the last channel."""
    last = shape[1] - 1
    below = np.floor(places)
    share = places - below
    out = (shape[0], len(places), *shape[2:])
    taps = []
    for side, (index, weight) in enumerate(((below, 1 - share), (below + 1, share))):
        if zeros:
            weight = weight * ((index >= 0) & (index <= last))
        chosen = constant(f"{name}__tap_{side}", np.clip(index, 0, last).astype(np.int64))
        scale = constant(f"{name}__share_{side}", weight.astype(np.float32).reshape(1, -1, 1, 1))
        taken = emit(graph, "Gather", f"{name}__taken_{side}", [x, chosen], out, axis=1)
        taps.append(emit(graph, "Mul", f"{name}__weighed_{side}", [taken, scale], out))
    return emit(graph, "Add", f"{name}__mixed", taps, out)


def _reshaped(graph: Any, name: str, tensor: Any, shape: tuple[int, ...]) -> Any:
    return emit(graph, "Reshape", name, [tensor, constant(f"{name}__shape", np.array(shape, np.int64))], shape)
