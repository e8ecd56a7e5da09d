"""Choose among plans that meet the targets: time costs no more error than pruning further does.

Each plan is allocated from other widths, whole blocks of the runtime's kernels or parts of them,
and with budgets for the time that the kernels' blocks predict. What time is worth is read off the
same model: allocated once more with budgets `TIGHTER` times as large, it has a larger predicted
error and takes less time, and

    rate = (log error' - log error) / (time - time')

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
#: Where between the predicted times of the budgets and the tighter ones times are asked for.
BETWEEN = (0.25, 0.5, 0.75, 1.0)
#: Widths of a group that are on offer at most: of more blocks only every second, fourth, ….
MOST_STEPS = 64


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


@dataclass(frozen=True)
class _Family:
    """Plans from the same widths: at the budgets, at tighter ones, and within predicted times.

    Where the first one already loses too much the others are left out.
    """

    base: Allocation
    further: Allocation | None = None
    faster: tuple[Allocation, ...] = ()

    @property
    def plans(self) -> list[Allocation]:
        """All plans."""
        return [self.base, *([] if self.further is None else [self.further]), *self.faster]


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
    most = max(choice.solve(_tighter(choice.problem)).error, TRIFLE)
    families = [_family(choice, problem, most) for problem in problems(choice)]
    met = [family for family in families if family.base.met]
    near = _near(choice, [plan for family in families for plan in family.plans])
    if not near:
        return None
    reference = min(met, key=lambda family: family.base.error) if met else None
    rate = 0.0 if reference is None else _rate(choice, reference)
    allowed = [plan for plan in near if plan.error <= most]

    def rank(plan: Allocation) -> tuple[float, float]:
        time = choice.times.at(plan.widths)
        return _log(plan) + rate * time, time

    return min(allowed, key=rank) if allowed else min(near, key=lambda plan: plan.error)


def _rate(choice: Choice, family: _Family) -> float:
    """How much the log of the error rises for each unit of predicted time that goes."""
    if family.further is None:
        return 0.0
    rise = _log(family.further) - _log(family.base)
    fall = choice.times.at(family.base.widths) - choice.times.at(family.further.widths)
    return rise / fall if rise > 0 and fall > 0 else 0.0


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


def _family(choice: Choice, problem: Problem, most: float) -> _Family:
    """Plans from the widths that a problem offers, as long as they lose at most `most`.

    All are asked to be no slower than the original, so that they go through the same search.
    """
    times, tighter = choice.times, _tighter(problem)
    base = choice.solve(_within(problem, times, 1.0))
    timed = base.met
    if not timed:
        base = choice.solve(problem)
    if not base.met or base.error > most:
        return _Family(base)
    further = choice.solve(_within(tighter, times, 1.0) if timed else tighter)
    start, end = times.at(base.widths), times.at(further.widths)
    faster = list[Allocation]()
    for part in BETWEEN if end < start else ():
        share = start + part * (end - start)
        if share > 0 and (not faster or faster[-1].error <= most):
            faster.append(choice.solve(_within(problem, times, share)))
    return _Family(base, further, tuple(faster))


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
