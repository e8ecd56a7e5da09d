"""Predict how long a model takes as a function of its groups' widths, from times of its subgraphs.

A subgraph is some operators that run as one. Its time is a product of one factor for each group
whose width it sees, T(k_a, k_b) = T(n_a, n_b) · f_a(k_a) · f_b(k_b): a convolution's work is a
product of its two widths, and a kernel's steps are steps of either. The factors are measured, not
assumed: where only one group gets narrower, the time is what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from onnxprune.types import Floats, Ints

__all__ = ["Move", "SubgraphTime", "TimeModel", "TimedPlan"]

#: Times that all measured plans are fitted in turn.
SWEEPS = 50
#: The least share of its full time that a group's factor can say.
LEAST_FACTOR = 0.01
#: What all savings are scaled by, whichever fits what was measured best.
SCALES = tuple(np.linspace(0.5, 1.3, 81).tolist())


class Move(NamedTuple):
    """One group at each of some widths, counted by itself.

    Attributes:
        group: its number.
        widths: (n_moves,) of it.
        sizes: (n_moves, n) sizes of the cost model's axes that it touches.
    """

    group: int
    widths: Ints
    sizes: Floats


class TimedPlan(NamedTuple):
    """Widths (n_groups,), and the share of the original's latency that was measured there."""

    widths: Ints
    share: float


@dataclass(frozen=True)
class SubgraphTime:
    """One subgraph: its `time` at full widths, and the numbers of the groups that it sees."""

    time: float
    groups: Sequence[int]

    def at(self, widths: Ints, factors: Sequence[Floats]) -> float:
        """The time at `widths` (n_groups,)."""
        product = self.time
        for g in self.groups:
            product *= float(factors[g][widths[g]])
        return product


@dataclass(frozen=True)
class TimeModel:
    """Latency in shares of the whole model's.

    Attributes:
        rest: what no width changes.
        subgraphs: what widths change.
        factors: (n_channels + 1,) of every group: the share of the time left at each width.
    """

    rest: float
    subgraphs: Sequence[SubgraphTime]
    factors: Sequence[Floats]

    @cached_property
    def touched(self) -> Mapping[int, Sequence[SubgraphTime]]:
        """The subgraphs that see each group."""
        found: dict[int, list[SubgraphTime]] = {}
        for subgraph in self.subgraphs:
            for g in subgraph.groups:
                found.setdefault(g, []).append(subgraph)
        return found

    def at(self, widths: Ints) -> float:
        """The share of the original's latency at `widths` (n_groups,)."""
        return self.rest + sum(subgraph.at(widths, self.factors) for subgraph in self.subgraphs)

    def parts(self, group: int) -> Ints:
        """Numbers of the subgraphs that see a group."""
        return np.array([k for k, s in enumerate(self.subgraphs) if group in s.groups], np.int64)

    def change(self, widths: Ints, _sizes: Floats, move: Move) -> Floats:
        """(n_moves,) what it adds to the share if one group goes to each of some widths.

        Args:
            widths: (n_groups,) where all groups stand.
            move: where one of them goes.
        """
        total = np.zeros(len(move.widths))
        factors = self.factors[move.group]
        for subgraph in self.touched.get(move.group, ()):
            others = replace(subgraph, groups=[g for g in subgraph.groups if g != move.group])
            share = factors[move.widths] - factors[widths[move.group]]
            total += others.at(widths, self.factors) * share
        return total

    def corrected(self, seen: Sequence[TimedPlan]) -> TimeModel:
        """The time model nearest to this one that gives what was measured of some plans.

        What all groups save is first scaled alike: the best of many noisy savings are taken, so
        that they tend to be smaller than they seem. Then by turns each measurement's deviation is
        spread over the factors of the groups that are narrower there, in proportion to how much
        they decide (Kaczmarz, 1937).
        """
        best = min((self._scaled(scale) for scale in SCALES), key=lambda t: t._missed(seen))
        factors = [factor.copy() for factor in best.factors]
        for _ in range(SWEEPS):
            for plan in seen:
                for g, factor in best._approached(factors, plan).items():
                    factors[g][plan.widths[g]] = factor
        return replace(best, factors=factors)

    def _scaled(self, scale: float) -> TimeModel:
        """Every group saves `scale` of what it did."""
        factors = [np.maximum(1 - scale * (1 - factor), LEAST_FACTOR) for factor in self.factors]
        return replace(self, factors=factors)

    def _missed(self, seen: Sequence[TimedPlan]) -> float:
        """The squared deviation from what was measured."""
        return float(sum((self.at(plan.widths) - plan.share) ** 2 for plan in seen))

    def _approached(self, factors: Sequence[Floats], plan: TimedPlan) -> dict[int, float]:
        """By group the factor at its width with which the model would give what was measured."""
        widths, slopes = plan.widths, dict[int, float]()
        for g, subgraphs in self.touched.items():
            if widths[g] < len(factors[g]) - 1:
                time = sum(subgraph.at(widths, factors) for subgraph in subgraphs)
                slopes[g] = time / max(float(factors[g][widths[g]]), LEAST_FACTOR)
        total = sum(slope**2 for slope in slopes.values())
        off = plan.share - replace(self, factors=factors).at(widths)
        return {
            g: max(float(factors[g][widths[g]]) + off * slope / total, LEAST_FACTOR)
            for g, slope in slopes.items()
            if total
        }
