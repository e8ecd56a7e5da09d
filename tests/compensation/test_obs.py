"""Elimination and least squares against numpy, on small problems by hand."""

import numpy as np
import pytest

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation import obs
from onnxprune.compensation.obs import (
    LayerProblem,
    eliminate,
    positive_inverse,
    refit,
    ridged,
    shrinkage,
)

RNG = np.random.default_rng(0)


def spread(rows: int, inputs: int) -> np.ndarray:
    return RNG.standard_normal((rows, inputs)) @ RNG.standard_normal((inputs, inputs))


def statistics(x: np.ndarray, y: np.ndarray) -> Statistics:
    a, b = x - x.mean(0), y - y.mean(0)
    n = len(x)
    return Statistics(n, x.mean(0), y.mean(0), a.T @ a / n, a.T @ b / n, (b**2).mean(0))


def error_without(cov: np.ndarray, weight: np.ndarray, gone: list[int]) -> float:
    """Squared error, in shares of the output, when others make up for inputs that are gone."""
    kept = np.setdiff1d(np.arange(len(cov)), gone)
    moved = np.zeros_like(weight)
    moved[kept] = np.linalg.solve(cov[np.ix_(kept, kept)], (cov @ weight)[kept])
    left = weight - moved
    return float(
        np.einsum("do,do->", left, cov @ left) / np.einsum("do,do->", weight, cov @ weight)
    )


@pytest.mark.parametrize("k", [1, 2])
def test_errors_are_those_of_least_squares_without_the_channels(k: int):
    """Channels of one input each, and of two."""
    x = spread(500, 8)
    cov, weight = x.T @ x / 500, RNG.standard_normal((8, 3))
    columns = np.arange(8).reshape(-1, k)
    order, errors = eliminate([LayerProblem(cov, weight, columns, 1e-12)])
    n = len(columns)
    assert sorted(order) == list(range(n)) and errors[n] == 0
    for left in range(n):
        gone = columns[order[: n - left]].ravel()
        assert errors[left] == pytest.approx(error_without(cov, weight, gone.tolist()), rel=1e-6)
    first = min(range(n), key=lambda c: error_without(cov, weight, columns[c].tolist()))
    assert order[0] == first


def test_layers_that_read_a_group_decide_together():
    """The channel goes whose loss both miss least, though each alone would take another."""
    cov = np.eye(3)
    one, two = np.array([[1.0], [9], [5]]), np.array([[9.0], [1], [5]])
    columns = np.arange(3)[:, None]
    problems = [LayerProblem(cov, weight, columns, 0.0) for weight in (one, two)]
    assert [eliminate([p])[0][0] for p in problems] == [0, 1]
    order, errors = eliminate(problems)
    assert order[0] == 2 and errors[2] == pytest.approx(2 * 25 / 107)


def test_channels_that_need_not_be_ranked_come_last():
    x = spread(100, 6)
    problem = LayerProblem(x.T @ x / 100, np.ones((6, 1)), np.arange(6)[:, None], 1e-6)
    whole, errors = eliminate([problem])
    order, some = eliminate([problem], least=4)
    assert order[:2].tolist() == whole[:2].tolist() and sorted(order) == list(range(6))
    np.testing.assert_allclose(some[4:], errors[4:])
    assert np.isnan(some[:4]).all()


def test_several_channels_go_at_once_where_there_are_many(monkeypatch: pytest.MonkeyPatch):
    """The error of a step is exact, and shared out between its channels."""
    x = spread(400, 12)
    problem = LayerProblem(x.T @ x / 400, RNG.standard_normal((12, 2)), np.arange(12)[:, None], 0)
    monkeypatch.setattr(obs, "STEPS", 4)
    order, errors = eliminate([problem])
    assert (np.diff(errors) <= 0).all()
    for left in (0, 3, 6, 9):
        exact = error_without(problem.cov, problem.weight, order[: 12 - left].tolist())
        assert errors[left] == pytest.approx(exact, rel=1e-6)


