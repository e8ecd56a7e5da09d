"""The covariance of what a layer reads, on as many positions as its width asks for."""

import numpy as np
import pytest
from networks import Net

from onnxprune.calibration.covariance import InputMoments
from onnxprune.groups.analysis import analyze


def measured(layer, x, samples: int):
    moments = InputMoments(layer, (6, 4, 1, 1), samples, np.random.default_rng(0))
    moments.add(x, (len(x), 6, 10, 10))
    return moments.statistics()


def layer_and_samples(samples: int):
    """A convolution of one tap on 4 channels at 100 positions."""
    net = Net(x=("N", 4, 10, 10))
    net.op("Conv", "x", net.weight(6, 4, 1, 1), net.weight(6))
    net.nodes[-1].output[0] = "y"
    model = net.model("y")
    (layer,) = analyze(model).layers
    mix = np.random.default_rng(1).standard_normal((4, 4))
    x = np.random.default_rng(0).standard_normal((samples, 10, 10, 4)) @ mix + 2
    x = np.moveaxis(x, -1, 1).astype(np.float32)
    return layer, x, np.moveaxis(x, 1, -1).reshape(-1, 4)


@pytest.mark.parametrize(("samples", "positions"), [(1000, 4), (16, 8), (2, 32)])
def test_rows_follow_from_the_layer_s_width(samples: int, positions: int):
    """32 rows for each of 4 inputs, within 4 and 32 positions of a sample."""
    layer, x, _ = layer_and_samples(samples)
    found = measured(layer, x, samples)
    assert found.count == positions * samples


def test_it_is_the_covariance_of_the_inputs():
    layer, x, rows = layer_and_samples(1000)
    found = measured(layer, x, 1000)
    expected = np.cov(rows.T)
    np.testing.assert_allclose(found.mean_x, rows.mean(0), atol=0.15)
    np.testing.assert_allclose(found.cov, expected, atol=0.1 * np.abs(expected).max())
