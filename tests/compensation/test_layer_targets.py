"""What a layer should give, for each form of what stands behind it."""

import numpy as np
import pytest
from networks import Net
from present import present

from onnxprune.compensation.layer_targets import LayerTarget, layer_target
from onnxprune.groups.analysis import analyze


def target_of(net: Net, y: str, late: tuple[str, ...] = ()) -> LayerTarget:
    """The target of the first layer; tensors in `late` are not there when it runs."""
    analysis = analyze(net.model(y))
    layer = analysis.layers[0]
    return layer_target(layer, analysis.index.readers, analysis.read, lambda name: name not in late)


def conv(relu: bool = False, norm: bool = False, add: bool = False):
    """A convolution and what stands behind it; names of the tensors."""
    net = Net(x=("N", 4, 6, 6))
    names = {"conv": net.conv("x", 4, 4)}
    y = names["conv"]
    if norm:
        y = names["norm"] = net.bn(y, 4)
    if add:
        y = names["add"] = net.op("Add", y, "x")
    if relu:
        y = names["relu"] = net.relu(y)
    names["end"] = net.op("Tanh", y)
    return net, names


def test_without_anything_behind_it_is_the_result():
    net, names = conv()
    assert target_of(net, names["end"]) == LayerTarget(names["conv"], None)


def test_a_relu_cuts_off():
    net, names = conv(relu=True)
    assert target_of(net, names["end"]) == LayerTarget(names["conv"], None, clipped=True)


@pytest.mark.parametrize("relu", [False, True])
def test_a_residual_sum_without_what_the_other_path_brings(relu: bool):
    net, names = conv(relu, add=True)
    assert target_of(net, names["end"]) == LayerTarget(names["add"], "x", clipped=relu)
    plain = LayerTarget(names["conv"], None)
    assert target_of(net, names["end"], late=("x",)) == plain  # the other path comes later


def test_a_normalisation_is_undone():
    """With γ, β, mean and variance as they are stored."""
    net, names = conv(relu=True, norm=True, add=True)
    found = target_of(net, names["end"])
    analysis = analyze(net.model(names["end"]))
    (node,) = (n for n in analysis.nodes if n.op == "BatchNormalization")
    gamma, beta, mean, variance = (present(analysis.read(present(t).name)) for t in node.inputs[1:])
    assert (found.tensor, found.minus, found.clipped) == (names["add"], "x", True)
    rng = np.random.default_rng(0)
    before, other = rng.standard_normal((2, 50, 4))
    after = gamma * (before - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(found.rows(after + other, other), before, rtol=1e-5, atol=1e-6)


def test_a_normalisation_without_relu_or_sum_is_not_looked_behind():
    net, names = conv(norm=True)
    assert target_of(net, names["end"]) == LayerTarget(names["conv"], None)


def test_a_scale_of_nearly_zero_is_not_divided_by():
    net, names = conv(relu=True, norm=True)
    gamma = net.nodes[1].input[1]
    for tensor in net.weights:
        if tensor.name == gamma:
            tensor.raw_data = np.array([1, 1e-4, 1, 1], np.float32).tobytes()
    assert target_of(net, names["end"]) == LayerTarget(names["conv"], None)
