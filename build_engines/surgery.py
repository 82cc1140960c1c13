"""Graph surgery before types: what happens to a file, in order, between the disk and the choice of precision.

A file becomes FP32 throughout, loses the outputs that its contract does not name and everything that only they need,
has its constants folded and static shapes, and gets the rewrites of REWRITES; then it is made to take k samples at
once, whatever batch its exporter baked in. The result is run beside the untouched file in FP32 before it is trusted.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx.shape_inference import InferenceError
from onnx_graphsurgeon.logger import G_LOGGER

from build_engines.flavour import BuildError
from build_engines.rewrites.batching import BatchError, lift_batch
from build_engines.rewrites.cleaning import fold_constants, join_reshapes, raise_to_fp32, remove_idle, store_noise
from build_engines.rewrites.graph import load_graph, model_of, tidy
from build_engines.rewrites.modulation import scale_around_convolutions, sum_squares_apart
from build_engines.rewrites.volumes import flatten_volumes
from build_engines.untouched import TOLERANCE, error_of, live_bytes
from models.model_files import ModelFile
from models.onnx_file import read_onnx
from models.spec import Spec

__all__ = ["REWRITES", "BatchError", "Rewritten", "constants", "prepare", "rewrite", "static_shapes", "why_single"]

# both tell of colours, constant sizes and skipped optimisations, which nobody can act on; errors still come
G_LOGGER.severity = G_LOGGER.ERROR
onnxruntime.set_default_logger_severity(3)

# everything that is done to a graph of one sample, in this order; each returns the number of places
REWRITES: tuple[tuple[str, Callable[[Any], int]], ...] = (
    ("tensors raised to FP32", raise_to_fp32),
    ("nodes folded", fold_constants),
    ("draws of noise stored", store_noise),
    ("sums of squares apart", sum_squares_apart),
    ("convolutions given constant weights", scale_around_convolutions),
    ("volumes flattened", flatten_volumes),
    ("idle nodes taken out", remove_idle),
    ("reshapes joined", join_reshapes),
)
# those that change numbers, if only in the last digits: a file with one of them is measured
_CHANGES_NUMBERS = ("sums of squares apart", "convolutions given constant weights", "volumes flattened")
# tensors alive at once in a measurement; the runtime takes about twice as much beside the weights
_LIVE_MAX_BYTES = 3 << 29
# (file, shapes) -> (error, batch): every precision and architecture asks for the same graph again
_MEASURED: dict[tuple[Any, ...], tuple[float, int]] = {}


@dataclass(frozen=True)
class Rewritten:
    """A graph ready for its types, and what was done to it.

    `model` is an onnx.ModelProto in FP32 with static shapes. `places` counts by rewrite what was done, `batch` is how
    many samples it takes. `max_error` is the largest error of any output against the untouched file, over the
    output's largest value where that is above 1; None where nothing was done that could change a number, or nobody
    asked. It was measured at `measured_batch`: less than `batch` where the run would take too much memory.
    """

    model: Any
    batch: int
    places: dict[str, int]
    nodes_before: int
    nodes_after: int
    max_error: float | None = None
    measured_batch: int = 0

    def __str__(self) -> str:
        done = ", ".join(f"{count} {name}" for name, count in self.places.items() if count) or "nothing to rewrite"
        error = ""
        if self.max_error is not None:
            error = f"; largest error against the file {self.max_error:.1e} at batch {self.measured_batch}"
        return f"batch {self.batch}: {done}; {self.nodes_before} nodes became {self.nodes_after}{error}"


def static_shapes(model: ModelFile, axes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Sizes of every input by the contract's names, its named axes given by `axes`; raises BuildError for one left.

    "n" also sizes the first axis of contracts that fix it at 1, where why_single has no reason against it.
    """
    count = axes.get("n", 1)
    lifted = _batch_axes(model) if count > 1 and not why_single(model) else {}
    shapes = {}
    for name, spec in model.contract.inputs.items():
        sized = spec.at(**dict(axes))
        if not sized.is_static:
            left = ", ".join(str(axis) for axis in sized.shape if isinstance(axis, str))
            raise BuildError(f"{model.contract.name}.{name}: wanted a size for {left}, got none; name it in the build")
        shape = list(sized.sizes)
        if name in lifted:
            shape[lifted[name]] = count
        shapes[name] = tuple(shape)
    return shapes


