"""A convolution's input as channels alone."""

import numpy as np
import pytest

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.obs import LayerProblem, eliminate
from onnxprune.compensation.taps import over_channels, ranking_problem


def positive(rng: np.random.Generator, size: int) -> np.ndarray:
    root = rng.standard_normal((size, size))
    return root @ root.T / size


@pytest.mark.parametrize(("taps", "n", "o"), [(1, 5, 3), (4, 5, 3), (9, 6, 2)])
def test_a_product_of_covariances_is_reduced_exactly(taps: int, n: int, o: int):
    """Errors with any channels gone are those of the whole problem."""
    rng = np.random.default_rng(taps)
    between, channels = positive(rng, taps), positive(rng, n)
    weight = rng.standard_normal((taps * n, o))
    cov = np.kron(between, channels)
    small, mixed = over_channels(cov, weight, taps)
    assert small.shape == (n, n) and mixed.shape == (n, taps * o)
    np.testing.assert_allclose(
        np.einsum("do,do->", mixed, small @ mixed), np.einsum("do,do->", weight, cov @ weight)
    )
    columns = np.arange(n)[:, None] + n * np.arange(taps)
    order, errors = eliminate([LayerProblem(cov, weight, columns, 1e-9)])
    fewer, reduced = eliminate([LayerProblem(small, mixed, np.arange(n)[:, None], 1e-9)])
    assert order.tolist() == fewer.tolist()
    np.testing.assert_allclose(errors, reduced, rtol=1e-5, atol=1e-7)


def test_each_channel_alone_keeps_its_size():
    """Also where some channels vary between taps, and others do not."""
    rng = np.random.default_rng(0)
    taps, n, o = 4, 5, 3
    cov, weight = positive(rng, taps * n), rng.standard_normal((taps * n, o))
    small, mixed = over_channels(cov, weight, taps)
    for channel in range(n):
        at = channel + n * np.arange(taps)
        own = np.einsum("do,do->", weight[at], cov[np.ix_(at, at)] @ weight[at])
        assert small[channel, channel] * (mixed[channel] ** 2).sum() == pytest.approx(own)


def test_channels_without_variance_are_no_obstacle():
    small, mixed = over_channels(np.zeros((8, 8)), np.ones((8, 2)), 4)
    assert not small.any() and np.isfinite(mixed).all()


def test_few_inputs_are_ranked_each_by_itself_and_many_by_channel():
    """Columns of three channels with two taps each: 0 and 3, 1 and 4, 2 and 5."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((100, 6)), rng.standard_normal((6, 2))
    cov, nothing = x.T @ x / 100, np.zeros((6, 0))
    statistics = Statistics(100, np.zeros(6), np.zeros(0), cov, nothing, np.zeros(0))
    columns = np.array([[0, 3], [1, 4], [2, 5]])
    exact = ranking_problem(statistics, weight, columns, 2, most=6)
    assert exact.cov is cov and exact.columns is columns
    reduced = ranking_problem(statistics, weight, columns, 2, most=5)
    assert reduced.cov.shape == (3, 3) and reduced.weight.shape == (3, 4)
    assert reduced.columns.tolist() == [[0], [1], [2]]
