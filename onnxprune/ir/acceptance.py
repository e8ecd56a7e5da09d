"""Ask onnx and onnxruntime whether a model makes sense, before any rule looks at it.

Onnxruntime opens the model without its weights, which takes milliseconds, and thereby checks every
node against its operator: inputs, attributes, types and ranks, in bodies too. What it refuses could
not be proved anyway.
"""

from __future__ import annotations

from onnx import ModelProto

from onnxprune.errors import InputError, OperatorError
from onnxprune.ir import graph, normalize, runtime, skeleton, topology

__all__ = ["check", "opens"]


def check(model: ModelProto) -> None:
    """Refuse a model that onnxruntime could not load. One whose operators it lacks can pass.

    Raises:
        InputError: names are made twice or never, the graph has a cycle, or onnxruntime refuses it.
    """
    if not topology.check(model.graph):
        ordered = ModelProto()
        ordered.CopyFrom(skeleton.skeleton(model))
        topology.sort(ordered.graph)
    try:
        opens(normalize.distinct(model))
    except OperatorError:
        return
    except InputError as error:
        if refused := skeleton.complaint(model):
            raise InputError(f"onnx's checker refuses the model: {refused}; and {error}") from error
        raise


def opens(model: ModelProto) -> None:
    """Open the model without its weights.

    Raises:
        InputError: onnxruntime refuses it; OperatorError where it lacks an operator.
    """
    bare = skeleton.skeleton(model)
    known = {value.name for value in (*bare.graph.input, *bare.graph.output)}
    bare.graph.value_info.extend(v for v in model.graph.value_info if v.name not in known)
    runtime.open_session(graph.model_bytes(bare), optimize=False)
