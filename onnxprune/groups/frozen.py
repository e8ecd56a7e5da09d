"""Axes that must stay whole from the start: the model's interface, and what the user excludes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from onnxprune.errors import InputError
from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Axis, Frozen, Node

__all__ = ["excluded_axes", "interface_axes"]


def interface_axes(model: ModelProto, nodes: Sequence[Node]) -> dict[Axis, str]:
    """Every axis of the model's inputs and outputs, and which it is."""
    ranks = {t.name: t.rank for n in nodes for t in (*n.inputs, *n.outputs) if t is not None}
    ends = [(v.name, "an input of the model") for v in graph.graph_inputs(model)]
    ends += [(v.name, "an output of the model") for v in model.graph.output]
    return {
        Axis(name, axis): f"'{name}' is {what}"
        for name, what in ends
        for axis in range(ranks.get(name, 0))
    }


def excluded_axes(nodes: Sequence[Node], patterns: Sequence[str]) -> list[Frozen]:
    """Freeze every constant of a matching node, and every matching constant.

    Raises:
        InputError: a pattern is no regular expression, or matches nothing.
    """
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise InputError(
            f"exclude {error.pattern!r}: not a regular expression: {error}. Correct it."
        ) from error
    frozen = []
    unused = set(compiled)
    for node in nodes if compiled else ():
        for tensor in (t for t in node.inputs if t is not None and t.constant):
            hits = [p for p in compiled if p.search(node.name) or p.search(tensor.name)]
            unused.difference_update(hits)
            if hits:
                frozen += [
                    Frozen(tensor.at(k), "excluded by the user", node.name, "drop --exclude")
                    for k in range(tensor.rank)
                ]
    if unused:
        patterns_left = ", ".join(f"'{p.pattern}'" for p in unused)
        raise InputError(
            f"exclude {patterns_left}: matches no node and no weight. Give names as "
            "inspect has them."
        )
    return frozen
