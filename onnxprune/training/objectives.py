"""What outputs are compared with: which form each has, its loss, and the gradient of that.

Class scores are compared by cross-entropy, probabilities of yes and no by binary cross-entropy, all
other numbers by their squared error in shares of the variance. Labels and a teacher's outputs mix
into one target of each output: w₁ H(p₁, q) + w₂ H(p₂, q) has the gradient of
(w₁ + w₂) H((w₁ p₁ + w₂ p₂) / (w₁ + w₂), q), and the same holds for squared errors (Hinton et al.,
Distilling the knowledge in a neural network, 2015, at temperature 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.compensation.distillation.backward import Seed
from onnxprune.ops.builder import Builder
from onnxprune.types import Floats

__all__ = ["Form", "Objective", "loss_of", "seed_of", "shares", "target_of"]

Array = NDArray[Any]
#: One of several classes, yes or no, plain numbers.
Form: TypeAlias = Literal["classes", "binary", "numbers"]
#: Least probability whose logarithm is taken.
LEAST = 1e-7


@dataclass(frozen=True)
class Objective:
    """How one output is compared.

    Attributes:
        output: name of the model's output.
        tensor: name of what is compared: the scores behind it where it holds probabilities.
        form: what its numbers are.
        scores: whether the tensor holds scores (logits), or probabilities.
        axis: of the classes.
        labels: how much the loss against labels counts, 0: there are none.
        teacher: how much the loss against the teacher counts, 0: there is none.
        spread: variance that squared errors are divided by.
    """

    output: str
    tensor: str
    form: Form
    scores: bool = True
    axis: int = 1
    labels: float = 0.0
    teacher: float = 0.0
    spread: float = 1.0

    @property
    def weight(self) -> float:
        """How much the output counts."""
        return self.labels + self.teacher


def shares(objective: Objective, values: Array) -> Floats:
    """What an output's tensor says, as probabilities; plain numbers stay."""
    y: Floats = values.astype(np.float64)
    if objective.form == "numbers" or not objective.scores:
        return y
    if objective.form == "binary":
        probabilities: Floats = 0.5 * (1 + np.tanh(0.5 * y))
        return probabilities
    risen = np.exp(y - y.max(objective.axis, keepdims=True))
    found: Floats = risen / risen.sum(objective.axis, keepdims=True)
    return found


def target_of(objective: Objective, labels: Array | None, teacher: Array | None) -> Array:
    """Mix labels and a teacher's outputs, both probabilities or plain numbers."""
    if labels is None or teacher is None:
        found = labels if teacher is None else teacher
        assert found is not None
        return found
    share = objective.labels / objective.weight
    return share * labels + (1 - share) * teacher


def loss_of(objective: Objective, given: Floats, target: Floats) -> Floats:
    """(n,) mean loss of each sample, of what `shares` gave.

    Cross-entropies count above what the target leaves open, so that 0 is perfect.
    """
    each = _losses(objective, given, target)
    means: Floats = each.reshape(len(each), -1).mean(1)
    return means


def _losses(objective: Objective, given: Floats, target: Floats) -> Floats:
    """Loss of each number, or of each choice between classes."""
    if objective.form == "numbers":
        squares: Floats = (given - target) ** 2 / objective.spread
        return squares
    logs = np.log(np.clip(given, LEAST, 1))
    each = _times_log(target, target) - target * logs
    if objective.form == "binary":
        other = np.log(np.clip(1 - given, LEAST, 1))
        each = each + _times_log(1 - target, 1 - target) - (1 - target) * other
        return each
    summed: Floats = each.sum(objective.axis)
    return summed


def _times_log(factor: Floats, value: Floats) -> Floats:
    found: Floats = factor * np.log(np.clip(value, LEAST, 1))
    return found


def seed_of(objective: Objective, shape: Sequence[int]) -> Seed:
    """The gradient of the weighted mean loss at the compared tensor.

    Args:
        objective: says how it is compared.
        shape: of the tensor on some batch.
    """
    classes = shape[objective.axis] if objective.form == "classes" else 1

    def seed(t: Builder, y: str, target: str) -> str:
        gap = _gap(objective, t, Compared(y, target, len(shape)))
        factor = objective.weight * classes
        if objective.form == "numbers":
            factor *= 2 / objective.spread
        return t.mul(gap, t.over(t.constant(factor), t.count(gap)))

    return seed


class Compared(NamedTuple):
    """Names of a tensor and its target, and how many axes they have."""

    y: str
    target: str
    rank: int


def _gap(objective: Objective, t: Builder, compared: Compared) -> str:
    """The gradient of the loss of one number, but for the weight."""
    y, target, rank = compared
    if objective.form == "numbers":
        return t.minus(y, target)
    if objective.scores:
        classes = objective.form == "classes"
        given = _softmax(t, y, objective.axis, rank) if classes else t.logistic(y)
        return t.minus(given, target)
    safe = t.within(y, LEAST, 1 - LEAST)
    if objective.form == "classes":
        return t.over(t.scaled(target, -1.0), safe)
    odds = t.mul(safe, t.minus(t.constant(1.0), safe))
    return t.over(t.minus(safe, target), odds)


def _softmax(t: Builder, y: str, axis: int, rank: int) -> str:
    """Probabilities along an axis, which before version 13 had to be the last one."""
    if t.opset >= 13 or axis == rank - 1:
        return t.shares(y, axis)
    order = [*range(axis), *range(axis + 1, rank), axis]
    last = t.shares(t.reordered(y, order), rank - 1)
    return t.reordered(last, np.argsort(order).tolist())
