"""Means and covariances that pass an operator, against samples that do."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from normalised_networks import normalised, outputs

from onnxprune import ops
from onnxprune.calibration import estimated_statistics
from onnxprune.calibration.estimated_statistics import estimate_statistics
from onnxprune.groups.analysis import analyze
from onnxprune.ir.constant_folding import run_alone
from onnxprune.ops.moments import Estimate

NEWER = {"Swish": 24}
ACTIVATIONS = sorted(op for op in ops.FUNCTIONS if ops.is_activation(op))


def _behind_a_normalisation(op: str):
    """Nodes of Conv, BatchNormalization and a function, and what is believed of each result."""
    net = Net(NEWER.get(op, 20), x=("N", 3, 8, 8))
    y = net.bn(net.conv("x", 3, 6), 6)
    domain, _, kind = op.rpartition(":")
    bounds = [net.const(np.float32(v)) for v in (-0.5, 1)] if op == "Clip" else []
    model = net.model(net.op(kind, y, *bounds, domain=domain))
    analysis = analyze(model)
    return analysis.nodes, estimate_statistics(analysis.nodes, analysis.read, analysis.sample)


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activations_pass_gaussian_channels(op: str):
    nodes, known = _behind_a_normalisation(op)
    before, after = (known[node.outputs[0].name] for node in nodes[-2:])
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(before.mean, before.cov, 200_000).astype(np.float32)
    values = [None if t is None else t.value for t in nodes[-1].inputs[1:]]
    y = run_alone(nodes[-1], [x, *values])
    assert y is not None and after.anchored
    spread = np.sqrt(y.var(0).max())  # 200,000 samples say a mean to about 0.2 % of it
    np.testing.assert_allclose(after.mean, y.mean(0), atol=0.01 * spread)
    np.testing.assert_allclose(after.cov, np.cov(y.T), atol=0.03 * spread**2)


@pytest.mark.parametrize("op", ["Log", "Acos"])
def test_nothing_is_believed_behind_a_function_that_leaves_its_domain(op: str):
    nodes, known = _behind_a_normalisation(op)
    assert nodes[-1].outputs[0].name not in known


def test_the_gate_of_a_swish_written_out_is_no_independent_factor():
    net = Net(20, x=("N", 3, 8, 8))
    y = net.bn(net.conv("x", 3, 6), 6)
    model = net.model(net.op("Mul", y, net.op("Sigmoid", y)))
    analysis = analyze(model)
    known = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    alone, whole = known[analysis.nodes[-1].outputs[0].name], _behind_a_normalisation("Swish")
    expected = whole[1][whole[0][-1].outputs[0].name]
    np.testing.assert_allclose(alone.mean, expected.mean, rtol=1e-4)
    np.testing.assert_allclose(alone.cov, expected.cov, rtol=1e-3, atol=1e-6)


def test_estimates_are_the_statistics_of_noise():
    model, x, name = normalised()
    analysis = analyze(model)
    estimate = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)[name]
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    del shown.graph.output[:]
    shown.graph.output.append(onnx.ValueInfoProto(name=name))
    rows = np.moveaxis(outputs(shown, x), 1, -1).reshape(-1, 8)
    np.testing.assert_allclose(estimate.mean, rows.mean(0), atol=0.03)
    np.testing.assert_allclose(np.diag(estimate.cov), rows.var(0), atol=0.05)
    assert np.corrcoef(estimate.cov.ravel(), np.cov(rows.T).ravel())[0, 1] > 0.9


@pytest.mark.parametrize("shape", [(5, 3, 1, 1), (5, 4, 1, 1)])
def test_nothing_is_believed_of_a_layer_that_takes_another_number_of_channels(shape):
    """What a damaged model feeds to a layer need not fit its weight."""
    net = Net(x=("N", 4, 6, 6))
    node = analyze(net.model(net.op("Conv", "x", net.weight(5, 4, 1, 1)))).nodes[-1]
    weight, known = node.inputs[1], Estimate(np.zeros(4), np.eye(4))
    layer = SimpleNamespace(
        data=node.inputs[0], weight=weight, bias=None, dense=False, depthwise=False
    )
    given: Any = SimpleNamespace(
        layer=lambda _n: layer, of=lambda _n: known, read=lambda _name: np.ones(shape, np.float32)
    )
    assert (ops.MOMENTS["Conv"](node, given) is None) == (shape[1] != 4)


def test_nothing_is_said_of_what_lies_behind_the_limit(monkeypatch: pytest.MonkeyPatch):
    """What comes before it is known as ever."""
    analysis = analyze(NETWORKS["chain"]())
    given = analysis.nodes, analysis.read, analysis.sample
    every = estimate_statistics(*given)
    work = [float(n) for n in (0, 1e3, 1e4, 1e5, 1e12)]
    counts = []
    for most in work:
        monkeypatch.setattr(estimated_statistics, "MOST_MACS", most)
        found = estimate_statistics(*given)
        assert found.keys() <= every.keys()
        assert all(np.array_equal(found[name].cov, every[name].cov) for name in found)
        counts.append(len(found))
    assert counts == sorted(counts) and counts[0] < counts[-1] == len(every)
