"""Latency as a function of widths."""

import numpy as np
import pytest

from onnxprune.allocation.latency.time_model import Move, SubgraphTime, TimedPlan, TimeModel


def test_a_change_of_time_is_the_difference():
    rng = np.random.default_rng(0)
    factors = [rng.random(9) for _ in range(4)]
    groups = [[0], [0, 1], [1, 2], [2, 3, 0]]
    times = TimeModel(
        0.1,
        [SubgraphTime(float(t), g) for t, g in zip(rng.random(4), groups, strict=True)],
        factors,
    )
    for _ in range(50):
        here, g, widths = rng.integers(0, 9, 4), int(rng.integers(4)), rng.integers(0, 9, 3)
        change = times.change(here, np.zeros(0), Move(g, widths, np.zeros((3, 0))))
        others = [np.where(np.arange(4) == g, width, here) for width in widths]
        assert change == pytest.approx([times.at(other) - times.at(here) for other in others])
    assert [times.parts(g).tolist() for g in range(4)] == [[0, 1, 3], [1, 2], [2, 3], [3]]


def test_corrected_times_say_what_was_measured():
    """Of several plans at once; elsewhere all savings change alike, and full widths not at all."""
    rng = np.random.default_rng(0)
    factors = [np.linspace(0, 1, 9) for _ in range(4)]
    subgraphs = [SubgraphTime(0.2, (0, 1)), SubgraphTime(0.3, (1, 2)), SubgraphTime(0.4, (3,))]
    times = TimeModel(0.1, subgraphs, factors)
    seen = [TimedPlan(rng.integers(3, 8, 4), share) for share in (0.5, 0.6, 0.7)]
    better = times.corrected(seen)
    for plan, share in seen:
        assert better.at(plan) == pytest.approx(share, abs=1e-3)
    elsewhere = [factor[[0, 1, 2]] for factor in better.factors]
    assert np.ptp([1 - own for own in elsewhere], axis=0) == pytest.approx(0)
    scale = (1 - elsewhere[0][2]) / (1 - factors[0][2])
    assert 0.5 <= scale <= 1.3
    assert better.at(np.full(4, 8)) == pytest.approx(1.0)
    assert [factor.tolist() for factor in times.factors] == [f.tolist() for f in factors]


def test_a_correction_leaves_the_model_as_it_was():
    factors = [np.linspace(0, 1, 9)]
    times = TimeModel(0.1, [SubgraphTime(0.9, (0,))], factors)
    before = times.at(np.array([4]))
    better = times.corrected([TimedPlan(np.array([4]), 0.3)])
    assert times.at(np.array([4])) == before != better.at(np.array([4]))


def test_one_factor_for_each_group_that_a_subgraph_sees():
    factors = [np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.25, 1.0])]
    times = TimeModel(0.2, [SubgraphTime(0.8, (0, 1))], factors)
    assert times.at(np.array([1, 1])) == pytest.approx(0.2 + 0.8 * 0.5 * 0.25)
