"""A graph made for one sample takes k of them: every constant that bakes the 1 in is found and rewritten.

The batch is followed from the inputs through every operator: on which axis it lies, and how many rows a sample has
there. Sizes written as constants (targets of reshapes, repeats, slices, sizes of a resize) are rewritten; what is the
same for all samples is repeated where an operator does not broadcast. An operator that would mix samples is named.
The rules only propose: the caller runs the result beside single runs of the untouched file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engines.rewrites.batch_axis import BatchError, Lift
from build_engines.rewrites.batch_rules import RULES
from build_engines.rewrites.graph import describe, sizes

__all__ = ["BatchError", "lift_batch"]


def lift_batch(graph: Any, axes: Mapping[str, int], count: int, where: str) -> int:
    """Rewrite a graph with static shapes of one sample for `count` of them; returns the constants rewritten.

    `axes` says on which axis of inputs and outputs the batch lies; inputs left out are shared by all samples.
    Raises BatchError with the node that bakes the single sample in; the graph is spoiled then.
    """
    describe(graph)
    lift = Lift(graph, count, where)
    for tensor in graph.inputs:
        if tensor.name in axes:
            lift.axis[tensor.name] = axes[tensor.name]
    for node in list(graph.nodes):
        if any(tensor.name in lift.axis for tensor in node.inputs):
            lift.follow(node, RULES)
    for tensor in graph.outputs:
        found, wanted = lift.axis.get(tensor.name), axes.get(tensor.name, 0)
        if found != wanted or lift.known[tensor.name][wanted] != 1:
            got = "none" if found is None else f"it on axis {found} of {list(lift.known[tensor.name])}"
            raise BatchError(
                f"{where}: wanted a batch of {count} on axis {wanted} of the output {tensor.name}, got {got}; "
                "build it for one face at a time"
            )
    for tensor in graph.inputs:
        if tensor.name in axes:
            tensor.shape = list(lift.grown(tensor.name))
    _check_sizes(graph, lift)
    return lift.changed


def _check_sizes(graph: Any, lift: Lift) -> None:
    """The sizes that the rules foretold are those that the rewritten operators give."""
    describe(graph)
    for node in graph.nodes:
        for tensor in node.outputs:
            if tensor.name in lift.axis and sizes(tensor) not in (None, lift.grown(tensor.name)):
                raise lift.fault(node, f"gives the shape {list(tensor.shape)} for {list(lift.grown(tensor.name))}")
