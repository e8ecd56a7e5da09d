"""The allocator on costs small enough to count by hand, and on real groups."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from networks import NETWORKS
from paths import MODELS
from rows import offering, rows_by

from onnxprune.allocation.allocate import allocate, uniform
from onnxprune.allocation.latency.time_model import SubgraphTime, TimeModel
from onnxprune.allocation.offers import Limits
from onnxprune.allocation.problem import linear_cost, problem_of
from onnxprune.allocation.targets import budgets
from onnxprune.groups.analysis import Analysis, analyze, load
from onnxprune.groups.cost import METRICS
from onnxprune.groups.units import Row, Unit, channel_rows

DIGITS = str(MODELS / "digits.onnx")


@pytest.mark.parametrize("choose", [allocate, uniform])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_budgets_hold_and_are_used(choose, metric, share):
    analysis = analyze(NETWORKS["residual_spine"]())
    rows = rows_by(analysis)
    wanted = budgets({metric: share}, analysis.cost.full.tolist())
    result = choose(problem_of(analysis.cost, wanted, rows))
    cost = analysis.cost.at(result.widths)[METRICS.index(metric)]
    assert result.met and cost <= wanted[metric]
    wider = [analysis.cost.at(np.minimum(result.widths + step, analysis.cost.channels))
             for step in np.eye(len(rows), dtype=int)]  # fmt: skip
    one_step = max(c[METRICS.index(metric)] for c in wider) - cost
    assert cost >= wanted[metric] * 0.98 - one_step


def test_several_budgets_hold_together():
    analysis = analyze(NETWORKS["residual_spine"]())
    wanted = budgets({"macs": 0.7, "params": 0.5, "ratio": 0.8}, analysis.cost.full.tolist())
    result = allocate(problem_of(analysis.cost, wanted, rows_by(analysis), priced="ratio"))
    cost = dict(zip(METRICS, analysis.cost.at(result.widths), strict=True))
    assert result.met and all(cost[m] <= wanted[m] for m in wanted)


def test_rounding_and_minimum():
    analysis = analyze(NETWORKS["inverted_residual"]())
    rows = rows_by(analysis, limits=Limits(min_channels=8, round_to=8))
    wanted = budgets({"macs": 0.6}, analysis.cost.full.tolist())
    result = allocate(problem_of(analysis.cost, wanted, rows))
    assert result.met and (result.widths >= 8).all() and (result.widths % 8 == 0).all()


@pytest.mark.parametrize("share", [0.7, 0.5, 0.3])
@pytest.mark.parametrize("network", ["gpt_with_tied_head", "bert_as_onnxruntime_fuses_it"])
def test_budgets_hold_where_several_groups_cross_one(network, share):
    """Heads share the axis of a fused projection with its widths: q and k, and v."""
    analysis = analyze(NETWORKS[network]())
    crossed = [np.unique(index, return_counts=True)[1] for index, _, _ in analysis.cost.crossed]
    assert max(n for counts in crossed for n in counts) > 1
    wanted = budgets({"macs": share}, analysis.cost.full.tolist())
    assert allocate(problem_of(analysis.cost, wanted, rows_by(analysis), priced="ratio")).met


def test_out_of_reach_is_said():
    analysis = analyze(NETWORKS["chain"]())
    result = allocate(problem_of(analysis.cost, {"macs": 1.0}, rows_by(analysis)))
    assert not result.met and (result.widths >= 1).all()


def test_the_predicted_error_is_that_of_the_widths():
    analysis = analyze(NETWORKS["chain"]())
    rows = rows_by(analysis)
    wanted = budgets({"macs": 0.5}, analysis.cost.full.tolist())
    result = allocate(problem_of(analysis.cost, wanted, rows))
    pairs = zip(rows, result.widths, strict=True)
    expected = sum(row.errors[row.unit.levels == width] for row, width in pairs)
    assert result.error == pytest.approx(float(expected[0]), rel=1e-12) and result.error > 0


def timed(analysis: Analysis, subgraphs: Sequence[SubgraphTime], factors) -> TimeModel:
    return TimeModel(1 - sum(s.time for s in subgraphs), subgraphs, factors)


def test_a_step_that_pays_only_later_is_seen():
    """Time falls by nothing at first and then by a lot: single steps would never get there."""
    analysis = analyze(load(DIGITS))
    n = [group.channels for group in analysis.groups]
    factors = [np.ones(k + 1) for k in n]
    factors[0][: n[0] // 2 + 1] = 0.1
    times = TimeModel(0.0, [SubgraphTime(1.0, [0])], factors)
    errors = [np.arange(k, -1, -1.0) for k in n]
    rows = offering(analysis, channel_rows(analysis.groups, errors))
    result = allocate(problem_of(analysis.cost, {"latency": 0.5}, rows, times))
    assert result.met
    assert result.widths.tolist() == [n[0] // 2, *n[1:]]


def test_two_groups_exchange_widths_where_steps_do_not_fit():
    """The cheapest first step is so large that the second one then has to be a dear one."""
    analysis = analyze(load(DIGITS))
    n = [group.channels for group in analysis.groups]
    factors = [np.linspace(0, 1, k + 1) for k in n]
    times = TimeModel(0.0, [SubgraphTime(0.5, [0]), SubgraphTime(0.5, [1])], factors)
    rows = channel_rows(analysis.groups, [(1 - np.arange(k + 1) / k) ** 2 for k in n])
    offered = [row.offering([k // 2, 3 * k // 4, k]) for row, k in zip(rows, n, strict=True)]
    result = allocate(problem_of(analysis.cost, {"latency": 0.75}, offered, times))
    assert result.met
    assert result.widths[:2].tolist() == [3 * n[0] // 4, 3 * n[1] // 4]


def numbers(name: str, size: int, errors: Sequence[float]) -> Row:
    levels = np.linspace(0, size, len(errors))
    return Row(Unit(name, "numbers", levels), np.array(errors))


def test_the_last_step_of_what_can_be_divided_ends_on_the_budget():
    """Slopes per number: 1 and 4 of the first unit, 2 and 3 of the second."""
    rows = [numbers("a", 10, [25.0, 5.0, 0.0]), numbers("b", 20, [50.0, 20.0, 0.0])]
    problem = problem_of(linear_cost([10, 20]), {"params": 18.0}, rows)
    result = allocate(replace(problem, divisible=True))
    assert result.met
    np.testing.assert_allclose(result.widths, [5.0, 13.0], rtol=1e-12)
    assert result.error == pytest.approx(5.0 + 7 * 2)


@pytest.mark.parametrize("budget", [30.0, 7.5, 0.5])
def test_whatever_the_budget_divided_units_use_all_of_it(budget: float):
    rows = [numbers("a", 10, [25.0, 5.0, 0.0]), numbers("b", 20, [50.0, 20.0, 0.0])]
    problem = replace(problem_of(linear_cost([10, 20]), {"params": budget}, rows), divisible=True)
    result = allocate(problem)
    assert result.met and result.widths.sum() == pytest.approx(budget, rel=1e-9)
