"""Choose a level for every unit: errors and costs of levels in, how much stays of each unit out.

The allocator knows nothing of where its errors come from, nor of what the levels mean.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxprune.allocation.greedy import Descent, begin, next_step, remove_greedily
from onnxprune.allocation.local_search import exchange, give_back
from onnxprune.allocation.problem import Problem
from onnxprune.allocation.state import Allocation, after, finish, full_state, state_at
from onnxprune.types import Ints

__all__ = ["allocate", "uniform"]

#: Halvings of the share that all units keep.
HALVINGS = 40


def allocate(problem: Problem) -> Allocation:
    """Choose levels with little error at which every budget holds, just below it.

    Args:
        problem: rows of errors, costs and budgets.
    """
    descent = begin(problem, full_state(problem))
    descent = remove_greedily(problem, descent, range(len(problem.rows)))
    while descent.spare and not problem.met(descent.state.cost):
        descent = _spare_steps(problem, descent)
    state = descent.state
    if not problem.divisible:  # else it stands on the budget
        ceilings = np.array([row.unit.last for row in problem.rows], np.int64)
        state = give_back(problem, state, ceilings)
        if problem.times is not None:
            state = give_back(problem, exchange(problem, state, ceilings), ceilings)
    return finish(problem, state)


def _spare_steps(problem: Problem, descent: Descent) -> Descent:
    """Take the step that ends nearest to the budgets; where none meets them go on with all.

    What was too large a step may be too small by now: units that cross share their savings.
    """
    found = (
        next_step(problem, descent.state, unit, descent.strides[unit]) for unit in descent.spare
    )
    steps = [step for step in found if step is not None]
    enough = [step for step in steps if problem.met(step.state.cost)]
    if not enough:
        return remove_greedily(problem, descent, [step.unit for step in steps])
    last = max(enough, key=lambda step: (problem.used(step.state.cost), step.unit))
    return replace(descent, state=last.state)


def uniform(problem: Problem) -> Allocation:
    """Keep the same share of every unit, as near as the levels on offer allow.

    The share is bisected; between the last share that fails and the first that holds, units
    step one by one, cheapest error first, so that the result ends just below the budgets.

    Args:
        problem: rows of errors, costs and budgets.
    """
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        met = finish(problem, state_at(problem, _nearest(problem, middle))).met
        low, high = (middle, high) if met else (low, middle)
    ceilings, goal = _nearest(problem, high), _nearest(problem, low)
    state = state_at(problem, ceilings)
    rows = enumerate(problem.rows)
    rises = [(float(row.errors[goal[u]] - row.errors[ceilings[u]]), u) for u, row in rows]
    for _, unit in sorted(rises):
        if problem.met(state.cost):
            break
        if goal[unit] < ceilings[unit]:
            lowered = after(problem, state, unit, int(goal[unit]))
            state = state if lowered is None else lowered
    return finish(problem, give_back(problem, state, ceilings))


def _nearest(problem: Problem, share: float) -> Ints:
    """(n_units,) levels at which about a share of each unit stays."""
    levels = []
    for row in problem.rows:
        offered = row.unit.levels[row.unit.least :]
        wanted = share * row.unit.levels[-1]
        levels.append(row.unit.least + int(np.abs(offered - wanted).argmin()))
    return np.array(levels, np.int64)
