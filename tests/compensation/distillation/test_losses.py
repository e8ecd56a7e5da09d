"""Which tensors the loss compares, and its gradient at them."""

import numpy as np
import pytest
from networks import Net

from onnxprune import ops
from onnxprune.calibration.divergence import divergence, relative_error
from onnxprune.compensation.distillation.losses import (
    inner_tensors,
    last_before,
    output_seeds,
    relative_error_seed,
    scores_of,
)
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime, skeleton
from onnxprune.ir.graph_builder import GraphBuilder
from onnxprune.ops.builder import Builder


@pytest.mark.parametrize("op", ["Mish", "Swish", "Elu", "Relu", "Sin"])
def test_a_layer_is_compared_behind_its_activation(op: str):
    net = Net(24 if op == "Swish" else 20, x=("N", 3, 6, 6))
    made = net.conv("x", 3, 4)
    behind = net.op(op, made)
    last = net.conv(behind, 4, 2)
    first = behind if ops.is_activation(op) else made
    assert inner_tensors(analyze(net.model(last))) == [first, last]


def test_the_last_tensors_are_those_that_each_output_is_made_from():
    """A pooled map stands behind no other one; what feeds a later layer does not count."""
    net = Net(x=("N", 3, 6, 6))
    first = net.relu(net.conv("x", 3, 4))
    left, right = net.relu(net.conv(first, 4, 5)), net.relu(net.conv(first, 4, 6))
    scores = net.gemm(net.op("Flatten", net.op("GlobalAveragePool", left)), 5, 3)
    analysis = analyze(net.model(scores, net.op("Sigmoid", right)))
    outputs = [value.name for value in analysis.model.graph.output]
    inner = set(inner_tensors(analysis)) - set(outputs)
    assert inner == {first, left, right}
    assert last_before(analysis, outputs, inner) == {left, right}
    assert last_before(analysis, outputs[:1], inner) == {left}
    assert last_before(analysis, outputs, {first}) == {first}
    assert last_before(analysis, ["x"], inner) == set()


def test_probabilities_are_compared_by_their_scores():
    net = Net(x=("N", 4))
    scores = net.gemm("x", 4, 3)
    analysis = analyze(net.model(net.op("Softmax", scores, axis=-1), scores))
    outputs = [value.name for value in analysis.model.graph.output]
    assert scores_of(analysis, outputs) == {outputs[0]: scores}


def gradient(seed, y: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Run what a seed builds."""
    net = Net(17, y=y.shape, target=target.shape)
    bare = skeleton.skeleton(net.model(net.op("Identity", "y"), net.op("Identity", "target")))
    added = GraphBuilder(17, np.dtype(np.float32))
    name = seed(Builder(added), "y", "target")
    kinds = dict.fromkeys(("y", "target"), "tensor(float)")
    model = skeleton.part(bare, added.nodes, kinds, [name])
    skeleton.store(model, added.constants)
    session = runtime.open_session(graph.model_bytes(model))
    return runtime.run(session, {"y": y, "target": target})[name]


@pytest.mark.parametrize("kind", ["scores", "warm scores", "other"])
def test_gradients_are_the_slopes_of_the_losses(kind: str):
    """Against central differences of the divergence that is reported, scores at a temperature."""
    rng = np.random.default_rng(0)
    y, target = rng.standard_normal((2, 5, 3)).astype(np.float32)
    warmth = 4.0 if kind == "warm scores" else 1.0
    if kind != "other":
        (seed,) = output_seeds(["y"], {}, {"y": target}, warmth).values()
        factor = warmth**2
    else:
        seed, factor = relative_error_seed(target, 3.0), 3.0

    def loss(value: np.ndarray) -> float:
        if kind != "other":
            return factor * divergence({"y": target / warmth}, {"y": value / warmth})
        return factor * relative_error(target, value)

    got, step = gradient(seed, y, target), 1e-4
    for at in np.ndindex(y.shape):
        moved = np.zeros(y.shape)
        moved[at] = step
        slope = (loss(y + moved) - loss(y - moved)) / (2 * step)
        assert got[at] == pytest.approx(slope, rel=1e-3, abs=1e-5)
