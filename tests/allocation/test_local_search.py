"""What is to spare is given back, and pairs of units exchange levels."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.latency.kernel_times import kernel_times
from onnxprune.allocation.local_search import _best_exchange, exchange, give_back
from onnxprune.allocation.problem import Problem, linear_cost, predicted_error, problem_of
from onnxprune.allocation.state import after, state_at
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import Row, Unit, channel_rows


def posed(errors: list[list[float]], budget: float, along: tuple[int, ...] = ()) -> Problem:
    rows = [
        Row(Unit("u", "channels", np.arange(len(own)), along if u == 0 else ()), np.array(own))
        for u, own in enumerate(errors)
    ]
    sizes = [len(own) - 1 for own in errors]
    return problem_of(linear_cost(sizes), {"params": budget}, rows)


def ceilings(problem: Problem) -> np.ndarray:
    return np.array([row.unit.last for row in problem.rows])


def test_the_largest_error_is_given_back_first():
    problem = posed([[9.0, 3, 1, 0], [9.0, 5, 2, 0]], 4.0)
    state = give_back(problem, state_at(problem, np.array([1, 1])), ceilings(problem))
    assert state.widths.tolist() == [2, 2]  # 3 of the second, then 2 of the first
    state = give_back(problem, state_at(problem, np.array([1, 2])), ceilings(problem))
    assert state.widths.tolist() == [2, 2]


def test_nothing_is_given_back_above_the_budget_or_the_ceiling():
    problem = posed([[9.0, 3, 1, 0], [9.0, 5, 2, 0]], 4.0)
    over = state_at(problem, np.array([3, 3]))
    assert give_back(problem, over, ceilings(problem)) is over
    low = give_back(problem, state_at(problem, np.array([1, 1])), np.array([1, 2]))
    assert low.widths.tolist() == [1, 2]


def test_what_is_gone_stays_gone():
    problem = posed([[9.0, 3, 1, 0], [9.0, 5, 2, 0]], 6.0, along=(0,))
    gone = after(problem, state_at(problem, np.array([3, 3])), 0, 0)
    assert gone is not None
    assert give_back(problem, gone, ceilings(problem)).widths.tolist() == [0, 3]


def test_one_unit_is_lowered_for_another():
    problem = posed([[9.0, 0.3, 0.1, 0], [9.0, 6, 2, 0]], 4.0)
    state = exchange(problem, state_at(problem, np.array([3, 1])), ceilings(problem))
    assert state.widths.tolist() == [1, 3]


@pytest.mark.parametrize("levels", [[3, 3], [2, 2]])
def test_no_exchange_without_gain_or_above_the_budget(levels: list[int]):
    problem = posed([[9.0, 3, 1, 0], [9.0, 3, 1, 0]], 4.0)
    state = state_at(problem, np.array(levels))
    assert exchange(problem, state, ceilings(problem)) is state


@pytest.mark.parametrize("name", ["residual_spine", "dense_concat", "vision_transformer"])
def test_the_best_of_all_exchanges_is_made(name: str):
    """Every pair counted afresh: those that meet in a layer, and those that only add up."""
    analysis, rng = analyze(NETWORKS[name]()), np.random.default_rng(0)
    times = kernel_times(analysis, Blocks(4, 4))
    errors = [np.sort(rng.random(group.channels + 1))[::-1] for group in analysis.groups]
    rows = [row.alone() for row in channel_rows(analysis.groups, errors)]
    offered = [row.offering(row.unit.levels[1::2]) for row in rows]
    problem = problem_of(analysis.cost, {"latency": 1.0, "macs": 0.0}, offered, times)
    highest = np.array([row.unit.last for row in offered])
    state = state_at(problem, highest // 2)
    problem = replace(problem, limit=np.where(problem.scale, 1.1 * state.cost, np.inf))
    found = [(np.inf, [0])]
    for down, up in permutations(range(len(rows)), 2):
        levels = state.levels.copy()
        levels[down] -= 1
        levels[up] += 1
        if levels[down] >= 0 and levels[up] <= highest[up]:
            there = state_at(problem, levels)
            if problem.met(there.cost):
                found.append((predicted_error(offered, there.widths), levels.tolist()))
    best, levels = min(found)
    assert len(found) > 2
    once = _best_exchange(problem, state, highest)
    if best < predicted_error(offered, state.widths):
        assert once is not None and once.levels.tolist() == levels
    else:
        assert once is None
