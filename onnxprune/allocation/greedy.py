"""Steps down from full widths, the least error per cost saved first.

That is Lagrangian relaxation for error curves that are convex, as sums of sorted scores are. Time
is a cost that falls in steps, so with times all lower levels compete for the next step, not only
the next one: the lower hull of error over time. A step that saves no time is none.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.allocation.problem import Problem
from onnxprune.allocation.state import AllocationState, after, between, moved, moves_to

__all__ = ["Descent", "Step", "begin", "next_step", "remove_greedily"]

#: Steps that a unit of many levels is first taken in; the last ones before the target are single.
COARSE = 32


@dataclass(frozen=True)
class Step:
    """One unit at a lower level.

    Attributes:
        unit: its number.
        stride: how many levels its steps take now.
        state: what the step leads to.
        price: the rise of the error for each unit of cost that the step saves.
    """

    unit: int
    stride: int
    state: AllocationState
    price: float


@dataclass(frozen=True)
class Descent:
    """How far the steps have come.

    Attributes:
        state: where they stand.
        strides: (n_units,) how many levels a step of each unit takes.
        spare: units whose next step would lead further below the budgets than need be.
    """

    state: AllocationState
    strides: tuple[int, ...]
    spare: tuple[int, ...] = ()


def begin(problem: Problem, state: AllocationState) -> Descent:
    """Stand at a state, with coarse steps for units of many levels."""
    counts = [row.unit.last + 1 - row.unit.least for row in problem.rows]
    return Descent(state, tuple(max(1, count // COARSE) for count in counts))


def remove_greedily(problem: Problem, begun: Descent, units: Sequence[int]) -> Descent:
    """Take steps of some units, the cheapest first, until all budgets hold."""
    state, strides, spare = begun.state, list(begun.strides), list[int]()
    heap = [(-np.inf, unit) for unit in units]
    heapq.heapify(heap)
    while heap and not problem.met(state.cost):
        _, unit = heapq.heappop(heap)
        step = next_step(problem, state, unit, strides[unit])
        if step is None:
            continue
        strides[unit] = step.stride
        reached = problem.met(step.state.cost)
        if heap and step.price > heap[0][0]:
            heapq.heappush(heap, (step.price, unit))
        elif reached and step.stride > 1:  # approach the budgets in smaller steps
            strides[unit] = step.stride // 2
            heapq.heappush(heap, (step.price, unit))
        elif reached and problem.divisible:
            state = between(problem, state, step.state)
        elif problem.overshoots(step.state.cost):
            spare.append(unit)  # too large a step, unless no other unit gets there
        else:
            state = step.state
            heapq.heappush(heap, (step.price, unit))
    return Descent(state, tuple(strides), tuple(spare))


def next_step(problem: Problem, state: AllocationState, unit: int, stride: int) -> Step | None:
    """The next step of a unit, `stride` levels or fewer down; None at the end.

    Where it can take others along that competes with the next lower level.
    """
    steps = _lower_levels if problem.times is not None else _next_level
    lower, gone = steps(problem, state, unit, stride), _gone(problem, state, unit, stride)
    if lower is None or gone is None:
        return lower or gone
    better = gone.price < lower.price and not problem.overshoots(gone.state.cost)
    return replace(gone, stride=lower.stride) if better else lower


def _next_level(problem: Problem, state: AllocationState, unit: int, stride: int) -> Step | None:
    """The step by `stride` levels, by fewer where that would empty an axis."""
    level, least = int(state.levels[unit]), problem.rows[unit].unit.least
    while level > least:
        step = _step(problem, state, unit, max(level - stride, least))
        if step is not None or stride == 1:
            return None if step is None else replace(step, stride=stride)
        stride = max(1, stride // 2)
    return None


def _lower_levels(problem: Problem, state: AllocationState, unit: int, _stride: int) -> Step | None:
    """The cheapest step to any lower level, of those that do not overshoot if there are any."""
    row, level = problem.rows[unit], int(state.levels[unit])
    if level <= row.unit.least:
        return None
    below = slice(row.unit.least, level)
    moves = moves_to(problem, state, unit, below)
    prices = problem.prices(row.errors[below] - row.errors[level], state.cost, moves.cost)
    useful = moves.possible & (prices < np.inf)
    near = useful & ~problem.overshoots(moves.cost)
    if not useful.any():
        return None
    best = int(np.where(near if near.any() else useful, prices, np.inf).argmin())
    return Step(unit, 1, moved(state, moves, best), float(prices[best]))


def _gone(problem: Problem, state: AllocationState, unit: int, stride: int) -> Step | None:
    """The step to where nothing stays of a unit and of those that go along with it."""
    along = problem.rows[unit].unit.along
    if not along or state.levels[unit] < problem.rows[unit].unit.least:
        return None
    return _step(problem, state, unit, 0)


def _step(problem: Problem, state: AllocationState, unit: int, level: int) -> Step | None:
    """The step of a unit to a level; None if that would empty an axis."""
    reached = after(problem, state, unit, level)
    if reached is None:
        return None
    rows, moved = problem.rows, problem.rows[unit].unit.along if level == 0 else ()
    moved = moved or (unit,)
    lost = sum(rows[u].errors[state.levels[u]] for u in moved if state.levels[u] >= 0)
    price = problem.prices(rows[unit].errors[level] - lost, state.cost, reached.cost)
    return Step(unit, 1, reached, float(price))
