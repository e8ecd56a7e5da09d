"""Choose among plans that meet the targets: time costs no more error than pruning further does.

Each plan is allocated from other widths, whole blocks of the runtime's kernels or parts of them,
and within several predicted times. A share of the time is worth as much as the same share of a
budget: with any width on offer, budgets `TIGHTER` times as large have a larger predicted error, and

    rate = (log error' - log error) / ((1 - TIGHTER) · budget)

is what pruning further costs. Of the plans that are within the budgets the one with the least
log(error) + rate · time is taken. Where errors curve, a rate holds near the target only: no plan
is taken whose predicted error is above that of the tighter budgets when any width may be taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.allocation.latency.kernel_times import KernelTimes
from onnxprune.allocation.problem import LATENCY, Problem
from onnxprune.allocation.state import Allocation
from onnxprune.types import Ints

__all__ = ["Choice", "best_plan", "block_widths", "problems"]

#: What plans may lose at most: as much as budgets that are so many times as large cost.
TIGHTER = 0.9
#: A plan uses at least this share of a budget, if any on blocks does.
NEAR = 0.9
#: A predicted error below this says nothing: the divergence at which nothing is left to tune.
TRIFLE = 1e-3
#: Steps that a group has at least: where it has fewer blocks, it may keep parts of them.
FEWEST = (1, 2, 4, 16)
#: The least part of a block on offer: other numbers of channels are slower than whole blocks.
ALIGNED = 4
#: The least predicted time that is asked for, in shares of that without a budget for it, and how
#: often what lies between is halved.
LEAST_TIME, HALVINGS = 0.6, 5
#: Where a plan without a budget for time loses so many times what plans may, none of its widths is
#: looked at any more. The search is none for the best plan: a faster one may be better.
HOPELESS = 2.0
#: Widths of a group that are on offer at most: of more blocks only every second, fourth, ….
MOST_STEPS = 32


@dataclass(frozen=True)
class Choice:
    """What to allocate, and how.

    Attributes:
        problem: rows with all widths that the user allows, and the budgets.
        times: what widths take.
        blocks: (n_groups,) channels that fill a block of the runtime's kernels.
        solve: the allocation of a problem.
        measured: errors are divergences that were measured on samples.
    """

    problem: Problem
    times: KernelTimes
    blocks: Sequence[int]
    solve: Callable[[Problem], Allocation]
    measured: bool


def best_plan(choice: Choice) -> Allocation | None:
    """The best plan on the runtime's blocks; None where none of them meets the budgets.

    Errors that were not measured have no unit that could be weighed against time: of those the
    least one counts, and time where they are equal. Plans far below the budgets are the last
    resort.
    """
    if choice.measured:
        return _traded(choice)
    plans = _near(choice, map(choice.solve, problems(choice)))
    return min(plans, key=lambda plan: (plan.error, choice.times.at(plan.widths)), default=None)


def _traded(choice: Choice) -> Allocation | None:
    """The plan that buys time at no more than tighter budgets would; None without any."""
    any_width, tighter = (choice.solve(p) for p in (choice.problem, _tighter(choice.problem)))
    most = max(tighter.error, TRIFLE)
    families = [_faster(choice, problem, most) for problem in problems(choice)]
    near = _near(choice, [plan for family in families for plan in family])
    if not near:
        return None
    rate = (math.log(most) - _log(any_width)) / ((1 - TIGHTER) * _budget(choice.problem))
    allowed = [plan for plan in near if plan.error <= most]

    def rank(plan: Allocation) -> tuple[float, float]:
        time = choice.times.at(plan.widths)
        return _log(plan) + max(rate, 0.0) * time, time

    return min(allowed, key=rank) if allowed else min(near, key=lambda plan: plan.error)


def _budget(problem: Problem) -> float:
    """The least budget, in shares of what the model costs."""
    asked = problem.scale > 0
    shares = problem.limit[asked] * problem.scale[asked]
    return float(shares.clip(1e-3, 1).min(initial=1.0))


def _log(plan: Allocation) -> float:
    return math.log(max(plan.error, TRIFLE))


def _near(choice: Choice, plans: Iterable[Allocation]) -> list[Allocation]:
    """Plans that meet the budgets, without those far below them if there are others."""
    met = [plan for plan in plans if plan.met]
    near = [p for p in met if choice.problem.used(choice.problem.count(p.widths)) >= NEAR]
    return near or met


def problems(choice: Choice) -> Iterator[Problem]:
    """The problem with whole blocks on offer, then with more and more parts of them."""
    seen = list[list[Ints]]()
    for fewest in FEWEST:
        offered = _offered(choice, fewest)
        if not any(all(map(np.array_equal, offered, other)) for other in seen):
            seen.append(offered)
            pairs = zip(choice.problem.rows, offered, strict=True)
            yield replace(choice.problem, rows=tuple(row.offering(w) for row, w in pairs))


def _faster(choice: Choice, problem: Problem, most: float) -> list[Allocation]:
    """Plans from the widths that a problem offers, faster ones as long as they lose at most `most`.

    The first is asked to be no slower than the original, so that all go through the same search.
    """
    plans = [choice.solve(_within(problem, choice.times, 1.0))]
    if not plans[0].met:
        plans = [choice.solve(problem)]
    if not plans[0].met or plans[0].error > HOPELESS * most:
        return plans
    high = choice.times.at(plans[0].widths)
    low = LEAST_TIME * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        plans.append(choice.solve(_within(problem, choice.times, middle)))
        good = plans[-1].met and plans[-1].error <= most
        low, high = (low, middle) if good else (middle, high)
    return plans


def _tighter(problem: Problem) -> Problem:
    """The problem with tighter budgets."""
    return replace(problem, limit=TIGHTER * problem.limit)


def _within(problem: Problem, times: KernelTimes, share: float) -> Problem:
    """The problem with a budget for the predicted time."""
    limit, scale = problem.limit.copy(), problem.scale.copy()
    limit[LATENCY], scale[LATENCY] = share, 1.0
    return replace(problem, limit=limit, scale=scale, times=times)


def _offered(choice: Choice, fewest: int) -> list[Ints]:
    """Widths of each group: whole blocks, or parts of them where there are less than `fewest`."""
    return [
        block_widths(row.unit.levels, block, fewest)
        for row, block in zip(choice.problem.rows, choice.blocks, strict=True)
    ]


def block_widths(widths: Ints, block: int, fewest: int) -> Ints:
    """Thin ascending widths out to whole blocks, or parts of them in groups of few blocks.

    Args:
        widths: on offer; the last one always is.
        block: channels of a block.
        fewest: blocks, or halves or quarters of them, that a group has at least.
    """
    step, full = block, int(widths[-1])
    while step > ALIGNED and step % 2 == 0 and full < fewest * step:
        step //= 2
    while full > MOST_STEPS * step:
        step *= 2
    kept: Ints = widths[(widths % step == 0) | (widths == full)]
    return kept
