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
     (6, 4, 4), (512, 4, 16), (1024, 4, 32), (2048, 4, 64)],
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


@pytest.mark.parametrize(("price", "width"), [(0.9, 160), (1.1, 176)])
def test_time_is_bought_at_no_more_than_pruning_further_costs(price: float, width: int):
    """The base plan keeps 176 channels, the faster ones 160; budgets of 0.9 double the error."""
    posed = choice(np.arange(256, -1, -1.0), 0.69, channels=256)
    slow, fast = (posed.times.at(np.array([n])) for n in (176, 160))
    rate = np.log(2) / ((1 - TIGHTER) * 0.69)
    errors = {176: 0.1, 160: 0.1 * np.exp(price * rate * (slow - fast))}
    assert errors[160] < 0.2

    def solve(problem: Problem) -> Allocation:
        if len(problem.rows[0].unit.levels) == 257:  # any width
            tighter = problem.limit[0] < posed.problem.limit[0]
            return Allocation(np.array([176]), True, 0.2 if tighter else 0.1)
        n = 176 if problem.limit[LATENCY] >= 1 else 160
        return Allocation(np.array([n]), True, float(errors[n]))

    plan = best_plan(replace(posed, solve=solve))
    assert plan is not None and plan.widths.tolist() == [width]


def test_a_faster_plan_that_loses_too_much_is_not_taken():
    posed = choice(np.arange(64, -1, -1.0), 0.8, channels=64)

    def solve(problem: Problem) -> Allocation:
        tighter = problem.limit[0] < posed.problem.limit[0]
        fast = problem.limit[LATENCY] < 1
        return Allocation(np.array([48 if fast else 51]), True, 0.5 if fast or tighter else 0.1)

    plan = best_plan(replace(posed, solve=solve))
    assert plan is not None and plan.widths.tolist() == [48]  # as much as tighter budgets cost
    most = 0.4

    def bounded(problem: Problem) -> Allocation:
        plan = solve(problem)
        return replace(plan, error=most) if problem.limit[0] < posed.problem.limit[0] else plan

    plan = best_plan(replace(posed, solve=bounded))
    assert plan is not None and plan.widths.tolist() == [51]


def test_of_plans_with_equal_errors_the_fastest_is_taken():
    posed = choice(np.zeros(17), 0.9)
    plan = best_plan(posed)
    assert plan is not None
    others = [replace(posed, measured=False), posed]
    times = [posed.times.at(found.widths) for found in map(best_plan, others) if found is not None]
    assert posed.times.at(plan.widths) == min(times)
