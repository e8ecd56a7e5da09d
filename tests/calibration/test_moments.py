"""Moments that are added up batch by batch are those of all rows."""

import numpy as np
import pytest

from onnxprune.calibration.moments import Moments, finite_rows

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4)).astype(np.float32) @ RNG.standard_normal((4, 4)).astype(
    np.float32
)
Y = (X @ RNG.standard_normal((4, 3)) + RNG.standard_normal((300, 3))).astype(np.float32)


def statistics(x: np.ndarray, y: np.ndarray, sizes=(100, 7, 193)):
    moments = Moments()
    start = 0
    for size in sizes:
        moments.add(x[start : start + size], y[start : start + size])
        start += size
    assert moments.count == len(x)
    return moments.statistics()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_are_those_of_all_rows(offset):
    """A mean that is large against the spread costs digits of the input, not of the sums."""
    x, y = X + np.float32(offset), Y - np.float32(offset)
    got = statistics(x, y)
    a, b = x.astype(np.float64), y.astype(np.float64)
    joint = np.cov(np.hstack([a, b]).T, bias=True)
    np.testing.assert_allclose(got.mean_x, a.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got.mean_y, b.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got.cov, joint[:4, :4], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.cross, joint[:4, 4:], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.var_y, np.diag(joint)[4:], rtol=1e-4)


def test_the_error_is_the_mean_squared_residual_with_the_best_bias():
    got, weight = statistics(X, Y), RNG.standard_normal((4, 3))
    residual = Y.astype(np.float64) - X.astype(np.float64) @ weight
    np.testing.assert_allclose(got.error(weight), residual.var(0), rtol=1e-4)


def test_rows_without_targets_have_moments_too():
    got = statistics(X, X[:, :0])
    assert got.cross.shape == (4, 0) and got.var_y.shape == (0,)
    np.testing.assert_allclose(got.cov, np.cov(X.T, bias=True), rtol=1e-4, atol=1e-4)


def test_rows_that_are_not_finite_are_left_out():
    x, y = np.arange(12.0).reshape(4, 3), np.arange(8.0).reshape(4, 2)
    whole = finite_rows(x, y)
    assert whole[0] is x and whole[1] is y
    x[1, 2], y[3, 0] = np.inf, np.nan
    left = finite_rows(x, y)
    np.testing.assert_array_equal(left[0], x[[0, 2]])
    np.testing.assert_array_equal(left[1], y[[0, 2]])
    deep = np.ones((4, 2, 2))
    deep[2, 1, 0] = -np.inf
    np.testing.assert_array_equal(finite_rows(deep, y[:, :0])[0], deep[[0, 1, 3]])


def test_no_row_has_no_moments():
    moments = Moments()
    moments.add(np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32))
    with pytest.raises(ArithmeticError, match="finite"):
        moments.statistics()
