"""Where an allocation stands: the widths of all groups, what they cost, what a change would bring.

Every cost is counted exactly at the widths reached so far; a change touches only the terms that its
group enters, so the work grows linearly with the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnxprune.allocation.latency.time_model import TimeModel
from onnxprune.groups.cost import BUDGETS, METRICS, CostModel
from onnxprune.types import Floats, Ints

__all__ = ["AllocationState", "Table", "Widths"]


class Table(NamedTuple):
    """A group's choices: (n_channels + 1,) error at every width, ascending widths on offer.

    With a `block`, none of the group's channels need stay: then all groups in it, this one among
    them, go together.
    """

    errors: Floats
    offered: Ints
    block: tuple[int, ...] = ()


@dataclass(frozen=True)
class Widths:
    """Channels kept of every group (n_groups,), and whether all budgets hold."""

    widths: Ints
    met: bool


class AllocationState:
    """Widths (n_groups,), their cost `now` in the order of BUDGETS, and the `limit` of each."""

    def __init__(
        self,
        cost: CostModel,
        budgets: Mapping[str, float],
        tables: Sequence[Table],
        times: TimeModel | None = None,
    ) -> None:
        self.cost, self.tables, self.times = cost, tables, times
        self.limit = np.array([budgets.get(metric, np.inf) for metric in BUDGETS])
        full = np.append(np.maximum(cost.full, 1), 1.0)
        self.scale = np.where(np.isfinite(self.limit), 1 / full, 0.0)
        self.reset(np.array([table.offered[-1] for table in tables], np.int64))

    def reset(self, widths: Ints) -> None:
        """Stand at `widths`."""
        self.widths = widths.copy()
        self.now = self._count(widths)
        self.sizes = self.cost.axis_sizes(widths)
        self.share = np.append(self.sizes / self.cost.sizes, 1.0)  # the last: terms without axis

    def _count(self, widths: Ints) -> Floats:
        """Cost at `widths` in the order of BUDGETS."""
        time = 0.0 if self.times is None else self.times.at(widths)
        return np.asarray(np.append(self.cost.at(widths), time), np.float64)

    def _moved(self, change: Floats, g: int, width: int) -> Floats:
        """Cost after what is counted changed and group `g` went to `width`."""
        moved: Floats = self.now.copy()
        moved[: len(METRICS)] += change
        if self.times is not None:
            moved[-1] += self.times.change(self.widths, g, width)
        return moved

    def met(self, at: Floats) -> bool:
        """Whether all budgets hold at a cost."""
        return bool((at <= self.limit * (1 + 1e-9)).all())

    def _per_channel(self, g: int) -> Floats:
        """Positions that a channel of `g` still has on each of its axes."""
        k = self.cost.touched[g][1].astype(float)
        index, other, unit = self.cost.crossed[g]
        if len(index):
            # one axis may be shared with several groups: fused query, key and value
            np.subtract.at(k, index, unit * (self.cost.channels - self.widths)[other])
        return k

    def after(self, g: int, width: int) -> Floats | None:
        """Cost with group `g` at `width`; None if that would empty an axis."""
        axes, _, terms = self.cost.touched[g]
        new = self.sizes[axes] - self._per_channel(g) * (self.widths[g] - width)
        if (new[:-1] < 1).any():  # the last one counts the group itself, which may go to zero
            return None
        factors, share = self.cost.factors[terms], self.share[axes]
        before = self.share[factors].prod(1)
        self.share[axes] = new / self.cost.sizes[axes]
        change = (self.share[factors].prod(1) - before) @ self.cost.amounts[terms]
        self.share[axes] = share
        return self._moved(change, g, width)

    def go(self, g: int, width: int, cost: Floats) -> None:
        """Put group `g` at `width`, which leads to `cost`."""
        axes, _, _ = self.cost.touched[g]
        self.sizes[axes] -= self._per_channel(g) * (self.widths[g] - width)
        self.share[axes] = self.sizes[axes] / self.cost.sizes[axes]
        self.widths[g], self.now = width, cost

    def without(self, block: Sequence[int]) -> Floats:
        """Cost when all groups of a block go."""
        before, now = self.widths[list(block)].tolist(), self.now
        for g in block:
            self.vanish(g)
        gone = self.now
        for g, width in reversed(list(zip(block, before, strict=True))):
            self.go(g, width, now)
        return gone

    def vanish(self, g: int) -> None:
        """Let the last channel of `g` go, with the axes it lies on."""
        _, _, terms = self.cost.touched[g]
        factors = self.cost.factors[terms]
        before, after = self.share[factors].prod(1), self._moved(np.zeros(len(METRICS)), g, 0)
        self.go(g, 0, after)
        change = self.share[factors].prod(1) - before
        self.now[: len(METRICS)] += change @ self.cost.amounts[terms]

    def finish(self) -> Widths:
        """The widths stood at, judged by a fresh count."""
        blocks = {g for table in self.tables for g in table.block}
        gone = [axes for g in blocks if not self.widths[g] for axes in self.cost.touched[g][0]]
        filled = self.sizes >= 1
        filled[gone] = True
        alive = bool(filled[self.cost.shared].all())
        return Widths(self.widths, alive and self.met(self._count(self.widths)))
