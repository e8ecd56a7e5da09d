"""Write into a model what was cut of it, as metadata that viewers such as Netron show.

Everything follows from the shapes of both models, so that whatever gives the same cut gives the
same bytes: `onnxprune.kept` at each node says the sizes of its weights and what they were, at the
model how many numbers there are. Runtimes do not look at it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto

__all__ = ["KEY", "annotated"]

KEY = "onnxprune.kept"


def annotated(model: ModelProto, original: ModelProto) -> ModelProto:
    """Copy a model and add what stays of the original's weights.

    Args:
        model: the smaller one.
        original: what it was cut from.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    before, after = _sizes(original), _sizes(copy)
    _noted(copy, f"{_numbers(after)} of {_numbers(before)} numbers in weights")
    for node in copy.graph.node:
        changed = [
            f"{name} {_shape(after[name])} of {_shape(before[name])}"
            for name in dict.fromkeys(node.input)
            if name in after and name in before and after[name] != before[name]
        ]
        if changed:
            _noted(node, ", ".join(changed))
    return copy


def _noted(message: Any, text: str) -> None:
    """Add an entry of metadata, in place of an older one."""
    kept = [entry for entry in message.metadata_props if entry.key != KEY]
    del message.metadata_props[:]
    message.metadata_props.extend(kept)
    message.metadata_props.add(key=KEY, value=text)


def _sizes(model: ModelProto) -> dict[str, Sequence[int]]:
    """The shapes of stored tensors by name."""
    return {name: list(tensor.dims) for name, tensor in graph.constants(model).items()}


def _numbers(sizes: Mapping[str, Sequence[int]]) -> str:
    return f"{sum(map(math.prod, sizes.values())):,}"


def _shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
