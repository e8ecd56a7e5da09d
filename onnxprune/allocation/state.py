"""Where an allocation stands: the level of every unit, and what the model costs there.

Costs are counted exactly. A change of one unit touches only the terms that it enters, so that the
work grows linearly with the graph, and all its levels are counted at once. States are values: a
step gives another state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency.time_model import Move
from onnxprune.allocation.problem import BLOCKS, COSTS, LATENCY, Problem, predicted_error
from onnxprune.groups.cost import METRICS
from onnxprune.types import Floats, Ints

__all__ = [
    "Allocation",
    "AllocationState",
    "Moves",
    "after",
    "between",
    "finish",
    "full_state",
    "moved",
    "moves_to",
    "state_at",
]


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


@dataclass(frozen=True)
class Moves:
    """One unit at some other widths, each counted by itself; a move is a row of every array.

    Attributes:
        unit: its number.
        levels: (n_moves,) number of the level.
        widths: (n_moves,) how much stays there.
        cost: (n_moves, n_costs) in the order of `COSTS`.
        axes: (n,) the cost model's axes that the unit touches; the last one counts it.
        sizes: (n_moves, n) sizes of these axes.
        share: (n_moves, n) the same in shares of the full ones.
    """

    unit: int
    levels: Ints
    widths: NDArray[Any]
    cost: Floats
    axes: Ints
    sizes: Floats
    share: Floats

    @property
    def possible(self) -> NDArray[np.bool_]:
        """(n_moves,) whether no axis would be empty."""
        return np.asarray((self.sizes[:, :-1] >= 1).all(1))


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
    moves = moves_to(problem, state, unit, slice(level, level + 1))
    return moved(state, moves, 0) if moves.possible[0] else None


def moves_to(problem: Problem, state: AllocationState, unit: int, levels: slice) -> Moves:
    """Count what it costs if one unit goes to each of some levels that concern it alone.

    Args:
        problem: rows and costs.
        state: where all units stand.
        unit: number of the unit.
        levels: a range of numbers of levels, each counted by itself.
    """
    offered = problem.rows[unit].unit.levels
    numbers = np.arange(len(offered))[levels]
    return _moves(problem, state, unit, numbers, offered[levels])


def moved(state: AllocationState, moves: Moves, number: int) -> AllocationState:
    """The state that one of a unit's moves leads to."""
    sizes, share = state.sizes.copy(), state.share.copy()
    sizes[moves.axes] = moves.sizes[number]
    share[moves.axes] = moves.share[number]
    widths = _with(state.widths, moves.unit, moves.widths[number])
    levels = _with(state.levels, moves.unit, moves.levels[number])
    return AllocationState(levels, widths, moves.cost[number], sizes, share)


def between(problem: Problem, state: AllocationState, step: AllocationState) -> AllocationState:
    """The state on the way to another one, which has one unit lower, that is just on the budgets.

    The unit then stands between two levels and counts for the lower one.
    """
    (unit,) = np.flatnonzero(state.levels != step.levels).tolist()
    passed = state.cost > problem.limit
    saved = (state.cost - step.cost)[passed]
    part = float(((state.cost - problem.limit)[passed] / saved).max())
    width = state.widths[unit] + part * (step.widths[unit] - state.widths[unit])
    level = step.levels[unit : unit + 1]
    return moved(state, _moves(problem, state, unit, level, np.array([width])), 0)


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
    nothing = np.zeros(1, np.int64)
    for member in along:
        state = moved(state, _moves(problem, state, member, nothing, nothing), 0)
    levels, cost = state.levels.copy(), state.cost.copy()
    levels[along] = -1
    levels[unit] = 0
    cost[COSTS.index(BLOCKS)] -= whole
    return replace(state, levels=levels, cost=cost)


def _moves(
    problem: Problem, state: AllocationState, unit: int, levels: Ints, widths: NDArray[Any]
) -> Moves:
    """What it costs if one unit gets each of some `widths` (n_moves,), which are its `levels`."""
    count = problem.cost
    axes, _, terms = count.touched[unit]
    seen, at, factors = count.seen[unit]
    sizes = _sizes_after(problem, state, unit, widths)
    share = sizes / count.sizes[axes]
    before = state.share[seen]
    local = np.repeat(before[None], len(widths), 0)
    local[:, at] = share
    change = local[:, factors].prod(2) - before[factors].prod(1)
    cost = np.repeat(state.cost[None], len(widths), 0)
    cost[:, : len(METRICS)] += change @ count.amounts[terms]
    if problem.times is not None:
        cost[:, LATENCY] += problem.times.change(
            state.widths, state.sizes, Move(unit, widths, sizes)
        )
    return Moves(unit, levels, widths, cost, axes, sizes, share)


def _sizes_after(
    problem: Problem, state: AllocationState, unit: int, widths: NDArray[Any]
) -> Floats:
    """(n_widths, n) sizes of the axes that a unit touches once it is at each of some widths."""
    axes, full, _ = problem.cost.touched[unit]
    each = full.astype(float)  # positions that a channel still has on each axis
    index, other, shared = problem.cost.crossed[unit]
    if len(index):
        # one axis may be shared with several groups: fused query, key and value
        np.subtract.at(each, index, shared * (problem.cost.channels - state.widths)[other])
    sizes: Floats = state.sizes[axes] - each * (state.widths[unit] - widths[:, None])
    return sizes


def _with(values: NDArray[Any], index: int, value: float) -> NDArray[Any]:
    """A copy with one value changed."""
    changed: NDArray[Any] = values.copy()
    changed[index] = value
    return changed
