"""Graph surgery before types: static shapes, constants folded, what nobody reads removed. The result stays FP32.

Every rewrite is held against the untouched file in FP32; see tests/unit/test_surgery.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import onnx_graphsurgeon as gs
import onnxruntime
from onnx_graphsurgeon.logger import G_LOGGER

from build_engines.flavour import BuildError
from models.model_files import ModelFile

__all__ = ["prepare", "static_shapes"]

# both tell of colours, constant sizes and skipped optimisations, which nobody can act on; errors still come
G_LOGGER.severity = G_LOGGER.ERROR
onnxruntime.set_default_logger_severity(3)


def static_shapes(model: ModelFile, axes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Sizes of every input by the contract's names, its named axes given by `axes`; raises BuildError for one left."""
    shapes = {}
    for name, spec in model.contract.inputs.items():
        sized = spec.at(**dict(axes))
        if not sized.is_static:
            left = ", ".join(str(axis) for axis in sized.shape if isinstance(axis, str))
            raise BuildError(f"{model.contract.name}.{name}: wanted a size for {left}, got none; name it in the build")
        shapes[name] = sized.sizes
    return shapes


def prepare(model: ModelFile, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """The file's graph as an onnx.ModelProto in FP32, with static shapes and shape inference done.

    Weights stored as FP16 behind a Cast become FP32 constants; initializers that no node reads (a swapper's emap)
    are left out; outputs that the contract does not name are cut off with what only they need.
    """
    where = str(model.path)
    graph = gs.import_onnx(onnx.load(str(model.path)))
    file_shapes = {model.tensors[name]: shape for name, shape in shapes.items()}
    for tensor in graph.inputs:
        if tensor.name not in file_shapes:
            raise BuildError(
                f"{where}: wanted only the inputs {', '.join(file_shapes)}, got {tensor.name}; fix the file"
            )
        tensor.shape = list(file_shapes[tensor.name])
    wanted = {model.tensors[name] for name in model.contract.outputs}
    graph.outputs = [tensor for tensor in graph.outputs if tensor.name in wanted]
    for tensor in graph.outputs:
        tensor.shape = None
    graph.cleanup().toposort()
    graph.fold_constants(fold_shapes=True)
    graph.cleanup().toposort()
    _name_nodes(graph)
    return onnx.shape_inference.infer_shapes(gs.export_onnx(graph), strict_mode=True, data_prop=True)


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own: types and sensitivities are kept by name."""
    seen: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if not node.name or node.name in seen:
            node.name = f"{node.op}_{index}"
        seen.add(node.name)
