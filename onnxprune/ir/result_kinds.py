"""Element types of a model's tensors: inferred by onnx, or asked of onnxruntime."""

from __future__ import annotations

import onnx

from onnxprune.ir import graph, runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto

__all__ = ["declare_kinds", "element_types"]


def element_types(model: ModelProto) -> dict[str, int]:
    """Look up element types by tensor name: inferred, declared or stored; main graph first."""
    bare = skeleton.skeleton(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare).graph
    except MemoryError:
        raise
    except Exception:  # what onnx cannot infer stays unknown
        inferred = bare.graph
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for inner in reversed(list(subgraphs.graphs(inferred))):
        values = (*inner.value_info, *inner.input, *inner.output)
        types |= {value.name: value.type.tensor_type.elem_type for value in values}
        types |= {tensor.name: tensor.data_type for tensor in inner.initializer}
    return types | {name: tensor.data_type for name, tensor in graph.constants(model).items()}


def declare_kinds(model: ModelProto) -> None:
    """Write kinds of results into a model with operators that are not ONNX's own.

    Behind those ONNX's inference knows nothing. The model is changed in place; it stays as it is
    where onnxruntime does not open it.
    """
    if all(graph.op_key(node) == node.op_type for node in model.graph.node):
        return
    told = {v.name for v in (*model.graph.value_info, *model.graph.output)}
    asked = ModelProto()
    asked.CopyFrom(model)
    for node in model.graph.node:
        for name in node.output:
            if name and name not in told:
                asked.graph.output.add(name=name)
    for name, kind in runtime.output_kinds(graph.model_bytes(asked)).items():
        if name not in told:
            model.graph.value_info.add(name=name).type.CopyFrom(skeleton.type_of(kind))
