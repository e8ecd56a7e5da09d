"""How far outputs move: measured from the first operator that changes, as by running everything."""

import numpy as np
import pytest
from networks import Net, samples_of

from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze
from onnxprune.importance.measuring_plan import FEWEST_SAMPLES, PASSES
from onnxprune.importance.output_divergence import Demand, divergence_samples
from onnxprune.ir import graph, runtime
from onnxprune.ir.patch import patch
from onnxprune.settings import Settings


@pytest.fixture(scope="module")
def opened():
    n = Net(x=("N", 3, 8, 8))
    y = n.relu(n.conv(n.relu(n.conv("x", 3, 8)), 8, 6))
    pooled = n.op("Flatten", n.op("GlobalAveragePool", y))
    model = n.model(n.op("Gemm", pooled, n.weight(6, 5), n.weight(5)))
    analysis = analyze(model)
    feeds = samples_of(model, np.random.default_rng(1))
    feeds = {k: np.concatenate([v] * 8)[:12] for k, v in feeds.items()}
    noise = np.random.default_rng(2).standard_normal(feeds["x"].shape)
    feeds["x"] = feeds["x"] + noise.astype(np.float32)
    return analysis, calibration(feeds, model, Settings(), analysis.nodes), feeds


def demand(changed: list[str], runs: int = 1) -> Demand:
    return Demand(changed, [runs * k for k in range(1, 6)])


def convolutions(analysis):
    """The weight of each convolution, in order."""
    return [node.input[1] for node in analysis.model.graph.node if node.op_type == "Conv"]


def run(model, feeds):
    return runtime.run(runtime.open_session(graph.model_bytes(model)), feeds)


def test_it_is_that_of_the_whole_model(opened):
    analysis, data, feeds = opened
    names = convolutions(analysis)
    original = run(analysis.model, feeds)
    samples = divergence_samples(analysis, data, [demand([name], 0) for name in names])
    assert samples.count == 12 and len(samples.run.stretches) > 1
    for name in names:
        changed = {name: analysis.read(name) * np.float32(0.7)}
        expected = divergence(original, run(patch(analysis.model, changed), feeds))
        assert samples.divergence(changed) == pytest.approx(expected, rel=1e-4)
        assert expected > 1e-5


def test_what_does_not_change_does_not_diverge(opened):
    analysis, data, _ = opened
    name = convolutions(analysis)[1]
    samples = divergence_samples(analysis, data, [demand([name], 0)])
    assert samples.divergence({name: analysis.read(name)}) == pytest.approx(0, abs=1e-9)
    assert samples.divergence({}) == 0


def test_many_runs_take_few_of_many_samples():
    n = Net(x=("N", 3, 8, 8))
    model = n.model(n.op("Flatten", n.op("GlobalAveragePool", n.conv("x", 3, 4))))
    analysis = analyze(model)
    x = np.random.default_rng(0).standard_normal((100, 3, 8, 8)).astype(np.float32)
    data = calibration({"x": x}, model, Settings(), analysis.nodes)
    (name,) = convolutions(analysis)
    assert divergence_samples(analysis, data, [demand([name], 0)]).count == 100
    some = divergence_samples(analysis, data, [demand([name])] * 5)
    assert some.runs == 1 and abs(some.count - PASSES * 100 / 5) <= 1
    few = divergence_samples(analysis, data, [demand([name])] * 1000)
    assert few.runs == 1 and abs(few.count - FEWEST_SAMPLES) <= 1
    assert sum(batch.weights.sum() for batch in few.drawn) == pytest.approx(100, rel=0.4)


def test_what_changes_late_costs_less(opened):
    """More samples fit into the bound where less of the model is run."""
    analysis, _, feeds = opened
    x = np.concatenate([feeds["x"]] * 20)
    many = calibration({"x": x}, analysis.original, Settings(), analysis.nodes)
    first, last = convolutions(analysis)
    early, late = (divergence_samples(analysis, many, [demand([n])] * 30) for n in (first, last))
    unknown = divergence_samples(analysis, many, [demand([])] * 30)
    assert unknown.count == early.count < late.count
