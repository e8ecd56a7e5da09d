"""Turn labels into targets: which loss fits them, and what is wrong with them.

Class numbers become probabilities of ones and zeros, so that they mix with each other and with a
teacher's. Labels of yes and no, and plain numbers, have the shape of the output.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import SUM_TOLERANCE
from onnxprune.errors import InputError
from onnxprune.training.objectives import Objective
from onnxprune.types import Floats

__all__ = ["check_labels", "class_axis", "label_target", "loss_for", "shape_for"]

Array = NDArray[Any]


def class_axis(shape: tuple[int, ...], labels: tuple[int, ...]) -> int | None:
    """The axis of an output of `shape` that counts classes, for class numbers of a shape.

    Labels (n,) belong to outputs (n, classes), labels (n, …) to outputs (n, classes, …) or
    (n, …, classes).
    """
    for axis in dict.fromkeys((1, len(shape) - 1)):
        if 0 < axis < len(shape) and shape[:axis] + shape[axis + 1 :] == labels:
            return axis if shape[axis] > 1 else None
    return None


def loss_for(labels: Iterable[Array], values: Array) -> str:
    """The loss that fits labels: `ce`, `bce` or `mse`.

    Args:
        labels: of all batches.
        values: what the output gives on the first of them.
    """
    several = list(labels)
    first = several[0]
    if first.dtype.kind in "iub" and class_axis(values.shape, first.shape) is not None:
        return "ce"
    if all(np.isin(one, (0, 1)).all() for one in several):
        return "bce" if first.size == values.size else "ce"
    if first.shape == values.shape and values.ndim == 2 and all(map(_sum_to_one, several)):
        return "ce"
    return "ce" if first.dtype.kind in "iub" and first.size != values.size else "mse"


def _sum_to_one(rows: Array) -> bool:
    """Whether rows (n, classes) are probabilities."""
    fits = rows.ndim == 2 and rows.shape[1] > 1 and rows.dtype.kind == "f" and (rows >= 0).all()
    return bool(fits and np.allclose(rows.sum(1), 1, atol=SUM_TOLERANCE))


def shape_for(objective: Objective, labels: Array, like: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an output that labels belong to.

    Args:
        objective: says how the output is compared.
        labels: of a batch.
        like: shape of the output on another batch.
    """
    if objective.form == "classes" and labels.dtype.kind in "iub":
        at = objective.axis
        return (*labels.shape[:at], like[at], *labels.shape[at:])
    return labels.shape if labels.ndim == len(like) else (len(labels), *like[1:])


def label_target(objective: Objective, labels: Array, like: tuple[int, ...]) -> Floats:
    """Labels as a target of the compared tensor, whose shape is alike but for sizes that vary."""
    if objective.form == "classes" and labels.dtype.kind in "iub":
        ones = labels[..., None] == np.arange(like[objective.axis])
        return np.asarray(np.moveaxis(ones, -1, objective.axis), np.float64)
    return np.asarray(labels, np.float64).reshape(shape_for(objective, labels, like))


def check_labels(objective: Objective, labels: Array, shape: tuple[int, ...], where: str) -> None:
    """Refuse labels that an output cannot be compared with.

    Args:
        objective: says how the output is compared.
        labels: of a batch.
        shape: of the output on a batch of as many samples.
        where: begins messages.

    Raises:
        InputError: their type, shape or range does not fit, with what would.
    """
    shown = f"{where}: labels of '{objective.output}' are {labels.dtype} {list(labels.shape)}"
    if objective.form == "classes":
        _check_classes(objective, labels, shape, shown)
        return
    if labels.size != np.prod(shape) or labels.shape[:1] != shape[:1]:
        raise InputError(
            f"{shown}, but the output has the shape {list(shape)}: give a number for each of "
            "its own, or class numbers as integers with --loss ce"
        )
    _check_range(objective, labels, shown)


def _check_classes(objective: Objective, labels: Array, shape: tuple[int, ...], shown: str) -> None:
    """Class numbers from 0 on, or probabilities of classes."""
    count = shape[objective.axis]
    if labels.dtype.kind == "f" and labels.shape == shape:
        if (labels < 0).any() or not np.allclose(labels.sum(objective.axis), 1, atol=SUM_TOLERANCE):
            raise InputError(f"{shown}: probabilities of classes must add up to 1. Correct them.")
        return
    if labels.dtype.kind == "f":
        raise InputError(f"{shown}: give class numbers as integers, from 0 to {count - 1}")
    if labels.shape != shape[: objective.axis] + shape[objective.axis + 1 :]:
        raise InputError(
            f"{shown}, but the output has the shape {list(shape)}: give one class number for each "
            f"row of {count} scores"
        )
    low, high = (int(v) for v in (labels.min(initial=0), labels.max(initial=0)))
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise InputError(
            f"{shown} and hold {wrong}, but the output has {count} classes: give numbers from 0 to "
            f"{count - 1}"
        )


def _check_range(objective: Objective, labels: Array, shown: str) -> None:
    if not np.isfinite(labels.astype(np.float64)).all():
        raise InputError(f"{shown} and hold NaN or infinity: leave such samples out")
    if objective.form == "binary" and ((labels < 0) | (labels > 1)).any():
        raise InputError(f"{shown} and leave the range 0 to 1: give 0 or 1, or use --loss mse")
