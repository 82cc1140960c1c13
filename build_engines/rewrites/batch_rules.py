"""How each operator passes a batch on, or why it can't; one rule for operators that are alike."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from build_engines.rewrites.batch_axis import Lift, Rule
from build_engines.rewrites.cleaning import to_reshape
from build_engines.rewrites.graph import attribute, cut_inputs, fed, is_constant

__all__ = ["RULES"]

_END = np.iinfo(np.int64).max
_ALONG_LAST = ("Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization")
_BATCH_FIRST = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool")


def _along(lift: Lift, node: Any, operands: list[int]) -> None:
    """Operands that broadcast against each other from the right."""
    rank = len(lift.size(node.outputs[0]))
    places: dict[int, int] = {}
    for position in operands:
        tensor = node.inputs[position]
        axis = lift.of(tensor)
        if axis is not None:
            places[rank - len(lift.size(tensor)) + axis] = lift.size(tensor)[axis]
    if len(places) != 1:
        raise lift.fault(node, "brings together samples that lie on different axes")
    place, rows = places.popitem()
    for position in operands:
        tensor = node.inputs[position]
        own = place - (rank - len(lift.size(tensor)))
        size = lift.size(tensor)[own] if own >= 0 else 1
        if lift.of(tensor) is None and size != 1:
            if size != rows:
                raise lift.fault(node, f"spreads the sample over {size} rows")
            lift.repeat(node, position, own)
        elif lift.of(tensor) is not None and size != rows:
            raise lift.fault(node, f"brings together {size} and {rows} rows a sample")
    lift.set(node, place)


def _elementwise(lift: Lift, node: Any) -> None:
    _along(lift, node, [i for i in range(len(node.inputs)) if fed(node, i) is not None])


def _first(lift: Lift, node: Any) -> None:
    """Operators whose first axis is the batch by definition, and whose other inputs are weights."""
    if lift.of(node.inputs[0]) != 0:
        raise lift.fault(node, "takes its data with the batch first, and has it elsewhere")
    lift.shared(node, *range(1, len(node.inputs)))
    lift.set(node, 0)


def _weighted(lift: Lift, node: Any) -> None:
    if lift.of(node.inputs[1]) is not None:
        raise lift.fault(node, "takes data of each sample as its weights")
    _first(lift, node)


def _moved(lift: Lift, node: Any) -> None:
    """Reshapes of every kind. As many elements stand before the batch as did, so it may lie on any axis where that
    number falls; of one sample alone nobody can tell which was meant. Taken is the first axis on whose border it
    falls, unless who reads the result could not work along that one."""
    lift.shared(node, 1)
    source, axis = lift.size(node.inputs[0]), lift.of(node.inputs[0])
    target = lift.size(node.outputs[0])
    before = prod(source[:axis]) * lift.order
    places = []
    for place, rows in enumerate(target):
        order, rest = divmod(before, prod(target[:place]))
        if order and not rest and not rows % order:
            places.append((order != 1, place, order))
    if not places:
        raise lift.fault(node, f"makes {list(source)} {list(target)} and leaves no axis for the batch")
    places.sort(key=lambda found: (not _readable(node, found[1], len(target)), *found))
    _, place, lift.order = places[0]
    lift.set(node, place)
    to_reshape(node, lift.grown(node.outputs[0].name))
    lift.changed += 1


def _readable(node: Any, axis: int, rank: int) -> bool:
    """Whether everybody who reads a node's output can have the batch on this axis of it."""
    for reader in node.outputs[0].outputs:
        position = next(i for i, tensor in enumerate(reader.inputs) if tensor is node.outputs[0])
        summed: int | None = None
        if reader.op == "Gemm" and position == 0:
            summed = 0 if reader.attrs.get("transA", 0) else 1
        elif reader.op == "MatMul":
            summed = rank - 1 if position == 0 else rank - 2
        elif reader.op in _ALONG_LAST:
            summed = int(reader.attrs.get("axis", -1)) % rank
        elif reader.op in _BATCH_FIRST and axis != 0:
            return False
        if axis == summed:
            return False
    return True


def _squeezed(lift: Lift, node: Any) -> None:
    axis = lift.of(node.inputs[0])
    rank = len(lift.size(node.inputs[0]))
    axes = attribute(node, "axes", 1)
    gone = {i % rank for i in axes} if axes else {i for i, size in enumerate(lift.size(node.inputs[0])) if size == 1}
    if axis in gone:
        _moved(lift, node)
        return
    lift.set(node, axis - sum(i < axis for i in gone) if axis is not None else 0)


