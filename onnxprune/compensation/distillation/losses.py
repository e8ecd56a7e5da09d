"""What of two models is compared, and the gradient of that comparison.

Class scores by their Kullback-Leibler divergence, anything else by its squared error in shares of
the original's variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.compensation.distillation.backward import Seed
from onnxprune.compensation.layer_targets import layer_target
from onnxprune.groups.analysis import Analysis
from onnxprune.ops.builder import Builder
from onnxprune.types import Node

__all__ = ["inside", "relative", "scores_of", "seeds"]

Array = NDArray[Any]


def inside(student: Analysis) -> list[str]:
    """Find the tensors to compare: what layers aim at, behind its activation."""
    readers, found = student.index.readers, dict[str, None]()
    for layer in student.layers:
        name = layer_target(layer, readers, student.read, lambda other: True).tensor
        following = readers.get(name, [])
        if len(following) == 1 and ops.is_activation(following[0].op):
            name = following[0].outputs[0].name
        found[name] = None
    return list(found)


def scores_of(student: Analysis, outputs: Sequence[str]) -> dict[str, str]:
    """Outputs of class probabilities and the scores that they come from."""
    makers: dict[str, Node] = {t.name: node for node in student.nodes for t in node.outputs}
    found = {}
    for name in outputs:
        node = makers.get(name)
        if node is not None and node.op in ops.PROBABILITIES and node.inputs[0] is not None:
            found[name] = node.inputs[0].name
    return found


def seeds(
    outputs: Sequence[str], scores: Mapping[str, str], values: Mapping[str, Array]
) -> dict[str, Seed]:
    """Gradients at the outputs."""
    found: dict[str, Seed] = {}
    for output in outputs:
        name = scores.get(output, output)
        value = values[name]
        if not np.issubdtype(value.dtype, np.floating):
            continue
        classes = value.ndim == 2 and value.shape[1] > 1
        found[name] = _classes(value.shape[1]) if classes else relative(value, 1.0)
    return found


def _classes(count: int) -> Seed:
    """Of the mean divergence of class scores."""

    def seed(t: Builder, y: str, target: str) -> str:
        gap = t.minus(t.shares(y, 1), t.shares(target, 1))
        return t.scaled(t.over(gap, t.count(gap)), float(count))

    return seed


def relative(value: Array, weight: float) -> Seed:
    """Of the squared error in shares of the variance."""
    spread = float(np.var(value.astype(np.float64)))

    def seed(t: Builder, y: str, target: str) -> str:
        gap = t.minus(y, target)
        return t.scaled(t.over(gap, t.count(gap)), 2 * weight / max(spread, 1e-12))

    return seed
