"""How long a model takes as a function of the groups' widths, from what its pieces were timed at.

A piece is some operators that run as one. Its time is a product of one factor for each group whose
width it sees, T(k_a, k_b) = T(n_a, n_b) · f_a(k_a) · f_b(k_b): a convolution's work is a product of
its two widths, and a kernel's steps are steps of either. The factors are measured, not assumed:
where only one group gets narrower, the time is what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Ints

__all__ = ["SubgraphTime", "TimeModel"]

Floats = NDArray[np.float64]
#: Turns in which measurements of whole plans are fitted, and the least that a factor can be.
SWEEPS, LEAST = 50, 0.01
#: By how much savings can be scaled.
SCALES = tuple(np.linspace(0.5, 1.3, 81).tolist())


@dataclass(frozen=True)
class SubgraphTime:
    """One piece: its `time` at full widths, and the groups that it sees."""

    time: float
    groups: Sequence[int]


@dataclass(frozen=True)
class TimeModel:
    """Latency in shares of the whole model's: what no width changes, and the pieces.

    `factors` holds (n_channels + 1,) for every group.
    """

    rest: float
    subgraphs: Sequence[SubgraphTime]
    factors: Sequence[Floats]

    def at(self, widths: Ints) -> float:
        """The share of the original's latency at `widths` (n_groups,)."""
        return self.rest + sum(self._piece(subgraph, widths) for subgraph in self.subgraphs)

    def change(self, widths: Ints, group: int, width: int) -> float:
        """What it adds to the share if one group goes to `width`."""
        other = widths.copy()
        other[group] = width
        touched = self.touched.get(group, ())
        return sum(self._piece(p, other) - self._piece(p, widths) for p in touched)

    def corrected(self, seen: Sequence[tuple[Ints, float]]) -> TimeModel:
        """The times nearest to these that give what was measured at some widths.

        What all groups save is first scaled alike: the best of many noisy savings are taken, so
        that they tend to be smaller than they seem. Then by turns each measurement's deviation is
        spread over the factors of the groups that are narrower there, in proportion to how much
        they decide (Kaczmarz, 1937).
        """
        times = min((self._scaled(scale) for scale in SCALES), key=lambda t: t._missed(seen))
        for _ in range(SWEEPS):
            for widths, measured in seen:
                times._approach(widths, measured)
        return times

    def _scaled(self, scale: float) -> TimeModel:
        """Every group saves `scale` of what it did."""
        factors = [np.maximum(1 - scale * (1 - factor), LEAST) for factor in self.factors]
        return replace(self, factors=factors)

    def _missed(self, seen: Sequence[tuple[Ints, float]]) -> float:
        return float(sum((self.at(widths) - measured) ** 2 for widths, measured in seen))

    def _approach(self, widths: Ints, measured: float) -> None:
        """Move the factors at `widths` so that they give what was measured."""
        slopes = {}
        for g, subgraphs in self.touched.items():
            if widths[g] < len(self.factors[g]) - 1:
                time = sum(self._piece(subgraph, widths) for subgraph in subgraphs)
                slopes[g] = time / max(float(self.factors[g][widths[g]]), LEAST)
        total = sum(slope**2 for slope in slopes.values())
        off = measured - self.at(widths)
        for g, slope in slopes.items() if total else ():
            there = self.factors[g]
            there[widths[g]] = max(float(there[widths[g]]) + off * slope / total, LEAST)

    def _piece(self, subgraph: SubgraphTime, widths: Ints) -> float:
        product = subgraph.time
        for g in subgraph.groups:
            product *= float(self.factors[g][widths[g]])
        return product

    @cached_property
    def touched(self) -> dict[int, list[SubgraphTime]]:
        """The pieces that see each group."""
        found: dict[int, list[SubgraphTime]] = {}
        for subgraph in self.subgraphs:
            for g in subgraph.groups:
                found.setdefault(g, []).append(subgraph)
        return found
