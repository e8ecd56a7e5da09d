"""Plans on blocks: which widths are on offer, and which of the plans is taken."""

from dataclasses import replace

import numpy as np
import pytest
from networks import Net

from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.latency.kernel_times import group_blocks, kernel_times
from onnxprune.allocation.problem import problem_of
from onnxprune.allocation.whole_blocks import Choice, best_plan, block_widths
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


def choice(errors: np.ndarray, share: float, measured: bool = True) -> Choice:
    n = Net(x=(1, 64, 14, 14))
    made = n.relu(n.conv("x", 64, 16, k=3, pads=[1, 1, 1, 1]))
    analysis = analyze(n.model(n.conv(made, 16, 64, k=3, pads=[1, 1, 1, 1])))
    times = kernel_times(analysis, Blocks(16, 16))
    rows = channel_rows(analysis.groups, [errors])
    problem = problem_of(analysis.cost, {"macs": share * analysis.cost.full[0]}, rows)
    return Choice(problem, times, group_blocks(times, analysis.groups), allocate, measured)


def test_a_group_of_one_block_keeps_parts_of_it():
    plan = best_plan(choice(np.arange(16, -1, -1.0), 0.6))
    assert plan is not None and plan.met and plan.widths.tolist() == [8]


def test_no_plan_where_none_meets_the_budgets():
    assert best_plan(choice(np.arange(16, -1, -1.0), 0.1)) is None


def test_of_plans_with_equal_errors_the_fastest_is_taken():
    posed = choice(np.zeros(17), 0.9)
    plan = best_plan(posed)
    assert plan is not None
    others = [replace(posed, measured=False), posed]
    times = [posed.times.at(found.widths) for found in map(best_plan, others) if found is not None]
    assert posed.times.at(plan.widths) == min(times)
