"""Measure how far the outputs move when stored tensors change, on the samples that tell most."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.importance_sampling import WeightedBatch, draw_samples
from onnxprune.calibration.incremental_run import operator_numbers
from onnxprune.calibration.kept_run import KeptRun, borders, open_kept_run
from onnxprune.calibration.samples import Calibration
from onnxprune.calibration.workplace import Workplace
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.work import operator_work
from onnxprune.importance.measuring_plan import measuring_plan
from onnxprune.ir import skeleton, subgraphs

__all__ = ["Demand", "DivergenceSamples", "Weights", "divergence_samples", "reopened"]

#: New content of stored tensors, by name.
Weights: TypeAlias = Mapping[str, NDArray[Any]]
#: Stretches that the model is split into, about, and bytes of weights of each: what is opened anew
#: for a change is then a small part of the model.
STRETCHES, STRETCH_BYTES = 16, 2**24


class Demand(NamedTuple):
    """What one unit will be measured with.

    Attributes:
        changed: names of the stored tensors that change; none: any may.
        runs: (n,) how often the model is run for it, by how many runs each unit may have, from one.
    """

    changed: Collection[str]
    runs: Sequence[int]


@dataclass(frozen=True)
class DivergenceSamples:
    """Samples that divergence is measured on, and what the original gives for them.

    Attributes:
        drawn: batches of samples, each with how often it counts.
        run: the original on them.
        runs: how many runs each unit may have.
        begins: numbers of the operators with which the stretches of `run` begin.
    """

    drawn: tuple[WeightedBatch, ...]
    run: KeptRun
    runs: int
    begins: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many samples there are."""
        return sum(len(batch.weights) for batch in self.drawn)

    def divergence(self, weights: Weights) -> float:
        """The divergence of the outputs by new content of stored tensors.

        It depends on nothing else: measurements may be made in any order.
        """
        counts = [batch.weights for batch in self.drawn]
        names = self.run.outputs
        each = [
            divergence({name: base[name] for name in names}, now, count)
            for (base, now), count in zip(self.run.changed(weights), counts, strict=True)
        ]
        return float(np.average(each, weights=[count.sum() for count in counts]))


def divergence_samples(
    analysis: Analysis, data: Calibration, demands: Sequence[Demand]
) -> DivergenceSamples:
    """Draw the samples, and run the original on them.

    Args:
        analysis: the original.
        data: calibration data to draw from.
        demands: of all units that are to be measured, which decide how many are drawn.
    """
    bare = skeleton.without_constant_nodes(analysis.model)
    nodes = list(bare.graph.node)
    first: dict[str, int] = {}
    stored = np.zeros(len(nodes))
    for k, node in enumerate(nodes):
        for name in subgraphs.needs(node):
            if name not in first:
                stored[k] += 4 * analysis.parameters.get(name, 0)
            first.setdefault(name, k)
    work = operator_work(analysis.nodes, operator_numbers(bare), len(nodes))
    behind = np.append(np.cumsum(work[::-1])[::-1], 0.0) / max(float(work.sum()), 1e-30)
    places = [min((first.get(n, 0) for n in d.changed), default=0) for d in demands]

    def cost(runs: int) -> float:
        pairs = zip(places, demands, strict=True)
        return float(sum(behind[place] * demand.runs[runs - 1] for place, demand in pairs))

    plan = measuring_plan(cost, data.samples)
    batches = tuple(draw_samples(analysis.model, data, plan.samples))
    sizes = work / max(float(work.sum()), 1e-30) * STRETCHES + stored / STRETCH_BYTES
    begins = tuple(borders(sizes, places))
    return reopened(analysis, batches, begins, plan.runs, data.place)


def reopened(
    analysis: Analysis,
    drawn: tuple[WeightedBatch, ...],
    begins: tuple[int, ...],
    runs: int,
    place: Workplace | None = None,
) -> DivergenceSamples:
    """Run the original on samples that were drawn before, as another process does too.

    Args:
        analysis: the original.
        drawn: batches of samples, each with how often it counts.
        begins: numbers of the operators with which stretches begin.
        runs: how many runs each unit may have.
        place: where it runs, and where files lie that hold what memory has no room for.
    """
    bare = skeleton.without_constant_nodes(analysis.model)
    run = open_kept_run(bare, analysis.read, [batch.feeds for batch in drawn], begins, place)
    return DivergenceSamples(drawn, run, runs, begins)