def why_single(model: ModelFile) -> str:
    """Why a file takes one sample at a time, from its contract and its interface; empty when a batch may be built.

    Reads the file's interface only, in milliseconds. A graph can still bake its batch in where no rule knows how to
    take it out: then prepare raises BatchError with the node.
    """
    contract = model.contract
    axes = _batch_axes(model)
    for name, spec in contract.inputs.items():
        if name not in axes and name not in contract.constants:
            return f"input {name} {spec} has no axis for it"
    for name, spec in contract.outputs.items():
        if name not in axes:
            return f"output {name} {spec} has no axis for it"
    return ""


def constants(model: ModelFile) -> dict[str, npt.NDArray[np.float32]]:
    """Weights that the runtime needs and no plan holds, by name: a swapper's `emap`, float32 [size, size]."""
    emap = model.emap()
    return {} if emap is None else {"emap": emap}


def prepare(
    model: ModelFile,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    say: Callable[[str], None] | None = None,
    measure: bool = True,
) -> Any:
    """The file's graph as an onnx.ModelProto in FP32 with static shapes; `say` gets a line of what was done.

    See rewrite, of whose result this is the model.
    """
    done = rewrite(model, shapes, measure=measure)
    if say is not None:
        say(f"{model.contract.name}: {done}")
    return done.model


def rewrite(model: ModelFile, shapes: Mapping[str, tuple[int, ...]], *, measure: bool = True) -> Rewritten:
    """Rewrite a file's graph for these input shapes, by the contract's names.

    More samples than one on the batch axis of every input make a graph that takes as many; an input left at one
    sample is shared by all. Weights of other types and weights behind casts become FP32 constants; initializers that
    no node reads (a swapper's emap: see constants) and outputs that the contract does not name are left out.
    With `measure`, a graph whose numbers could have changed is run beside the file on the CPU: k samples at once
    against k single runs, which takes about 2 k runs of the model. Raises BatchError (a BuildError) with the node that
    holds the graph to one sample, and BuildError where a result is off by more than 1e-4.
    """
    wanted = _wanted(model, shapes)
    if wanted.count > 1 and _is_free(model, wanted.axes):
        try:
            return _rewrite(model, replace(wanted, direct=True), measure=measure)
        except BuildError:
            pass  # the file calls its batch free and bakes it in: its exporter named the axis and no more
    return _rewrite(model, wanted, measure=measure)