def _unsqueezed(lift: Lift, node: Any) -> None:
    axis, rank = lift.of(node.inputs[0]), len(lift.size(node.outputs[0]))
    new = {i % rank for i in attribute(node, "axes", 1) or []}
    kept = [i for i in range(rank) if i not in new]
    if axis is None or lift.size(node.inputs[0])[axis] != 1:
        _moved(lift, node)
        return
    lift.set(node, kept[axis])


def _expanded(lift: Lift, node: Any) -> None:
    lift.shared(node, 1)
    source, axis, target = lift.size(node.inputs[0]), lift.of(node.inputs[0]), lift.size(node.outputs[0])
    place = len(target) - len(source) + (axis or 0)
    if axis is None or target[place] != source[axis]:
        raise lift.fault(node, f"makes {target[place]} rows of one sample")
    lift.set(node, place)
    lift.rewrite(node, 1, list(lift.grown(node.outputs[0].name)))


def _tiled(lift: Lift, node: Any) -> None:
    lift.shared(node, 1)
    axis = lift.of(node.inputs[0])
    if axis is None or lift.size(node.inputs[0])[axis] != lift.size(node.outputs[0])[axis]:
        raise lift.fault(node, "repeats the rows of a sample")
    lift.set(node, axis)


def _transposed(lift: Lift, node: Any) -> None:
    rank = len(lift.size(node.inputs[0]))
    order = list(node.attrs.get("perm", range(rank)[::-1]))
    lift.set(node, order.index(lift.of(node.inputs[0])))


def _joined(lift: Lift, node: Any) -> None:
    axis = int(node.attrs["axis"]) % len(lift.size(node.outputs[0]))
    found = {lift.of(tensor) for tensor in node.inputs} - {None}
    if len(found) != 1 or axis in found:
        raise lift.fault(node, "joins along the axis of the batch")
    place = found.pop()
    for position, tensor in enumerate(list(node.inputs)):
        if lift.of(tensor) is None:
            lift.repeat(node, position, place or 0)
    lift.set(node, place or 0)


def _kept(lift: Lift, node: Any) -> None:
    """Operators that work along an axis and keep all of them: softmax, split, cumulated sums, the largest k."""
    data = node.inputs[0]
    axis, rank = lift.of(data), len(lift.size(data))
    if axis is None:
        raise lift.fault(node, "takes data of each sample where it wants a constant")
    lift.shared(node, *range(1, len(node.inputs)))
    default = 0 if node.op == "Split" else -1
    if node.op in ("Softmax", "LogSoftmax", "Hardmax") and lift.graph.opset < 13:
        default = 1
    own = attribute(node, "axis", 1 if node.op == "CumSum" else None) or [default]
    flattens = default == 1 or node.op in ("LayerNormalization", "RMSNormalization")
    if axis == own[0] % rank or (flattens and axis >= own[0] % rank):
        raise lift.fault(node, "works along the axis of the batch")
    for position in range(len(node.outputs)):
        lift.set(node, axis, position)


def _cut(lift: Lift, node: Any) -> None:
    lift.shared(node, *range(1, len(node.inputs)))
    axis, rank = lift.of(node.inputs[0]), len(lift.size(node.inputs[0]))
    rows = lift.size(node.inputs[0])[axis or 0]
    starts, ends = attribute(node, "starts", 1) or [], attribute(node, "ends", 2) or []
    axes = [i % rank for i in attribute(node, "axes", 3) or range(len(starts))]
    steps = attribute(node, "steps", 4) or [1] * len(axes)
    if axis is None:
        raise lift.fault(node, "takes data of each sample as bounds")
    if axis in axes:
        place = axes.index(axis)
        whole = starts[place] in (0, -rows) and ends[place] >= rows and steps[place] == 1
        if not whole:
            raise lift.fault(node, "cuts along the axis of the batch")
        starts[place], ends[place] = 0, _END
        if "starts" in node.attrs:
            node.attrs["starts"], node.attrs["ends"] = starts, ends
            lift.changed += 1
        else:
            lift.rewrite(node, 1, starts)
            lift.rewrite(node, 2, ends)
            lift.changed -= 1
    lift.set(node, axis)


