"""Kinds of results that ONNX's inference does not know, asked of onnxruntime."""

from __future__ import annotations

from onnxprune.ir import graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto

__all__ = ["declare_kinds"]


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