def test_a_refit_is_least_squares_on_what_stays():
    x = spread(300, 5)
    y = x @ RNG.standard_normal((5, 2)) + RNG.standard_normal((300, 2))
    stats, kept = statistics(x, y), np.array([0, 2, 4])
    got = refit(stats, np.zeros((5, 2)), kept, 1e-12)
    design = np.hstack([x[:, kept], np.ones((300, 1))])
    expected = np.linalg.lstsq(design, y, rcond=None)[0][:-1]
    np.testing.assert_allclose(got[kept], expected, rtol=1e-6)
    assert not got[[1, 3]].any()
    assert (
        refit(stats, np.ones((5, 2)), np.array([], int), 0.1).tolist() == np.zeros((5, 2)).tolist()
    )


def test_the_ridge_pulls_toward_the_old_weight():
    x = spread(300, 3)
    stats, old = statistics(x, x @ np.ones((3, 1))), np.array([[5.0], [-5], [5]])
    every = np.arange(3)
    far, near = (refit(stats, old, every, ridge) for ridge in (1e-9, 1e9))
    np.testing.assert_allclose(far, 1, rtol=1e-5)
    np.testing.assert_allclose(near, old, rtol=1e-5)


def test_ridges_are_shares_of_the_mean_variance():
    cov = np.diag([1.0, 2, 9])
    made, amount = ridged(cov, 0.5)
    assert amount == 2
    np.testing.assert_array_equal(made, np.diag([3.0, 4, 11]))


def test_few_rows_ask_for_more_shrinkage():
    x = spread(2000, 6)
    shares = [shrinkage(statistics(x[:n], x[:n, :1]), 1e-6) for n in (10, 100, 2000)]
    assert 1 >= shares[0] > 3 * shares[1] > 9 * shares[2] > 0
    assert shrinkage(statistics(x, x[:, :1]), 0.5) == 0.5
    cov = np.diag([1.0, 3.0])
    stats = Statistics(50, np.zeros(2), np.zeros(0), cov, np.zeros((2, 0)), np.zeros(0))
    assert shrinkage(stats, 0) == pytest.approx((10 + 16) / (50 * (10 - 16 / 2)))


def test_the_inverse_of_a_wide_matrix():
    """Also where it is nearly singular."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((500, 300)) * np.exp(rng.standard_normal(300))
    for ridge in (1.0, 1e-3):
        left, _ = ridged(root @ root.T / 300, ridge)
        expected = np.linalg.inv(left)
        found = positive_inverse(left)
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    indefinite = np.diag([1.0, -1.0, 2.0])
    np.testing.assert_allclose(positive_inverse(indefinite), np.linalg.inv(indefinite))


def test_inputs_outside_the_group_help_and_stay():
    """Channels that are a part of what the layer reads are ranked as by all of its inputs."""
    x = spread(500, 8)
    cov, weight = x.T @ x / 500, RNG.standard_normal((8, 3))
    columns = np.array([[4], [1], [6]])
    order, errors = eliminate([LayerProblem(cov, weight, columns, 1e-12)])
    assert sorted(order.tolist()) == [0, 1, 2]
    for left in range(3):
        gone = columns[order[: 3 - left]].ravel().tolist()
        assert errors[left] == pytest.approx(error_without(cov, weight, gone), rel=1e-6)


def test_wide_groups_are_eliminated_in_parts(monkeypatch):
    """Channels that have nothing to do with each other come in the same order in parts."""
    rng = np.random.default_rng(3)
    n = 40
    cov = np.diag(rng.uniform(0.5, 2, n))
    problem = LayerProblem(cov, rng.standard_normal((n, 3)), np.arange(n)[:, None], 1e-6)
    order, errors = eliminate([problem])
    monkeypatch.setattr(obs, "WIDEST", 16)
    parts, merged = eliminate([problem])
    assert parts.tolist() == order.tolist()
    np.testing.assert_allclose(merged, errors, rtol=1e-6)
    fewer, cut = eliminate([problem], 10)
    assert fewer.tolist() == order.tolist()
    assert np.isnan(cut[:10]).all() and not np.isnan(cut[10:]).any()
