"""A graph in a later version of ONNX's operators, for what earlier ones cannot say."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import ModelProto, version_converter

from onnxprune.ir import subgraphs

__all__ = ["opset_of", "raised"]


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's operators, 0 where none is named."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def raised(model: ModelProto, version: int, changed: Collection[str] = ()) -> ModelProto:
    """Convert a model without weights to a version of the operators, if its own is earlier.

    Args:
        model: all its tensors keep their names.
        version: that is wanted.
        changed: operators whose meaning is another in later versions, which onnx does not convert.

    Returns:
        The model itself where it cannot be converted.
    """
    nodes = model.graph.node
    stuck = any(node.op_type in changed or subgraphs.is_control(node) for node in nodes)
    if stuck or not 0 < opset_of(model) < version:
        return model
    try:
        made = version_converter.convert_version(model, version)
        onnx.checker.check_model(made)
    except MemoryError:
        raise
    except Exception:
        return model
    there = {name for node in made.graph.node for name in node.output}
    there |= {tensor.name for tensor in made.graph.initializer}
    wanted = {name for node in nodes for name in node.output if name}
    wanted |= {tensor.name for tensor in model.graph.initializer}
    fed, given = ({value.name for value in m.graph.input} for m in (model, made))
    return made if wanted <= there and fed <= given else model
