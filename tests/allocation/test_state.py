"""States of an allocation: what they cost, and that a step leaves them as they were."""

from dataclasses import replace

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.allocation.latency.time_model import SubgraphTime, TimeModel
from onnxprune.allocation.problem import BLOCKS, COSTS, LATENCY, Problem, linear_cost, problem_of
from onnxprune.allocation.state import (
    AllocationState,
    after,
    between,
    finish,
    full_state,
    moved,
    moves_to,
    state_at,
)
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import Row, Unit, channel_rows

WITH_BLOCKS = ["residual_spine", "vision_transformer", "gpt_with_tied_head"]


def posed(network: str, timed: bool = False) -> Problem:
    """A problem of all groups at all widths but none, blocks among them."""
    analysis = analyze(NETWORKS[network]())
    blocks = {g: block.inside for g, block in analysis.blocks.items()}
    errors = [np.arange(g.channels, -1, -1.0) for g in analysis.groups]
    rows = [
        row.offering(np.arange(1, group.channels + 1))
        for row, group in zip(
            channel_rows(analysis.groups, errors, blocks), analysis.groups, strict=True
        )
    ]
    factors = [np.linspace(0, 1, g.channels + 1) ** 2 for g in analysis.groups]
    parts = [SubgraphTime(1 / len(rows), tuple({g, max(g - 1, 0)})) for g in range(len(rows))]
    times = TimeModel(0.0, parts, factors) if timed else None
    return problem_of(analysis.cost, {"macs": 0.0}, rows, times)


def copied(state: AllocationState) -> AllocationState:
    values = {name: value.copy() for name, value in vars(state).items()}
    return replace(state, **values)


def assert_same(one: AllocationState, other: AllocationState) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_running_cost_is_the_cost(network: str):
    """Steps of groups that cross each other add up to what a fresh count gives."""
    problem = posed(network, timed=True)
    state, rng = full_state(problem), np.random.default_rng(0)
    for unit in rng.permutation(np.repeat(np.arange(len(problem.rows)), 3)).tolist():
        own = problem.rows[unit].unit
        lowered = after(problem, state, unit, max(own.least, int(state.levels[unit]) - 1))
        state = state if lowered is None else lowered
    np.testing.assert_allclose(state.cost, problem.count(state.widths), rtol=1e-9)
    np.testing.assert_allclose(state.sizes, problem.cost.axis_sizes(state.widths))


@pytest.mark.parametrize("network", NETWORKS)
def test_all_levels_of_a_unit_are_counted_at_once(network: str):
    problem = posed(network, timed=True)
    state = full_state(problem)
    for unit, row in enumerate(problem.rows):
        levels = slice(row.unit.least, row.unit.last)
        moves = moves_to(problem, state, unit, levels)
        for k, level in enumerate(range(row.unit.least, row.unit.last)):
            single = after(problem, state, unit, level)
            assert moves.possible[k] == (single is not None)
            if single is not None:
                there = moved(state, moves, k)
                np.testing.assert_array_equal(there.levels, single.levels)
                np.testing.assert_array_equal(there.widths, single.widths)
                np.testing.assert_array_equal(there.sizes, single.sizes)
                np.testing.assert_allclose(there.cost, single.cost)
                np.testing.assert_allclose(there.cost, problem.count(there.widths))


@pytest.mark.parametrize("network", WITH_BLOCKS)
def test_a_step_leaves_the_state_as_it_was(network: str):
    problem = posed(network, timed=True)
    state = full_state(problem)
    before = copied(state)
    for unit, row in enumerate(problem.rows):
        for level in range(len(row.unit.levels)):
            after(problem, state, unit, level)
    assert_same(state, before)


@pytest.mark.parametrize("network", WITH_BLOCKS)
def test_there_and_back(network: str):
    problem = posed(network)
    state = full_state(problem)
    for unit, row in enumerate(problem.rows):
        lowered = after(problem, state, unit, row.unit.least)
        if lowered is not None:
            back = after(problem, lowered, unit, row.unit.last)
            assert back is not None
            np.testing.assert_allclose(back.cost, state.cost)
            np.testing.assert_array_equal(back.sizes, state.sizes)


@pytest.mark.parametrize("network", WITH_BLOCKS)
def test_what_goes_along_is_gone_at_its_true_cost(network: str):
    problem = posed(network, timed=True)
    state = full_state(problem)
    for unit in problem.blocks:
        along = list(problem.rows[unit].unit.along)
        gone = after(problem, state, unit, 0)
        assert gone is not None and not gone.widths[along].any()
        assert gone.levels[unit] == 0
        assert all(gone.levels[other] == -1 for other in along if other != unit)
        others = np.setdiff1d(np.arange(len(problem.rows)), along)
        np.testing.assert_array_equal(gone.widths[others], state.widths[others])
        np.testing.assert_allclose(gone.cost, problem.count(gone.widths))
        assert gone.cost[COSTS.index(BLOCKS)] == len(problem.blocks) - 1
        assert gone.cost[LATENCY] < state.cost[LATENCY]
        assert finish(replace(problem, limit=np.full(len(COSTS), np.inf)), gone).met


def test_no_axis_is_emptied():
    """Two groups share an axis behind a Concat: one of them must keep a position."""
    problem = posed("chain")
    state = full_state(problem)
    zero = replace(
        problem,
        rows=tuple(
            Row(replace(row.unit, levels=np.append(0, row.unit.levels)), np.append(9, row.errors))
            for row in problem.rows
        ),
    )
    assert after(zero, full_state(zero), 0, 0) is None
    assert after(problem, state, 0, 0) is not None


def test_between_two_states_lies_the_budget():
    levels = np.array([0.0, 4.0, 8.0])
    row = Row(Unit("w", "numbers", levels), np.array([9.0, 1.0, 0.0]))
    problem = problem_of(linear_cost([8, 8]), {"params": 11.0}, [row, row])
    state = state_at(problem, np.array([2, 1]))
    step = after(problem, state, 1, 0)
    assert step is not None
    cut = between(problem, state, step)
    assert cut.widths.tolist() == [8.0, 3.0]
    assert cut.cost[COSTS.index("params")] == pytest.approx(11.0)


def test_what_would_be_empty_is_not_met():
    problem = posed("residual_spine")
    state = full_state(problem)
    empty = replace(state, sizes=np.zeros_like(state.sizes))
    free = replace(problem, limit=np.full(len(COSTS), np.inf))
    assert finish(free, state).met and not finish(free, empty).met
