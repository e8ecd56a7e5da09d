"""Judge weights on samples that no step has seen: loss, and a score where there are labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.training.checkpoint import Epoch
from onnxprune.training.objectives import Objective, loss_of
from onnxprune.training.samples import Batch
from onnxprune.training.session import Judged, OpenTraining
from onnxprune.types import Floats

__all__ = ["judge"]

Array = NDArray[Any]


def judge(opened: OpenTraining, batches: Sequence[Batch], weights: Mapping[str, Array]) -> Epoch:
    """Mean loss over samples, and the share that is right (of plain numbers: R²).

    Args:
        opened: the model.
        batches: held-out samples.
        weights: new content of its stored tensors.
    """
    losses, right, scored = list[Floats](), 0.0, 0
    for batch in batches:
        judged = opened.judged(batch, weights)
        each = np.full(batch.size, judged.own)
        for one in opened.objectives:
            own = _loss(one, judged)
            each = each + (own if len(own) == batch.size else own.mean())
        losses.append(each)
        if judged.labels:
            first = next(one for one in opened.objectives if one.output in judged.labels)
            scored += batch.size
            right += batch.size * _score(
                first, judged.given[first.output], judged.labels[first.output]
            )
    every = np.concatenate(losses)
    error = float(every.std()) / math.sqrt(len(every))
    return Epoch(float(every.mean()), right / scored if scored else None, error)


def _loss(objective: Objective, judged: Judged) -> Floats:
    """The weighted loss of one output, for each sample; the mean where samples are no rows."""
    given, found = judged.given[objective.output], np.zeros(1)
    for weight, targets in (
        (objective.labels, judged.labels),
        (objective.teacher, judged.teacher),
    ):
        if objective.output in targets:
            found = found + weight * loss_of(objective, given, targets[objective.output])
    return found


def _score(objective: Objective, given: Floats, labels: Floats) -> float:
    """Share of samples that are right; of plain numbers one minus the error over the variance."""
    if objective.form == "numbers":
        return 1 - float(loss_of(objective, given, labels).mean())
    if objective.form == "binary":
        return float(((given > 0.5) == (labels > 0.5)).mean())
    axis = objective.axis
    return float(np.mean(given.argmax(axis) == labels.argmax(axis)))
