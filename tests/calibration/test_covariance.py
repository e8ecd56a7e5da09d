"""The covariance of what a layer reads, on as many positions as its width asks for."""

import numpy as np
import pytest
from networks import Net

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.covariance import covariance
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime


def layer_and_batches(samples: int):
    """A convolution of one tap on 4 channels at 100 positions."""
    net = Net(x=("N", 4, 10, 10))
    net.op("Conv", "x", net.weight(6, 4, 1, 1), net.weight(6))
    net.nodes[-1].output[0] = "y"
    model = net.model("y")
    (layer,) = analyze(model).layers
    mix = np.random.default_rng(1).standard_normal((4, 4))
    x = np.random.default_rng(0).standard_normal((samples, 10, 10, 4)) @ mix + 2
    x = np.moveaxis(x, -1, 1).astype(np.float32)
    store = ActivationStore([{"x": x}])
    store.add(
        store.batches[0], runtime.run(runtime.open_session(graph.model_bytes(model)), {"x": x})
    )
    return layer, store.batches, np.moveaxis(x, 1, -1).reshape(-1, 4)


@pytest.mark.parametrize(("samples", "positions"), [(1000, 4), (16, 16), (2, 32)])
def test_rows_follow_from_the_layer_s_width(samples: int, positions: int):
    """64 rows for each of 4 inputs, within 4 and 32 positions of a sample."""
    layer, batches, _ = layer_and_batches(samples)
    found = covariance(layer, (6, 4, 1, 1), batches, samples, np.random.default_rng(0))
    assert found.count == positions * samples


def test_it_is_the_covariance_of_the_inputs():
    layer, batches, rows = layer_and_batches(1000)
    found = covariance(layer, (6, 4, 1, 1), batches, 1000, np.random.default_rng(0))
    expected = np.cov(rows.T)
    np.testing.assert_allclose(found.mean_x, rows.mean(0), atol=0.15)
    np.testing.assert_allclose(found.cov, expected, atol=0.1 * np.abs(expected).max())