def _rewrite(model: ModelFile, wanted: _Wanted, *, measure: bool) -> Rewritten:
    """One attempt, measured where its numbers could have changed."""
    done = _rewrite_graph(model, wanted)
    if not measure or not (wanted.count > 1 or any(done.places[name] for name in _CHANGES_NUMBERS)):
        return done
    key = (model.sha256, tuple(sorted(wanted.shapes.items())), wanted.direct)
    if key not in _MEASURED:
        rows = max(min(2, wanted.count), min(wanted.count, wanted.count * _LIVE_MAX_BYTES // live_bytes(done.model)))
        tried = wanted.of(rows)
        errors = error_of(
            model, done.model if rows == wanted.count else _rewrite_graph(model, tried).model, tried.shapes, tried.axes
        )
        worst = max(errors, key=lambda name: errors[name])
        if not errors[worst] <= TOLERANCE:
            raise BuildError(
                f"{_where(model)}: wanted the output {worst} within {TOLERANCE:.0e} of the untouched file at batch "
                f"{rows}, got {errors[worst]:.1e}; build it for one face at a time, and report the file"
            )
        _MEASURED[key] = (errors[worst], rows)
    max_error, rows = _MEASURED[key]
    return replace(done, max_error=max_error, measured_batch=rows)


def _rewrite_graph(model: ModelFile, wanted: _Wanted) -> Rewritten:
    """The graph with everything done to it, not yet measured."""
    graph = load_graph(model.path)
    before = len(graph.nodes)
    places = {"outputs cut off": _cut_outputs(model, graph), "unused initializers left out": _unused(model)}
    _set_shapes(model, graph, wanted.shapes if wanted.direct else wanted.of(1).shapes)
    places["inputs held at one value"] = _hold(model, graph)
    tidy(graph)
    for name, step in REWRITES:
        places[name] = step(graph)
        tidy(graph)
    if wanted.count > 1 and not wanted.direct:
        axes = {model.tensors[name]: axis for name, axis in wanted.axes.items()}
        places["constants that baked the batch in"] = lift_batch(graph, axes, wanted.count, _where(model))
        tidy(graph)
    try:
        rewritten = model_of(graph)
    except InferenceError as error:
        raise BuildError(
            f"{_where(model)}: wanted a graph whose operators fit together at batch {wanted.count}, got {error}; "
            "build it for one face at a time, or export the file again"
        ) from error
    after = len(graph.nodes)
    del graph
    gc.collect()  # its nodes and tensors hold each other, and the weights of the file with them
    return Rewritten(rewritten, wanted.count, places, before, after)


@dataclass(frozen=True)
class _Wanted:
    """What a graph shall take: shapes of its inputs, and the batch axis of outputs and of inputs that are not shared.

    `direct` gives a file with a free batch axis its size; else the graph of one sample is lifted.
    """

    shapes: dict[str, tuple[int, ...]]
    count: int
    axes: dict[str, int]
    direct: bool = False

    def of(self, count: int) -> _Wanted:
        """The same for another batch."""
        shapes = {
            name: tuple(count if axis == self.axes.get(name) else size for axis, size in enumerate(shape))
            for name, shape in self.shapes.items()
        }
        return replace(self, shapes=shapes, count=count)


def _where(model: ModelFile) -> str:
    return f"{model.contract.name} ({model.path.name})"


def _batch_axis(spec: Spec) -> int | None:
    """Where the batch lies in a tensor: the axis "n", else the first where that is 1 and not the only one."""
    if "n" in spec.shape:
        return spec.shape.index("n")
    return 0 if len(spec.shape) > 1 and spec.shape[0] == 1 else None


def _batch_axes(model: ModelFile) -> dict[str, int]:
    """The batch axis of every input and output that has one, by the contract's names."""
    contract = model.contract
    specs = {**contract.inputs, **contract.outputs}
    found = {name: _batch_axis(spec) for name, spec in specs.items() if name not in contract.constants}
    return {name: axis for name, axis in found.items() if axis is not None}


def _wanted(model: ModelFile, shapes: Mapping[str, tuple[int, ...]]) -> _Wanted:
    """The batch that shapes ask for; raises BuildError where two inputs ask for two."""
    axes = _batch_axes(model)
    counts = {name: shapes[name][axes[name]] for name in shapes if name in axes}
    several = {count for count in counts.values() if count != 1}
    if len(several) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise BuildError(f"{_where(model)}: wanted one batch for all inputs, got {listed}; give them one first axis")
    count = several.pop() if several else 1
    outputs = model.contract.outputs
    own = {name: axis for name, axis in axes.items() if name in outputs or counts[name] == count}
    return _Wanted(dict(shapes), count, own)


def _is_free(model: ModelFile, axes: Mapping[str, int]) -> bool:
    """Whether the file itself leaves the batch open on all inputs that carry it."""
    found = read_onnx(model.path).inputs
    names = [name for name in axes if name in model.contract.inputs]
    return all(not isinstance(found[model.tensors[name]][1][axes[name]], int) for name in names)


def _cut_outputs(model: ModelFile, graph: Any) -> int:
    """Leave the outputs that the contract names, in its order; returns how many others there were."""
    found = {tensor.name: tensor for tensor in graph.outputs}
    graph.outputs = [found[model.tensors[name]] for name in model.contract.outputs]
    return len(found) - len(graph.outputs)


def _unused(model: ModelFile) -> int:
    onnx_file = read_onnx(model.path)
    return sum(item.name not in onnx_file.consumed for item in onnx_file.initializers)


def _hold(model: ModelFile, graph: Any) -> int:
    """Make constants of the whole numbers that every run holds at one value; returns how many.

    They place and size things (a streaming encoder's offset), and TensorRT sizes nothing by an input's value.
    """
    held = {model.tensors[name]: value for name, value in model.contract.constants.items()}
    found = [tensor for tensor in graph.inputs if tensor.name in held and np.issubdtype(tensor.dtype, np.integer)]
    for tensor in found:
        graph.inputs.remove(tensor)
        tensor.to_constant(np.full(tensor.shape, held[tensor.name], dtype=tensor.dtype))
    return len(found)


def _set_shapes(model: ModelFile, graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Static sizes for all inputs; raises BuildError for an input that the contract does not know."""
    sizes = {model.tensors[name]: shape for name, shape in shapes.items()}
    for tensor in graph.inputs:
        if tensor.name not in sizes:
            raise BuildError(
                f"{model.path}: wanted only the inputs {', '.join(sizes)}, got {tensor.name}; fix the file"
            )
        tensor.shape = list(sizes[tensor.name])
