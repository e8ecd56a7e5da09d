"""How much every operator of a model has to do, as a rough and repeatable stand-in for its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnxprune import ops
from onnxprune.types import Floats, Node

__all__ = ["ELEMENT", "node_macs", "operator_work"]

#: What writing one number is worth in multiplications, where little is computed for each.
ELEMENT = 16


def node_macs(nodes: Sequence[Node]) -> dict[str, float]:
    """Multiply-accumulates of every node, by its name."""
    return {node.name: float(sum(work.amount for work in ops.works_of(node))) for node in nodes}


def operator_work(nodes: Sequence[Node], order: Mapping[str, int], count: int) -> Floats:
    """Multiplications of every operator, and as many for each number it gives as that takes.

    Args:
        nodes: of the model, with sizes on sample inputs.
        order: the number of the operator that makes each tensor.
        count: how many operators there are.

    Returns:
        (count,) work; of an operator with bodies what it gives counts.
    """
    work = np.zeros(count)
    for node in nodes:
        places = {order[t.name] for t in node.outputs if t.name in order}
        given = sum(math.prod(t.sample or ()) for t in node.outputs if not t.constant)
        products = sum(float(part.amount) for part in ops.works_of(node))
        for place in places:
            work[place] += (products + ELEMENT * given) / len(places)
    return work
