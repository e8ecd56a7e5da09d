"""Where an allocation stands: the level of every unit, and what the model costs there.

Costs are counted exactly. A change of one unit touches only the terms that it enters, so that the
work grows linearly with the graph. States are values: a step gives another state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.problem import BLOCKS, COSTS, LATENCY, Problem, predicted_error
from onnxprune.groups.cost import METRICS
from onnxprune.types import Floats, Ints

__all__ = ["Allocation", "AllocationState", "after", "between", "finish", "full_state", "state_at"]


@dataclass(frozen=True)
class Allocation:
    """How much stays of every unit (n_units,), whether budgets hold, and the predicted error."""

    widths: NDArray[Any]
    met: bool
    error: float


@dataclass(frozen=True)
class AllocationState:
    """A level for every unit, and what the model costs there.

    Attributes:
        levels: (n_units,) numbers of levels, -1 for a unit that went along with another.
        widths: (n_units,) how much stays.
        cost: (n_costs,) in the order of `COSTS`.
        sizes: (n_axes,) sizes of the cost model's axes.
        share: (n_axes + 1,) the same in shares of the full ones; the last stands for no axis.
    """

    levels: Ints
    widths: NDArray[Any]
    cost: Floats
    sizes: Floats
    share: Floats


def full_state(problem: Problem) -> AllocationState:
    """Count the state in which every unit stands at the last level on offer."""
    return state_at(problem, np.array([row.unit.last for row in problem.rows], np.int64))


def state_at(problem: Problem, levels: Ints) -> AllocationState:
    """Count the state in which every unit stands at a level of its own, `levels` (n_units,)."""
    chosen = zip(problem.rows, levels.tolist(), strict=True)
    widths = np.array([row.unit.levels[level] for row, level in chosen])
    sizes = problem.cost.axis_sizes(widths)
    share = np.append(sizes / problem.cost.sizes, 1.0)
    return AllocationState(levels, widths, problem.count(widths), sizes, share)


def after(
    problem: Problem, state: AllocationState, unit: int, level: int
) -> AllocationState | None:
    """Move one unit to another level, with what goes along there; None if an axis would be empty.

    Args:
        problem: rows and costs.
        state: where all units stand.
        unit: number of the unit.
        level: number of its new level.
    """
    own = problem.rows[unit].unit
    if level < own.least:
        return _without(problem, state, unit)
    width = own.levels[level]
    sizes = _sizes_after(problem, state, unit, width)
    if (sizes[:-1] < 1).any():  # the last axis counts the unit itself
        return None
    moved = _moved(problem, state, unit, width, sizes)
    return replace(moved, levels=_with(state.levels, unit, level))


def between(problem: Problem, state: AllocationState, step: AllocationState) -> AllocationState:
    """The state on the way to another one, which has one unit lower, that is just on the budgets.

    The unit then stands between two levels and counts for the lower one.
    """
    (unit,) = np.flatnonzero(state.levels != step.levels).tolist()
    passed = state.cost > problem.limit
    saved = (state.cost - step.cost)[passed]
    part = float(((state.cost - problem.limit)[passed] / saved).max())
    width = state.widths[unit] + part * (step.widths[unit] - state.widths[unit])
    sizes = _sizes_after(problem, state, unit, width)
    return replace(_moved(problem, state, unit, width, sizes), levels=step.levels)


def finish(problem: Problem, state: AllocationState) -> Allocation:
    """The widths that a state stands at, judged by a fresh count."""
    touched = problem.cost.touched
    along = {u for row in problem.rows for u in row.unit.along}
    gone = [axes for u in along if not state.widths[u] for axes in touched[u][0]]
    filled = state.sizes >= 1
    filled[gone] = True
    alive = bool(filled[problem.cost.shared].all())
    met = alive and problem.met(problem.count(state.widths))
    return Allocation(state.widths, met, predicted_error(problem.rows, state.widths))


def _without(problem: Problem, state: AllocationState, unit: int) -> AllocationState:
    """The state in which nothing stays of a unit, nor of those that go along with it."""
    along = list(problem.rows[unit].unit.along)
    whole = bool(state.widths[along].all())
    for member in along:
        sizes = _sizes_after(problem, state, member, 0)
        state = _moved(problem, state, member, 0, sizes)
    levels, cost = state.levels.copy(), state.cost.copy()
    levels[along] = -1
    levels[unit] = 0
    cost[COSTS.index(BLOCKS)] -= whole
    return replace(state, levels=levels, cost=cost)


def _moved(
    problem: Problem, state: AllocationState, unit: int, width: float, own_sizes: Floats
) -> AllocationState:
    """The state with a unit at a width, its axes at `own_sizes`; its level is left to be set."""
    axes, _, terms = problem.cost.touched[unit]
    factors = problem.cost.factors[terms]
    sizes, share, cost = state.sizes.copy(), state.share.copy(), state.cost.copy()
    sizes[axes] = own_sizes
    share[axes] = own_sizes / problem.cost.sizes[axes]
    change = share[factors].prod(1) - state.share[factors].prod(1)
    cost[: len(METRICS)] += change @ problem.cost.amounts[terms]
    if problem.times is not None:
        cost[LATENCY] += problem.times.change(state.widths, unit, width)
    widths = _with(state.widths, unit, width)
    return replace(state, widths=widths, cost=cost, sizes=sizes, share=share)


def _sizes_after(problem: Problem, state: AllocationState, unit: int, width: float) -> Floats:
    """Sizes of the axes that a unit touches once it is at a width."""
    axes, full, _ = problem.cost.touched[unit]
    each = full.astype(float)  # positions that a channel still has on each axis
    index, other, shared = problem.cost.crossed[unit]
    if len(index):
        # one axis may be shared with several groups: fused query, key and value
        np.subtract.at(each, index, shared * (problem.cost.channels - state.widths)[other])
    sizes: Floats = state.sizes[axes] - each * (state.widths[unit] - width)
    return sizes


def _with(values: NDArray[Any], index: int, value: float) -> NDArray[Any]:
    """A copy with one value changed."""
    changed: NDArray[Any] = values.copy()
    changed[index] = value
    return changed
