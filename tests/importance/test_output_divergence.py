"""How far outputs move: measured from the first operator that changes, as by running everything."""

import numpy as np
import pytest
from networks import Net, samples_of

from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze
from onnxprune.importance.output_divergence import (
    FEWEST_SAMPLES,
    WORK,
    divergence_samples,
    open_divergence,
)
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


def convolutions(analysis):
    """Number and weight of each convolution, in order."""
    nodes = list(analysis.model.graph.node)
    return [(k, node.input[1]) for k, node in enumerate(nodes) if node.op_type == "Conv"]


def run(model, feeds):
    return runtime.run(runtime.open_session(graph.model_bytes(model)), feeds)


def test_from_anywhere_it_is_that_of_the_whole_model(opened):
    analysis, data, feeds = opened
    samples = divergence_samples(analysis, data, 1)
    assert samples.count == 12
    ahead, original = samples.start(), run(analysis.model, feeds)
    for at, name in convolutions(analysis):
        changed = {name: analysis.read(name) * np.float32(0.7)}
        expected = divergence(original, run(patch(analysis.model, changed), feeds))
        assert open_divergence(samples, ahead, at, changed)(changed) == pytest.approx(
            expected, rel=1e-4
        )
        everything = open_divergence(samples, samples.start(), 0, changed)
        assert everything(changed) == pytest.approx(expected, rel=1e-4)
        assert expected > 1e-5


def test_what_does_not_change_does_not_diverge(opened):
    analysis, data, _ = opened
    samples = divergence_samples(analysis, data, 1)
    at, name = convolutions(analysis)[1]
    measure = open_divergence(samples, samples.start(), at, [name])
    assert measure({name: analysis.read(name)}) == pytest.approx(0, abs=1e-9)


def test_costly_models_are_measured_on_fewer_samples(opened):
    analysis, data, _ = opened
    assert len(data.sizes) and FEWEST_SAMPLES > 12  # all are taken, however costly it is
    runs = int(WORK / float(analysis.cost.full[0]))
    assert divergence_samples(analysis, data, 100 * runs).count == 12


def test_many_runs_take_few_of_many_samples():
    n = Net(x=("N", 3, 8, 8))
    model = n.model(n.op("Flatten", n.op("GlobalAveragePool", n.conv("x", 3, 4))))
    analysis = analyze(model)
    x = np.random.default_rng(0).standard_normal((100, 3, 8, 8)).astype(np.float32)
    data = calibration({"x": x}, model, Settings(), analysis.nodes)
    runs = int(WORK / float(analysis.cost.full[0]))
    assert divergence_samples(analysis, data, 1).count == 100
    few = divergence_samples(analysis, data, 100 * runs)
    assert FEWEST_SAMPLES - 2 <= few.count <= FEWEST_SAMPLES + 2
    assert sum(batch.weights.sum() for batch in few.drawn) == pytest.approx(100, rel=0.2)
