"""Digest what a model's time depends on, so that equal subgraphs are timed once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.ir import graph, subgraphs, tensors
from onnxprune.ir.graph import ModelProto

__all__ = ["WHOLE", "signature"]

#: Tensors up to this many elements count with their content: shapes, indices.
WHOLE = 1024
#: onnx's element types of integers and of truth values.
_INTEGERS = (6, 7, 9)


def signature(model: ModelProto, given: Mapping[str, NDArray[Any]]) -> str:
    """Digest operators, shapes and small integers of a model, but no names.

    Args:
        model: with its weights inside.
        given: what its inputs are fed.
    """
    known: dict[str, int] = {}

    def number(name: str) -> int:
        return known.setdefault(name, len(known)) if name else -1

    facts: list[Any] = sorted((o.domain, o.version) for o in model.opset_import)
    for node in model.graph.node:
        names = [number(n) for n in subgraphs.reads(node)], [number(n) for n in node.output]
        attrs = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        facts.append((graph.op_key(node), *names, attrs))
    stored = {number(name): tensor for name, tensor in graph.constants(model).items()}
    for place, tensor in sorted(stored.items()):  # they may be stored in any order
        whole = tensor.data_type in _INTEGERS and np.prod(tensor.dims) <= WHOLE
        content = tensors.array(tensor).tolist() if whole else None
        facts.append((place, tensor.data_type, list(tensor.dims), content))
    for value in model.graph.input:
        dims = [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        array = given.get(value.name)
        shape = None if array is None else (array.dtype.str, array.shape)
        facts.append((number(value.name), dims, shape))
    facts.append(sorted(number(output.name) for output in model.graph.output))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
