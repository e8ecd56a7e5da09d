"""Which channels always carry one number, whatever the model is fed.

Walks the graph once with one number per position of every axis, NaN where it varies. What each
operator makes of such numbers is registered in `onnxprune.ops.CONSTANTS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune import ops
from onnxprune.ir.constant_folding import run_alone
from onnxprune.ops.constants import Numbers, content, of_stored
from onnxprune.types import Axis, Floats, Node, Read, Tensor

__all__ = ["constants"]


def constants(nodes: Sequence[Node], read: Read) -> dict[Axis, Floats]:
    """Find for every axis the number that each position always carries, NaN where it varies.

    Integers that stand for reals are told by the reals; operators that read them as plain integers
    make everything vary.
    """
    known: dict[Axis, Floats] = {}
    encoded: set[str] = set()

    def value(tensor: Tensor, axis: int) -> Floats:
        at, size = tensor.at(axis), tensor.size(axis) or 0
        if at not in known and (stored := content(tensor, read)) is not None:
            known.update({tensor.at(k): v for k, v in of_stored(stored).items()})
        return known.get(at, np.full(size, np.nan))

    numbers = Numbers(value, read, run_alone)
    for node in nodes:
        coded = encoded.intersection(t.name for t in node.inputs if t is not None)
        if ops.encodes(node.op) or (coded and ops.keeps_encoding(node.op)):
            encoded.add(node.outputs[0].name)
        elif coded and node.op not in ops.QUANTIZED:
            continue
        if node.op in ops.CONSTANTS and (_varies(node) or node.op in ops.FILLS):
            for axis, found in ops.CONSTANTS[node.op](node, numbers):
                if not np.isnan(found).all():
                    known[axis] = found
    return known


def _varies(node: Node) -> bool:
    """Whether the first input is there and some input is not constant."""
    given = node.input(0) is not None
    return given and not all(t is None or t.constant for t in node.inputs)
