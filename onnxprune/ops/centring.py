"""Means that serve to be subtracted from what they are taken of: x - mean(x).

Such a difference does not see what all positions have in common, so that the mean may be taken over
the positions that stay alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnxprune.ops.facets import ARITHMETIC
from onnxprune.types import Node

__all__ = ["MEAN", "marked"]

MEAN = "ReduceMean"


def marked(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The same nodes; means that only centre their data say so."""
    nodes = tuple(nodes)
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        for tensor in (*node.inputs, *node.captured):
            if tensor is not None:
                readers[tensor.name].append(node)
    return tuple(
        replace(node, centres=True)
        if node.op == MEAN and _centres(node, readers[node.outputs[0].name])
        else node
        for node in nodes
    )


def _centres(mean: Node, readers: Sequence[Node]) -> bool:
    x, y = mean.inputs[0], mean.outputs[0]
    if x is None or x.rank != y.rank or not readers:
        return False
    return all(
        ARITHMETIC.get(reader.op) == "-"
        and [t.name for t in reader.inputs if t is not None] == [x.name, y.name]
        for reader in readers
    )
