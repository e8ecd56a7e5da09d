"""Steps down: which is the next one, and when they become smaller."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from onnxprune.allocation.greedy import COARSE, begin, next_step, remove_greedily
from onnxprune.allocation.latency.time_model import SubgraphTime, TimeModel
from onnxprune.allocation.problem import Problem, linear_cost, problem_of
from onnxprune.allocation.state import full_state
from onnxprune.groups.units import Row, Unit


def row(errors: Sequence[float], along: tuple[int, ...] = ()) -> Row:
    """A unit of as many channels as there are errors but one; the first error is that of none."""
    unit = Unit("u", "channels", np.arange(len(errors)), along)
    return Row(unit, np.array(errors, float))


def posed(rows: Sequence[Row], budget: float, **changes) -> Problem:
    sizes = [int(r.unit.levels[-1]) for r in rows]
    return replace(problem_of(linear_cost(sizes), {"params": budget}, rows), **changes)


def descend(problem: Problem):
    descent = begin(problem, full_state(problem))
    return remove_greedily(problem, descent, range(len(problem.rows)))


def test_the_least_error_per_cost_goes_first():
    problem = posed([row([9, 3, 1, 0]), row([9, 4, 1.9, 0])], 4.0)
    assert descend(problem).state.widths.tolist() == [2, 2]  # errors 1, then 1.9 or 2
    assert descend(posed([row([9, 3, 1, 0]), row([9, 9, 9, 0])], 4.0)).state.widths.tolist() == [
        1,
        3,
    ]


def test_a_wide_unit_goes_in_coarse_steps_that_end_single():
    n = 8 * COARSE
    wide = row(np.arange(n, -1, -1.0).tolist())
    problem = posed([wide], n - 17.0)
    descent = begin(problem, full_state(problem))
    assert descent.strides == ((n + 1) // COARSE,)
    first = next_step(problem, descent.state, 0, descent.strides[0])
    assert first is not None and first.state.widths[0] == n - 8
    assert descend(problem).state.widths[0] == n - 17


def test_a_block_goes_where_that_costs_less_than_the_next_level():
    inside, other = row([9, 4, 2, 0]), row([*range(10, -1, -1)])
    problem = posed([row([1, 5, 3, 0], along=(0, 1)), inside, other], 10.0)
    step = next_step(problem, full_state(problem), 0, 1)
    assert step is not None and step.state.widths.tolist() == [0, 0, 10]
    assert step.price == pytest.approx(1 / (6 / 16))  # all 6 of 16 parameters go
    dear = posed([row([19, 5, 3, 0], along=(0, 1)), inside, other], 10.0)
    lower = next_step(dear, full_state(dear), 0, 1)
    assert lower is not None and lower.state.widths.tolist() == [2, 3, 10]
    assert lower.price == pytest.approx(3 / (1 / 16))


def test_a_block_that_saves_more_than_need_be_stays():
    problem = posed([row([0.1, 5, 3, 0], along=(0, 1)), row([9, 4, 2, 0])], 5.0)
    (step,) = [next_step(problem, full_state(problem), 0, 1)]
    assert step is not None and step.state.widths.tolist() == [2, 3]
    assert descend(problem).state.widths.sum() == 5


def test_with_times_all_lower_levels_compete():
    factors = [np.array([0.1, 0.2, 1.0, 1.0])]
    times = TimeModel(0.0, [SubgraphTime(1.0, (0,))], factors)
    rows = [row([9, 2, 1, 0]).offering([1, 2, 3])]
    problem = problem_of(linear_cost([3]), {"latency": 0.5}, rows, times)
    step = next_step(problem, full_state(problem), 0, 1)
    assert step is not None and step.state.widths[0] == 1


def test_too_large_a_step_is_spared():
    problem = posed([row([9, 0]).offering([0, 1]), row([8, 0])], 1.5)
    descent = descend(problem)
    assert descent.spare and not problem.met(descent.state.cost)


def test_at_the_end_there_is_no_step():
    problem = posed([row([9, 3, 0]).offering([1, 2])], 0.0)
    descent = descend(problem)
    assert descent.state.widths.tolist() == [1]
    assert next_step(problem, descent.state, 0, 1) is None
