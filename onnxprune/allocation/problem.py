"""What is to be allocated: a row of errors for each unit, what levels cost, and the budgets.

There is one kind of cost: sums of products of sizes (`groups.cost`), to which each unit contributes
by how much of it stays, and beside them time. Where units have nothing to do with each other, as
single weights, the products have one factor (`linear_cost`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency.kernel_times import KernelTimes
from onnxprune.allocation.latency.time_model import TimeModel
from onnxprune.groups.cost import BUDGETS, METRICS, CostModel
from onnxprune.groups.units import Row
from onnxprune.types import Floats, Ints

__all__ = [
    "BLOCKS",
    "COSTS",
    "LATENCY",
    "Problem",
    "gone_blocks",
    "linear_cost",
    "predicted_error",
    "problem_of",
]

#: The cost that counts residual blocks which are still there.
BLOCKS = "blocks"
#: Everything that a level costs: what is counted, time, and blocks.
COSTS = (*BUDGETS, BLOCKS)
LATENCY = COSTS.index("latency")
#: Share by which a cost may pass its budget, for sums in another order.
ROUNDING = 1e-9
#: A result this close below its budgets is as good as on them.
SLACK = 0.98


@dataclass(frozen=True)
class Problem:
    """Rows to choose levels from, and the budgets to choose them by.

    Attributes:
        cost: what is counted, exactly.
        rows: one for each group of the cost model, in its order.
        limit: (n_costs,) largest cost in the order of `COSTS`, infinite without a budget.
        scale: (n_costs,) one over the full cost where there is a budget, else 0.
        times: what widths take, measured or predicted; None where time is not asked for.
        priced: number of the cost that errors are divided by; None: what open budgets ask for.
        divisible: levels in between are possible, so that the last step ends on the budget.
    """

    cost: CostModel
    rows: tuple[Row, ...]
    limit: Floats
    scale: Floats
    times: TimeModel | KernelTimes | None = None
    priced: int | None = None
    divisible: bool = False

    @property
    def blocks(self) -> list[int]:
        """Numbers of the units that can take others along."""
        return [u for u, row in enumerate(self.rows) if row.unit.along]

    def count(self, widths: Ints) -> Floats:
        """(n_costs,) cost at `widths` (n_units,), counted afresh."""
        time = 0.0 if self.times is None else self.times.at(widths)
        standing = len(self.blocks) - len(gone_blocks(self.rows, widths))
        return np.concatenate([self.cost.at(widths), [time, standing]])

    def parts(self, unit: int) -> Ints:
        """Numbers of what a unit's level changes: terms of counted costs, then parts of time."""
        terms = self.cost.touched[unit][2]
        if self.times is None:
            return terms
        return np.concatenate([terms, len(self.cost.amounts) + self.times.parts(unit)])

    def met(self, cost: Floats) -> bool:
        """Whether all budgets hold at a cost (n_costs,)."""
        return bool(self.each_met(cost))

    def each_met(self, costs: Floats) -> NDArray[np.bool_]:
        """(…,) whether all budgets hold at costs (…, n_costs)."""
        return np.asarray(np.all(costs <= self.limit * (1 + ROUNDING), axis=-1))

    def used(self, cost: Floats) -> float:
        """The largest share that a cost (n_costs,) has of its budget; of a budget of nothing 1."""
        return float(self._used(cost))

    def _used(self, costs: Floats) -> Floats:
        share = np.where(costs > 0, np.inf, 1.0)
        np.divide(costs, self.limit, out=share, where=self.limit > 0)
        most: Floats = share.max(-1)
        return most

    def overshoots(self, costs: Floats) -> NDArray[np.bool_]:
        """(…,) whether costs (…, n_costs) lie further below the budgets than need be."""
        if self.divisible:
            return np.zeros(costs.shape[:-1], bool)
        return self.each_met(costs) & (self._used(costs) < SLACK)

    def prices(self, rises: Floats, before: Floats, after: Floats) -> Floats:
        """Divide rises of the error by what they save; infinite where that is nothing.

        Args:
            rises: (…,) of the error.
            before: (n_costs,) where all units stand.
            after: (…, n_costs) where the rises lead.
        """
        saved, open_budgets = before - after, before > self.limit
        if self.priced is None:
            amount = saved @ (self.scale * open_budgets)
        else:
            amount = saved[..., self.priced]
        useful = amount > 0
        if open_budgets[LATENCY]:
            useful = useful & (saved[..., LATENCY] > 0)
        price = np.full(np.shape(rises), np.inf)
        np.divide(rises, amount, out=price, where=useful)
        return price


def problem_of(
    cost: CostModel,
    budgets: Mapping[str, float],
    rows: Sequence[Row],
    times: TimeModel | KernelTimes | None = None,
    priced: str | None = None,
) -> Problem:
    """Pose the problem of finding levels with little error within budgets.

    Args:
        cost: what widths cost.
        budgets: largest value by name of the cost: absolute, for `latency` a share of the model's.
        rows: one for each group of the cost model, in its order.
        times: what widths take, where there is a budget for it.
        priced: the metric that errors are divided by; None: what the open budgets ask for.
    """
    limit = np.array([budgets.get(name, np.inf) for name in COSTS])
    blocks = sum(bool(row.unit.along) for row in rows)
    full = np.concatenate([np.maximum(cost.full, 1), [1.0, max(blocks, 1)]])
    scale = np.where(np.isfinite(limit), 1 / full, 0.0)
    number = None if priced is None else METRICS.index(priced)
    return Problem(cost, tuple(rows), limit, scale, times, number)


def linear_cost(sizes: Sequence[int]) -> CostModel:
    """Build the cost model of units that do not meet: the parameters that stay of each.

    Args:
        sizes: (n_units,) parameters of each.
    """
    n, count = len(sizes), np.array(sizes, np.int64)
    amounts = np.zeros((n, len(METRICS)))
    amounts[:, METRICS.index("params")] = count
    each = np.arange(n)
    return CostModel(
        full=amounts.sum(0),
        amounts=amounts,
        factors=each[:, None],
        sizes=count.astype(np.float64),
        entries=np.stack([each, each, np.ones(n, np.int64)]),
        crossings=np.zeros((4, 0), np.int64),
        channels=count,
    )


def predicted_error(rows: Sequence[Row], widths: Ints) -> float:
    """The sum of all units' errors where `widths` (n_units,) stay; a gone block counts once."""
    gone = gone_blocks(rows, widths)
    counted = [u for u, width in enumerate(widths.tolist()) if width or u in gone]
    return float(sum(rows[u].at(widths[u]) for u in counted))


def gone_blocks(rows: Sequence[Row], widths: Ints) -> Collection[int]:
    """Numbers of the units that took others along, without those that went with another one."""
    empty = set(np.flatnonzero(widths == 0).tolist())
    gone = [u for u in empty if empty.issuperset(rows[u].unit.along) and rows[u].unit.along]
    inside = [set(rows[u].unit.along) for u in gone]
    return [u for u in gone if not any(set(rows[u].unit.along) < other for other in inside)]
