"""A layer as it is stored, and with another matrix."""

import numpy as np
import pytest
from networks import Net

from onnxprune import ops
from onnxprune.groups.analysis import analyze
from onnxprune.importance.stored_layer import name_of, stored_layer
from onnxprune.ir import zero_biases


def layers(biased: bool):
    n = Net(x=("N", 3, 8, 8))
    model = n.model(n.conv(n.relu(n.conv("x", 3, 8)), 8, 6))
    analysis = analyze(zero_biases.biased(model, ops.LAYERS) if biased else model)
    return analysis, [stored_layer(la, analysis) for la in analysis.layers]


def test_the_mean_result_stays():
    _, (_, stored) = layers(biased=True)
    rng = np.random.default_rng(0)
    mean = rng.standard_normal(len(stored.matrix))
    matrix = stored.matrix * rng.random(stored.matrix.shape)
    new = stored.changed(matrix, mean)
    weight, bias = new[stored.layer.weight.name], new[stored.bias_name]
    assert weight.shape == stored.weight.shape and bias.dtype == stored.bias.dtype
    before = mean @ stored.matrix + stored.bias
    after = mean @ stored.layer.matrix(weight) + bias
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_without_a_bias_only_the_weight_changes():
    analysis, stored = layers(biased=False)
    for one in stored:
        if one.bias is None:
            assert one.bias_name == ""
            assert set(one.changed(one.matrix, np.zeros(len(one.matrix)))) == {
                one.layer.weight.name
            }
        assert name_of(one.layer) in {node.output[0] for node in analysis.model.graph.node}


def test_the_same_matrix_changes_nothing():
    _, stored = layers(biased=True)
    for one in stored:
        new = one.changed(one.matrix, np.ones(len(one.matrix)))
        np.testing.assert_array_equal(new[one.layer.weight.name], one.weight)
        assert new[one.bias_name] == pytest.approx(one.bias)
