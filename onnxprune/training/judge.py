"""Judge weights on samples that no step has seen: loss, and a score where there are labels."""

from __future__ import annotations

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
    total, right, rows, scored = 0.0, 0.0, 0, 0
    for batch in batches:
        judged = opened.judged(batch, weights)
        rows += batch.size
        for one in opened.objectives:
            total += batch.size * _loss(one, judged)
        if judged.labels:
            first = next(one for one in opened.objectives if one.output in judged.labels)
            scored += batch.size
            right += batch.size * _score(
                first, judged.given[first.output], judged.labels[first.output]
            )
    return Epoch(total / max(rows, 1), right / scored if scored else None)


def _loss(objective: Objective, judged: Judged) -> float:
    """The weighted loss of one output."""
    given, found = judged.given[objective.output], 0.0
    for weight, targets in (
        (objective.labels, judged.labels),
        (objective.teacher, judged.teacher),
    ):
        if objective.output in targets:
            found += weight * loss_of(objective, given, targets[objective.output])
    return found


def _score(objective: Objective, given: Floats, labels: Floats) -> float:
    """Share of samples that are right; of plain numbers one minus the error over the variance."""
    if objective.form == "numbers":
        return 1 - loss_of(objective, given, labels)
    if objective.form == "binary":
        return float(((given > 0.5) == (labels > 0.5)).mean())
    axis = objective.axis
    return float(np.mean(given.argmax(axis) == labels.argmax(axis)))
