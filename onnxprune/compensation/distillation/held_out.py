"""Judge tuned weights on samples that nothing was fitted to, and on mixtures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import divergence
from onnxprune.compensation.distillation.mixup import mixup
from onnxprune.compensation.distillation.models import OpenModels
from onnxprune.compensation.distillation.training import rows_in

__all__ = ["HeldOut", "held_out", "mean_divergence"]

#: Mixtures for each batch that is held out.
MIXTURES = 5

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class HeldOut:
    """Batches, and the teacher's outputs on each."""

    feeds: Sequence[Feeds]
    outputs: Sequence[Mapping[str, Array]]


def held_out(models: OpenModels, batches: Sequence[Feeds]) -> HeldOut:
    """Run the teacher on held-out batches and mixtures of their samples."""
    rng = np.random.default_rng(1)
    mixed = (mixup(feeds, rows_in(feeds), rng) for feeds in batches for _ in range(MIXTURES))
    every = [*batches, *mixed]
    return HeldOut(every, [models.teacher.output_values(feeds) for feeds in every])


def mean_divergence(models: OpenModels, held: HeldOut, weights: Mapping[str, Array]) -> float:
    """Divergence of the student's outputs from the teacher's, mean over held-out samples.

    Args:
        models: teacher and student.
        held: samples and the teacher's outputs.
        weights: new content of the student's stored tensors.
    """
    fed = {name: weights.get(name, models.student.stored(name)) for name in models.fed}
    total, rows = 0.0, 0
    for feeds, outputs in zip(held.feeds, held.outputs, strict=True):
        total += rows_in(feeds) * divergence(outputs, models.forward.run(feeds, fed))
        rows += rows_in(feeds)
    return total / max(rows, 1)
