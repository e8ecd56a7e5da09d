"""Moments of Gaussian channels behind a function, against those of samples."""

import numpy as np
import pytest

from onnxprune.calibration.gaussian import curved


def clip(z):
    return np.clip(z, 0, 1)


def relu(z):
    return np.maximum(z, 0)


@pytest.mark.parametrize("function", [relu, clip, np.tanh])
def test_moments_behind_a_function_are_those_of_samples(function):
    rng = np.random.default_rng(0)
    mean, std = np.array([-2.0, -0.5, 0.0, 0.7, 3.0]), np.array([1.0, 0.3, 2.0, 1.5, 0.5])
    z = function(mean + std * rng.standard_normal((400_000, 5)))
    first, cov = curved(function, mean, np.diag(std**2))
    np.testing.assert_allclose(first, z.mean(0), atol=0.005)
    np.testing.assert_allclose(np.diag(cov), z.var(0), atol=0.01)


@pytest.mark.parametrize("function", [relu, clip, np.tanh])
def test_covariance_behind_a_function_is_that_of_samples(function):
    rng = np.random.default_rng(1)
    mean = np.array([-0.8, 0.0, 0.5, 1.2])
    factor = rng.standard_normal((4, 4)) + 0.5
    z = function(mean + rng.standard_normal((400_000, 4)) @ factor.T)
    _, got = curved(function, mean, factor @ factor.T)
    expected = np.cov(z.T)
    np.testing.assert_allclose(got, expected, atol=0.02 * np.abs(expected).max())