def _gathered(lift: Lift, node: Any) -> None:
    data, index = node.inputs[:2]
    rank = len(lift.size(data))
    axis = int(node.attrs.get("axis", 0)) % rank
    place, chosen = lift.of(data), lift.of(index)
    if place is not None and chosen is not None:
        raise lift.fault(node, "takes other rows of every sample")
    if place is None:
        lift.set(node, axis + (chosen or 0))
    elif place != axis:
        lift.set(node, place if place < axis else place - 1 + len(lift.size(index)))
    elif lift.size(data)[axis] == 1 and prod(lift.size(index)) == 1:
        # the only row of one sample, taken by its number: nothing but a reshape
        cut_inputs(node, 1)
        _moved(lift, node)
    else:
        raise lift.fault(node, "takes rows along the axis of the batch")


def _reduced(lift: Lift, node: Any) -> None:
    lift.shared(node, *range(1, len(node.inputs)))
    axis, rank = lift.of(node.inputs[0]), len(lift.size(node.inputs[0]))
    single = node.op in ("ArgMax", "ArgMin")
    axes = [int(node.attrs.get("axis", 0))] if single else attribute(node, "axes", 1)
    gone = {i % rank for i in axes} if axes else set(range(rank))
    if axis is None or axis in gone:
        raise lift.fault(node, "reduces along the axis of the batch")
    keeps = int(node.attrs.get("keepdims", 1))
    lift.set(node, axis if keeps else axis - sum(i < axis for i in gone))


def _padded(lift: Lift, node: Any) -> None:
    lift.shared(node, *range(1, len(node.inputs)))
    axis = lift.of(node.inputs[0])
    if axis is None or lift.size(node.inputs[0])[axis] != lift.size(node.outputs[0])[axis]:
        raise lift.fault(node, "pads along the axis of the batch")
    lift.set(node, axis)


def _resized(lift: Lift, node: Any) -> None:
    _padded(lift, node)
    target = fed(node, 3)
    if target is not None:
        wanted = [int(size) for size in np.asarray(target.values)] if is_constant(target) else None
        if wanted is None:
            raise LookupError("sizes are computed")
        axes = [int(i) for i in node.attrs.get("axes", range(len(wanted)))]
        grown = lift.grown(node.outputs[0].name)
        lift.rewrite(node, 3, [grown[axis] for axis in axes])


def _multiplied(lift: Lift, node: Any) -> None:
    ranks = [len(lift.size(tensor)) for tensor in node.inputs]
    found = [lift.of(tensor) for tensor in node.inputs]
    if min(ranks) < 2:
        raise lift.fault(node, "multiplies a vector")
    rank = max(ranks)
    if found[0] == ranks[0] - 1 or found[1] == ranks[1] - 2:
        raise lift.fault(node, "adds up along the axis of the batch")
    places = {rank - own + axis for own, axis in zip(ranks, found, strict=True) if axis is not None}
    if len(places) != 1 or (None not in found and places & {rank - 1, rank - 2}):
        raise lift.fault(node, "multiplies samples with each other")
    place = places.pop()
    if place < rank - 2:
        rows = max(lift.size(t)[a] for t, a in zip(node.inputs, found, strict=True) if a is not None)
        for position, tensor in enumerate(list(node.inputs)):
            own = place - (rank - ranks[position])
            size = lift.size(tensor)[own] if own >= 0 else 1
            if found[position] is None and size != 1 and size == rows:
                lift.repeat(node, position, own)
            elif size not in (1, rows):
                raise lift.fault(node, f"spreads the sample over {size} rows")
    lift.set(node, place)


def _gemm(lift: Lift, node: Any) -> None:
    if lift.of(node.inputs[0]) != (1 if node.attrs.get("transA", 0) else 0):
        raise lift.fault(node, "adds up along the axis of the batch")
    if lift.of(node.inputs[1]) is not None:
        raise lift.fault(node, "multiplies samples with each other")
    offset = fed(node, 2)
    if offset is not None:
        shape, axis = lift.size(offset), lift.of(offset)
        rows = shape[0] if len(shape) == 2 else 1
        if axis is None and rows != 1:
            lift.repeat(node, 2, 0)
        elif axis is not None and (len(shape) != 2 or axis != 0):
            raise lift.fault(node, "brings together samples that lie on different axes")
    lift.set(node, 0)


