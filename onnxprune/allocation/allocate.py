"""How many channels each group keeps: errors and costs of widths in, widths out.

The allocator knows nothing of where its two tables come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxprune.allocation.greedy import greedy_for, remove_greedily
from onnxprune.allocation.latency.time_model import TimeModel
from onnxprune.allocation.local_search import exchange, give_back
from onnxprune.allocation.state import AllocationState, Table, Widths
from onnxprune.groups.cost import CostModel
from onnxprune.types import Ints

__all__ = ["allocate", "uniform"]


def allocate(
    cost: CostModel,
    budgets: Mapping[str, float],
    tables: Sequence[Table],
    priced: str | None = None,
    times: TimeModel | None = None,
) -> Widths:
    """Widths with little error at which every budget holds, just below it.

    Args:
        cost: what widths cost.
        budgets: largest value per metric, absolute.
        tables: the choices of every group.
        priced: the metric that errors are divided by; None: what the open budgets ask for.
        times: what widths take; a budget for `latency` is a share of it.
    """
    state = AllocationState(cost, budgets, tables, times)
    greedy = greedy_for(state, priced)
    spare = remove_greedily(state, greedy, list(range(len(tables))))
    while spare and not state.met(state.now):
        # what was too large a step may be too small by now: crossing groups share their savings
        steps = [(g, step) for g in spare if (step := greedy.step(g)) is not None]
        last = [
            (float((step.cost / state.limit).max()), g, step)
            for g, step in steps
            if state.met(step.cost)
        ]
        if last:
            _, g, step = max(last, key=lambda option: option[:2])
            greedy.take(g, step)
        else:
            spare = remove_greedily(state, greedy, [g for g, _ in steps])
    ceilings = np.array([table.offered[-1] for table in tables], np.int64)
    give_back(state, ceilings)
    if times is not None:
        exchange(state, ceilings)
        give_back(state, ceilings)
    return state.finish()


def uniform(
    cost: CostModel,
    budgets: Mapping[str, float],
    tables: Sequence[Table],
    times: TimeModel | None = None,
) -> Widths:
    """Every group keeps the same share of its channels, as near as offers allow.

    The share is bisected; between the last share that fails and the first that holds, groups
    step one by one, cheapest error first, so that the result ends just below the budgets.
    """
    state = AllocationState(cost, budgets, tables, times)
    full = state.widths.copy()

    def at(share: float) -> Ints:
        rows = zip(tables, full, strict=True)
        return np.array([t.offered[np.abs(t.offered - share * n).argmin()] for t, n in rows])

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        state.reset(at(middle))
        low, high = (middle, high) if state.finish().met else (low, middle)
    ceilings, goal = at(high), at(low)
    state.reset(ceilings)
    steps = [(float(t.errors[goal[g]] - t.errors[ceilings[g]]), g) for g, t in enumerate(tables)]
    for _, g in sorted(steps):
        if state.met(state.now):
            break
        if goal[g] < ceilings[g] and (after := state.after(g, int(goal[g]))) is not None:
            state.go(g, int(goal[g]), after)
    give_back(state, ceilings)
    return state.finish()
