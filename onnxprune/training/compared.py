"""Decide what a model is compared in while it is trained: a form and weights for every output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import SUM_TOLERANCE, is_scores
from onnxprune.errors import InputError
from onnxprune.training.labels import check_labels, class_axis, loss_for, shape_for
from onnxprune.training.objectives import Form, Objective
from onnxprune.training.options import INSIDE, TEACHER, Training
from onnxprune.training.samples import Batch

__all__ = ["Losses", "Seen", "losses_of", "objectives_for"]

Array = NDArray[Any]
#: The form of an output for each loss of labels.
FORMS: Mapping[str, Form] = {"ce": "classes", "bce": "binary", "mse": "numbers"}


@dataclass(frozen=True)
class Losses:
    """How much each loss counts.

    Attributes:
        labels: of the loss against labels, 0: none.
        kind: `ce`, `bce` or `mse`; "": what suits the labels.
        teacher: of the loss against a teacher's outputs, 0: none.
        inside: of tensors inside, 0: none.
    """

    labels: float
    kind: str
    teacher: float
    inside: float


def losses_of(options: Training, labelled: bool, taught: bool) -> Losses:
    """Weights of the losses; what labels and teacher allow where the user names none.

    Raises:
        InputError: a loss needs labels or a teacher that is not there, or nothing can be learnt.
    """
    if options.loss is None:
        losses = Losses(float(labelled), "", float(taught), 0.0)
    else:
        kind, weight = next(iter(options.losses_of_labels.items()), ("", 0.0))
        given = options.loss
        losses = Losses(weight, kind, given.get(TEACHER, 0.0), given.get(INSIDE, 0.0))
    if losses.labels and not labelled:
        raise InputError(f"loss {losses.kind or 'of labels'} needs labels: give --data")
    if (losses.teacher or losses.inside) and not taught:
        name = TEACHER if losses.teacher else INSIDE
        raise InputError(f"loss {name} needs a teacher: give --teacher, or leave {name} out")
    if not losses.labels and not losses.teacher and not options.own_losses:
        raise InputError("nothing to learn from: give labels (--data), or a --teacher")
    return losses


@dataclass(frozen=True)
class Seen:
    """What the model gives on one batch.

    Attributes:
        batch: a labelled one, where there is one.
        values: the outputs of floating point, and what is behind them.
        outputs: names of the outputs.
        behind: by output the tensor that it is computed from.
        normalised: outputs whose maker turns scores into shares of one.
    """

    batch: Batch
    values: Mapping[str, Array]
    outputs: Sequence[str]
    behind: Mapping[str, str]
    normalised: Collection[str]


def objectives_for(seen: Seen, losses: Losses, batches: Sequence[Batch]) -> list[Objective]:
    """How every output of floating point is compared.

    Args:
        seen: what the model gives.
        losses: how much each counts.
        batches: all labelled ones; their labels are checked.

    Raises:
        InputError: labels do not fit an output, or no output can be compared.
    """
    found = list[Objective]()
    for output in seen.outputs:
        labels = [batch.labels[output] for batch in batches if output in batch.labels]
        made = _objective(seen, output, losses, labels if losses.labels else [])
        if made is not None:
            _check(made, seen, batches)
            found.append(made)
    if not found and (losses.labels or losses.teacher):
        raise InputError(
            "no output of floating point has labels or a teacher: label one, or give a --teacher"
        )
    return found


def _objective(
    seen: Seen, output: str, losses: Losses, labels: Sequence[Array]
) -> Objective | None:
    """How one output is compared; None where nothing says what it should be."""
    if not labels and not losses.teacher:
        return None
    value = seen.values[output]
    kind = (losses.kind or loss_for(labels, value)) if labels else _kind_of(seen, output)
    form = FORMS[kind]
    axis = _axis(seen, output, labels) if form == "classes" else 1
    if value.ndim <= axis:
        raise InputError(
            f"output '{output}' has the shape {list(value.shape)}, without an axis for classes: "
            "choose --loss bce or --loss mse"
        )
    tensor, scores = _compared(seen, output, form, axis)
    known = np.concatenate([one.ravel() for one in labels]) if labels else value
    spread = max(float(np.var(known.astype(np.float64))), 1e-12) if form == "numbers" else 1.0
    weight = losses.labels if labels else 0.0
    return Objective(output, tensor, form, scores, axis, weight, losses.teacher, spread)


def _kind_of(seen: Seen, output: str) -> str:
    """The loss against a teacher, where there are no labels."""
    value = seen.values[output]
    if is_scores(value) or output in seen.normalised:
        return "ce"
    return "bce" if _logistic(seen, output) else "mse"


def _axis(seen: Seen, output: str, labels: Sequence[Array]) -> int:
    """The axis of an output that counts classes."""
    value = seen.values[output]
    if labels and labels[0].dtype.kind in "iub":
        own = labels[0].ndim - value.ndim == -1 and class_axis(value.shape, labels[0].shape)
        return own or 1
    if output in seen.normalised:
        ones = [axis for axis in range(1, value.ndim) if _sums_to_one(value, axis)]
        return ones[-1] if ones else 1
    return 1


def _sums_to_one(value: Array, axis: int) -> bool:
    return bool((value >= 0).all() and np.allclose(value.sum(axis), 1, atol=SUM_TOLERANCE))


def _logistic(seen: Seen, output: str) -> bool:
    """Whether an output is 1 / (1 + e⁻ˣ) of the tensor behind it."""
    behind = seen.values.get(seen.behind.get(output, ""))
    if behind is None or behind.shape != seen.values[output].shape:
        return False
    given = 0.5 * (1 + np.tanh(0.5 * behind.astype(np.float64)))
    return bool(np.allclose(given, seen.values[output], atol=SUM_TOLERANCE))


def _compared(seen: Seen, output: str, form: Form, axis: int) -> tuple[str, bool]:
    """The tensor that is compared in place of an output, and whether it holds scores."""
    value = seen.values[output]
    if form == "numbers":
        return output, True
    if form == "classes":
        if output in seen.normalised:
            return seen.behind[output], True
        return output, not _sums_to_one(value, axis)
    if _logistic(seen, output):
        return seen.behind[output], True
    return output, not bool(((value >= 0) & (value <= 1)).all())


def _check(objective: Objective, seen: Seen, batches: Sequence[Batch]) -> None:
    """Refuse labels that do not fit."""
    like = seen.values[objective.output].shape
    first = _sizes(seen.batch)
    for batch in batches if objective.labels else ():
        labels = batch.labels.get(objective.output)
        if labels is None:
            continue
        alike = _sizes(batch) == first and like[0] == seen.batch.size
        shape = (batch.size, *like[1:]) if alike else shape_for(objective, labels, like)
        check_labels(objective, labels, shape, "training data")


def _sizes(batch: Batch) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in batch.feeds.items()}