def _same_rows(lift: Lift, node: Any, positions: tuple[int, ...], axis: int = 0) -> None:
    """Operands that need the batch on this axis without broadcasting: what all share is repeated."""
    for position in positions:
        tensor = fed(node, position)
        if tensor is None:
            continue
        if lift.of(tensor) is None:
            lift.repeat(node, position, axis)
        elif lift.of(tensor) != axis:
            raise lift.fault(node, f"takes its input {position} with the batch on axis {axis}, and has it elsewhere")


def _sampled(lift: Lift, node: Any) -> None:
    _same_rows(lift, node, (0, 1))
    lift.set(node, 0)


def _recurrent(lift: Lift, node: Any) -> None:
    if node.attrs.get("layout", 0):
        raise lift.fault(node, "has its batch first, which no rule is written for")
    lift.shared(node, 1, 2, 3, 7)
    _same_rows(lift, node, (0, 5, 6), 1)
    _same_rows(lift, node, (4,), 0)
    for position, axis in enumerate((2, 1, 1)):
        lift.set(node, axis, position)


def _taken(lift: Lift, node: Any) -> None:
    """An index for every element that is taken or written."""
    own = int(node.attrs.get("axis", 0)) % len(lift.size(node.inputs[0]))
    place = next(axis for axis in (lift.of(tensor) for tensor in node.inputs) if axis is not None)
    if place == own:
        raise lift.fault(node, "takes rows along the axis of the batch")
    _same_rows(lift, node, tuple(range(len(node.inputs))), place)
    lift.set(node, place)


def _summed(lift: Lift, node: Any) -> None:
    """Einsum: the batch is one letter of the equation."""
    terms, _, result = str(node.attrs["equation"]).replace(" ", "").partition("->")
    letters = terms.split(",")
    found = {terms[axis] for terms, t in zip(letters, node.inputs, strict=True) if (axis := lift.of(t)) is not None}
    letter = found.pop() if len(found) == 1 else ""
    if not letter or letter not in result or "." in terms:
        raise lift.fault(node, "multiplies samples with each other")
    for position, term in enumerate(letters):
        if letter in term and lift.of(node.inputs[position]) is None:
            lift.repeat(node, position, term.index(letter))
    lift.set(node, result.index(letter))


def _rules() -> dict[str, Rule]:
    groups: list[tuple[Rule, str]] = [
        (
            _elementwise,
            "Add Sub Mul Div Pow Max Min Sum Mean Mod Where Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor "
            "Not PRelu Clip Relu LeakyRelu Sigmoid Tanh Exp Log Sqrt Erf Abs Neg Sign Cast Identity Elu Selu Celu "
            "HardSigmoid HardSwish Gelu Mish Softplus Softsign ThresholdedRelu Floor Ceil Round Reciprocal Sin Cos Tan "
            "Asin Acos Atan Sinh Cosh Dropout IsNaN IsInf",
        ),
        (_weighted, "Conv ConvTranspose"),
        (
            _first,
            "BatchNormalization InstanceNormalization GroupNormalization MaxPool AveragePool LpPool GlobalAveragePool "
            "GlobalMaxPool DepthToSpace SpaceToDepth LRN",
        ),
        (_moved, "Reshape Flatten"),
        (_squeezed, "Squeeze"),
        (_unsqueezed, "Unsqueeze"),
        (_expanded, "Expand"),
        (_tiled, "Tile"),
        (_transposed, "Transpose"),
        (_joined, "Concat"),
        (_kept, "Softmax LogSoftmax Hardmax LpNormalization LayerNormalization RMSNormalization Split CumSum TopK"),
        (_cut, "Slice"),
        (_gathered, "Gather"),
        (
            _reduced,
            "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp "
            "ReduceLogSum ArgMax ArgMin",
        ),
        (_padded, "Pad"),
        (_resized, "Resize Upsample"),
        (_multiplied, "MatMul"),
        (_gemm, "Gemm"),
        (_sampled, "GridSample"),
        (_recurrent, "LSTM GRU RNN"),
        (_taken, "GatherElements ScatterElements"),
        (_summed, "Einsum"),
    ]
    return {op: rule for rule, names in groups for op in names.split()}


RULES: Mapping[str, Rule] = _rules()
