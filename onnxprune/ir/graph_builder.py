"""New operators written down one by one behind a graph, and what of them is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.ir import subgraphs

__all__ = ["GraphBuilder", "leading"]


class GraphBuilder:
    """Operators and constants behind a graph, for operators of one version."""

    def __init__(self, opset: int, dtype: np.dtype[Any], prefix: str = "onnxprune") -> None:
        self.opset, self.dtype, self.prefix = opset, dtype, prefix
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Add an operator with one output, whose name is returned."""
        name = f"{self.prefix}/gradient/{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attrs))
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a stored value, of the type of the weights where none is given."""
        name = f"{self.prefix}/constant/{len(self.constants)}"
        self.constants[name] = np.asarray(value, self.dtype if dtype is None else dtype)
        return name


def leading(nodes: Sequence[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """Find the operators that lead to wanted tensors, in order."""
    kept, wanted = list[NodeProto](), set(wanted)
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(subgraphs.needs(node))
    return kept[::-1]
