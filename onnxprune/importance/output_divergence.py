"""Measure how far the outputs move when stored tensors change, on the samples that tell most.

What lies before the change is not run again: activations of the original are carried forward to
where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.importance_sampling import WeightedBatch, draw_samples
from onnxprune.calibration.incremental_run import IncrementalRun, open_suffix
from onnxprune.calibration.samples import Calibration
from onnxprune.groups.analysis import Analysis

__all__ = ["SETTINGS", "DivergenceSamples", "Weights", "divergence_samples", "open_divergence"]

#: New content of stored tensors, by name.
Weights: TypeAlias = Mapping[str, NDArray[Any]]
#: Samples: at most, and at least where the model is costly to run.
MOST_SAMPLES, FEWEST_SAMPLES = 1024, 32
#: Multiplications that all measurements together should not exceed.
WORK = 5e11
#: What measured divergences depend on, for keys of caches.
SETTINGS = (MOST_SAMPLES, FEWEST_SAMPLES, WORK)


@dataclass(frozen=True)
class DivergenceSamples:
    """Samples that divergence is measured on, and what the original gives for them.

    Attributes:
        analysis: the original.
        data: the calibration data that they were drawn from.
        drawn: batches of samples, each with how often it counts.
        outputs: of the original, for every batch.
    """

    analysis: Analysis
    data: Calibration
    drawn: tuple[WeightedBatch, ...]
    outputs: ActivationStore

    @property
    def count(self) -> int:
        """How many samples there are."""
        return sum(len(batch.weights) for batch in self.drawn)

    def start(self) -> IncrementalRun:
        """The original on these samples, before its first operator."""
        return _start(self.analysis, self.data, self.drawn)


def divergence_samples(analysis: Analysis, data: Calibration, runs: int) -> DivergenceSamples:
    """Draw the samples, and run the original on them.

    Args:
        analysis: the original.
        data: calibration data to draw from.
        runs: how often the whole model will be run on them, which decides how many are drawn.
    """
    each = float(analysis.cost.full[0]) / (max(data.sizes) if data.whole else 1)
    wanted = min(max(WORK / max(each * runs, 1), FEWEST_SAMPLES), MOST_SAMPLES)
    batches = tuple(draw_samples(analysis.model, data, round(wanted)))
    start = _start(analysis, data, batches)
    whole = open_suffix(start, 0, analysis.read, ())
    outputs = ActivationStore([{} for _ in batches], data.place)
    for values, batch in zip(start.values, outputs.batches, strict=True):
        outputs.add(batch, whole.run(values))
    return DivergenceSamples(analysis, data, batches, outputs)


def open_divergence(
    samples: DivergenceSamples, run: IncrementalRun, at: int, names: Iterable[str]
) -> Callable[[Weights], float]:
    """Open the operators from number `at` on, to measure what new content of weights changes.

    Args:
        samples: to measure on, with the original's outputs.
        run: the original on them; it is advanced to `at`.
        at: number of the first operator that a change touches.
        names: of the stored tensors that change.

    Returns:
        The divergence of the outputs by new content of all `names`.
    """
    read = samples.analysis.read
    run.advance(at, read)
    rest = open_suffix(run, at, read, sorted(names))
    counts = [batch.weights for batch in samples.drawn]

    def measure(fed: Weights) -> float:
        batches = zip(samples.outputs.batches, run.values, counts, strict=True)
        each = [divergence(base, rest.run(v, fed), count) for base, v, count in batches]
        return float(np.average(each, weights=[count.sum() for count in counts]))

    return measure


def _start(analysis: Analysis, data: Calibration, drawn: Iterable[WeightedBatch]) -> IncrementalRun:
    feeds = [batch.feeds for batch in drawn]
    return IncrementalRun(analysis.model, feeds, {}, data.place)
