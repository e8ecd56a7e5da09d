"""What is to be allocated: costs, budgets, prices, and what is gone."""

from dataclasses import replace

import numpy as np
import pytest
from networks import NETWORKS
from rows import rows_by

from onnxprune.allocation.problem import (
    BLOCKS,
    COSTS,
    LATENCY,
    gone_blocks,
    linear_cost,
    predicted_error,
    problem_of,
)
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import Row, Unit


def unit(name: str, along: tuple[int, ...] = ()) -> Row:
    return Row(Unit(name, "channels", np.arange(3), along), np.array([8.0, 1.0, 0.0]))


def test_a_linear_cost_counts_parameters_that_stay():
    cost = linear_cost([10, 20, 5])
    assert cost.full.tolist() == [0, 35, 0, 0]
    assert cost.at(np.array([10.0, 2.5, 5.0])) == pytest.approx([0, 17.5, 0, 0])
    assert not cost.shared.any()  # a unit may be left with less than one


def test_errors_are_divided_by_what_open_budgets_ask_for():
    analysis = analyze(NETWORKS["chain"]())
    macs, params = analysis.cost.full[:2]
    problem = problem_of(analysis.cost, {"macs": macs / 2, "params": params}, rows_by(analysis))
    before = np.zeros(len(COSTS))
    before[:2] = macs, params
    after = before.copy()
    after[:2] /= 2
    assert problem.prices(np.array(3.0), before, after) == pytest.approx(6.0)  # params hold already
    assert problem.prices(np.array(3.0), before, before) == np.inf
    assert replace(problem, priced=1).prices(np.array(3.0), before, after) == pytest.approx(
        6 / params
    )


def test_several_rises_are_priced_at_once():
    problem = problem_of(linear_cost([4]), {"params": 1.0, "latency": 0.5}, [unit("a")])
    before = np.array([0, 4, 0, 0, 1.0, 0])
    after = before - np.array([[0, 2, 0, 0, 0.5, 0], [0, 1, 0, 0, 0, 0], [0, 3, 0, 0, 0.1, 0]])
    rises = np.array([1.0, 2.0, 3.0])
    each = [float(problem.prices(*pair)) for pair in zip(rises, [before] * 3, after, strict=True)]
    assert problem.prices(rises, before, after).tolist() == each
    assert np.isinf(each).tolist() == [False, True, False]
    assert problem.overshoots(after).tolist() == [bool(problem.overshoots(cost)) for cost in after]


def test_a_step_that_saves_no_time_is_none_while_time_is_open():
    problem = problem_of(linear_cost([4]), {"params": 1.0, "latency": 0.5}, [unit("a")])
    before = np.array([0, 4, 0, 0, 1.0, 0])
    after = np.array([0, 2, 0, 0, 1.0, 0])
    assert problem.prices(np.array(1.0), before, after) == np.inf
    within = before.copy()
    within[LATENCY] = 0.4
    assert problem.prices(np.array(1.0), within, after) < np.inf


def test_budgets_are_met_up_to_rounding():
    problem = problem_of(linear_cost([100]), {"params": 50.0}, [unit("a")])
    costs = {name: np.array([0, name, 0, 0, 0, 0.0]) for name in (48.9, 49.1, 50 + 1e-9, 50.1)}
    assert [problem.met(cost) for cost in costs.values()] == [True, True, True, False]
    assert [problem.overshoots(cost) for cost in costs.values()] == [True, False, False, False]
    divisible = replace(problem, divisible=True)
    assert not any(divisible.overshoots(cost) for cost in costs.values())


def test_a_budget_of_nothing_can_be_used():
    problem = problem_of(linear_cost([2]), {BLOCKS: 0}, [unit("a", (0,))])
    assert problem.used(problem.count(np.array([0]))) == 1
    assert not problem.overshoots(problem.count(np.array([0])))
    assert problem.used(problem.count(np.array([2]))) > 1


def test_of_blocks_in_blocks_the_outermost_counts():
    rows = [unit("inner", (0, 1)), unit("b"), unit("outer", (0, 1, 2)), unit("alone", (3,))]
    assert set(gone_blocks(rows, np.array([0, 0, 0, 2]))) == {2}
    assert set(gone_blocks(rows, np.array([0, 0, 2, 0]))) == {0, 3}
    assert set(gone_blocks(rows, np.array([0, 1, 2, 2]))) == set()
    assert predicted_error(rows, np.array([0, 0, 0, 1])) == 8 + 1
    assert predicted_error(rows, np.array([0, 0, 1, 2])) == 8 + 1


def test_blocks_are_a_cost():
    rows = [unit("a", (0,)), unit("b", (1,)), unit("c")]
    problem = problem_of(linear_cost([2, 2, 2]), {BLOCKS: 1}, rows)
    assert problem.count(np.array([2, 2, 2]))[COSTS.index(BLOCKS)] == 2
    assert problem.count(np.array([0, 2, 2]))[COSTS.index(BLOCKS)] == 1
    assert problem.met(problem.count(np.array([0, 2, 2])))
