"""Plans on blocks: which widths are on offer, and which of the plans is taken."""

from dataclasses import replace

import numpy as np
import pytest
from networks import Net

from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.latency.kernel_times import group_blocks, kernel_times
from onnxprune.allocation.problem import LATENCY, Problem, problem_of
from onnxprune.allocation.state import Allocation
from onnxprune.allocation.whole_blocks import TIGHTER, Choice, best_plan, block_widths
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import channel_rows


@pytest.mark.parametrize(
    ("channels", "fewest", "step"),
    [(64, 1, 16), (64, 4, 16), (32, 4, 8), (16, 1, 16), (16, 2, 8), (16, 4, 4), (8, 1, 8),
     (6, 4, 4), (1024, 4, 16), (2048, 4, 32)],
)  # fmt: skip
def test_groups_of_few_blocks_may_keep_parts(channels: int, fewest: int, step: int):
    offered = block_widths(np.arange(channels + 1), 16, fewest)
    assert offered.tolist() == sorted({*range(0, channels, step), channels})


def choice(errors: np.ndarray, share: float, measured: bool = True, channels: int = 16) -> Choice:
    n = Net(x=(1, 64, 14, 14))
    made = n.relu(n.conv("x", 64, channels, k=3, pads=[1, 1, 1, 1]))
    analysis = analyze(n.model(n.conv(made, channels, 64, k=3, pads=[1, 1, 1, 1])))
    times = kernel_times(analysis, Blocks(16, 16))
    rows = channel_rows(analysis.groups, [errors])
    problem = problem_of(analysis.cost, {"macs": share * analysis.cost.full[0]}, rows)
    return Choice(problem, times, group_blocks(times, analysis.groups), allocate, measured)


def test_a_group_of_one_block_keeps_parts_of_it():
    plan = best_plan(choice(np.arange(16, -1, -1.0), 0.6))
    assert plan is not None and plan.met and plan.widths.tolist() == [8]


def test_no_plan_where_none_meets_the_budgets():
    assert best_plan(choice(np.arange(16, -1, -1.0), 0.1)) is None


def test_nothing_is_lost_beyond_what_tighter_budgets_cost():
    errors = np.array([(1 - n / 16) ** 2 for n in range(17)])
    posed = choice(errors, 0.8)
    plan = best_plan(posed)
    tighter = replace(posed.problem, limit=TIGHTER * posed.problem.limit)
    assert plan is not None and plan.error <= allocate(tighter).error


@pytest.mark.parametrize(
    ("price", "bound", "width"), [(0.9, 1.0, 48), (1.1, 1.0, 51), (0.9, 0.1, 51)]
)
def test_time_is_bought_at_no_more_than_pruning_further_costs(
    price: float, bound: float, width: int
):
    """The base plan keeps 51 channels, the faster one 48, what tighter budgets give 32."""
    posed = choice(np.arange(64, -1, -1.0), 0.8, channels=64)
    slow, fast, further = (posed.times.at(np.array([n])) for n in (51, 48, 32))
    rate = np.log(2) / (slow - further)
    errors = {51: 0.1, 32: 0.2, 48: 0.1 * np.exp(price * rate * (slow - fast))}

    def solve(problem: Problem) -> Allocation:
        if len(problem.rows[0].unit.levels) == 65:  # any width, within tighter budgets
            return Allocation(np.array([40]), True, bound)
        tighter = problem.limit[0] < posed.problem.limit[0]
        n = 32 if tighter else 51 if problem.limit[LATENCY] >= 1 else 48
        return Allocation(np.array([n]), True, float(errors[n]))

    plan = best_plan(replace(posed, solve=solve))
    assert plan is not None and plan.widths.tolist() == [width]


def test_of_plans_with_equal_errors_the_fastest_is_taken():
    posed = choice(np.zeros(17), 0.9)
    plan = best_plan(posed)
    assert plan is not None
    others = [replace(posed, measured=False), posed]
    times = [posed.times.at(found.widths) for found in map(best_plan, others) if found is not None]
    assert posed.times.at(plan.widths) == min(times)
