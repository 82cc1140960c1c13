"""Where the batch lies in every tensor of a graph, and what changes a node for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from build_engines.flavour import BuildError
from build_engines.rewrites.graph import Sizes, constant, emit, fed, is_constant, sizes

__all__ = ["BatchError", "Lift", "Rule"]


class BatchError(BuildError):
    """A graph can't take several samples at once; the message names the node that holds it to one."""


class Lift:
    """One graph on its way. `axis` is where the batch lies in a tensor; tensors left out are the same for all.

    An axis may hold several rows of each sample. Rows of one sample lie together unless `outer` says how many groups
    they form: with tokens as the outer rows, all samples' first tokens come before all samples' second ones.
    """

    def __init__(self, graph: Any, count: int, where: str) -> None:
        self.graph = graph
        self.count = count
        self.where = where
        self.axis: dict[str, int] = {}
        self.outer: dict[str, int] = {}
        self.known: dict[str, Sizes] = {}
        self.order = 1
        self.changed = 0
        for tensor in graph.tensors().values():
            if (found := sizes(tensor)) is not None:
                self.known[tensor.name] = found

    def fault(self, node: Any, why: str) -> BatchError:
        """The error for a node that holds the graph to one sample."""
        return BatchError(
            f"{self.where}: wanted a graph for a batch of {self.count}, got {node.op} {node.name}, which {why}; "
            "build it for one face at a time"
        )

    def follow(self, node: Any, rules: Mapping[str, Rule]) -> None:
        """Take the batch through a node, by the rule of its operator."""
        for tensor in (*node.inputs, *node.outputs):
            if not tensor.is_empty() and tensor.name not in self.known:
                raise self.fault(node, f"has no known shape at {tensor.name}")
        if node.op not in rules or node.domain not in (None, "", "ai.onnx"):
            raise self.fault(node, "is no operator that a batch is known to pass")
        orders = {self.outer.get(tensor.name, 1) for tensor in node.inputs if tensor.name in self.axis}
        if len(orders) > 1:
            raise self.fault(node, "brings together samples whose rows lie in different orders")
        self.order = orders.pop()
        try:
            rules[node.op](self, node)
        except LookupError as error:
            raise self.fault(node, f"has no constant where the batch needs one: {error}") from error

    def of(self, tensor: Any) -> int | None:
        """The axis on which the batch lies; None where all samples share the tensor, or there is none."""
        return None if tensor is None else self.axis.get(tensor.name)

    def size(self, tensor: Any) -> Sizes:
        """The shape for one sample."""
        return self.known[tensor.name]

    def grown(self, name: str) -> Sizes:
        """The shape for all samples."""
        shape = list(self.known[name])
        if name in self.axis:
            shape[self.axis[name]] *= self.count
        return tuple(shape)

    def set(self, node: Any, axis: int, position: int = 0) -> None:
        """Say on which axis of an output the batch lies, with its rows in the order at hand."""
        if position < len(node.outputs) and not node.outputs[position].is_empty():
            self.axis[node.outputs[position].name] = axis
            self.outer[node.outputs[position].name] = self.order

    def shared(self, node: Any, *positions: int) -> None:
        """Raise where the batch reaches inputs that hold one value for all samples."""
        for position in positions:
            if self.of(fed(node, position)) is not None:
                raise self.fault(node, f"takes data of each sample as its input {position}")

    def repeat(self, node: Any, position: int, axis: int) -> None:
        """Give a node one copy for each sample, along an axis, of what all share."""
        tensor = node.inputs[position]
        name = f"{node.name}__rows_{position}"
        shape = self.size(tensor)
        grouped = self.order > 1 and shape[axis] > 1
        if is_constant(tensor):
            split = (*shape[:axis], self.order if grouped else 1, 1, -1, *shape[axis + 1 :])
            values = np.asarray(tensor.values).reshape(split).repeat(self.count, axis + 1)
            copies = constant(name, values.reshape([*shape[:axis], -1, *shape[axis + 1 :]]))
        elif grouped:
            raise self.fault(node, "needs what all samples share in another order of rows")
        else:
            repeats = [self.count if i == axis else 1 for i in range(len(shape))]
            counts = constant(f"{name}__counts", np.array(repeats, np.int64))
            grown = [size * by for size, by in zip(shape, repeats, strict=True)]
            copies = emit(self.graph, "Tile", name, [tensor, counts], grown)
            self.graph.nodes.remove(producer := copies.inputs[0])
            self.graph.nodes.insert(next(i for i, item in enumerate(self.graph.nodes) if item is node), producer)
        node.inputs[position] = copies
        self.known[copies.name] = self.size(tensor)
        self.axis[copies.name] = axis
        self.outer[copies.name] = self.order
        self.changed += 1

    def rewrite(self, node: Any, position: int, values: list[int], dtype: Any = np.int64) -> None:
        """Put a constant of its own in a node's input."""
        node.inputs[position] = constant(f"{node.name}__sizes_{position}", np.array(values, dtype))
        self.changed += 1


Rule = Callable[[Lift, Any], None]
