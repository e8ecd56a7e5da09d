"""Give back what a descent took too much, and exchange levels between pairs of units."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.problem import Problem
from onnxprune.allocation.state import AllocationState, after
from onnxprune.types import Ints

__all__ = ["exchange", "give_back"]

#: Exchanges between two units at most, and how many units are looked at for each side.
EXCHANGES, NEAREST = 40, 32
#: A fall of the error that is worth an exchange.
WORTH = 1e-12


@dataclass(frozen=True, order=True)
class Move:
    """A change of the error, negative where it falls, by one unit going to another level."""

    change: float
    unit: int
    level: int


def give_back(problem: Problem, state: AllocationState, ceilings: Ints) -> AllocationState:
    """Raise single units again, the largest error first, as long as all budgets hold.

    The last step before a target may save more than was needed; smaller ones taken before it are
    then to spare. What is gone stays gone.

    Args:
        problem: rows, costs and budgets.
        state: where the descent ended.
        ceilings: (n_units,) highest level of each.
    """
    if not problem.met(state.cost):
        return state
    heap = _neighbours(problem, state, ceilings, 1)  # sorted, as a heap may be
    while heap:
        move = heapq.heappop(heap)
        raised = after(problem, state, move.unit, move.level)
        if raised is not None and problem.met(raised.cost):
            state = raised
            if (higher := _neighbour(problem, state, ceilings, move.unit, 1)) is not None:
                heapq.heappush(heap, higher)
    return state


def exchange(problem: Problem, state: AllocationState, ceilings: Ints) -> AllocationState:
    """Lower one unit to raise another, as long as the error falls.

    Steps of time are large, so that the last ones before a target seldom fit.

    Args:
        problem: rows, costs and budgets.
        state: where the descent ended.
        ceilings: (n_units,) highest level of each.
    """
    for _ in range(EXCHANGES):
        better = _best_exchange(problem, state, ceilings) if problem.met(state.cost) else None
        if better is None:
            return state
        state = better
    return state


def _best_exchange(
    problem: Problem, state: AllocationState, ceilings: Ints
) -> AllocationState | None:
    """The state within the budgets that one exchange leads to; None where the error would not fall.

    Of exchanges that are worth the same the first one is taken. Where two units have nothing in
    common what they change adds up; others are counted.
    """
    downs = _counted(problem, state, _neighbours(problem, state, ceilings, -1)[:NEAREST])
    ups = _counted(problem, state, _neighbours(problem, state, ceilings, 1)[:NEAREST])
    if not downs or not ups:
        return None
    costs = [np.array([reached.cost for _, reached in side]) for side in (downs, ups)]
    together = costs[0][:, None] + costs[1][None] - state.cost
    open_pairs = problem.each_met(together) | _meeting(problem, downs, ups)
    pairs = sorted(
        (down.change + up.change, down.unit, down.level, up.unit, up.level, d)
        for d, (down, _) in enumerate(downs)
        for u, (up, _) in enumerate(ups)
        if open_pairs[d, u] and down.unit != up.unit and down.change + up.change <= -WORTH
    )
    for _, _, _, unit, level, d in pairs:
        raised = after(problem, downs[d][1], unit, level)
        if raised is not None and problem.met(raised.cost):
            return raised
    return None


def _counted(
    problem: Problem, state: AllocationState, moves: Sequence[Move]
) -> list[tuple[Move, AllocationState]]:
    """Moves with the states that each of them leads to, without those that would empty an axis."""
    found = ((move, after(problem, state, move.unit, move.level)) for move in moves)
    return [(move, reached) for move, reached in found if reached is not None]


def _meeting(
    problem: Problem,
    downs: Sequence[tuple[Move, AllocationState]],
    ups: Sequence[tuple[Move, AllocationState]],
) -> NDArray[np.bool_]:
    """(n_downs, n_ups) whether two units enter the same term of a cost, or the same kernel."""
    sides = [[problem.parts(move.unit) for move, _ in side] for side in (downs, ups)]
    most = 1 + max(int(own.max(initial=0)) for parts in sides for own in parts)
    entered = [np.zeros((len(parts), most), np.float32) for parts in sides]
    for marks, parts in zip(entered, sides, strict=True):
        for mark, own in zip(marks, parts, strict=True):
            mark[own] = 1
    shared: NDArray[np.bool_] = entered[0] @ entered[1].T > 0
    return shared


def _neighbours(problem: Problem, state: AllocationState, ceilings: Ints, step: int) -> list[Move]:
    """Moves of single units by one level up or down, the smallest change of the error first."""
    units = np.flatnonzero(state.widths > 0).tolist()
    moves = (_neighbour(problem, state, ceilings, unit, step) for unit in units)
    return sorted((move for move in moves if move is not None), key=lambda move: move.change)


def _neighbour(
    problem: Problem, state: AllocationState, ceilings: Ints, unit: int, step: int
) -> Move | None:
    """The move of a unit by one level; None beyond its ceiling or where nothing would stay."""
    row, level = problem.rows[unit], int(state.levels[unit]) + step
    if not row.unit.least <= level <= ceilings[unit] or not row.unit.levels[level] > 0:
        return None
    return Move(float(row.errors[level] - row.errors[level - step]), unit, level)
