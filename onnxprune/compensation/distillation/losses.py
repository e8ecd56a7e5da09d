"""The loss that a student is tuned to: which tensors it compares, and its gradient at each.

Class scores are compared by their Kullback-Leibler divergence (Hinton et al., 2015), all other
tensors by their squared error in shares of the original's variance (Romero et al., FitNets, 2015).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.divergence import is_scores
from onnxprune.compensation.distillation.backward import Seed
from onnxprune.compensation.layer_targets import layer_target
from onnxprune.groups.analysis import Analysis
from onnxprune.ops.builder import Builder
from onnxprune.types import Node

__all__ = [
    "inner_tensors",
    "last_before",
    "output_seeds",
    "relative_error_seed",
    "scores_of",
]

Array = NDArray[Any]


def inner_tensors(student: Analysis) -> list[str]:
    """Find the tensors inside a model to compare: targets of layers, behind their activation."""
    readers, found = student.index.readers, dict[str, None]()
    for layer in student.layers:
        name = layer_target(layer, readers, student.read, lambda other: True).tensor
        following = readers.get(name, [])
        if len(following) == 1 and ops.is_activation(following[0].op):
            name = following[0].outputs[0].name
        found[name] = None
    return list(found)


def last_before(student: Analysis, outputs: Iterable[str], inside: Collection[str]) -> set[str]:
    """Find the tensors inside that outputs are made from with no other one in between.

    Of a network that pools these are the maps before pooling.

    Args:
        student: the model.
        outputs: names.
        inside: names to find.
    """
    makers = {t.name: node for node in student.nodes for t in node.outputs}
    found, seen, waiting = set[str](), set[str](), list(outputs)
    while waiting:
        node = makers.get(waiting.pop())
        for tensor in () if node is None else node.inputs:
            if tensor is None or tensor.name in seen:
                continue
            seen.add(tensor.name)
            if tensor.name in inside:
                found.add(tensor.name)
            else:
                waiting.append(tensor.name)
    return found


def scores_of(student: Analysis, outputs: Sequence[str]) -> dict[str, str]:
    """Find the scores that outputs of class probabilities are computed from, by output."""
    makers: dict[str, Node] = {t.name: node for node in student.nodes for t in node.outputs}
    found = {}
    for name in outputs:
        node = makers.get(name)
        if node is not None and node.op in ops.PROBABILITIES and node.inputs[0] is not None:
            found[name] = node.inputs[0].name
    return found


def output_seeds(
    outputs: Sequence[str],
    scores: Mapping[str, str],
    values: Mapping[str, Array],
    temperature: float = 1.0,
) -> dict[str, Seed]:
    """Build the gradient of the loss at each output of floating point.

    Args:
        outputs: names.
        scores: by output of class probabilities the scores that stand in for it.
        values: what the original gives, which tells shapes and variances.
        temperature: of class scores.

    Returns:
        Gradients by name of the tensor that is compared.
    """
    found: dict[str, Seed] = {}
    for output in outputs:
        name = scores.get(output, output)
        value = values[name]
        if not np.issubdtype(value.dtype, np.floating):
            continue
        if is_scores(value):
            found[name] = _divergence_seed(value.shape[1], temperature)
        else:
            found[name] = relative_error_seed(value, 1.0)
    return found


def _divergence_seed(count: int, temperature: float) -> Seed:
    """The gradient of the mean divergence of scores of `count` classes.

    At a temperature T it is multiplied by T², so that its size hardly depends on it.
    """

    def seed(t: Builder, y: str, target: str) -> str:
        cooled = t.constant(temperature)
        y, target = t.over(y, cooled), t.over(target, cooled)
        gap = t.minus(t.shares(y, 1), t.shares(target, 1))
        return t.mul(gap, t.over(t.constant(temperature * count), t.count(gap)))

    return seed


def relative_error_seed(value: Array, weight: float) -> Seed:
    """Build the gradient of `weight` times the mean squared error, in shares of the variance.

    Args:
        value: what the original gives, which tells the variance.
        weight: of the tensor in the loss.
    """
    spread = float(np.var(value.astype(np.float64)))

    def seed(t: Builder, y: str, target: str) -> str:
        gap = t.minus(y, target)
        return t.mul(gap, t.over(t.constant(2 * weight / max(spread, 1e-12)), t.count(gap)))

    return seed
