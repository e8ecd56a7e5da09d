"""The element types of tensors that a graph computes."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import ModelProto

from onnxprune.ir import skeleton, subgraphs

__all__ = ["element_type", "element_types"]


def element_types(bare: ModelProto, names: Collection[str]) -> dict[str, int]:
    """Infer the types of tensors by name; single precision where inference does not know.

    Args:
        bare: a model that is small enough to be serialised.
        names: of the tensors.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(bare).graph
    except MemoryError:
        raise
    except Exception:
        graph = bare.graph
    infos = [i for g in subgraphs.graphs(graph) for i in (*g.value_info, *g.input, *g.output)]
    known = {i.name: i.type.tensor_type.elem_type for i in infos if i.name in names}
    return {name: known.get(name) or onnx.TensorProto.FLOAT for name in names}


def element_type(model: ModelProto, name: str) -> int:
    """Infer the type of one tensor of a model, whose weights may be large."""
    return element_types(skeleton.skeleton(model), {name})[name]
