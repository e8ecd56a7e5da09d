"""Optimal brain surgeon for single weights against brute force."""

import itertools

import numpy as np
import pytest

from onnxprune.sparsity import sparsegpt
from onnxprune.sparsity.patterns import NofM


def problem(d=8, o=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, d)) @ (np.eye(d) + rng.normal(size=(d, d)) / d**0.5)
    cov = x.T @ x / len(x) + 0.01 * np.eye(d)
    return cov, rng.normal(size=(d, o))


def error(cov, weight, made):
    gap = weight - made
    return float(np.einsum("do,do->", gap, cov @ gap))


@pytest.mark.parametrize("seed", range(3))
def test_what_one_weight_costs_is_exact(seed):
    """The first weight to go is the one whose best removal costs least, and costs that."""
    cov, weight = problem(5, 2, seed)
    result = sparsegpt.exact(np.linalg.inv(cov), weight, 1)
    costs = {}
    for at in itertools.product(range(5), range(2)):
        mask = np.ones(weight.shape, bool)
        mask[at] = False
        costs[at] = error(cov, weight, sparsegpt.refit(cov, cov @ weight, weight, mask))
    cheapest = min(costs, key=costs.__getitem__)
    assert not result.mask[cheapest] and (~result.mask).sum() == 1
    assert result.trace[-1][1] == pytest.approx(costs[cheapest], rel=1e-3)


@pytest.mark.parametrize("groups", [None, sparsegpt.Grouping(NofM(2, 4), 8)])
@pytest.mark.parametrize("way", [sparsegpt.exact, sparsegpt.blocked])
def test_masks_are_exact_and_better_than_magnitude(way, groups):
    cov, weight = problem(16, 12)
    half = weight.size // 2
    result = way(np.linalg.inv(cov), weight, half, groups)
    assert (~result.mask).sum() == half
    if groups is not None:
        assert (result.mask.T.reshape(12, -1, 4).sum(-1) == 2).all()
    made = sparsegpt.refit(cov, cov @ weight, weight, result.mask)
    assert (made[~result.mask] == 0).all()
    rank = np.abs(weight).ravel().argsort()
    plain = np.ones(weight.size, bool)
    plain[rank[:half]] = False
    dropped = weight * plain.reshape(weight.shape)
    assert error(cov, weight, made) < error(cov, weight, dropped)


def test_the_trace_follows_the_error():
    """What the sweep believes at its end is what the refit of its mask gives."""
    cov, weight = problem(16, 4)
    result = sparsegpt.exact(np.linalg.inv(cov), weight, 40)
    for count in (13, 40):
        mask = result.at(count)
        made = sparsegpt.refit(cov, cov @ weight, weight, mask)
        believed = result.errors(np.array([float((~mask).sum())]))[0]
        assert believed == pytest.approx(error(cov, weight, made), rel=1e-2)


@pytest.mark.parametrize("together", [1, 500, 2**19])
def test_rows_that_lose_more_and_less_go_together(monkeypatch, together):
    """Whatever goes at once, each row's own error adds up; rows of zeros go first and whole."""
    monkeypatch.setattr(sparsegpt, "TOGETHER", together)
    cov, weight = problem(16, 12)
    weight *= np.geomspace(0.1, 10, 12)
    weight[:, [2, 7]] = 0
    result = sparsegpt.exact(np.linalg.inv(cov), weight, 110)
    assert not result.mask[:, [2, 7]].any() and (~result.mask).sum() == 110
    made = sparsegpt.refit(cov, cov @ weight, weight, result.mask)
    assert result.trace[-1][1] == pytest.approx(error(cov, weight, made), rel=1e-3)


def test_a_rounded_inverse_still_ranks():
    """An inverse that is not positive any more has a root of what is positive of it."""
    scale = 1e-8  # that of inputs in the thousands
    square = np.zeros((2, 3, 3), np.float32)
    square[0, :2, :2] = [[2.0, 1.0], [1.0, 2.0]]
    square[1] = [[1.0, 1.001, 0.0], [1.001, 1.0, 0.0], [0.0, 0.0, 1.0]]
    there = np.array([[True, True, False], [True, True, True]])
    root = sparsegpt._inverse_root(scale * square, there)
    assert np.isfinite(root).all() and not root[0, 2].any() and not root[0, :, 2].any()
    right = np.linalg.inv(scale * square[0, :2, :2].astype(float))
    np.testing.assert_allclose(root[0, :2, :2].T @ root[0, :2, :2], right, rtol=1e-5)


def test_wide_layers_are_solved_step_by_step(monkeypatch):
    cov, weight = problem(16, 4)
    mask = np.random.default_rng(1).random(weight.shape) > 0.5
    direct = sparsegpt.refit(cov, cov @ weight, weight, mask)
    monkeypatch.setattr(sparsegpt, "DIRECT", 1)
    np.testing.assert_allclose(sparsegpt.refit(cov, cov @ weight, weight, mask), direct, atol=1e-4)


def test_weights_beyond_single_precision_end_in_an_error() -> None:
    """They are infinite there: nothing could go, and the loop would wait for it."""
    with np.errstate(over="ignore"), pytest.raises(ArithmeticError, match="no finite solution"):
        sparsegpt.exact(np.eye(4), np.full((4, 3), 1e200), 6)
