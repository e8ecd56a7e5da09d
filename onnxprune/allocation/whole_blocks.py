"""Choose among plans that meet the targets the one whose time is bought at the least error.

Each plan is allocated from other widths, whole blocks of the runtime's kernels or parts of them, or
with a budget for the time that the kernels' blocks predict. Errors grow exponentially as a model
gets faster, so that plans are compared by log(error) + DAMAGE · error + RATE · time. RATE is what
pruning itself costs: where MACs fall from 0.7 to 0.5, predicted errors grew by factors e^7 to e^11
for each unit of the latency on four trained models. A plan is thus preferred if it buys time at no
more than pruning further would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.allocation.latency.kernel_times import KernelTimes
from onnxprune.allocation.problem import LATENCY, Problem
from onnxprune.allocation.state import Allocation
from onnxprune.types import Ints

__all__ = ["Choice", "best_plan", "block_widths"]

#: What a unit of the latency is worth, as a factor of the error: e to this power.
RATE = 8.0
#: What a predicted error of one is worth beside that: where much is lost, no time is worth more.
DAMAGE = 2.0
#: A plan uses at least this share of a budget, if any on blocks does.
NEAR = 0.9
#: A predicted error below this says nothing: the divergence at which nothing is left to tune.
TRIFLE = 1e-3
#: Steps that a group has at least: where it has fewer blocks, it may keep parts of them.
FEWEST = (1, 2, 4)
#: The least part of a block on offer: other numbers of channels are slower than whole blocks.
ALIGNED = 4
#: Shares of what goes of the MACs that are asked for in time as well.
PAYS = (0.6, 0.7, 0.8)
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


def best_plan(choice: Choice) -> Allocation | None:
    """The best plan on the runtime's blocks; None where none of them meets the budgets.

    Errors that were not measured have no unit that could be weighed against time: of those the
    least one counts, and time where they are equal. Plans far below the budgets are the last
    resort.
    """
    plans = [plan for plan in _plans(choice) if plan.met]
    near = [plan for plan in plans if _used(choice.problem, plan) >= NEAR]

    def rank(plan: Allocation) -> tuple[float, float]:
        time = choice.times.at(plan.widths)
        if not choice.measured:
            return plan.error, time
        loss = math.log(max(plan.error, TRIFLE)) + DAMAGE * plan.error
        return loss + RATE * time, time

    return min(near or plans, key=rank, default=None)


def _used(problem: Problem, plan: Allocation) -> float:
    """The largest share that a plan has of its budgets."""
    return problem.used(problem.count(plan.widths))


def _plans(choice: Choice) -> Iterator[Allocation]:
    """Plans of whole blocks, and where errors were measured plans within predicted times."""
    seen = list[list[Ints]]()
    for fewest in FEWEST:
        offered = _offered(choice, fewest)
        if any(all(map(np.array_equal, offered, other)) for other in seen):
            continue
        seen.append(offered)
        pairs = zip(choice.problem.rows, offered, strict=True)
        problem = replace(choice.problem, rows=tuple(row.offering(w) for row, w in pairs))
        plan = choice.solve(problem)
        yield plan
        if choice.measured and plan.met:
            cost = choice.problem.cost
            macs = float(cost.at(plan.widths)[0] / max(cost.full[0], 1.0))
            for pays in PAYS:
                yield choice.solve(_within(problem, choice.times, 1 - pays * (1 - macs)))


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
